//! The isolation probes S01 to S35 as whole builds, on every rung of the sandbox: what a hostile Dockerfile, image or RUN tries, and
//! what the image, the cache, the log and the machine look like afterwards. Those that need nothing but a sandbox are in
//! `crates/sandbox/tests/it/cases`, those about the language, keys and what is fetched are with the crates that do these things;
//! `docs/reference/isolation.md` has all of them in a table, which is read here.
//!
//! A [ground](grounds::GROUNDS) is a place to stand on. Each gets a directory with the contexts of all [probes](probes::PROBES) and
//! a script that builds them, one after the other; then each probe looks at what became of its builds. By default all of them are
//! tried in a takeover, which differs most, and one on all grounds; with `SKYCAP_TEST_FULL` all on all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod context;
mod grounds;
mod page;
mod probes;
mod programs;
mod secrets;
mod stood;
#[path = "../shared/workers.rs"]
mod workers;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use grounds::GROUNDS;
use probes::PROBES;

const TEST: &str = "every_probe_holds_on_every_rung";

#[test]
fn every_probe_holds_on_every_rung() {
    if let Some(why) = workers::missing(&[]) {
        skycap_testkit::skipped!("{TEST}: {why}");
        return;
    }
    let everything = skycap_testkit::wants_everything();
    let wanted = std::env::var("SKYCAP_CASE").unwrap_or_default();
    let everywhere = everything || !wanted.is_empty();
    let sampled = GROUNDS.iter().filter(|ground| everywhere || ground.in_full).map(|ground| ground.name);
    eprintln!("{TEST}: all probes on {}; on the others, secrets", sampled.collect::<Vec<_>>().join(", "));
    let (left, wrong) = (Mutex::new(GROUNDS.iter()), Mutex::new(Vec::new()));
    let next = || left.lock().unwrap().next();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(ground) = next() {
                    let wanted = if everywhere || ground.in_full { &*wanted } else { "secrets" };
                    let place = ground.make(wanted);
                    place.build();
                    for probe in PROBES.iter().filter(|probe| probe.is_wanted(wanted)) {
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (probe.check)(&place))) {
                            let why = panic.downcast_ref::<String>().cloned();
                            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
                            let line = format!("{}: {}: {}", ground.name, probe.name, why.unwrap_or_default());
                            wrong.lock().unwrap().push(line);
                        }
                    }
                }
            });
        }
    });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
