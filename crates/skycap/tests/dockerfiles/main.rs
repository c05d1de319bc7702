//! Dockerfiles of the kinds that real projects write, built as a user would build them, and by Debian's buildah.
//!
//! A case is a folder of `cases/`:
//!
//! * `context/`: the Dockerfile and files of the context, laid over those of the project that `options` names;
//! * `options`: lines `project NAME`, `arg NAME=VALUE`, `secret ID=VALUE`, `target STAGE`, `file PATH`, `archive NAME` (a
//!   packed project `web` in the context), `run ARGUMENTS` and `prints TEXT` (what a container of it prints), `buildah REASON`
//!   (why buildah cannot build it);
//! * `differences`: lines `PATH: REASON` or `config NAME: REASON`, where buildah gives something else. One that is not needed
//!   is an error.
//!
//! Bases are made from busybox, with stand-ins for tools (`bases/`), and served by our registry; one of them wants a password.
//! A sample is built by default, everything with `SKYCAP_TEST_FULL`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod bases;
mod buildah;
mod case;
mod compare;
mod ours;
mod toolchain;

use std::collections::VecDeque;
use std::sync::Mutex;

use bases::Bases;
use case::Case;

const TEST: &str = "dockerfiles_of_real_projects_build_as_buildah_builds_them";

/// By default every case is built by us, and every eighth by buildah too, which takes its time.
const SAMPLE: usize = 8;

#[test]
fn dockerfiles_of_real_projects_build_as_buildah_builds_them() {
    let cases = Case::all();
    assert!(cases.len() >= 100, "only {} cases were found", cases.len());
    let Some(bases) = Bases::make(TEST) else { return };
    let everything = skycap_testkit::wants_everything();
    let compared = buildah::works(TEST);
    let total = cases.len();
    let queue: Mutex<VecDeque<(usize, Case)>> = Mutex::new(cases.into_iter().enumerate().collect());
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((number, case)) = { queue.lock().unwrap().pop_front() } {
                    let peer = compared && (everything || number % SAMPLE == 0 || !case.differences.is_empty());
                    if let Err(error) = check(&case, &bases, compared, peer) {
                        wrong.lock().unwrap().push(format!("{}: {error}", case.name));
                    }
                }
            });
        }
    });
    let sampled = if everything { "all" } else { "every eighth and those that differ" };
    eprintln!("{TEST}: {total} Dockerfiles; with buildah: {}", if compared { sampled } else { "none" });
    let mut wrong = wrong.into_inner().unwrap();
    wrong.sort();
    assert!(wrong.is_empty(), "{} of {total}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Builds, copies, runs and compares one case.
fn check(case: &Case, bases: &Bases, runs: bool, peer: bool) -> Result<(), String> {
    let room = tempfile::Builder::new().prefix("case").tempdir().unwrap();
    let context = case.lay_out(room.path());
    let layout = room.path().join("ours");
    ours::build(case, bases, &context, &layout)?;
    if buildah::copy(&layout, room.path(), TEST)? && runs {
        buildah::run(case, room.path())?;
    }
    match &case.no_buildah {
        None if peer => {
            let theirs = buildah::build(case, bases, &context, room.path())?;
            compare::compare(case, &ours::image(&layout), &theirs)
        }
        _ => Ok(()),
    }
}
