//! The four ways in which a step or a build ends.

use std::fmt;

/// How a step ended. Which hooks run is a table over these four (Concourse: `atc/exec`).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<E = String> {
    /// The process exited with 0.
    Succeeded,
    /// The process exited with something else, or ran out of time.
    Failed,
    /// Something around the process went wrong: no such program, a missing input, an undefined var, bad JSON.
    Errored(E),
    /// Somebody cancelled it.
    Aborted,
}

impl<E> Outcome<E> {
    /// The exit code with which `fly watch` would answer: 0, 1, 2 or 3.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Failed => 1,
            Self::Errored(_) => 2,
            Self::Aborted => 3,
        }
    }

    /// Concourse's word for it, as in `BUILD_STATUS`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Errored(_) => "errored",
            Self::Aborted => "aborted",
        }
    }
}

impl<E> fmt::Display for Outcome<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
