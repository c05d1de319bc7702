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
    /// A wish there counts here too.
    parent: Option<Cancel>,
}

impl Cancel {
    /// Nothing wished yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A wish of its own that also comes when this one does, but not the other way round: one of several runs can stop its
    /// siblings and leave the rest of the program alone.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { inner: Arc::new(Inner { parent: Some(self.clone()), ..Inner::default() }) }
    }

    /// Stops every run that was given this or a child of it, also those that begin later.
    pub fn cancel(&self) {
        self.inner.wished.store(true, Ordering::SeqCst);
        for sleeper in self.sleepers().drain(..) {
            if let Some(fd) = sleeper.upgrade() {
                // A sleeper that cannot be woken has gone already.
                let _ = rustix::io::write(&*fd, &1_u64.to_ne_bytes());
            }
        }
    }

    /// Whether it has been wished, here or in what this is a child of.
    pub fn is_cancelled(&self) -> bool {
        self.line().any(|cancel| cancel.inner.wished.load(Ordering::SeqCst))
    }

    /// A descriptor that becomes readable when the wish comes.
    pub(crate) fn wake(&self) -> std::io::Result<Arc<OwnedFd>> {
        let fd = Arc::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?);
        for cancel in self.line() {
            let mut sleepers = cancel.sleepers();
            sleepers.retain(|sleeper| sleeper.strong_count() > 0);
            sleepers.push(Arc::downgrade(&fd));
        }
        if self.is_cancelled() {
            rustix::io::write(&*fd, &1_u64.to_ne_bytes())?;
        }
        Ok(fd)
    }

    /// This and what it is a child of, up to the first.
    fn line(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |cancel| cancel.inner.parent.as_ref())
    }

    fn sleepers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<OwnedFd>>> {
        self.inner.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn awake(fd: &OwnedFd) -> bool {
        let mut fds = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
    }

    #[test]
    fn a_wish_wakes_those_below_it_and_nobody_above_or_beside() {
        let top = Cancel::new();
        let (one, two) = (top.child(), top.child());
        let below = one.child();
        let [top_fd, one_fd, two_fd, below_fd] = [&top, &one, &two, &below].map(|cancel| cancel.wake().unwrap());
        one.cancel();
        assert_eq!([&top, &one, &two, &below].map(Cancel::is_cancelled), [false, true, false, true]);
        assert_eq!([&top_fd, &one_fd, &two_fd, &below_fd].map(|fd| awake(fd)), [false, true, false, true]);
        assert!(awake(&below.child().wake().unwrap()), "a wish that came before counts");
        top.cancel();
        assert!(two.is_cancelled() && awake(&two_fd));
    }
}
