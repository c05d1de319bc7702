//! Plain lines for logs: one line a blob, one at the start and end of a step, and what a step prints in between, with the
//! step's number in front because steps run at the same time.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use skycap_image::{Event, Progress};

use super::{Display, Style, bytes, units};

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

    fn print(prefix: &str, text: &str) {
        // A log that is gone must not stop the work.
        let _ = writeln!(std::io::stderr().lock(), "{prefix}{text}");
    }

    fn print_output(&self, prefix: &str, id: u64, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        Self::print(
            prefix,
            &format!("{} {}", self.style.faint(&format!("#{id} |")), text.trim_end_matches(['\r', '\n'])),
        );
    }

    fn output(&self, prefix: &str, id: u64, bytes: &[u8]) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(task) = tasks.get_mut(&id) else { return };
        task.line.extend_from_slice(bytes);
        while let Some(line) = next_line(&mut task.line) {
            self.print_output(prefix, id, &line);
        }
    }

    fn finish(&self, prefix: &str, id: u64, outcome: &str) {
        let Some(task) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) else { return };
        if !task.line.is_empty() {
            self.print_output(prefix, id, &task.line);
        }
        let time = self.style.faint(&units::duration(task.started.elapsed()));
        if is_quiet(&task.label) && outcome != "failed" {
            return;
        }
        let text = if task.is_step {
            format!("#{id} {outcome} {time}")
        } else if task.done > 0 {
            format!("{}: {outcome}, {} in {time}", task.label, bytes(task.done))
        } else {
            format!("{}: {outcome}", task.label)
        };
        Self::print(prefix, &text);
    }

    fn start(&self, prefix: &str, id: u64, label: &str, total: Option<u64>) {
        let is_step = total.is_none();
        if is_step {
            Self::print(prefix, &format!("#{id} {}", self.style.strong(label)));
        }
        let task = Running { label: label.to_owned(), started: Instant::now(), done: 0, is_step, line: Vec::new() };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, task);
    }

    /// Shows an event with something in front of each line.
    pub fn show(&self, prefix: &str, event: Event<'_>) {
        match event {
            Event::Started { id, label, total } => self.start(prefix, id, label, total),
            Event::Advanced { id, bytes } => {
                if let Some(task) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
                    task.done += bytes;
                }
            }
            Event::Output { id, bytes } => self.output(prefix, id, bytes),
            Event::Finished { id, outcome } => self.finish(prefix, id, outcome),
            Event::Note(text) => Self::print(prefix, text),
            Event::Warning(text) => Self::print(prefix, &self.style.warning(&format!("warning: {text}"))),
            Event::Debug(text) if self.debug => Self::print(prefix, &self.style.faint(text)),
            Event::Debug(_) | Event::Expected { .. } => {}
        }
    }
}

impl Progress for Lines {
    fn event(&self, event: Event<'_>) {
        self.show("", event);
    }
}

impl Display for Lines {}

/// A configuration is no layer: it is counted, not told.
pub fn is_quiet(label: &str) -> bool {
    label.starts_with("pull config ") || label.starts_with("push config ")
}

/// Takes the first line out of what was printed so far, if it is whole or too long to wait for its end.
pub fn next_line(text: &mut Vec<u8>) -> Option<Vec<u8>> {
    let end = text.iter().position(|b| *b == b'\n').map(|end| end + 1);
    let end = end.or((text.len() > LONGEST_LINE).then_some(LONGEST_LINE))?;
    Some(text.drain(..end).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_when_they_are_whole_or_too_long() {
        let mut text = b"one\ntwo\nthr".to_vec();
        assert_eq!(next_line(&mut text).as_deref(), Some(&b"one\n"[..]));
        assert_eq!(next_line(&mut text).as_deref(), Some(&b"two\n"[..]));
        assert_eq!(next_line(&mut text), None);
        let mut text = vec![b'x'; LONGEST_LINE + 1];
        assert_eq!(next_line(&mut text).map(|line| line.len()), Some(LONGEST_LINE));
        assert_eq!(text.len(), 1);
    }
}
