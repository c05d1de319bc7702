//! Lines for logs, as `BuildKit` writes them: each begins with its step's number, so that the output of one step can be
//! found however many run at the same time.

use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use skycap_image::{Event, Progress};
use skycap_sandbox::Cancel;

use super::super::{Display, Style, bytes};
use super::board::{Board, News, State};
use super::table;
use super::text::plain;

/// Writes each event as it comes.
pub struct StepLines {
    style: Style,
    debug: bool,
    cancel: Cancel,
    state: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    board: Board,
    /// The step that the last line was of.
    last: Option<usize>,
    is_closed: bool,
}

impl StepLines {
    pub fn new(colour: bool, debug: bool, cancel: Cancel) -> Self {
        Self { style: Style::new(colour), debug, cancel, state: Mutex::default() }
    }

    /// Says whose lines follow.
    fn head(&self, told: &mut Told, place: usize) {
        if told.last == Some(place) {
            return;
        }
        let Some(step) = told.board.steps.get(place) else { return };
        let begins_anew = if told.last.is_some() { "\n" } else { "" };
        write(&format!("{begins_anew}#{} {}\n", step.number, self.style.strong(&step.label)));
        told.last = Some(place);
    }

    fn output(&self, told: &mut Told, place: usize, lines: &[(Duration, String)]) {
        if lines.is_empty() {
            return;
        }
        self.head(told, place);
        let number = place + 1;
        for (time, text) in lines {
            write(&format!("#{number} {} {}\n", table::stamp(*time), plain(text)));
        }
    }

    fn end(&self, told: &mut Told, place: usize) {
        self.head(told, place);
        let Some(step) = told.board.steps.get(place) else { return };
        let outcome = match step.state {
            State::Running => return,
            State::Cached => "CACHED".to_owned(),
            State::Done(time) => format!("DONE {}", table::seconds(time)),
            State::Failed(_) | State::Cancelled(_) if self.cancel.is_cancelled() => "CANCELED".to_owned(),
            State::Failed(time) => self.style.error(&format!("ERROR {}", table::seconds(time))),
            State::Cancelled(_) => "CANCELED".to_owned(),
        };
        write(&format!("#{} {outcome}\n", step.number));
    }
}

impl Progress for StepLines {
    fn event(&self, event: Event<'_>) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Note(text) => write(&format!("{text}\n")),
            Event::Warning(text) => write(&format!("{}\n", self.style.warning(&format!("warning: {text}")))),
            Event::Debug(text) if self.debug => write(&format!("{}\n", self.style.faint(text))),
            event => match told.board.see(event, Instant::now()) {
                News::Nothing => {}
                News::Began(place) => self.head(&mut told, place),
                News::Printed(place, lines) => self.output(&mut told, place, &lines),
                News::Ended(place, lines) => {
                    self.output(&mut told, place, &lines);
                    self.end(&mut told, place);
                }
                News::Transferred { label, bytes: 0, outcome } => write(&format!("{label}: {outcome}\n")),
                News::Transferred { label, bytes: count, outcome } => {
                    write(&format!("{label}: {outcome}, {}\n", bytes(count)));
                }
            },
        }
    }
}

impl Display for StepLines {
    fn close(&self, succeeded: bool) {
        let mut told = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut told.is_closed, true) || succeeded || self.cancel.is_cancelled() {
            return;
        }
        let lines = table::failure(&told.board);
        if !lines.is_empty() {
            write(&format!("{}\n", lines.join("\n")));
        }
    }
}

/// A log that is gone must not stop the work.
fn write(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}
