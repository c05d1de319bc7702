//! A registry with faults on request, images from a text listing, a hermetic world

pub mod listing;
pub mod notary;
pub mod process;
pub mod rawtar;
pub mod registry;
pub mod secrets;
pub mod web;

/// Whether tests run all of what they otherwise run a sample of: `SKYCAP_TEST_FULL` is set, to anything but `0`.
#[allow(clippy::disallowed_methods, reason = "tests are told by the environment")]
pub fn wants_everything() -> bool {
    std::env::var_os("SKYCAP_TEST_FULL").is_some_and(|value| !value.is_empty() && value != "0")
}
