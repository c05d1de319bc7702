//! How do I run a process in its own world, with whatever rights I have?

#![allow(unsafe_code)] // the one crate that may; every use is in `sys`

mod cancel;
mod error;
mod ladder;
mod run;
mod spec;

pub use cancel::Cancel;
pub use error::{Attempt, Refused, RunError};
pub use ladder::{Rung, Sandbox, enter, probe};
pub use run::{Exit, Output, Stdin};
pub use spec::{Capabilities, Mount, Network, NetworkFiles, Root, RunSpec, TerminalSize, Upper, User, UserNamespace};

/// Becomes the sandbox's child if this process was started as one, and then never returns. Must be the first line of `main`.
pub fn child_main() {
    unimplemented!()
}
