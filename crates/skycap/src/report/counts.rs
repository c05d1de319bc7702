//! What was fetched, sent and found, told at the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skycap_image::{Event, Progress};

use super::units;

/// Bytes that say nothing about a connection.
const FEW: u64 = 100_000;

/// Transfers by what came of them. A transfer is a task with a size; the first words of its label say what it does
/// (`pull layer`, `push layer`, `copy layer`), its outcome what came of it.
#[derive(Default, Debug)]
pub struct Counts {
    open: BTreeMap<u64, (Kind, u64)>,
    fetched: usize,
    copied: usize,
    sent: usize,
    mounted: usize,
    there: usize,
    reused: usize,
    bytes: u64,
    /// How long at least one transfer was under way.
    moving: Duration,
    /// Since when one is.
    since: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Pull,
    Push,
    Copy,
    /// Bytes that count, in no layer.
    Other,
}

impl Counts {
    /// Notes one event.
    pub fn see(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Started { id, label, total: Some(_) } => {
                if let Some(kind) = kind(label) {
                    self.open.insert(id, (kind, 0));
                    self.since.get_or_insert(now);
                }
            }
            Event::Advanced { id, bytes } => {
                if let Some((_, done)) = self.open.get_mut(&id) {
                    *done += bytes;
                }
            }
            Event::Finished { id, outcome } => {
                if let Some((kind, done)) = self.open.remove(&id) {
                    self.finished(kind, outcome, done);
                    if self.open.is_empty() {
                        self.moving += self.since.take().map_or(Duration::ZERO, |since| now.duration_since(since));
                    }
                }
            }
            _ => {}
        }
    }

    fn finished(&mut self, kind: Kind, outcome: &str, bytes: u64) {
        self.bytes += bytes;
        let count = match (kind, outcome) {
            (Kind::Pull, "done") => &mut self.fetched,
            (Kind::Copy, "done") => &mut self.copied,
            (Kind::Push, "done") => &mut self.sent,
            (Kind::Push, "mounted") => &mut self.mounted,
            (Kind::Push, "exists") => &mut self.there,
            (Kind::Pull | Kind::Copy, "cached" | "exists") => &mut self.reused,
            _ => return,
        };
        *count += 1;
    }

    /// One line, or nothing if nothing was moved and nothing found. `of` is how many layers were wanted, where layers that
    /// were not fetched are layers that were here. The rate is that of the time in which something was under way: a build
    /// does other things as well, which `elapsed` counts.
    pub fn summary(&self, elapsed: Duration, of: Option<usize>) -> Option<String> {
        let here = of.map_or(self.reused, |all| all.saturating_sub(self.fetched));
        let parts: Vec<String> = [
            (self.fetched, "fetched"),
            (self.copied, "copied"),
            (self.sent, "uploaded"),
            (self.mounted, "mounted"),
            (here, "reused"),
            (self.there, "already there"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .enumerate()
        .map(|(at, (count, what))| match (at, what, count) {
            (0, "already there", 1) => "1 layer already there".to_owned(),
            (0, "already there", _) => format!("{count} layers already there"),
            (0, _, 1) => format!("{what} 1 layer"),
            (0, _, _) => format!("{what} {count} layers"),
            (_, "already there", _) => format!("{count} {what}"),
            _ => format!("{what} {count}"),
        })
        .collect();
        if parts.is_empty() {
            return None;
        }
        let time = units::duration(self.moving);
        // Of a few documents there is no speed worth telling.
        let rate = units::rate(self.bytes, self.moving).filter(|_| self.bytes >= FEW);
        let moved = match rate {
            Some(rate) => format!("{} in {time}, {rate}", units::bytes(self.bytes)),
            None if self.bytes > 0 => format!("{} in {time}", units::bytes(self.bytes)),
            None => format!("no bytes moved in {}", units::duration(elapsed)),
        };
        Some(format!("{}; {moved}", parts.join(", ")))
    }
}

fn kind(label: &str) -> Option<Kind> {
    let mut words = label.split(' ');
    match (words.next()?, words.next()?) {
        ("pull", "layer") => Some(Kind::Pull),
        ("push", "layer") => Some(Kind::Push),
        ("copy", "layer") => Some(Kind::Copy),
        ("pull" | "push", _) => Some(Kind::Other),
        _ => None,
    }
}

/// Counts what it passes on.
pub struct Counting {
    to: Arc<dyn Progress>,
    counts: Mutex<Counts>,
}

impl Counting {
    pub fn new(to: Arc<dyn Progress>) -> Self {
        Self { to, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Counts::summary`] has it.
    pub fn summary(&self, elapsed: Duration, of: Option<usize>) -> Option<String> {
        self.counts().summary(elapsed, of)
    }
}

impl Progress for Counting {
    fn event(&self, event: Event<'_>) {
        self.counts().see(event, Instant::now());
        self.to.event(event);
    }
}

/// Passes on what people should read, not what is under way: somebody else tells that.
pub struct Notices(pub Arc<dyn Progress>);

impl Progress for Notices {
    fn event(&self, event: Event<'_>) {
        if let Event::Note(_) | Event::Warning(_) | Event::Debug(_) = event {
            self.0.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transfers that follow each other, each of a second.
    fn counts(transfers: &[(&str, u64, &str)]) -> Counts {
        lasting(Duration::from_secs(1), transfers)
    }

    fn lasting(time: Duration, transfers: &[(&str, u64, &str)]) -> Counts {
        let mut counts = Counts::default();
        let mut now = Instant::now();
        for (id, (label, bytes, outcome)) in (1..).zip(transfers) {
            counts.see(Event::Started { id, label, total: Some(1 << 30) }, now);
            counts.see(Event::Advanced { id, bytes: *bytes }, now);
            now += time;
            counts.see(Event::Finished { id, outcome }, now);
        }
        counts
    }

    #[test]
    fn the_summary_says_what_happened_and_nothing_else() {
        let second = Duration::from_secs(1);
        for (transfers, of, expected) in [
            (&[][..], None, None),
            (&[], Some(0), None),
            (
                &[("pull layer a", 5_000_000, "done"), ("pull config b", 1000, "done")],
                Some(3),
                Some("fetched 1 layer, reused 2; 5.0 MB in 2.0 s, 2.5 MB/s"),
            ),
            (
                &[("push layer a", 0, "exists"), ("push layer b", 0, "exists")],
                None,
                Some("2 layers already there; no bytes moved in 1.0 s"),
            ),
            (
                &[("push layer a", 100_000, "done"), ("push layer b", 0, "mounted"), ("push layer c", 0, "exists")],
                None,
                Some("uploaded 1 layer, mounted 1, 1 already there; 100.0 kB in 3.0 s, 33.3 kB/s"),
            ),
            (
                &[("copy layer a", 10, "done"), ("pull layer b", 7, "failed")],
                None,
                Some("copied 1 layer; 17 B in 2.0 s"),
            ),
            (&[("RUN make", 0, "done")], None, None),
        ] {
            assert_eq!(counts(transfers).summary(second, of).as_deref(), expected);
        }
    }

    #[test]
    fn a_moment_has_no_rate() {
        let moment = Duration::from_millis(1);
        let text = lasting(moment, &[("pull layer a", 10, "done")]).summary(moment, None);
        assert_eq!(text.as_deref(), Some("fetched 1 layer; 10 B in 0.0 s"));
    }

    #[test]
    fn the_rate_is_that_of_the_time_in_which_something_was_under_way() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut counts = Counts::default();
        let pull = |id| Event::Started { id, label: "pull layer a", total: Some(1 << 30) };
        let done = |id| Event::Finished { id, outcome: "done" };
        // Two at once from the first to the third second, then RUN for a hundred, and another of a second.
        for (event, second) in [(pull(1), 0), (pull(2), 1), (done(1), 2), (done(2), 3), (pull(3), 100), (done(3), 101)]
        {
            counts.see(event, at(second));
            if let Event::Started { id, .. } = event {
                counts.see(Event::Advanced { id, bytes: 4_000_000 }, at(second));
            }
        }
        let text = counts.summary(Duration::from_secs(200), None);
        assert_eq!(text.as_deref(), Some("fetched 3 layers; 12.0 MB in 4.0 s, 3.0 MB/s"));
    }
}
