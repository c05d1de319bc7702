//! The rules that Concourse checks beyond the schema (`atc/configvalidate`), with its texts.

mod glob;
mod identifier;
mod jobs;
mod sections;
mod steps;

use std::fmt;

pub use glob::{InvalidGlob, glob};

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
    /// By section (`groups`, `resources`, …), in Concourse's order; a pipeline with any of these cannot be set. Sections
    /// without errors are left out.
    pub errors: Vec<(&'static str, Vec<Finding>)>,
    /// What `--strict` refuses.
    pub warnings: Vec<Finding>,
}

impl Config {
    /// Checks everything that Concourse checks when a pipeline is set.
    pub fn validate(&self) -> Validation {
        let mut result = Validation::default();
        let sections: [(&'static str, Check); 8] = [
            ("groups", sections::groups),
            ("resources", sections::resources),
            ("resource types", sections::resource_types),
            ("prototypes", sections::prototypes),
            ("variable sources", sections::var_sources),
            ("jobs", jobs::jobs),
            ("display config", sections::display),
            ("jobs", jobs::cycle),
        ];
        for (name, check) in sections {
            let mut findings = Findings::default();
            check(self, &mut findings);
            result.warnings.append(&mut findings.warnings);
            if !findings.errors.is_empty() {
                result.errors.push((name, findings.errors));
            }
        }
        result
    }
}

impl Validation {
    /// Whether the pipeline can be set.
    pub fn is_sound(&self) -> bool {
        self.errors.is_empty()
    }
}

impl fmt::Display for Validation {
    /// The errors, grouped as Concourse groups them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (section, findings) in &self.errors {
            writeln!(f, "invalid {section}:")?;
            for finding in findings {
                writeln!(f, "\t{}", finding.message)?;
            }
        }
        Ok(())
    }
}

/// One section's rules.
type Check = fn(&Config, &mut Findings);

/// Collects what one section's rules find.
#[derive(Default)]
struct Findings {
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Findings {
    fn error(&mut self, at: Position, message: impl Into<String>) {
        self.errors.push(Finding { message: message.into(), at });
    }

    fn warning(&mut self, at: Position, message: impl Into<String>) {
        self.warnings.push(Finding { message: message.into(), at });
    }

    /// Whether a name is one that Concourse likes; only an empty one is refused.
    fn name(&mut self, at: Position, context: &str, name: &str) {
        match identifier::check(name) {
            Ok(()) => {}
            Err(None) => self.error(at, format!("{context}: identifier cannot be an empty string")),
            Err(Some(why)) => self.warning(at, format!("{context}: '{name}' is not a valid identifier: {why}")),
        }
    }
}
