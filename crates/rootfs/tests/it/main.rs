//! The crate against real layers. The whole suite runs twice where it can: as it is, and as an ordinary user.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod interop;
mod overlay;
mod pack;
mod twice;
mod unpack;
mod view;
mod world;
