//! Saying more than usual.

use std::sync::Arc;

use skycap_image::{Event, Progress};

/// Says debug lines as notes.
pub(crate) struct Talkative(Arc<dyn Progress>);

impl Talkative {
    /// Tells `progress` everything.
    pub(crate) fn new(progress: &Arc<dyn Progress>) -> Arc<dyn Progress> {
        Arc::new(Self(Arc::clone(progress)))
    }
}

impl Progress for Talkative {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Debug(line) => self.0.event(Event::Note(line)),
            other => self.0.event(other),
        }
    }
}
