//! The table on a terminal, drawn anew in place at most ten times a second.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skycap_image::{Event, Progress};
use skycap_sandbox::Cancel;

use super::super::screen::{Screen, size};
use super::super::{Display, Style};
use super::board::Board;
use super::table::{self, Frame};

/// Between two redraws.
const FRAME: Duration = Duration::from_millis(100);

/// Draws a build.
pub struct Window {
    style: Style,
    debug: bool,
    cancel: Cancel,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

struct State {
    board: Board,
    screen: Screen,
    /// Since the first step.
    began: Option<Instant>,
    has_painter: bool,
    is_closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paint(&self, style: Style) {
        let mut state = self.state();
        while !state.is_closed {
            state.draw(style);
            let waited = self.wake.wait_timeout(state, FRAME).unwrap_or_else(PoisonError::into_inner);
            state = waited.0;
        }
    }
}

impl State {
    fn frame(&self, style: Style, rows: Option<usize>, columns: usize, end: &'static str) -> Frame {
        let now = Instant::now();
        let elapsed = self.began.map_or(Duration::ZERO, |began| now.duration_since(began));
        Frame { now, elapsed, columns, rows, style, end }
    }

    fn draw(&mut self, style: Style) {
        let (columns, rows) = size();
        self.board.tick(Instant::now());
        let lines = table::draw(&self.board, &self.frame(style, Some(rows), columns, ""));
        write(&self.screen.draw(&lines, columns));
    }

    /// What stays goes above the table; that comes back with the next frame.
    fn print(&mut self, text: &str) {
        let cleared = self.screen.clear(size().0);
        write(&format!("{cleared}{}\r\n", text.replace('\n', "\r\n")));
    }
}

impl Window {
    pub fn new(colour: bool, debug: bool, cancel: Cancel) -> Self {
        let state = State {
            board: Board::default(),
            screen: Screen::default(),
            began: None,
            has_painter: false,
            is_closed: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() });
        Self { style: Style::new(colour), debug, cancel, shared }
    }

    fn start(&self, state: &mut State) {
        if state.has_painter || state.is_closed {
            return;
        }
        state.began.get_or_insert_with(Instant::now);
        let (shared, style) = (Arc::clone(&self.shared), self.style);
        // Without a thread there is nothing to see before the end, but everything is done all the same.
        let thread = std::thread::Builder::new().name("table".to_owned());
        state.has_painter = thread.spawn(move || shared.paint(style)).is_ok();
    }
}

impl Progress for Window {
    fn event(&self, event: Event<'_>) {
        let mut state = self.shared.state();
        match event {
            Event::Note(text) => state.print(text),
            Event::Warning(text) => state.print(&self.style.warning(&format!("warning: {text}"))),
            Event::Debug(text) if self.debug => state.print(&self.style.faint(text)),
            event => {
                state.board.see(event, Instant::now());
                if matches!(event, Event::Started { .. }) {
                    self.start(&mut state);
                }
            }
        }
    }
}

impl Display for Window {
    fn close(&self, succeeded: bool) {
        let mut state = self.shared.state();
        if std::mem::replace(&mut state.is_closed, true) || state.began.is_none() {
            return;
        }
        self.shared.wake.notify_all();
        if self.cancel.is_cancelled() {
            state.board.interrupted();
        }
        let end = if succeeded { "FINISHED" } else { "ERROR" };
        let columns = size().0;
        let mut lines = table::draw(&state.board, &state.frame(self.style, None, columns, end));
        if !succeeded {
            lines.extend(table::failure(&state.board));
        }
        let text = lines.join("\n");
        state.print(&text);
    }
}

/// A terminal that is gone must not stop the work.
fn write(text: &str) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
