//! Bars for terminals: what is under way is redrawn in place, at most ten times a second; a transfer that is done is only
//! counted, a step that is done stands above as the plain lines would have it.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skycap_image::{Event, Progress};

use super::lines::is_quiet;
use super::screen::{Screen, size};
use super::speed::Speed;
use super::{Display, Style, bar_line, units};

/// Between two redraws.
const FRAME: Duration = Duration::from_millis(100);
/// So many bars at once, on a terminal that has the rows; the rest is counted below them.
const MOST_BARS: usize = 8;

/// Draws what is under way.
pub struct Bars {
    style: Style,
    debug: bool,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to draw.
    wake: Condvar,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Running>,
    /// Transfers that are over, and the bytes of all.
    done: u64,
    bytes: u64,
    speed: Speed,
    screen: Screen,
    has_painter: bool,
}

struct Running {
    label: String,
    started: Instant,
    /// In bytes; steps have none.
    total: Option<u64>,
    done: u64,
    speed: Speed,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Redraws while there is something under way; sleeps otherwise.
    fn paint(&self) {
        let mut state = self.state();
        loop {
            while state.tasks.is_empty() {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.draw();
            drop(state);
            std::thread::sleep(FRAME);
            state = self.state();
        }
    }
}

impl State {
    fn draw(&mut self) {
        let (width, rows) = size();
        let now = Instant::now();
        self.speed.note(now, self.bytes);
        for task in self.tasks.values_mut() {
            task.speed.note(now, task.done);
        }
        let frame = self.lines(width, rows);
        write(&self.screen.draw(&frame, width));
    }

    fn lines(&self, width: usize, rows: usize) -> Vec<String> {
        let most = MOST_BARS.min(rows.saturating_sub(3)).max(1);
        let mut lines: Vec<String> = self.tasks.values().take(most).map(|task| task.line(width)).collect();
        let transfers = self.tasks.values().filter(|task| task.total.is_some()).count();
        let hidden = self.tasks.len().saturating_sub(most);
        if hidden > 0 || (transfers > 0 && transfers as u64 + self.done > 1) {
            let more = if hidden == 0 { String::new() } else { format!(" ({hidden} not shown)") };
            let text = format!("{} done, {} under way{more}", self.done, self.tasks.len());
            lines.push(bar_line::total(&text, self.bytes, self.speed.rate(), width));
        }
        lines
    }

    /// What stays goes above what is redrawn; that comes back with the next frame.
    fn print(&mut self, text: &str) {
        let cleared = self.screen.clear(size().0);
        write(&format!("{cleared}{text}\n"));
    }

    fn clear(&mut self) {
        if !self.screen.is_clear() {
            write(&self.screen.clear(size().0));
        }
    }
}

impl Running {
    fn line(&self, width: usize) -> String {
        match self.total {
            Some(total) => bar_line::transfer(&self.label, self.done, total, self.speed.rate(), width),
            None => bar_line::step(&self.label, self.started.elapsed(), width),
        }
    }
}

impl Bars {
    pub fn new(colour: bool, debug: bool) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new() });
        Self { style: Style::new(colour), debug, shared }
    }

    fn print(&self, text: &str) {
        self.shared.state().print(text);
    }

    fn start(&self, id: u64, label: &str, total: Option<u64>) {
        if total.is_some() && is_quiet(label) {
            return;
        }
        let mut state = self.shared.state();
        let (label, started) = (label.to_owned(), Instant::now());
        state.tasks.insert(id, Running { label, started, total, done: 0, speed: Speed::default() });
        if !state.has_painter {
            let shared = Arc::clone(&self.shared);
            // Without a thread there is nothing to see, but everything is done all the same.
            state.has_painter =
                std::thread::Builder::new().name("bars".to_owned()).spawn(move || shared.paint()).is_ok();
        }
        self.shared.wake.notify_all();
    }

    fn advance(&self, id: u64, bytes: u64) {
        let mut state = self.shared.state();
        if let Some(task) = state.tasks.get_mut(&id) {
            task.done += bytes;
            state.bytes += bytes;
        }
    }

    fn output(&self, id: u64, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.print(&format!("{} {line}", self.style.faint(&format!("#{id} |"))));
        }
    }

    fn finish(&self, id: u64, outcome: &str) {
        let mut state = self.shared.state();
        let Some(task) = state.tasks.remove(&id) else { return };
        if task.total.is_some() {
            state.done += 1;
        }
        if task.total.is_none() || outcome == "failed" {
            let time = self.style.faint(&units::duration(task.started.elapsed()));
            state.print(&format!("{} {} {time}", task.label, self.style.strong(outcome)));
        }
        if state.tasks.is_empty() {
            state.clear();
        }
    }
}

impl Progress for Bars {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Started { id, label, total } => self.start(id, label, total),
            Event::Advanced { id, bytes } => self.advance(id, bytes),
            Event::Output { id, bytes } => self.output(id, bytes),
            Event::Finished { id, outcome } => self.finish(id, outcome),
            Event::Note(text) => self.print(text),
            Event::Warning(text) => self.print(&self.style.warning(&format!("warning: {text}"))),
            Event::Debug(text) if self.debug => self.print(&self.style.faint(text)),
            Event::Debug(_) | Event::Expected { .. } => {}
        }
    }
}

impl Display for Bars {}

/// A terminal that is gone must not stop the work.
fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
