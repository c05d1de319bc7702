//! Remembers where blobs have been seen, so that a push can ask a registry to link what another of its repositories has.

use std::collections::HashMap;
use std::sync::Mutex;

use skycap_image::{Digest, Repository};

use crate::client::lock;

/// Images have tens of layers; this is some thousand images.
const MOST: usize = 50_000;

/// Blobs by digest, each with one repository that has it.
#[derive(Default)]
pub(crate) struct Mounts(Mutex<HashMap<Digest, Repository>>);

impl Mounts {
    /// Somebody read or wrote this blob there.
    pub fn saw(&self, blob: Digest, repository: &Repository) {
        let mut seen = lock(&self.0);
        if seen.len() < MOST || seen.contains_key(&blob) {
            seen.insert(blob, repository.clone());
        }
    }

    /// Another repository of the same registry that has the blob.
    pub fn from(&self, blob: Digest, into: &Repository) -> Option<Repository> {
        let found = lock(&self.0).get(&blob).cloned()?;
        (found.registry() == into.registry() && found.path() != into.path()).then_some(found)
    }
}
