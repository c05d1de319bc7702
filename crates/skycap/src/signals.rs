//! SIGINT and SIGTERM ask for an orderly end; a second one stops what cleans up too; a third ends at once.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use skycap_registry::Stop;
use skycap_sandbox::Cancel;

/// What a shell reports for a process that SIGINT ended.
pub const INTERRUPTED: u8 = 130;
/// How long cleaning up may take once a signal came.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(50);

/// Cancels `cancel` on the first signal and `kill` on the second, exits on the third. Where no handler can be installed
/// signals simply end the process.
pub fn cancel_on_signals(cancel: &Cancel, kill: &Cancel) {
    let (cancel, kill) = (cancel.clone(), kill.clone());
    let signals = AtomicU32::new(0);
    let _ = ctrlc::set_handler(move || match signals.fetch_add(1, Ordering::SeqCst) {
        0 => cancel.cancel(),
        1 => kill.cancel(),
        _ => std::process::exit(INTERRUPTED.into()),
    });
}

/// Stops what talks to registries at the first signal, and ends the process a moment later, whatever it waits for then: a server that does not answer must not
/// keep anybody. What is left over is staged, and the next to write there removes it.
pub fn end_soon_after(cancel: &Cancel, stop: &Stop) {
    let (cancel, stop) = (cancel.clone(), stop.clone());
    std::thread::spawn(move || {
        while !cancel.is_cancelled() {
            std::thread::sleep(POLL);
        }
        stop.stop();
        std::thread::sleep(FAREWELL);
        eprintln!("interrupted");
        std::process::exit(INTERRUPTED.into());
    });
}
