//! Credentials by host.
use std::path::Path;

use skycap_image::SourceError;

use crate::Credentials;

/// Knows credentials by host.
#[derive(Clone, Debug, Default)]
pub struct Keychain {}

impl Keychain {
    /// Reads the text of Docker's `config.json`.
    pub fn from_docker_config(_bytes: &[u8]) -> Result<Self, SourceError> {
        unimplemented!()
    }

    /// Reads `config.json` in a directory (`$DOCKER_CONFIG` or `~/.docker`); empty if there is none.
    pub fn open(_directory: &Path) -> Result<Self, SourceError> {
        unimplemented!()
    }

    /// Adds credentials for a host; they go before those of the configuration.
    #[must_use]
    pub fn with(self, _host: &str, _credentials: Credentials) -> Self {
        unimplemented!()
    }

    /// Who we are to that registry (`host` or `host:port`).
    pub fn credentials(&self, _host: &str) -> Result<Credentials, SourceError> {
        unimplemented!()
    }
}
