//! Cancelling a part of a build: a tree of tokens, so that a timeout or `fail_fast` stops what is below it and nothing else.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use skycap_sandbox::Cancel;

/// A token; cancelling it cancels its children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Cancel);

impl Stop {
    /// A token that is cancelled with a wish from outside, or alone.
    pub fn below(outside: &Cancel) -> Self {
        Self(outside.child())
    }

    /// A token that is cancelled with this one, or alone.
    pub fn child(&self) -> Self {
        Self::below(&self.0)
    }

    /// Cancels this and everything below.
    pub fn cancel(&self) {
        self.0.cancel();
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }

    /// What the sandbox understands.
    pub fn token(&self) -> &Cancel {
        &self.0
    }

    /// Runs `body`, and cancels this if it takes longer. Says whether it did.
    pub fn deadline<T>(&self, limit: Duration, body: impl FnOnce() -> T) -> (T, bool) {
        let (done, ended) = channel::<()>();
        thread::scope(|threads| {
            let timer = threads.spawn(move || {
                let expired = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                if expired {
                    self.cancel();
                }
                expired
            });
            let result = body();
            drop(done);
            (result, timer.join().unwrap_or(false))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_token_takes_its_children_along_and_nobody_else() {
        let outside = Cancel::new();
        let root = Stop::below(&outside);
        let (left, right) = (root.child(), root.child());
        let below = left.child();
        left.cancel();
        assert!(left.is_cancelled() && below.is_cancelled());
        assert!(!root.is_cancelled() && !right.is_cancelled());
        assert!(left.child().is_cancelled(), "a child born late is cancelled too");
        outside.cancel();
        assert!(root.is_cancelled() && right.is_cancelled());
    }

    #[test]
    fn a_deadline_cancels_only_what_is_late() {
        let stop = Stop::default();
        assert_eq!(stop.deadline(Duration::from_mins(1), || 1), (1, false));
        assert!(!stop.is_cancelled());
        let late = stop.deadline(Duration::from_millis(5), || {
            while !stop.is_cancelled() {
                thread::yield_now();
            }
        });
        assert!(late.1);
    }
}
