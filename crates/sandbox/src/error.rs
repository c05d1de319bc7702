//! What can go wrong, named by the step that failed.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::hints::SUBORDINATE_IDS;
use crate::ladder::Rung;

/// A system call that was refused while a rung of the ladder was tried.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
#[error("{call}{}", text_of(*errno))]
pub struct Attempt {
    /// The call and what it was for, for instance `unshare(CLONE_NEWUSER)`.
    pub call: String,
    /// The error number; 0 if no call was made because something is missing, which `call` then says.
    pub errno: i32,
    /// What the user can do about it, as a sentence; empty if nothing is known.
    pub hint: String,
}

/// No rung of the ladder carries: commands cannot be run here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Refused {
    /// Every rung that was tried, strongest first, and what refused it.
    pub attempts: Vec<(Rung, Attempt)>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("commands cannot be run in a sandbox here")?;
        for (rung, attempt) in &self.attempts {
            write!(f, "\n  {rung}: {attempt}")?;
        }
        for hint in self.hints() {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl Refused {
    /// The ways out, each once, most likely first.
    pub fn hints(&self) -> Vec<&str> {
        // More ids help nobody who may not even have a user namespace with one.
        let no_namespace = self.attempts.iter().any(|(rung, _)| *rung == Rung::SingleId);
        let mut hints: Vec<&str> = Vec::new();
        for (_, attempt) in self.attempts.iter().rev() {
            let useless = attempt.hint.is_empty() || (no_namespace && attempt.hint == SUBORDINATE_IDS);
            if !useless && !hints.contains(&attempt.hint.as_str()) {
                hints.push(&attempt.hint);
            }
        }
        hints
    }
}

/// A step that failed in the child, on its way to the caller.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: String,
    pub(crate) errno: i32,
    pub(crate) hint: String,
}

impl Failure {
    pub(crate) fn new(step: impl Into<String>, errno: i32) -> Self {
        Self { step: step.into(), errno, hint: String::new() }
    }

    /// For `map_err`: the step that failed.
    pub(crate) fn at<E: Into<io::Error>>(step: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |error| Self::new(step, error.into().raw_os_error().unwrap_or(0))
    }

    /// The same with advice.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self { call: failure.step, errno: failure.errno, hint: failure.hint }
    }
}

/// Why a command was not run, or its end is not known.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command does not exist in the root file system.
    #[error("exec {name}: no such file or directory{}", if searched.is_empty() { String::new() } else { format!(" (PATH is {searched})") })]
    ExecNotFound {
        /// The command as it was given.
        name: String,
        /// The `PATH` that was searched; empty if the name holds a `/`.
        searched: String,
    },
    /// A step on the way to the command failed.
    #[error("{step}{}", hint_line(hint))]
    Setup {
        /// What was being done, to what, for instance `mount overlay on /`.
        step: String,
        /// What the user can do about it; empty if nothing is known.
        hint: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The processes of the sandbox ended without telling how the command did.
    #[error("the sandbox was killed from outside before the command ended")]
    Died,
    /// A pipe or process of our own failed.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

fn hint_line(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("\nhint: {hint}") }
}

/// An error number by its name and text: `: EPERM (Operation not permitted)`. Nothing for none.
fn text_of(errno: i32) -> String {
    if errno == 0 {
        return String::new();
    }
    let text = io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    match rustix::io::Errno::from_raw_os_error(errno) {
        rustix::io::Errno::PERM => format!(": EPERM ({text})"),
        rustix::io::Errno::INVAL => format!(": EINVAL ({text})"),
        rustix::io::Errno::ACCESS => format!(": EACCES ({text})"),
        rustix::io::Errno::NOSPC => format!(": ENOSPC ({text})"),
        rustix::io::Errno::NOSYS => format!(": ENOSYS ({text})"),
        _ => format!(": error {errno} ({text})"),
    }
}
