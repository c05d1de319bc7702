//! Whole builds, into a store of their own, without a registry.

#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod attest;
mod caching;
mod cases;
mod damage;
mod exchange;
mod mounts;
mod peers;
mod refusals;
mod run;
mod ssh;
mod times;
mod world;

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::OnceLock;

use skycap_sandbox::{Refused, Sandbox};

/// A test by name.
type Test = (&'static str, fn());

static SANDBOX: OnceLock<Result<Sandbox, Refused>> = OnceLock::new();

fn main() -> ExitCode {
    skycap_sandbox::child_main();
    // Before there are threads: this moves the process into its namespaces.
    let _ = SANDBOX.set(skycap_sandbox::enter(None));
    #[allow(clippy::disallowed_methods, reason = "a test program is a program")]
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let tests = [
        attest::TESTS,
        cases::TESTS,
        caching::TESTS,
        damage::TESTS,
        exchange::TESTS,
        mounts::TESTS,
        run::TESTS,
        ssh::TESTS,
        times::TESTS,
        refusals::TESTS,
        peers::TESTS,
    ]
    .concat();
    if arguments.iter().any(|word| word == "--list") {
        for (name, _) in tests {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in tests {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter.as_str())) {
            continue;
        }
        let outcome = catch_unwind(test);
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
        if outcome.is_err() {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}
