//! SIGINT and SIGTERM ask for an orderly end; a second one ends at once.

use std::sync::atomic::{AtomicBool, Ordering};

use skycap_sandbox::Cancel;

/// What a shell reports for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Cancels on the first signal, exits on the second. Where no handler can be installed signals simply end the process.
pub fn cancel_on_signals(cancel: &Cancel) {
    let cancel = cancel.clone();
    let asked = AtomicBool::new(false);
    let _ = ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(INTERRUPTED);
        }
        cancel.cancel();
    });
}
