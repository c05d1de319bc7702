//! Saying more than usual, or less.

use std::sync::Arc;

use skycap_image::{Event, Progress};

/// Says debug lines as notes.
pub(crate) struct Talkative(Arc<dyn Progress>);

impl Talkative {
    /// Tells `progress` everything.
    pub(crate) fn around(progress: &Arc<dyn Progress>) -> Arc<dyn Progress> {
        Arc::new(Self(Arc::clone(progress)))
    }
}

impl Progress for Talkative {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Debug(line) => self.0.event(Event::Note(&format!("debug: {line}"))),
            other => self.0.event(other),
        }
    }
}

/// Passes warnings on and nothing else.
pub(crate) struct Warnings<'p>(pub(crate) &'p dyn Progress);

impl Progress for Warnings<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(_) = event {
            self.0.event(event);
        }
    }
}
