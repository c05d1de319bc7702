//! The binary in a hermetic world, and beside other people's tools.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod attestations;
mod build;
mod build_errors;
mod build_output;
mod build_progress;
mod container;
mod copy;
mod demo;
mod docs;
mod errors;
mod inspect;
mod install;
mod interop;
mod kill;
mod mission;
mod progress;
mod resources;
mod rungs;
mod store;
mod takeover;
#[path = "../shared/workers.rs"]
#[allow(dead_code, reason = "shared with tests that stand on every rung")]
mod workers;
mod world;
