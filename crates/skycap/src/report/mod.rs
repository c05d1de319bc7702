//! What people see while skycap works: bars on a terminal, plain lines elsewhere. Always stderr: stdout belongs to
//! answers.

mod bar_line;
mod bars;
mod build;
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
use skycap_sandbox::Cancel;

pub use counts::{Counting, Notices};
pub use steps::Steps;
pub use text::{columns, printable};
pub use units::bytes;

use crate::args::ProgressArg;
use crate::environment::Terminal;

/// Shows what happens to people.
pub trait Display: Progress {
    /// Nothing more is under way: what is to stay is shown. May be called more than once.
    fn close(&self, _succeeded: bool) {}
}

/// What a command wants its work to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Bars and lines for whatever is moved.
    Transfers,
    /// Steps of a build, as was asked.
    Build(ProgressArg),
}

/// The display that fits what stderr is. `cancel` tells it why something failed.
pub fn display(look: Look, terminal: Terminal, debug: bool, cancel: &Cancel) -> Arc<dyn Display> {
    let (colour, cancel) = (terminal.colour, cancel.clone());
    match look {
        Look::Transfers if terminal.interactive => Arc::new(bars::Bars::new(colour, debug)),
        Look::Transfers => Arc::new(lines::Lines::new(colour, debug)),
        Look::Build(ProgressArg::Quiet) => Arc::new(build::Quiet),
        Look::Build(ProgressArg::Rawjson) => Arc::new(build::Json::default()),
        Look::Build(ProgressArg::Tty) if terminal.present => Arc::new(build::Window::new(colour, debug, cancel)),
        Look::Build(ProgressArg::Auto) if terminal.interactive => Arc::new(build::Window::new(colour, debug, cancel)),
        Look::Build(_) => Arc::new(build::StepLines::new(colour, debug, cancel)),
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
