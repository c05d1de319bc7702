//! The ladder: which rights we have, and the strongest way to run commands with them.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Refused, RunError};
use crate::{Cancel, Exit, Output, RunSpec, Stdin};

/// A way to get a world of one's own, strongest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Rung {
    /// We hold `CAP_SYS_ADMIN`: namespaces and mounts are ours to make.
    Privileged,
    /// Root without `CAP_SYS_ADMIN`: a user namespace that maps every id we have to itself.
    NestedUserNamespace,
    /// An ordinary user with ranges in `/etc/subuid` and `/etc/subgid`.
    SubordinateIds,
    /// An ordinary user with one id: all owners are root, and changing one is pretended.
    SingleId,
}

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Privileged => "privileged",
            Self::NestedUserNamespace => "nested user namespace",
            Self::SubordinateIds => "subordinate ids",
            Self::SingleId => "single id",
        })
    }
}

/// The right to run commands, on the rung that was entered.
#[derive(Clone, Debug)]
pub struct Sandbox {
    rung: Rung,
}

/// Climbs the ladder: finds the strongest rung that carries (or tries only `want`) and moves this process onto it.
pub fn enter(want: Option<Rung>) -> Result<Sandbox, Refused> {
    let _ = want;
    unimplemented!()
}

/// What each rung says here, for a report; this process stays as it is.
pub fn probe() -> Vec<(Rung, Result<(), Attempt>)> {
    unimplemented!()
}

impl Sandbox {
    /// The rung we stand on.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// One line for the log: which rung, and why.
    pub fn describe(&self) -> String {
        unimplemented!()
    }

    /// Whether owners set by commands are kept; false on [`Rung::SingleId`].
    pub fn owners_kept(&self) -> bool {
        self.rung != Rung::SingleId
    }

    /// Whether overlay directories mark opaque directories by `trusted.overlay.opaque`; otherwise by `user.overlay.opaque`.
    pub fn overlay_xattrs_trusted(&self) -> bool {
        unimplemented!()
    }

    /// Whether an overlay's upper directory may lie in `dir`, tried out. It may not on another overlay.
    pub fn overlay_upper_works(&self, dir: &Path) -> Result<(), RunError> {
        let _ = dir;
        unimplemented!()
    }

    /// Runs a command to its end. When this returns, none of its processes is left.
    pub fn run(
        &self,
        spec: &RunSpec,
        stdin: Stdin,
        output: &mut dyn Output,
        cancel: &Cancel,
    ) -> Result<Exit, RunError> {
        let _ = (spec, stdin, output, cancel);
        unimplemented!()
    }
}
