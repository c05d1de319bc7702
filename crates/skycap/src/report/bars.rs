//! Bars for terminals: what is under way is redrawn in place, what is done stands above it as the plain lines would.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use skycap_image::{Event, Progress};

use super::{Style, bytes, units};

/// How often spinners move.
const TICK: Duration = Duration::from_millis(100);

/// Draws what is under way.
pub struct Bars {
    style: Style,
    debug: bool,
    screen: MultiProgress,
    tasks: Mutex<BTreeMap<u64, Running>>,
}

struct Running {
    label: String,
    started: Instant,
    bar: ProgressBar,
    is_step: bool,
}

impl Bars {
    pub fn new(colour: bool, debug: bool) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Self { style: Style::new(colour), debug, screen, tasks: Mutex::default() }
    }

    fn print(&self, text: &str) {
        // A terminal that is gone must not stop the work.
        let _ = self.screen.println(text);
    }

    fn start(&self, id: u64, label: &str, total: Option<u64>) {
        let (bar, template) = match total {
            Some(total) => {
                (ProgressBar::new(total), "  {msg} {wide_bar:.cyan/dim} {bytes}/{total_bytes} {bytes_per_sec}")
            }
            None => (ProgressBar::new_spinner(), "  {spinner} {wide_msg} {elapsed}"),
        };
        let bar = self.screen.add(bar);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(label.to_owned());
        bar.enable_steady_tick(TICK);
        let task = Running { label: label.to_owned(), started: Instant::now(), bar, is_step: total.is_none() };
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(id, task);
    }

    fn output(&self, id: u64, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.print(&format!("{} {line}", self.style.faint(&format!("#{id} |"))));
        }
    }

    fn finish(&self, id: u64, outcome: &str) {
        let Some(task) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) else { return };
        task.bar.finish_and_clear();
        let done = task.bar.position();
        let size = if task.is_step || done == 0 { String::new() } else { format!(", {}", bytes(done)) };
        let time = self.style.faint(&units::duration(task.started.elapsed()));
        self.print(&format!("{} {}{size} {time}", task.label, self.style.strong(outcome)));
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { id, label, total } => self.start(id, label, total),
            Event::Advanced { id, bytes } => {
                if let Some(task) = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
                    task.bar.inc(bytes);
                }
            }
            Event::Output { id, bytes } => self.output(id, bytes),
            Event::Finished { id, outcome } => self.finish(id, outcome),
            Event::Note(text) => self.print(text),
            Event::Warning(text) => self.print(&self.style.warning(&format!("warning: {text}"))),
            Event::Debug(text) if self.debug => self.print(&self.style.faint(text)),
            Event::Debug(_) => {}
        }
    }
}
