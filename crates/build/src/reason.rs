//! Why a step is not known: which parts of its key are not those of the build before. Only for people; nothing depends on
//! it.

use std::collections::BTreeMap;

use skycap_image::Digest;
use skycap_store::Store;

/// The kind of record.
const PARTS: &str = "build-parts-v1";

/// By what a step says: the digests of its key's parts, by name.
type Steps = BTreeMap<String, BTreeMap<String, String>>;

/// What the steps of a Dockerfile were in the build before, and what they are in this one.
pub(crate) struct Reasons {
    before: Steps,
    now: Steps,
}

impl Reasons {
    /// What is known of the Dockerfile of that name.
    pub fn read(store: &Store, file: &str) -> Self {
        let before = store.record(PARTS, file).and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { before: before.unwrap_or_default(), now: Steps::new() }
    }

    /// What is new about a step.
    pub fn compare(&mut self, step: &str, parts: &[(&'static str, Digest)]) -> String {
        let now: BTreeMap<String, String> =
            parts.iter().map(|(name, digest)| ((*name).to_owned(), digest.hex())).collect();
        let why = match self.before.get(step) {
            None => "no earlier build had this instruction".to_owned(),
            Some(before) => {
                let differs = |(name, _): &&(&'static str, Digest)| before.get(*name) != now.get(*name);
                let names: Vec<&str> = parts.iter().filter(differs).map(|(name, _)| *name).collect();
                match &*names.join(", ") {
                    "" => "its result is no longer there".to_owned(),
                    names => format!("changed: {names}"),
                }
            }
        };
        self.now.insert(step.to_owned(), now);
        why
    }

    /// Remembers what the steps are, unless that is known.
    pub fn keep(self, store: &Store, file: &str) {
        if self.now != self.before
            && let Ok(bytes) = serde_json::to_vec(&self.now)
        {
            let _ = store.set_record(PARTS, file, &bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_that_changed_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let digest = |text: &str| Digest::sha256(text.as_bytes());
        let say = |below: &str, command: &str| {
            let mut reasons = Reasons::read(&store, "Dockerfile");
            let why =
                reasons.compare("RUN make", &[("what is below", digest(below)), ("the command", digest(command))]);
            reasons.keep(&store, "Dockerfile");
            why
        };
        assert_eq!(say("1", "a"), "no earlier build had this instruction");
        assert_eq!(say("1", "a"), "its result is no longer there");
        assert_eq!(say("2", "a"), "changed: what is below");
        assert_eq!(say("3", "b"), "changed: what is below, the command");
    }
}
