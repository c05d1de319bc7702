//! When a get begins again, and after which pause.

use std::time::Duration;

use skycap_image::Kind;

use crate::Failure;

/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);
/// What registries write about their `Retry-After` header; the client passes it on in its error's text.
const ASKED_FOR: &str = "retry after ";

/// How often, and how patiently, everything is asked again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Restarts {
    /// Restarts left because the registry was asked too often.
    pub(crate) rate_limited: u32,
    /// The first pause for that; each further one is half as long again.
    pub(crate) rate_limited_pause: Duration,
    /// Restarts left because it was out of order or the connection broke.
    pub(crate) transient: u32,
    /// The first pause for that; each further one is twice as long.
    pub(crate) transient_pause: Duration,
}

impl Restarts {
    /// How long to wait before beginning again; nothing if that would not help, or not any more.
    pub(super) fn after(&mut self, failure: &Failure) -> Option<Duration> {
        match failure.kind() {
            Some(Kind::RateLimited) => {
                self.rate_limited = self.rate_limited.checked_sub(1)?;
                let pause = self.rate_limited_pause.max(asked_for(&failure.message).unwrap_or_default());
                self.rate_limited_pause = self.rate_limited_pause * 3 / 2;
                Some(pause.min(LONGEST))
            }
            Some(Kind::Transient) => {
                self.transient = self.transient.checked_sub(1)?;
                let pause = self.transient_pause;
                self.transient_pause *= 2;
                Some(pause.min(LONGEST))
            }
            Some(Kind::NotFound | Kind::Denied | Kind::Corrupt | Kind::Other) | None => None,
        }
    }
}

/// The wait that a registry asked for, as its client's error says it.
fn asked_for(message: &str) -> Option<Duration> {
    let (_, rest) = message.split_once(ASKED_FOR)?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use skycap_image::SourceError;

    fn restarts() -> Restarts {
        Restarts {
            rate_limited: 2,
            rate_limited_pause: Duration::from_secs(4),
            transient: 2,
            transient_pause: Duration::from_secs(1),
        }
    }

    #[test]
    fn each_kind_of_trouble_has_its_own_patience() {
        let failure = |kind, what: &str| Failure::from(SourceError::new(kind, what));
        let seconds = Duration::from_secs;
        let mut left = restarts();
        assert_eq!(left.after(&failure(Kind::RateLimited, "429")), Some(seconds(4)));
        assert_eq!(left.after(&failure(Kind::Transient, "503")), Some(seconds(1)));
        assert_eq!(left.after(&failure(Kind::RateLimited, "429 (retry after 20 s)")), Some(seconds(20)));
        assert_eq!(left.after(&failure(Kind::Transient, "503")), Some(seconds(2)));
        assert_eq!(left.after(&failure(Kind::RateLimited, "429")), None);
        assert_eq!(left.after(&failure(Kind::Transient, "503")), None);
        assert_eq!(restarts().after(&failure(Kind::RateLimited, "retry after 99999999999999 s")), Some(LONGEST));
        for kind in [Kind::NotFound, Kind::Denied, Kind::Corrupt, Kind::Other] {
            assert_eq!(restarts().after(&failure(kind, "x")), None);
        }
        assert_eq!(restarts().after(&Failure::new("x")), None);
    }
}
