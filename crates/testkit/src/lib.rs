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

/// Says that a test, or a part of one, did not run here: `skipped!("{test}: {why}")`. It is a line of its own for whoever reads the
/// output, whatever other threads print meanwhile: the harness writes its own lines in pieces, so this one is written at once.
#[macro_export]
macro_rules! skipped {
    ($($what:tt)*) => {
        eprint!("{}", $crate::skipped_line(&format!($($what)*)))
    };
}

/// The line that [`skipped!`] prints.
pub fn skipped_line(what: &str) -> String {
    format!("skipped: {what}\n")
}
