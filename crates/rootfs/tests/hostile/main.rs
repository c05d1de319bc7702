//! Hostile layers and their benign twins: what an image says can never name a path outside its root, and what real images
//! need works. The cases are data ([`case`]), the room has traps ([`room`]), every way through the crate must agree
//! ([`judge`]). `SKYCAP_TEST_FULL=1` runs everything instead of samples; `SKYCAP_HOSTILE_CASE=text` only some cases.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod bombs;
mod case;
mod corpus;
mod identity;
mod judge;
mod model;
mod pairs;
mod race;
mod random;
mod room;
mod tree;
