//! Asking a run to stop, from another thread.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A wish to stop, shared by any number of runs. Once wished, it stays.
///
/// A run that sees it sends SIGTERM to every process of the sandbox, and SIGKILL ten seconds later. Not to be called from
/// inside a signal handler: it takes a lock.
#[derive(Clone, Default, Debug)]
pub struct Cancel {
    inner: Arc<Inner>,
}

#[derive(Default, Debug)]
struct Inner {
    wished: AtomicBool,
    /// One descriptor per waiting run; writing to it wakes the run.
    sleepers: Mutex<Vec<Weak<OwnedFd>>>,
}

impl Cancel {
    /// Nothing wished yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Stops every run that was given this, also those that begin later.
    pub fn cancel(&self) {
        self.inner.wished.store(true, Ordering::SeqCst);
        for sleeper in self.sleepers().drain(..) {
            if let Some(fd) = sleeper.upgrade() {
                // A sleeper that cannot be woken has gone already.
                let _ = rustix::io::write(&*fd, &1_u64.to_ne_bytes());
            }
        }
    }

    /// Whether it has been wished.
    pub fn is_cancelled(&self) -> bool {
        self.inner.wished.load(Ordering::SeqCst)
    }

    /// A descriptor that becomes readable when the wish comes.
    pub(crate) fn wake(&self) -> std::io::Result<Arc<OwnedFd>> {
        let fd = Arc::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?);
        let mut sleepers = self.sleepers();
        sleepers.retain(|sleeper| sleeper.strong_count() > 0);
        sleepers.push(Arc::downgrade(&fd));
        drop(sleepers);
        if self.is_cancelled() {
            rustix::io::write(&*fd, &1_u64.to_ne_bytes())?;
        }
        Ok(fd)
    }

    fn sleepers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<OwnedFd>>> {
        self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
