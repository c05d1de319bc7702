//! The client.
use std::sync::Arc;

use skycap_image::{Progress, Repository, SourceError};

use crate::{Access, Place, Settings};

/// Talks to registries. Clones share connections, tokens and the threads that move bytes.
#[derive(Clone)]
pub struct Client {}

impl Client {
    /// Checks the settings; opens no connection.
    pub fn new(_settings: Settings, _progress: Arc<dyn Progress>) -> Result<Self, SourceError> {
        unimplemented!()
    }

    /// A repository, not contacted yet.
    pub fn place(&self, _repository: Repository, _access: Access) -> Result<Place, SourceError> {
        unimplemented!()
    }
}
