//! The resource type `registry-image` told as folders below `testdata`: a request, what the registry holds and how it behaves,
//! and everything that must come of it. Each runs through the executables that `skycap install registry-image` writes.
//!
//! | file | what it is |
//! |---|---|
//! | `check.json`, `in.json`, `out.json` | the request; which of them it is says what is run |
//! | `command.txt` | how it is run, if not plainly (see [`case`]) |
//! | `registry.txt` | the servers: what they hold, how they behave (see [`state`]) |
//! | `sources.txt` | the inputs of a put (see [`sources`]) |
//! | `answer.json` | standard output, but for white space |
//! | `error.txt` | the failure: exit code 1, nothing on standard output, this text as the last line on standard error |
//! | `stderr.txt` | lines that standard error must hold; behind `not: ` one that it must not, behind `once: ` not twice |
//! | `files.txt` | every file of a get, with mode and content |
//! | `requests.txt` | every request; a first line `in any order` where many are made at once |
//! | `pushed.txt` | what a put changed in the registry |
//!
//! `{registry}` (or another server's name) stands for its address, `{digest:LABEL}` for the digest of what `registry.txt` or
//! `sources.txt` calls LABEL, `{directory}` for the destination or the source, `{ca}` for an authority's certificate. What a case
//! does not say is not looked at, except that standard output is empty where there is an `error.txt`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod case;
mod docs;
#[path = "../shared/folders.rs"]
mod folders;
#[path = "../shared/listing.rs"]
mod listing;
mod measures;
#[path = "../shared/names.rs"]
mod names;
#[path = "../shared/pages.rs"]
mod pages;
#[path = "../shared/sources.rs"]
mod sources;
#[path = "../shared/standin.rs"]
mod standin;
#[path = "../shared/state.rs"]
mod state;
#[path = "../shared/tls.rs"]
mod tls;

use std::path::{Path, PathBuf};

use case::Case;

/// The folder of all cases.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/registry_image/testdata")
}

/// Every folder that holds a request, by its path below `testdata`.
pub fn cases() -> Vec<String> {
    folders::found(&testdata(), &["check.json", "in.json", "out.json"])
}

#[test]
fn every_case_ends_as_it_says() {
    let installed = case::Installed::new();
    folders::run_all(cases(), 2, 150, |name| Case::open(&testdata().join(name)).run(&installed));
}
