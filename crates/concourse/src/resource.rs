//! The one interface of all resource types that are built in.

use std::path::Path;

use serde_json::Value;

use crate::known::Kind;
use crate::{Failure, Host, git, registry_image, registry_tag};

/// A resource type. Requests are the bytes that Concourse writes to a script's stdin; answers are what the script would
/// print, to be written with [`encode`](crate::encode).
pub trait Resource: Send + Sync {
    /// The versions, oldest first: a list of objects of strings.
    fn check(&self, request: &[u8], host: &Host) -> Result<Value, Failure>;

    /// Fetches a version into `destination`, which exists: `{"version": …, "metadata": […]}`.
    fn get(&self, request: &[u8], destination: &Path, host: &Host) -> Result<Value, Failure>;

    /// Makes a version out of what is below `source`: `{"version": …, "metadata": […]}`.
    fn put(&self, request: &[u8], source: &Path, host: &Host) -> Result<Value, Failure>;
}

/// The resource type of that kind.
pub fn resource(kind: Kind) -> &'static dyn Resource {
    match kind {
        Kind::RegistryImage => &registry_image::RegistryImage,
        Kind::RegistryTag => &registry_tag::RegistryTag,
        Kind::Git => &git::Git,
    }
}
