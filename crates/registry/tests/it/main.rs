//! The client against the embedded registry, against scripted faults and against other people's registry.

#![allow(
    clippy::single_match_else,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::format_collect,
    clippy::items_after_statements,
    clippy::match_same_arms,
    clippy::needless_update,
    clippy::type_complexity,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::format_push_string,
    reason = "a test may fail loudly"
)]

mod auth;
mod collection;
mod conformance;
mod embedded;
mod faults;
mod hub;
mod interop;
mod push;
mod redirects;
mod roundtrip;
mod rows;
mod support;
mod tags;
