//! Chores of the project: `cargo xtask check`.
#![allow(clippy::print_stderr, clippy::disallowed_methods)]

use std::process::{Command, ExitCode};

const USAGE: &str =
    "usage: cargo xtask check    formatting, lints, licences and the laws; what CI runs before the tests";

/// What `check` runs, in order.
const CHECKS: [&[&str]; 4] = [
    &["fmt", "--all", "--check"],
    &["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
    &["test", "--quiet", "--package", "skycap-xtask"],
];

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("check") {
        return check();
    }
    eprintln!("{USAGE}");
    ExitCode::from(2)
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
