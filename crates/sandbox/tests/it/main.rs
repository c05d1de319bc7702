//! Runs one suite of cases on every rung of the ladder that can be had here.
//!
//! A process can be moved to a rung once, so each rung is a process of its own: this program started again as another
//! user, or inside a container that `runc` makes from the configurations that Concourse writes. What cannot be had here
//! (no root, no `runc`, no busybox) is skipped with the reason on standard error.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods)] // a test's `main` is a binary's

mod cases;
mod grounds;
mod world;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    skycap_sandbox::child_main();
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        [_, "suite", rung, scratch, busybox, filters @ ..] => {
            cases::suite(rung, Path::new(scratch), Path::new(busybox), filters)
        }
        [_, "refused", parts @ ..] => cases::refused(parts),
        [_, "victim", scratch, busybox, one, two] => cases::victim(Path::new(scratch), Path::new(busybox), one, two),
        [_, "upper", directory] => cases::upper(Path::new(directory)),
        [_, "bench", scratch, busybox, count] => {
            cases::bench(Path::new(scratch), Path::new(busybox), count.parse().unwrap())
        }
        [_, options @ ..] if options.contains(&"--list") => ExitCode::SUCCESS,
        [_, options @ ..] => {
            let filters: Vec<&str> = options.iter().copied().filter(|option| !option.starts_with('-')).collect();
            grounds::all(&filters)
        }
        [] => ExitCode::FAILURE,
    }
}
