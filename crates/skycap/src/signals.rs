//! SIGINT and SIGTERM ask for an orderly end; a second one stops what cleans up too; a third ends at once.

use std::sync::atomic::{AtomicU32, Ordering};

use skycap_sandbox::Cancel;

/// What a shell reports for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Cancels `cancel` on the first signal and `kill` on the second, exits on the third. Where no handler can be installed
/// signals simply end the process.
pub fn cancel_on_signals(cancel: &Cancel, kill: &Cancel) {
    let (cancel, kill) = (cancel.clone(), kill.clone());
    let signals = AtomicU32::new(0);
    let _ = ctrlc::set_handler(move || match signals.fetch_add(1, Ordering::SeqCst) {
        0 => cancel.cancel(),
        1 => kill.cancel(),
        _ => std::process::exit(INTERRUPTED),
    });
}
