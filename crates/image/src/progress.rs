//! How libraries tell what they are doing. They never print: the binary decides what a terminal or a log shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that happened. An `id` ties the events of one unit of work together.
#[allow(missing_docs, reason = "the variants say what their fields are")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// A unit of work begins: a blob, a build step, a check. `total` is in bytes where it is known.
    Started { id: u64, label: &'a str, total: Option<u64> },
    /// Some bytes of it are done.
    Advanced { id: u64, bytes: u64 },
    /// A process that runs as part of it printed this.
    Output { id: u64, bytes: &'a [u8] },
    /// It ended; `outcome` is a word or two: `done`, `cached`, `exists`, `mounted`, `failed`.
    Finished { id: u64, outcome: &'a str },
    /// So many units of work without a size will begin, none of which has begun yet: a build knows its steps.
    Expected { steps: u64 },
    /// One line for people.
    Note(&'a str),
    /// One line that people should act on.
    Warning(&'a str),
    /// Only interesting when looking for a fault.
    Debug(&'a str),
}

/// Receives events, from any thread.
pub trait Progress: Send + Sync {
    /// Takes one event. It must be quick and cannot fail.
    fn event(&self, event: Event<'_>);
}

/// Ignores everything.
#[derive(Clone, Copy, Default, Debug)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// A unit of work under way. Dropping it without [`Task::finish`] reports it as `failed`, so an early return cannot leave
/// a bar standing.
pub struct Task<'p> {
    progress: Receiver<'p>,
    id: u64,
    finished: bool,
}

enum Receiver<'p> {
    Borrowed(&'p dyn Progress),
    Shared(Arc<dyn Progress>),
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl<'p> Task<'p> {
    /// Reports the start.
    pub fn start(progress: &'p dyn Progress, label: &str, total: Option<u64>) -> Self {
        Self::begin(Receiver::Borrowed(progress), label, total)
    }

    /// Reports the start of a unit of work that outlives its caller's frame, as a reader does.
    pub fn start_shared(progress: Arc<dyn Progress>, label: &str, total: Option<u64>) -> Task<'static> {
        Task::begin(Receiver::Shared(progress), label, total)
    }

    fn begin(progress: Receiver<'p>, label: &str, total: Option<u64>) -> Self {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let task = Self { progress, id, finished: false };
        task.event(Event::Started { id, label, total });
        task
    }

    fn event(&self, event: Event<'_>) {
        match &self.progress {
            Receiver::Borrowed(progress) => progress.event(event),
            Receiver::Shared(progress) => progress.event(event),
        }
    }

    /// The number that its events carry.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Reports bytes done.
    pub fn advance(&self, bytes: u64) {
        self.event(Event::Advanced { id: self.id, bytes });
    }

    /// Reports what a process printed.
    pub fn output(&self, bytes: &[u8]) {
        self.event(Event::Output { id: self.id, bytes });
    }

    /// Reports the end.
    pub fn finish(mut self, outcome: &str) {
        self.finished = true;
        self.event(Event::Finished { id: self.id, outcome });
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.event(Event::Finished { id: self.id, outcome: "failed" });
        }
    }
}
