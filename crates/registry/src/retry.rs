//! When to try again.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use skycap_image::{Event, Kind, Progress};

use crate::Retries;
use crate::error::Failure;

/// So often a connection is tried that is refused where nobody has answered yet: it is more likely a slip in a name or a
/// port, or something that was never started, than a registry that comes back in a moment.
const TRIES_OF_NOBODY: u32 = 3;

/// Counts the tries of one piece of work.
pub(crate) struct Tries {
    policy: Retries,
    made: u32,
}

impl Tries {
    /// None made yet.
    pub fn new(policy: Retries) -> Self {
        Self { policy, made: 0 }
    }

    /// How long to wait before the next try, or the error to give up with.
    pub fn after(&mut self, failure: Failure) -> Result<Wait, Failure> {
        self.made += 1;
        let wanted = failure.kind != Kind::RateLimited || self.policy.rate_limited;
        let attempts = if failure.nobody_there { TRIES_OF_NOBODY } else { u32::MAX }.min(self.policy.attempts);
        if !failure.passing || !wanted || self.made >= attempts {
            return Err(failure.after(self.made));
        }
        let backoff = jittered(self.policy.first.saturating_mul(1 << (self.made - 1).min(20)), random());
        let time = failure.retry_after.map_or(backoff, |asked| asked.max(backoff)).min(self.policy.limit);
        Ok(Wait { time, note: format!("{}; trying again in {:.1} s", failure.what, time.as_secs_f64()) })
    }

    /// There was progress: the count starts anew.
    pub fn progressed(&mut self) {
        self.made = 0;
    }
}

/// Repeats a piece of work while it fails for passing reasons.
pub(crate) async fn retried<T, F>(
    policy: Retries,
    progress: &dyn Progress,
    mut work: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let work = || {
        let once = work();
        async { once.await.map(|value| (value, None)) }
    };
    answered(policy, progress, work).await
}

/// Repeats a question while what comes of it may be another in a moment: a failure, or an answer that says so beside itself.
/// The last answer counts, whatever it is.
pub(crate) async fn answered<T, F>(
    policy: Retries,
    progress: &dyn Progress,
    mut ask: impl FnMut() -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<(T, Option<Failure>), Failure>>,
{
    let mut tries = Tries::new(policy);
    loop {
        let wait = match ask().await {
            Ok((answer, None)) => return Ok(answer),
            Ok((answer, Some(failure))) => match tries.after(failure) {
                Ok(wait) => wait,
                Err(_) => return Ok(answer),
            },
            Err(failure) => tries.after(failure)?,
        };
        progress.event(Event::Note(&wait.note));
        tokio::time::sleep(wait.time).await;
    }
}

/// A pause between two tries.
pub(crate) struct Wait {
    /// How long.
    pub time: Duration,
    /// What to tell people.
    pub note: String,
}

/// Between half and one and a half times the duration, so that many clients do not come back together.
fn jittered(duration: Duration, random: u64) -> Duration {
    let percent = u32::try_from(random % 101).unwrap_or_default() + 50;
    duration.saturating_mul(percent) / 100
}

/// The standard library seeds its hash maps at random; that is all the randomness jitter needs.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What `Retry-After` asks for, if it asks for something that can be done.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    crate::parse::retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        let policy =
            Retries { first: Duration::from_secs(1), attempts: 4, limit: Duration::from_secs(3), rate_limited: true };
        let mut tries = Tries::new(policy);
        for bounds in [(0.5, 1.5), (1.0, 3.0), (2.0, 3.0)] {
            let wait = tries.after(Failure::passing("x")).ok().unwrap().time.as_secs_f64();
            assert!((bounds.0..=bounds.1).contains(&wait), "{wait}");
        }
        assert_eq!(tries.after(Failure::passing("x")).err().unwrap().what, "x (tried 4 times)");
    }

    #[test]
    fn where_nobody_listens_is_given_up_sooner() {
        let refused = || Failure { nobody_there: true, ..Failure::passing("x") };
        let mut tries = Tries::new(Retries::default());
        let waits: Vec<f64> =
            std::iter::from_fn(|| tries.after(refused()).ok()).map(|wait| wait.time.as_secs_f64()).collect();
        assert!(waits.len() == 2 && waits.iter().sum::<f64>() < 2.5, "{waits:?}");
        let mut tries = Tries::new(Retries { attempts: 2, ..Retries::default() });
        assert!(tries.after(refused()).is_ok());
        let failure = tries.after(refused()).err().unwrap();
        assert!(failure.what.starts_with("x (tried 2 times): nothing listens there"), "{}", failure.what);
    }

    #[test]
    fn a_huge_retry_after_is_capped() {
        let mut tries = Tries::new(Retries {
            first: Duration::ZERO,
            attempts: 2,
            limit: Duration::from_secs(3),
            rate_limited: true,
        });
        let failure = Failure { retry_after: Some(Duration::from_secs(1_000_000_000)), ..Failure::passing("x") };
        assert_eq!(tries.after(failure).ok().unwrap().time, Duration::from_secs(3));
    }
}
