//! One step's line to whoever watches: redacted, and cut into whole lines so that a secret cannot slip through in halves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use skycap_image::{Event, Progress};

use super::redact::Redactor;
use crate::events::{Events, Step, StepEvent, Stream};
use crate::{Outcome, events};

/// A line longer than this is passed on in pieces.
const LONGEST: usize = 64 << 10;

/// Tells about one step. Clones tell about the same.
#[derive(Clone)]
pub(crate) struct StepLog {
    events: Arc<dyn Events>,
    redactor: Arc<Redactor>,
    step: Step,
}

impl StepLog {
    pub fn new(events: Arc<dyn Events>, redactor: Arc<Redactor>, kind: &'static str, name: &str) -> Self {
        Self { events, redactor, step: events::Step { kind, name: name.to_owned() } }
    }

    pub fn initializing(&self) {
        self.tell(StepEvent::Initializing);
    }

    pub fn check(&self, name: &str) {
        self.tell(StepEvent::Check(name));
    }

    pub fn running(&self, path: &str, args: &[String]) {
        let args: Vec<String> = args.iter().map(|arg| self.redactor.text(arg)).collect();
        self.tell(StepEvent::Running(&self.redactor.text(path), &args));
    }

    /// A remark of ours.
    pub fn note(&self, text: &str) {
        let text = format!("{}\n", self.redactor.text(text));
        self.tell(StepEvent::Log(Stream::Stderr, text.as_bytes()));
    }

    pub fn metadata(&self, metadata: &[(String, String)]) {
        if !metadata.is_empty() {
            let redacted: Vec<_> =
                metadata.iter().map(|(name, value)| (name.clone(), self.redactor.text(value))).collect();
            self.tell(StepEvent::Metadata(&redacted));
        }
    }

    /// Tells the end, and hands the outcome on, with its text redacted.
    pub fn finished(&self, outcome: Outcome) -> Outcome {
        let outcome = match outcome {
            Outcome::Errored(error) => {
                let error = self.redactor.text(&error);
                self.tell(StepEvent::Error(&error));
                Outcome::Errored(error)
            }
            outcome => outcome,
        };
        self.tell(StepEvent::Finished(&outcome));
        outcome
    }

    /// Where a process's output goes.
    pub fn output(&self) -> LineOutput {
        LineOutput { log: self.clone(), buffers: [Vec::new(), Vec::new()], keep_stdout: None }
    }

    /// As [`output`](Self::output), but standard output is kept instead of shown: resource scripts answer there.
    pub fn answering_output(&self) -> LineOutput {
        LineOutput { keep_stdout: Some(Vec::new()), ..self.output() }
    }

    /// What something that runs in process reports to.
    pub fn progress(&self) -> Arc<dyn Progress> {
        Arc::new(StepProgress { log: self.clone(), lines: Mutex::new(HashMap::new()) })
    }

    fn tell(&self, event: StepEvent<'_>) {
        self.events.event(&self.step, event);
    }
}

/// Collects output into lines.
pub(crate) struct LineOutput {
    log: StepLog,
    buffers: [Vec<u8>; 2],
    keep_stdout: Option<Vec<u8>>,
}

/// Takes what can be shown out of a buffer: its whole lines, or as much as is safe of a line that is too long.
fn ready(buffer: &mut Vec<u8>, redactor: &Redactor) -> Vec<u8> {
    let end = match buffer.iter().rposition(|b| *b == b'\n') {
        Some(newline) => newline + 1,
        None if buffer.len() > LONGEST => redactor.showable(buffer),
        None => return Vec::new(),
    };
    let rest = buffer.split_off(end);
    std::mem::replace(buffer, rest)
}

/// More of an answer than this is not read: the rest of a resource's standard output is of no use.
const ANSWER_LIMIT: usize = 64 << 20;

impl LineOutput {
    /// Shows what is left, and hands the kept answer out.
    pub fn finish(mut self) -> Vec<u8> {
        for (index, stream) in [Stream::Stdout, Stream::Stderr].into_iter().enumerate() {
            let rest = self.buffers.get_mut(index).map(std::mem::take).unwrap_or_default();
            if !rest.is_empty() {
                self.show(stream, &rest);
            }
        }
        self.keep_stdout.take().unwrap_or_default()
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(buffer) = self.buffers.get_mut(usize::from(stream == Stream::Stderr)) else { return };
        buffer.extend_from_slice(bytes);
        let whole = ready(buffer, &self.log.redactor);
        if !whole.is_empty() {
            self.show(stream, &whole);
        }
    }

    fn show(&self, stream: Stream, bytes: &[u8]) {
        self.log.tell(StepEvent::Log(stream, &self.log.redactor.bytes(bytes)));
    }
}

impl skycap_sandbox::Output for LineOutput {
    fn stdout(&mut self, bytes: &[u8]) {
        match &mut self.keep_stdout {
            Some(kept) => kept.extend(bytes.iter().take(ANSWER_LIMIT.saturating_sub(kept.len()))),
            None => self.take(Stream::Stdout, bytes),
        }
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.take(Stream::Stderr, bytes);
    }
}

/// Passes progress on, with what processes print below it redacted by line.
struct StepProgress {
    log: StepLog,
    lines: Mutex<HashMap<u64, Vec<u8>>>,
}

impl StepProgress {
    fn output(&self, id: u64, bytes: &[u8], flush: bool) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = lines.entry(id).or_default();
        buffer.extend_from_slice(bytes);
        let whole = if flush { lines.remove(&id).unwrap_or_default() } else { ready(buffer, &self.log.redactor) };
        drop(lines);
        if !whole.is_empty() {
            let bytes = self.log.redactor.bytes(&whole);
            self.log.tell(StepEvent::Progress(Event::Output { id, bytes: &bytes }));
        }
    }
}

impl Progress for StepProgress {
    fn event(&self, event: Event<'_>) {
        let redact = |text: &str| self.log.redactor.text(text);
        match event {
            Event::Output { id, bytes } => self.output(id, bytes, false),
            Event::Started { id, label, total } => {
                self.log.tell(StepEvent::Progress(Event::Started { id, label: &redact(label), total }));
            }
            Event::Finished { id, outcome } => {
                self.output(id, b"", true);
                self.log.tell(StepEvent::Progress(Event::Finished { id, outcome }));
            }
            Event::Note(text) => self.log.tell(StepEvent::Progress(Event::Note(&redact(text)))),
            Event::Warning(text) => self.log.tell(StepEvent::Progress(Event::Warning(&redact(text)))),
            Event::Debug(text) => self.log.tell(StepEvent::Progress(Event::Debug(&redact(text)))),
            Event::Advanced { .. } | Event::Expected { .. } => self.log.tell(StepEvent::Progress(event)),
        }
    }
}

#[cfg(test)]
mod tests {
    use skycap_sandbox::Output;

    use super::*;
    use crate::yaml::Node;

    #[derive(Default)]
    struct Seen(Mutex<Vec<u8>>);

    impl Events for Seen {
        fn event(&self, _: &Step, event: StepEvent<'_>) {
            match event {
                StepEvent::Log(_, bytes) | StepEvent::Progress(Event::Output { bytes, .. }) => {
                    self.0.lock().unwrap().extend_from_slice(bytes);
                }
                StepEvent::Running(_, args) => self.0.lock().unwrap().extend(args.concat().bytes()),
                _ => {}
            }
        }
    }

    #[test]
    fn a_long_line_is_cut_where_no_secret_is() {
        let seen = Arc::new(Seen::default());
        let redactor = Arc::new(Redactor::default());
        redactor.track(&Node::text("hunter2"));
        let log = StepLog::new(seen.clone(), redactor, "task", "t");
        let long = vec![b'.'; LONGEST];
        let mut output = log.output();
        output.stdout(&[&long, &b"hun"[..]].concat());
        assert!(seen.0.lock().unwrap().len() > LONGEST - 10, "a long line is passed on before it ends");
        output.stdout(b"ter2\n");
        output.finish();
        let progress = log.progress();
        progress.event(Event::Output { id: 1, bytes: &[&long, &b"\nhun"[..]].concat() });
        progress.event(Event::Output { id: 1, bytes: b"ter2\n" });
        let text = String::from_utf8(seen.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.replace('.', ""), "((redacted))\n\n((redacted))\n");
    }

    #[test]
    fn a_secret_that_comes_in_halves_is_still_hidden() {
        let seen = Arc::new(Seen::default());
        let redactor = Arc::new(Redactor::default());
        redactor.track(&Node::text("hunter2"));
        let log = StepLog::new(seen.clone(), redactor, "task", "t");
        let mut output = log.output();
        output.stdout(b"say hun");
        output.stderr(b"other\n");
        output.stdout(b"ter2\nrest hunter2");
        output.finish();
        let progress = log.progress();
        progress.event(Event::Output { id: 1, bytes: b" hun" });
        progress.event(Event::Output { id: 1, bytes: b"ter2" });
        progress.event(Event::Finished { id: 1, outcome: "done" });
        log.running("x", &["-p=hunter2".to_owned()]);
        let text = String::from_utf8(seen.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text, "other\nsay ((redacted))\nrest ((redacted)) ((redacted))-p=((redacted))");
    }
}
