//! The store from outside: what it gives back, what damage does to it, and what is left when a process dies.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests; what is skipped says why")]

mod audit;
mod blobs;
mod collect;
mod damage;
mod layers;
mod processes;
mod records;
mod twice;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use skycap_store::Store;

/// A store in a directory of its own.
pub fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

/// Whether everything is to be tried, not a sample.
pub fn full() -> bool {
    #[allow(clippy::disallowed_methods, reason = "a test may look at its own environment")]
    std::env::var_os("SKYCAP_TEST_FULL").is_some()
}

/// The next of a row of numbers that look random, the same every time.
pub fn random(state: &mut u64) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*state >> 33).unwrap()
}

/// Everything below a directory that is no directory, sorted.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn other_users_cannot_look_into_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let (given, new) = (dir.path().join("given"), dir.path().join("new"));
    fs::create_dir_all(given.join("lowers-2")).unwrap();
    for path in [&given, &given.join("lowers-2")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for top in [&given, &new] {
        let _store = Store::open(top).unwrap();
        for entry in fs::read_dir(top).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o700);
        }
    }
    assert_eq!((mode(&new), mode(&given)), (0o700, 0o755), "somebody else's directory may hold more than a store");
}
