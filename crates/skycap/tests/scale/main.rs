//! Images of any size in bounded memory: a server makes their bytes while they are asked for, the binary under test fetches,
//! unpacks, copies and pushes them, and its peak memory is what is asserted. A sample that takes seconds runs by default;
//! `SKYCAP_TEST_FULL` runs the real sizes. `SKYCAP_TEST_BINARY` names another binary, such as a release build.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, clippy::disallowed_methods, missing_docs)]

mod entries;
mod files;
mod image;
mod large;
mod layers;
mod measure;
mod names;
mod server;
mod shared;
mod stream;
mod tags;
