//! What the steps of a pipeline do, line by line with the step's name in front: they run at the same time, so lines without
//! one could be anybody's.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use skycap_image::Event;
use skycap_pipeline::{Events, Outcome, Step, StepEvent};

use super::Style;
use super::counts::Counts;
use super::lines::{Lines, next_line};

/// Writes steps' events to stderr.
pub struct Steps {
    style: Style,
    /// What runs in this process inside a step.
    lines: Lines,
    /// What a step has printed of its current line.
    open: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What a step has moved, since when.
    moved: Mutex<BTreeMap<String, (Instant, Counts)>>,
}

impl Steps {
    pub fn new(colour: bool, debug: bool) -> Self {
        Self {
            style: Style::new(colour),
            lines: Lines::new(colour, debug),
            open: Mutex::default(),
            moved: Mutex::default(),
        }
    }

    fn prefix(&self, step: &Step) -> String {
        self.style.faint(&format!("{} {} |", step.kind, step.name))
    }

    fn print(&self, step: &Step, text: &str) {
        // A log that is gone must not stop the work.
        let _ = writeln!(std::io::stderr().lock(), "{} {text}", self.prefix(step));
    }

    fn log(&self, step: &Step, bytes: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let line = open.entry(step.name.clone()).or_default();
        line.extend_from_slice(bytes);
        while let Some(whole) = next_line(line) {
            self.print(step, String::from_utf8_lossy(&whole).trim_end_matches(['\r', '\n']));
        }
    }

    fn flush(&self, step: &Step) {
        let rest = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&step.name);
        if let Some(rest) = rest.filter(|rest| !rest.is_empty()) {
            self.print(step, &String::from_utf8_lossy(&rest));
        }
    }

    fn count(&self, step: &Step, event: Event<'_>) {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = moved.entry(step.name.clone()).or_insert_with(|| (Instant::now(), Counts::default()));
        counts.1.see(event, Instant::now());
    }

    fn summarise(&self, step: &Step) {
        let moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner).remove(&step.name);
        if let Some(summary) = moved.and_then(|(since, counts)| counts.summary(since.elapsed(), None)) {
            self.print(step, &summary);
        }
    }

    fn outcome(&self, outcome: &Outcome) -> String {
        match outcome {
            Outcome::Succeeded => self.style.good(outcome.word()),
            Outcome::Failed | Outcome::Errored(_) => self.style.error(outcome.word()),
            Outcome::Aborted => self.style.warning(outcome.word()),
        }
    }
}

impl Events for Steps {
    fn event(&self, step: &Step, event: StepEvent<'_>) {
        match event {
            StepEvent::Initializing => self.print(step, &self.style.strong("initializing")),
            StepEvent::Check(name) => self.print(step, &self.style.strong(&format!("initializing check: {name}"))),
            StepEvent::Running(path, arguments) => {
                let words: Vec<&str> = std::iter::once(path).chain(arguments.iter().map(String::as_str)).collect();
                self.print(step, &self.style.strong(&format!("running {}", words.join(" "))));
            }
            StepEvent::Log(_, bytes) => self.log(step, bytes),
            StepEvent::Progress(event) => {
                self.count(step, event);
                self.lines.show(&format!("{} ", self.prefix(step)), event);
            }
            StepEvent::Metadata(fields) => {
                for (name, value) in fields {
                    self.print(step, &format!("{}: {value}", self.style.faint(name)));
                }
            }
            StepEvent::Error(text) => {
                self.flush(step);
                self.print(step, &self.style.error(text));
            }
            StepEvent::Finished(outcome) => {
                self.flush(step);
                self.summarise(step);
                self.print(step, &self.outcome(outcome));
            }
        }
    }
}
