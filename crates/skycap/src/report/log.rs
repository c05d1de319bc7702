//! Lines as registry-image's logger writes them: a coloured level, the seconds since start, the message padded to 44 columns.
//! People match on such lines, whatever stderr is.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use skycap_image::{Event, Progress};

/// What the resource puts before what only `debug` shows.
const DEBUG: &str = "debug: ";

static STARTED: OnceLock<Instant> = OnceLock::new();

/// The seconds count from here.
pub fn start() {
    STARTED.get_or_init(Instant::now);
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warning,
    Note,
    Debug,
}

/// A line without its end.
pub fn line(level: Level, message: &str) -> String {
    let seconds = STARTED.get().map_or(0, |started| started.elapsed().as_secs());
    let (colour, name) = match level {
        Level::Error => (31, "ERRO"),
        Level::Warning => (33, "WARN"),
        Level::Note => (36, "INFO"),
        Level::Debug => (37, "DEBU"),
    };
    format!("\x1b[{colour}m{name}\x1b[0m[{seconds:04}] {:<44} ", message.trim_end())
}

/// Warnings and notes go to `progress` as such lines, everything else as it is.
pub fn lines(progress: &Arc<dyn Progress>) -> Arc<dyn Progress> {
    Arc::new(Lines(Arc::clone(progress)))
}

struct Lines(Arc<dyn Progress>);

impl Progress for Lines {
    fn event(&self, event: Event<'_>) {
        let note = |level, text| self.0.event(Event::Note(&line(level, text)));
        match event {
            Event::Warning(text) => note(Level::Warning, text),
            Event::Note(text) => match text.strip_prefix(DEBUG) {
                Some(text) => note(Level::Debug, text),
                None => note(Level::Note, text),
            },
            other => self.0.event(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_the_loggers() {
        let expected = format!("\x1b[33mWARN\x1b[0m[0000] {:<44} ", "transient error");
        assert_eq!(line(Level::Warning, "transient error\n"), expected);
        let long = "x".repeat(60);
        assert_eq!(line(Level::Error, &long), format!("\x1b[31mERRO\x1b[0m[0000] {long} "));
    }
}
