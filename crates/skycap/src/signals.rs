//! SIGINT, SIGTERM and SIGHUP ask for an orderly end; a second one stops what cleans up too; a third ends at once.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use skycap_registry::Stop;
use skycap_sandbox::Cancel;

/// What a shell adds to the number of the signal that ended a process.
const SIGNALLED: i32 = 128;
/// How long cleaning up may take once a signal came.
const FAREWELL: Duration = Duration::from_millis(1500);
/// How soon a signal is noticed.
const POLL: Duration = Duration::from_millis(50);
/// The first signal that came.
static FIRST: AtomicI32 = AtomicI32::new(SIGINT);

/// On the first signal sets `cancel` and stops what talks to registries, on the second sets `kill`, exits on the third. Where
/// no handler can be installed signals simply end the process.
pub fn cancel_on_signals(cancel: &Cancel, kill: &Cancel, stop: &Stop) {
    let (cancel, kill, stop) = (cancel.clone(), kill.clone(), stop.clone());
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
    std::thread::spawn(move || {
        for (number, signal) in signals.forever().enumerate() {
            match number {
                0 => {
                    FIRST.store(signal, Ordering::SeqCst);
                    cancel.cancel();
                    stop.stop();
                }
                1 => kill.cancel(),
                _ => std::process::exit(exit_code().into()),
            }
        }
    });
}

/// Ends the process a moment after the first signal, whatever it waits for then: a server that does not answer must not keep
/// anybody. What is left over is staged, and the next to write there removes it.
pub fn end_soon_after(cancel: &Cancel) {
    let cancel = cancel.clone();
    std::thread::spawn(move || {
        while !cancel.is_cancelled() {
            std::thread::sleep(POLL);
        }
        std::thread::sleep(FAREWELL);
        say!("interrupted");
        std::process::exit(exit_code().into());
    });
}

/// What a shell reports for a process that the signal ended.
pub fn exit_code() -> u8 {
    u8::try_from(SIGNALLED + FIRST.load(Ordering::SeqCst)).unwrap_or(u8::MAX)
}
