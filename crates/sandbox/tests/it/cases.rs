//! The cases, each a function that panics if its name is not true.

mod files;
mod isolation;
mod probes;
mod process;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;

use skycap_sandbox::{Cancel, Stdin, enter};

use crate::world::{Collected, World};

type Case = (&'static str, fn(&World));

/// Names of functions as names of cases.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$((stringify!($name), $name as fn(&crate::world::World))),*];
    };
}
use cases;

/// Enters the ladder, which must lead to `rung`, and runs every case there.
pub fn suite(rung: &str, scratch: &Path, busybox: &Path, filters: &[&str]) -> ExitCode {
    let sandbox = match enter(None) {
        Ok(sandbox) => sandbox,
        Err(refused) => {
            println!("FAILED enter: {refused}");
            return ExitCode::FAILURE;
        }
    };
    println!("on the rung: {}", sandbox.describe());
    assert_eq!(format!("{:?}", sandbox.rung()), rung);
    let world = World::new(sandbox, scratch, busybox);
    let mut failed = false;
    for (name, case) in [process::CASES, files::CASES, isolation::CASES, probes::CASES].concat() {
        if !filters.is_empty() && !filters.iter().any(|filter| name.contains(filter)) {
            continue;
        }
        let ok = catch_unwind(AssertUnwindSafe(|| case(&world))).is_ok();
        println!("{} {name}", if ok { "ok" } else { "FAILED" });
        failed |= !ok;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Every rung must be refused, with a text that has these parts, but not those behind a `!`.
pub fn refused(parts: &[&str]) -> ExitCode {
    let Err(refused) = enter(None) else {
        println!("FAILED something was permitted");
        return ExitCode::FAILURE;
    };
    println!("{refused}");
    let text = refused.to_string();
    for part in parts {
        match part.strip_prefix('!') {
            Some(part) => assert!(!text.contains(part), "{part} is in {text}"),
            None => assert!(text.contains(part), "{part} is not in {text}"),
        }
    }
    ExitCode::SUCCESS
}

/// Runs something long, to be killed meanwhile.
pub fn victim(scratch: &Path, busybox: &Path, one: &str, two: &str) -> ExitCode {
    let world = World::new(enter(None).unwrap(), scratch, busybox);
    let (spec, _) = world.script(&format!("setsid sleep {two} & sleep {one}"));
    let _ = world.sandbox.run(&spec, Stdin::Empty, &mut Collected::default(), &Cancel::new());
    ExitCode::SUCCESS
}

/// Whether an upper directory may lie there: exit status 0 or 1, with the reason.
pub fn upper(directory: &Path) -> ExitCode {
    match enter(None).unwrap().overlay_upper_works(directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", crate::world::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Measures `count` runs of `true`.
pub fn bench(scratch: &Path, busybox: &Path, count: u32) -> ExitCode {
    let world = World::new(enter(None).unwrap(), scratch, busybox);
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let (spec, _) = world.script("true");
            let start = std::time::Instant::now();
            world.run(&spec);
            start.elapsed()
        })
        .collect();
    times.sort();
    println!("best {:?} median {:?}", times[0], times[times.len() / 2]);
    ExitCode::SUCCESS
}
