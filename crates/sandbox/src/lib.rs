//! How do I run a process in its own world, with whatever rights I have?
//!
//! [`enter`] finds the strongest rung of the [ladder](Rung) that carries and moves this process onto it; [`Sandbox::run`]
//! runs a [`RunSpec`] to its end. What is the same on every rung: namespaces for mounts, processes, IPC and the host name;
//! an overlay or a directory as `/`; `/proc`, `/dev` and `/sys`; the 14 usual capabilities; and nothing left over
//! afterwards, neither processes nor mounts nor mount points.
//!
//! A program that uses this crate calls [`child_main`] in the first line of its `main`.

#![allow(unsafe_code)] // the one crate that may; every use is in `sys`

mod cancel;
mod channel;
mod child;
mod emulator;
mod error;
mod hints;
mod ids;
mod ladder;
mod sandbox;
mod spawn;
mod spec;
mod sys;
mod territory;
mod userns;

pub use cancel::Cancel;
pub use child::child_main;
pub use emulator::{Emulator, emulator};
pub use error::{Attempt, Refused, RunError};
pub use ladder::{ON_REQUEST, Rung, enter, probe};
pub use sandbox::{Exit, Output, Sandbox, Stdin};
pub use spec::{
    Capabilities, Filter, Mount, Network, NetworkFiles, Root, RunSpec, TerminalSize, Upper, User, UserNamespace,
};
pub use territory::container_is_disposable;
