//! When a get begins again, and after which pause.

use std::time::Duration;

use skycap_image::Kind;

use crate::Failure;

/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);
/// How the client's errors say what a registry wrote in `Retry-After`.
const ASKED_FOR: &str = "; retry after ";

/// How often, and how patiently, everything is asked again after a 429, or after bytes that were not the right ones.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarts {
    /// How many are left.
    pub(crate) left: u32,
    /// The next pause; each further one is half as long again.
    pub(crate) pause: Duration,
    /// How often bytes that were wrong are fetched again.
    pub(crate) rereads: u32,
}

impl Restarts {
    /// How long to wait before beginning again; nothing if that would not help, or not any more.
    pub(super) fn after(&mut self, failure: &Failure) -> Option<Duration> {
        match failure.kind() {
            Some(Kind::RateLimited) => {}
            Some(Kind::Corrupt) => {
                self.rereads = self.rereads.checked_sub(1)?;
                return Some(Duration::ZERO);
            }
            _ => return None,
        }
        self.left = self.left.checked_sub(1)?;
        let pause = self.pause.max(asked_for(&failure.message).unwrap_or_default());
        self.pause = self.pause * 3 / 2;
        Some(pause.min(LONGEST))
    }
}

/// The wait that a registry asked for.
fn asked_for(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once(ASKED_FOR)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skycap_image::SourceError;

    #[test]
    fn pauses_grow_and_heed_the_registry() {
        let failure = |kind, what: &str| Failure::from(SourceError::new(kind, what));
        let limited = |what: &str| failure(Kind::RateLimited, what);
        let mut restarts = Restarts { rereads: 0, left: 4, pause: Duration::from_secs(4) };
        let mut seconds = |what: &str| restarts.after(&limited(what)).map(|pause| pause.as_secs());
        assert_eq!(seconds("429"), Some(4));
        assert_eq!(seconds("429"), Some(6));
        assert_eq!(seconds("429; retry after 20 s"), Some(20));
        assert_eq!(seconds("429; retry after 9999999999 s"), Some(60));
        assert_eq!(seconds("429"), None);
        let mut restarts = Restarts { rereads: 0, left: 4, pause: Duration::ZERO };
        for kind in [Kind::NotFound, Kind::Denied, Kind::Corrupt, Kind::Transient, Kind::Other] {
            assert_eq!(restarts.after(&failure(kind, "x")), None);
        }
        assert_eq!(restarts.after(&Failure::new("x")), None);
    }

    #[test]
    fn wrong_bytes_are_fetched_once_more_without_a_pause() {
        let mut restarts = Restarts { left: 4, pause: Duration::from_secs(4), rereads: 1 };
        let corrupt = Failure::from(SourceError::new(Kind::Corrupt, "x"));
        assert_eq!(restarts.after(&corrupt), Some(Duration::ZERO));
        assert_eq!(restarts.after(&corrupt), None);
    }
}
