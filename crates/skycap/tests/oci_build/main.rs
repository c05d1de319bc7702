//! The task `oci-build` told as folders below `testdata`: parameters, the files of the task, and everything that must come of
//! it. Each runs through the executables that `skycap install oci-build` writes, in an environment that holds the
//! parameters and nothing else.
//!
//! | file | what it is |
//! |---|---|
//! | `params.txt` | `NAME VALUE` lines; `build` is run |
//! | `task.json` | the request of the JSON form; `task` is run with it |
//! | `work/` | the files of the working directory; `home/` those of the home directory |
//! | `sources.txt` | more of them: archives, layouts, links (`shared/sources.rs`) |
//! | `command.txt` | how it is run, if not plainly (see [`case`]) |
//! | `registry.txt` | the servers (`shared/state.rs`) |
//! | `error.txt` | the failure: exit code 1, nothing on standard output, this text at the end of standard error |
//! | `stderr.txt` | lines that standard error must hold; behind `not: ` one that it must not |
//! | `images.txt` | what every `image.tar` holds |
//! | `files.txt` | every file of the outputs, with mode and content |
//! | `requests.txt` | every request; a first line `in any order` where many are made at once |
//!
//! Names in braces are those of `shared/names.rs`; `{directory}` is the working directory, `{home}` the home directory. In
//! `params.txt`, `task.json` and the files of `work/` and `home/` they stand for what they name.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod case;
mod docs;
#[path = "../shared/folders.rs"]
mod folders;
mod images;
#[path = "../shared/listing.rs"]
mod listing;
#[path = "../shared/names.rs"]
#[allow(dead_code, reason = "nothing is pushed")]
mod names;
#[path = "../shared/pages.rs"]
mod pages;
#[path = "../shared/sources.rs"]
mod sources;
mod spellings;
#[path = "../shared/standin.rs"]
#[allow(dead_code, reason = "nothing is pushed")]
mod standin;
#[path = "../shared/state.rs"]
mod state;
#[path = "../shared/tls.rs"]
mod tls;

use std::path::{Path, PathBuf};

use case::Case;

/// The folder of all cases.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oci_build/testdata")
}

/// Every folder that holds parameters or a request, by its path below `testdata`.
pub fn cases() -> Vec<String> {
    folders::found(&testdata(), &["params.txt", "task.json"])
}

#[test]
fn every_case_ends_as_it_says() {
    let installed = case::Installed::new();
    folders::run_all(cases(), 1, 80, |name| Case::open(&testdata().join(name)).run(&installed));
}
