//! The name of this boot of the machine: what was written before it began may be lost or belong to processes that are dead.

use std::fs;

const ID: &str = "/proc/sys/kernel/random/boot_id";

/// `None` where it has no name.
pub(crate) fn id() -> Option<String> {
    let text = fs::read_to_string(ID).ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty() && !id.contains(char::is_whitespace))
}
