//! Any reference, resolved.
use std::collections::BTreeSet;

use skycap_image::{Artifact, Descriptor, Reference, Resolver, SourceError};

use crate::{Client, Keychain, Mirror};

/// Finds images in whatever registry their references name.
#[derive(Clone)]
pub struct Registries {
    /// The client.
    pub client: Client,
    /// Who we are where.
    pub keychain: Keychain,
    /// Hosts (`host` or `host:port`) that may be spoken to in plain HTTP.
    pub insecure_plain_http: BTreeSet<String>,
    /// Asked first for images on Docker Hub.
    pub mirror: Option<Mirror>,
}

impl Resolver for Registries {
    fn find(&self, _reference: &Reference) -> Result<Option<Descriptor>, SourceError> {
        unimplemented!()
    }

    fn get(&self, _reference: &Reference) -> Result<Artifact, SourceError> {
        unimplemented!()
    }
}
