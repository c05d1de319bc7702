//! What cases write instead of addresses and digests, and the way back.

use std::collections::BTreeMap;

use skycap_image::{Artifact, Digest, Image};

/// Names for texts that are another in every run, or too long to read.
#[derive(Default, Clone)]
pub struct Names {
    /// `{registry}` to `127.0.0.1:4711`.
    texts: BTreeMap<String, String>,
    /// A digest's `LABEL` or `PART:LABEL`.
    digests: BTreeMap<String, Digest>,
    /// `size:LABEL`, of manifests; only cases use them.
    sizes: BTreeMap<String, u64>,
}

impl Names {
    /// A text that is replaced by `{name}`.
    pub fn add(&mut self, name: &str, text: &str) {
        self.texts.insert(name.to_owned(), text.to_owned());
    }

    /// Everything of an artifact: `digest:LABEL` is its own; `config:`, `layer:`, `child:` are its parts.
    pub fn add_artifact(&mut self, label: &str, artifact: &Artifact) {
        match artifact {
            Artifact::Image(image) => self.add_image(label, image),
            Artifact::Index(index) => {
                for descriptor in index.manifests() {
                    let platform = descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                    if let Ok(child) = index.child(descriptor) {
                        self.add_artifact(&format!("{label}/{}", platform.replace('/', "-")), &child);
                    }
                }
            }
        }
        self.add_digest(&format!("digest:{label}"), artifact.descriptor().digest);
        self.sizes.insert(format!("size:{label}"), artifact.descriptor().size);
    }

    fn add_image(&mut self, label: &str, image: &Image) {
        self.add_digest(&format!("config:{label}"), image.manifest().config.digest);
        for (at, layer) in image.manifest().layers.iter().enumerate() {
            self.add_digest(&format!("layer:{label}:{at}"), layer.digest);
        }
        for (at, diff) in image.config().rootfs.diff_ids.iter().enumerate() {
            self.add_digest(&format!("diff:{label}:{at}"), *diff);
        }
    }

    /// A digest by its whole name; the first name of a digest stays.
    pub fn add_digest(&mut self, name: &str, digest: Digest) {
        if !self.digests.values().any(|known| *known == digest) || !self.digests.contains_key(name) {
            self.digests.insert(name.to_owned(), digest);
        }
    }

    /// Whether a digest has a name.
    pub fn knows(&self, digest: Digest) -> bool {
        self.digests.values().any(|known| *known == digest)
    }

    /// Names become what they stand for; in JSON strings, with `\n` for line feeds.
    pub fn fill(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (name, value) in &self.texts {
            out = out.replace(&format!("{{{name}}}"), &value.replace('\n', "\\n"));
        }
        for (name, digest) in &self.digests {
            out = out.replace(&format!("{{{name}}}"), &digest.to_string());
        }
        for (name, size) in &self.sizes {
            out = out.replace(&format!("{{{name}}}"), &size.to_string());
        }
        out
    }

    /// What a run said, with names for what they stand for.
    pub fn hide(&self, text: &str) -> String {
        let mut out = text.to_owned();
        let mut texts: Vec<_> = self.texts.iter().collect();
        texts.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        for (name, value) in texts {
            out = out.replace(value.as_str(), &format!("{{{name}}}"));
        }
        // A manifest goes before a blob of the same bytes, and so does what was named first.
        let mut digests: Vec<_> = self.digests.iter().collect();
        digests.sort_by_key(|(name, _)| (!name.starts_with("digest:"), name.len(), (*name).clone()));
        for (name, digest) in digests {
            out = out.replace(&digest.to_string(), &format!("{{{name}}}"));
            out = out.replace(&digest.hex(), &format!("{{hex-of-{name}}}"));
        }
        out
    }
}
