//! Bars for terminals: what is under way is redrawn in place, at most ten times a second; a transfer that is done is only
//! counted, a step that is done stands above as the plain lines would have it.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use skycap_image::{Event, Progress};

use super::{Style, bar_line, units};

/// How often waiting things move.
const TICK: Duration = Duration::from_millis(200);
/// Redraws a second.
const REDRAWS: u8 = 10;
/// So many bars at once; the rest is counted below them.
const MOST_BARS: usize = 8;
/// Where the terminal does not tell.
const USUAL_WIDTH: u16 = 80;

/// Draws what is under way.
pub struct Bars {
    style: Style,
    debug: bool,
    screen: MultiProgress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Running>,
    /// Transfers that are over.
    done: u64,
    /// The line below the bars, while there are several transfers.
    total: Option<Total>,
}

struct Total {
    bar: ProgressBar,
    says: Arc<Mutex<String>>,
}

impl Total {
    fn say(&self, text: String) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

struct Running {
    label: String,
    started: Instant,
    /// In bytes; steps have none.
    total: Option<u64>,
    done: u64,
    /// Not every one has a place on the screen.
    bar: Option<ProgressBar>,
}

impl Bars {
    pub fn new(colour: bool, debug: bool) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(REDRAWS));
        Self { style: Style::new(colour), debug, screen, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, text: &str) {
        // A terminal that is gone must not stop the work.
        let _ = self.screen.println(text);
    }

    fn start(&self, id: u64, label: &str, total: Option<u64>) {
        // A configuration is no layer: it is over before anybody could look.
        if total.is_some() && label.contains(" config ") {
            return;
        }
        let mut state = self.state();
        let task = Running { label: label.to_owned(), started: Instant::now(), total, done: 0, bar: None };
        state.tasks.insert(id, task);
        self.arrange(&mut state);
    }

    /// Gives bars to those that waited longest for one, as far as there is room, and counts the others.
    fn arrange(&self, state: &mut State) {
        let mut room = MOST_BARS.saturating_sub(state.tasks.values().filter(|task| task.bar.is_some()).count());
        for task in state.tasks.values_mut().filter(|task| task.bar.is_none()) {
            if room == 0 {
                break;
            }
            room -= 1;
            task.bar = Some(self.bar(task, state.total.as_ref().map(|total| &total.bar)));
        }
        let transfers = state.tasks.values().filter(|task| task.total.is_some()).count();
        if transfers == 0 {
            if let Some(total) = state.total.take() {
                total.bar.finish_and_clear();
                self.screen.remove(&total.bar);
            }
            return;
        }
        if state.total.is_none() && transfers as u64 + state.done > 1 {
            state.total = Some(self.total());
        }
        if let Some(total) = &state.total {
            let hidden = state.tasks.values().filter(|task| task.bar.is_none()).count();
            let more = if hidden == 0 { String::new() } else { format!(", {hidden} of them not shown") };
            total.say(format!("{} done, {transfers} under way{more}", state.done));
        }
    }

    fn total(&self) -> Total {
        let says = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&says);
        let bar = self.screen.add(ProgressBar::no_length());
        bar.set_style(style(move |state| {
            let text = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            bar_line::total(&text, state.pos(), state.per_sec(), width())
        }));
        bar.enable_steady_tick(TICK);
        Total { bar, says }
    }

    fn bar(&self, task: &Running, above: Option<&ProgressBar>) -> ProgressBar {
        let bar = match task.total {
            Some(total) => ProgressBar::new(total),
            None => ProgressBar::no_length(),
        };
        let bar = match above {
            Some(total) => self.screen.insert_before(total, bar),
            None => self.screen.add(bar),
        };
        let label = task.label.clone();
        bar.set_style(style(move |state| match state.len() {
            Some(total) => bar_line::transfer(&label, state.pos(), total, state.per_sec(), width()),
            None => bar_line::step(&label, state.elapsed(), width()),
        }));
        bar.set_position(task.done);
        bar.enable_steady_tick(TICK);
        bar
    }

    fn advance(&self, id: u64, bytes: u64) {
        let mut state = self.state();
        if let Some(total) = &state.total {
            total.bar.inc(bytes);
        }
        if let Some(task) = state.tasks.get_mut(&id) {
            task.done += bytes;
            if let Some(bar) = &task.bar {
                bar.inc(bytes);
            }
        }
    }

    fn output(&self, id: u64, bytes: &[u8]) {
        for line in String::from_utf8_lossy(bytes).lines() {
            self.print(&format!("{} {line}", self.style.faint(&format!("#{id} |"))));
        }
    }

    fn finish(&self, id: u64, outcome: &str) {
        let mut state = self.state();
        let Some(task) = state.tasks.remove(&id) else { return };
        if let Some(bar) = &task.bar {
            bar.finish_and_clear();
            self.screen.remove(bar);
        }
        let is_transfer = task.total.is_some();
        state.done += u64::from(is_transfer);
        self.arrange(&mut state);
        drop(state);
        if !is_transfer || outcome == "failed" {
            let time = self.style.faint(&units::duration(task.started.elapsed()));
            self.print(&format!("{} {} {time}", task.label, self.style.strong(outcome)));
        }
    }
}

/// A line that is drawn anew for the width that the terminal has then.
fn style(line: impl Fn(&ProgressState) -> String + Clone + Send + Sync + 'static) -> ProgressStyle {
    let whole = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_bar());
    whole.with_key("line", move |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _ = out.write_str(&line(state));
    })
}

fn width() -> usize {
    let columns = rustix::termios::tcgetwinsize(io::stderr()).map_or(0, |size| size.ws_col);
    usize::from(if columns == 0 { USUAL_WIDTH } else { columns })
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
            Event::Debug(_) => {}
        }
    }
}
