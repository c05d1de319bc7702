//! Any reference, resolved: what the builder and the runner are handed.

use std::collections::BTreeSet;

use skycap_image::{Artifact, Descriptor, ImageSource, Reference, Resolver, SourceError};

use crate::{Access, Client, Keychain, Mirror, Place};

/// Finds images in whatever registry their references name, for reading.
#[derive(Clone)]
pub struct Registries {
    /// The client.
    pub client: Client,
    /// Who we are where.
    pub keychain: Keychain,
    /// Hosts (`host` or `host:port`) that may be spoken to in plain HTTP.
    pub insecure_plain_http: BTreeSet<String>,
    /// Hosts (`host` or `host:port`) whose certificates are not looked at.
    pub danger_skip_tls_verification: BTreeSet<String>,
    /// Asked first for images on Docker Hub.
    pub mirror: Option<Mirror>,
}

impl Registries {
    /// Without plain HTTP (other than on this machine) and without a mirror.
    pub fn new(client: Client, keychain: Keychain) -> Self {
        Self {
            client,
            keychain,
            insecure_plain_http: BTreeSet::new(),
            danger_skip_tls_verification: BTreeSet::new(),
            mirror: None,
        }
    }

    /// The repository of a reference.
    pub fn place(&self, reference: &Reference) -> Result<Place, SourceError> {
        let repository = reference.repository.clone();
        let access = Access {
            credentials: self.keychain.credentials(repository.registry())?,
            insecure_plain_http: self.insecure_plain_http.contains(repository.registry()),
            push: false,
            mirror: self.mirror.clone(),
            ca_certs: Vec::new(),
            danger_skip_tls_verification: self.danger_skip_tls_verification.contains(repository.registry()),
        };
        self.client.place(repository, access)
    }
}

impl Resolver for Registries {
    fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, SourceError> {
        self.place(reference)?.find(&reference.name())
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        self.place(reference)?.get(&reference.name())
    }
}
