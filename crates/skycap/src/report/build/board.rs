//! The state of a build as events tell it: its steps in the order in which they began, and what is transferred.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use skycap_image::Event;

use super::super::lines::{is_quiet, next_line};
use super::super::speed::Speed;
use super::text;

/// So many lines of a step's output are kept to be shown if it fails.
const KEPT: usize = 100;

/// Everything that a display may show.
#[derive(Debug, Default)]
pub struct Board {
    pub steps: Vec<Step>,
    /// How many there will be, as far as is known.
    expected: usize,
    /// By event id: where in `steps`.
    places: BTreeMap<u64, usize>,
    pub transfers: BTreeMap<u64, Transfer>,
    /// Transfers that are over, and the bytes of all.
    pub transferred: u64,
    pub bytes: u64,
    pub speed: Speed,
}

/// A unit of work of a build.
#[derive(Debug)]
pub struct Step {
    /// From 1, in the order in which they began.
    pub number: usize,
    pub label: String,
    pub started: Instant,
    pub state: State,
    /// The last lines of its output, with the time since it began.
    pub output: VecDeque<(Duration, String)>,
    /// What it printed of a line that has no end yet.
    open: Vec<u8>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Running,
    Done(Duration),
    Cached,
    Failed(Duration),
    /// Stopped because another step failed, or by a signal.
    Cancelled(Duration),
}

/// Bytes on their way.
#[derive(Debug)]
pub struct Transfer {
    pub label: String,
    pub total: u64,
    pub done: u64,
    pub speed: Speed,
}

/// What an event changed, for displays that tell changes.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    Nothing,
    Began(usize),
    Printed(usize, Vec<(Duration, String)>),
    /// With what it had printed of its last line.
    Ended(usize, Vec<(Duration, String)>),
    Transferred {
        label: String,
        bytes: u64,
        outcome: String,
    },
}

impl Board {
    /// Takes an event. Steps are named by their place in `steps`.
    pub fn see(&mut self, event: Event<'_>, now: Instant) -> News {
        match event {
            Event::Started { id, label, total: Some(total) } => {
                if !is_quiet(label) {
                    let label = label.to_owned();
                    self.transfers.insert(id, Transfer { label, total, done: 0, speed: Speed::default() });
                }
                News::Nothing
            }
            Event::Started { id, label, total: None } => {
                let place = self.steps.len();
                let label = text::plain(&label.replace('\n', " "));
                let (started, state) = (now, State::Running);
                self.steps.push(Step {
                    number: place + 1,
                    label,
                    started,
                    state,
                    output: VecDeque::new(),
                    open: Vec::new(),
                });
                self.places.insert(id, place);
                News::Began(place)
            }
            Event::Advanced { id, bytes } => {
                if let Some(transfer) = self.transfers.get_mut(&id) {
                    transfer.done += bytes;
                    self.bytes += bytes;
                }
                News::Nothing
            }
            Event::Output { id, bytes } => self.output(id, bytes, now),
            Event::Finished { id, outcome } => self.finish(id, outcome, now),
            Event::Expected { steps } => {
                self.expected = self.steps.len() + usize::try_from(steps).unwrap_or_default();
                News::Nothing
            }
            Event::Note(_) | Event::Warning(_) | Event::Debug(_) => News::Nothing,
        }
    }

    fn output(&mut self, id: u64, bytes: &[u8], now: Instant) -> News {
        let Some((place, step)) = self.places.get(&id).and_then(|place| Some((*place, self.steps.get_mut(*place)?)))
        else {
            return News::Nothing;
        };
        step.open.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut step.open) {
            lines.push(step.line(&line, now));
        }
        News::Printed(place, lines)
    }

    fn finish(&mut self, id: u64, outcome: &str, now: Instant) -> News {
        if let Some(transfer) = self.transfers.remove(&id) {
            self.transferred += 1;
            return News::Transferred { label: transfer.label, bytes: transfer.done, outcome: outcome.to_owned() };
        }
        let Some(place) = self.places.remove(&id) else { return News::Nothing };
        let has_failed = self.steps.iter().any(|step| matches!(step.state, State::Failed(_)));
        let Some(step) = self.steps.get_mut(place) else { return News::Nothing };
        let mut lines = Vec::new();
        let open = std::mem::take(&mut step.open);
        if !open.is_empty() {
            lines.push(step.line(&open, now));
        }
        let time = now.duration_since(step.started);
        step.state = match outcome {
            "cached" => State::Cached,
            "failed" if has_failed => State::Cancelled(time),
            "failed" => State::Failed(time),
            _ => State::Done(time),
        };
        News::Ended(place, lines)
    }

    /// What failed turns out to have been stopped by a signal.
    pub fn interrupted(&mut self) {
        for step in &mut self.steps {
            if let State::Failed(time) = step.state {
                step.state = State::Cancelled(time);
            }
        }
    }

    /// How many steps there are, with those that are known to come.
    pub fn total(&self) -> usize {
        self.expected.max(self.steps.len())
    }

    /// How many steps have ended.
    pub fn ended(&self) -> usize {
        self.steps.iter().filter(|step| step.state != State::Running).count()
    }

    /// The step that failed, if one did.
    pub fn failed(&self) -> Option<&Step> {
        self.steps.iter().find(|step| matches!(step.state, State::Failed(_)))
    }

    /// Notes how far everything is, for speeds.
    pub fn tick(&mut self, now: Instant) {
        self.speed.note(now, self.bytes);
        for transfer in self.transfers.values_mut() {
            transfer.speed.note(now, transfer.done);
        }
    }
}

impl Step {
    fn line(&mut self, bytes: &[u8], now: Instant) -> (Duration, String) {
        let text = String::from_utf8_lossy(bytes);
        let line = (now.duration_since(self.started), text.trim_end_matches(['\r', '\n']).to_owned());
        if self.output.len() == KEPT {
            self.output.pop_front();
        }
        self.output.push_back(line.clone());
        line
    }

    /// How long it has taken so far, or took.
    pub fn time(&self, now: Instant) -> Duration {
        match self.state {
            State::Running => now.duration_since(self.started),
            State::Done(time) | State::Failed(time) | State::Cancelled(time) => time,
            State::Cached => Duration::ZERO,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A board after some events, each a tenth of a second after the one before.
    pub fn board(events: &[Event<'_>]) -> (Board, Instant) {
        let mut board = Board::default();
        let mut now = Instant::now();
        for event in events {
            board.see(*event, now);
            now += Duration::from_millis(100);
        }
        (board, now)
    }

    #[test]
    fn the_first_to_fail_failed_and_the_others_were_cancelled() {
        let start = |id| Event::Started { id, label: "[1/2] RUN x", total: None };
        let end = |id| Event::Finished { id, outcome: "failed" };
        let (mut board, _) = board(&[start(1), start(2), end(2), end(1)]);
        let states = |board: &Board| board.steps.iter().map(|step| step.state).collect::<Vec<_>>();
        let tenths = |count: u64| Duration::from_millis(100 * count);
        assert_eq!(states(&board), [State::Cancelled(tenths(3)), State::Failed(tenths(1))]);
        board.interrupted();
        assert!(board.failed().is_none());
    }

    #[test]
    fn output_comes_in_whole_lines_and_only_the_last_are_kept() {
        let mut board = Board::default();
        let now = Instant::now();
        board.see(Event::Started { id: 7, label: "RUN a\nb", total: None }, now);
        assert_eq!(board.steps[0].label, "RUN a b");
        let printed = board.see(Event::Output { id: 7, bytes: b"one\ntw" }, now);
        assert_eq!(printed, News::Printed(0, vec![(Duration::ZERO, "one".to_owned())]));
        let ended = board.see(Event::Finished { id: 7, outcome: "done" }, now);
        assert_eq!(ended, News::Ended(0, vec![(Duration::ZERO, "tw".to_owned())]));
        board.see(Event::Started { id: 8, label: "x", total: None }, now);
        board.see(Event::Output { id: 8, bytes: &b"y\n".repeat(2 * KEPT) }, now);
        assert_eq!(board.steps[1].output.len(), KEPT);
    }
}
