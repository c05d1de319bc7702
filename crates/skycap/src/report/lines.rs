//! Plain lines for logs: one line a blob, one at the start and end of a step, and what a step prints in between, with the
//! step's number in front because steps run at the same time.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use skycap_image::{Event, Progress};

use super::{Style, bytes, units};

/// Writes each event as it comes.
pub struct Lines {
    style: Style,
    debug: bool,
    tasks: Mutex<BTreeMap<u64, Running>>,
}

struct Running {
    label: String,
    started: Instant,
    done: u64,
    /// Steps have no size; blobs have one.
    is_step: bool,
    line: Vec<u8>,
}

/// A step that prints without ending its line is cut here.
const LONGEST_LINE: usize = 16 * 1024;

impl Lines {
    pub fn new(colour: bool, debug: bool) -> Self {
        Self { style: Style::new(colour), debug, tasks: Mutex::default() }
    }

    fn print(text: &str) {
        // A log that is gone must not stop the work.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    fn print_output(&self, id: u64, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        Self::print(&format!("{} {}", self.style.faint(&format!("#{id} |")), text.trim_end_matches(['\r', '\n'])));
    }

    fn output(&self, id: u64, bytes: &[u8]) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = tasks.get_mut(&id) else { return };
        task.line.extend_from_slice(bytes);
        while let Some(end) = task.line.iter().position(|b| *b == b'\n').or((task.line.len() > LONGEST_LINE).then_some(LONGEST_LINE)) {
            let line: Vec<u8> = task.line.drain(..=end.min(task.line.len() - 1)).collect();
            self.print_output(id, &line);
        }
    }

    fn finish(&self, id: u64, outcome: &str) {
        let Some(task) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) else { return };
        if !task.line.is_empty() {
            self.print_output(id, &task.line);
        }
        let time = self.style.faint(&units::duration(task.started.elapsed()));
        if task.is_step {
            Self::print(&format!("#{id} {outcome} {time}"));
        } else if task.done > 0 {
            Self::print(&format!("{}: {outcome}, {} in {time}", task.label, bytes(task.done)));
        } else {
            Self::print(&format!("{}: {outcome}", task.label));
        }
    }
}

impl Progress for Lines {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { id, label, total } => {
                let is_step = total.is_none();
                if is_step {
                    Self::print(&format!("#{id} {}", self.style.strong(label)));
                }
                let task = Running { label: label.to_owned(), started: Instant::now(), done: 0, is_step, line: Vec::new() };
                self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, task);
            }
            Event::Advanced { id, bytes } => {
                if let Some(task) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
                    task.done += bytes;
                }
            }
            Event::Output { id, bytes } => self.output(id, bytes),
            Event::Finished { id, outcome } => self.finish(id, outcome),
            Event::Note(text) => Self::print(text),
            Event::Warning(text) => Self::print(&self.style.warning(&format!("warning: {text}"))),
            Event::Debug(text) if self.debug => Self::print(&self.style.faint(text)),
            Event::Debug(_) => {}
        }
    }
}
