//! Ends what a client does, from another thread.

use tokio::sync::watch;

/// A switch that can be thrown once. Clones are the same switch.
///
/// A client made by [`Client::with_stop`](crate::Client::with_stop) ends every request, every pause between tries and every
/// blob that is read or sent as soon as the switch is thrown, with an error whose text ends in `stopped`. Uploads that were
/// under way are cancelled at the registry, as far as it answers within a second.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stop {
    /// Throws the switch. Safe in a thread that handles signals; it does not wait.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was thrown.
    pub fn is_stopped(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is thrown.
    pub(crate) async fn stopped(&self) {
        // The sender that could go away is our own.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}
