//! Errors as people see them: the fact, its causes, a hint on its own line, and the exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use crate::report::{Style, log};

/// A command that did not succeed.
#[derive(Debug)]
pub struct Failure {
    /// The fact with its cause chain, one line unless the cause shows a snippet.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
    /// What the process ends with.
    pub code: u8,
}

impl Failure {
    /// A failure with exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: 1 }
    }

    /// A command line that cannot be understood: exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, ..Self::new(message) }
    }

    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// What was being done, then the error and its causes.
    pub fn because(what: impl fmt::Display, error: &(dyn Error + 'static)) -> Self {
        Self::new(format!("{what}: {}", chain(error)))
    }

    /// Prints to stderr and gives the exit code.
    pub fn report(&self, style: Style) -> ExitCode {
        say!("{} {}", style.error("error:"), self.message.trim_end());
        if let Some(hint) = &self.hint {
            say!("{} {hint}", style.hint("hint:"));
        }
        ExitCode::from(self.code)
    }

    /// Prints as registry-image's logger did: a red `ERRO`, the seconds since start, the message padded to 44 columns.
    /// People match on such lines, whatever stderr is.
    pub fn report_as_log_line(&self) -> ExitCode {
        let message =
            self.hint.as_ref().map_or_else(|| self.message.clone(), |hint| format!("{} (hint: {hint})", self.message));
        say!("{}", log::line(log::Level::Error, &message));
        ExitCode::from(self.code)
    }
}

/// The errors of libraries. One that brings a hint or an exit code of its own keeps them.
impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any: &dyn Error = &error;
        let any = any as &(dyn Error + 'static);
        if let Some(failure) = any.downcast_ref::<skycap_concourse::Failure>() {
            return Self { message: failure.message.clone(), hint: failure.hint.clone(), code: failure.exit_code };
        }
        if let Some(error) = any.downcast_ref::<skycap_pipeline::RunnerError>() {
            // Nothing ran: what a build's exit code 1 would say is not known.
            return Self { hint: error.hint.clone(), code: 2, ..Self::new(&error.message) };
        }
        let hint = any.downcast_ref::<skycap_build::BuildError>().and_then(|error| error.hint()).map(str::to_owned);
        Self { hint, ..Self::new(chain(any)) }
    }
}

/// An error and its causes in one line. A cause whose text the outer error already carries is not said twice.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
