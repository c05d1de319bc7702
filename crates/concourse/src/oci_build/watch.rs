//! Ends work that nobody waits for any more.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How often is asked.
const INTERVAL: Duration = Duration::from_millis(100);

/// Does the work, and calls `cancel` once if `stop` becomes true meanwhile.
pub(super) fn watched<T>(
    stop: &(dyn Fn() -> bool + Sync),
    cancel: impl FnOnce() + Send,
    work: impl FnOnce() -> T,
) -> T {
    let (alive, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            while over.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if stop() {
                    return cancel();
                }
            }
        });
        let result = work();
        drop(alive);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn work_is_told_to_end() {
        let cancelled = AtomicBool::new(false);
        let waited = watched(
            &|| true,
            || cancelled.store(true, Ordering::SeqCst),
            || {
                (0..100).any(|_| {
                    thread::sleep(INTERVAL);
                    cancelled.load(Ordering::SeqCst)
                })
            },
        );
        assert!(waited);
    }

    #[test]
    fn work_that_is_done_is_left_alone() {
        let cancelled = AtomicBool::new(false);
        assert_eq!(watched(&|| false, || cancelled.store(true, Ordering::SeqCst), || 7), 7);
        assert!(!cancelled.load(Ordering::SeqCst));
    }
}
