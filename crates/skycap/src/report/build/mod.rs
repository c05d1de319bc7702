//! What people see of a build: the same steps as a table on a terminal, as lines in a log, as JSON, or not at all.

mod board;
mod json;
mod lines;
mod table;
mod text;
mod window;

pub use json::Json;
pub use lines::StepLines;
pub use window::Window;

use skycap_image::{Event, Progress};

use super::Display;

/// Says nothing: errors are told by whoever ends the command.
pub struct Quiet;

impl Progress for Quiet {
    fn event(&self, _: Event<'_>) {}
}

impl Display for Quiet {}
