//! What people see while skycap works: bars on a terminal, plain lines elsewhere. Always stderr: stdout belongs to
//! answers.

mod bar_line;
mod bars;
mod counts;
mod lines;
pub mod log;
mod screen;
mod speed;
mod steps;
mod text;
mod units;

use std::sync::Arc;

use skycap_image::Progress;

pub use counts::{Counting, Notices};
pub use steps::Steps;
pub use text::{columns, printable};
pub use units::bytes;

use crate::environment::Terminal;

/// The printer that fits what stderr is.
pub fn printer(terminal: Terminal, debug: bool) -> Arc<dyn Progress> {
    if terminal.interactive {
        Arc::new(bars::Bars::new(terminal.colour, debug))
    } else {
        Arc::new(lines::Lines::new(terminal.colour, debug))
    }
}

/// The colours of messages, when they are welcome.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    colour: bool,
}

impl Style {
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn hint(self, text: &str) -> String {
        self.paint("36", text)
    }

    pub fn faint(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn strong(self, text: &str) -> String {
        self.paint("1", text)
    }
}
