//! Chores of the project: `cargo xtask check`, `cargo xtask fuzz`.
#![allow(clippy::print_stderr, clippy::disallowed_methods)]

mod fuzz;

use std::process::{Command, ExitCode};

const USAGE: &str = "usage:
  cargo xtask check                                     formatting, lints, licences and the laws; what CI runs before the tests
  cargo xtask fuzz [--replay] [--seconds N] [TARGET…]   each fuzz target for N seconds (60); --replay: only its seeds, without libFuzzer";

/// What `check` runs, in order.
const CHECKS: [&[&str]; 5] = [
    &["fmt", "--all", "--check"],
    &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"],
    &["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
    &["test", "--quiet", "--package", "skycap-xtask"],
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let order = match arguments.next().as_deref() {
        Some("check") => return check(),
        Some("fuzz") => fuzz::Order::parse(arguments),
        _ => Err(USAGE.to_owned()),
    };
    match order {
        Ok(order) => fuzz::run(&order),
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn check() -> ExitCode {
    for arguments in CHECKS {
        eprintln!("cargo {}", arguments.join(" "));
        let status = Command::new("cargo").args(arguments).status();
        if !status.is_ok_and(|status| status.success()) {
            eprintln!("cargo {} failed", arguments.join(" "));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
