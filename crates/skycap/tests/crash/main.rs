//! Killed, out of space, out of descriptors, on a failing disk: at every system call that changes something. The next run
//! succeeds without help, nothing half-made is taken for whole, nothing temporary is left.
//!
//! `strace` kills the binary at exactly the Nth call of a kind, or makes that call fail; the release needs no hooks for it.
//! A default run tries a sample of the points, spread over all of them; with `SKYCAP_TEST_FULL` set, every one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]
#![allow(dead_code, reason = "the world is shared with other tests, which use all of it")]

mod building;
mod cache;
mod children;
mod disk;
mod faults;
mod fixture;
mod home;
mod limits;
mod moving;
mod operation;
mod order;
mod points;
mod push;
mod rows;
mod sharing;
mod signals;
mod steady;
mod trace;
#[path = "../it/world.rs"]
mod world;
mod writes;

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Whether everything is to be tried, not a sample.
fn full() -> bool {
    skycap_testkit::wants_everything()
}

/// The binary under test by a name that stays: the build directory's may be replaced while a long test runs.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<(File, PathBuf)> = OnceLock::new();
    let open = || {
        let file = File::open(world::SKYCAP).unwrap();
        let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        (file, path.into())
    };
    &BINARY.get_or_init(open).1
}
