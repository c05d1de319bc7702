//! Cancelling a part of a build: a tree of tokens, so that a timeout or `fail_fast` stops what is below it and nothing else.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use skycap_sandbox::Cancel;

/// A token; cancelling it cancels its children.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    token: Cancel,
    children: Mutex<Vec<Weak<Inner>>>,
}

impl Stop {
    /// A token that is cancelled with this one, or alone.
    pub fn child(&self) -> Self {
        let child = Self::default();
        let mut children = self.0.children.lock().unwrap_or_else(PoisonError::into_inner);
        children.retain(|child| child.strong_count() > 0);
        children.push(Arc::downgrade(&child.0));
        drop(children);
        if self.is_cancelled() {
            child.cancel();
        }
        child
    }

    /// Cancels this and everything below.
    pub fn cancel(&self) {
        self.0.token.cancel();
        let children = std::mem::take(&mut *self.0.children.lock().unwrap_or_else(PoisonError::into_inner));
        for child in children.iter().filter_map(Weak::upgrade) {
            Self(child).cancel();
        }
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// What the sandbox understands.
    pub fn token(&self) -> &Cancel {
        &self.0.token
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

    /// Passes a wish from outside on, for as long as `body` runs.
    pub fn following<T>(&self, outside: &Cancel, body: impl FnOnce() -> T) -> T {
        const LOOK: Duration = Duration::from_millis(50);
        let (done, ended) = channel::<()>();
        thread::scope(|threads| {
            threads.spawn(move || {
                while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    if outside.is_cancelled() {
                        self.cancel();
                        return;
                    }
                }
            });
            let result = body();
            drop(done);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_token_takes_its_children_along_and_nobody_else() {
        let root = Stop::default();
        let (left, right) = (root.child(), root.child());
        let below = left.child();
        left.cancel();
        assert!(left.is_cancelled() && below.is_cancelled());
        assert!(!root.is_cancelled() && !right.is_cancelled());
        assert!(left.child().is_cancelled(), "a child born late is cancelled too");
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
