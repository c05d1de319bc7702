//! Contexts that have a name: what stands for a stage, an image or the `from` of a copy or a mount.

use std::collections::BTreeMap;
use std::path::PathBuf;

use skycap_image::{Artifact, Platform, Reference};

use crate::ignore::Ignore;

/// What a name stands for.
#[derive(Clone)]
pub enum NamedContext {
    /// An image that is at hand.
    Image(Artifact),
    /// An image that the resolver finds.
    Reference(Reference),
    /// A directory, with what its own ignore file leaves out.
    Directory {
        /// Where it is.
        path: PathBuf,
        /// What is left out.
        ignore: Ignore,
    },
    /// A file, or an archive that is unpacked, at an http or https URL.
    Http(String),
    /// A tree of a git repository: `URL#ref:directory`, or the same as a query.
    Git(String),
}

/// What a name stands for on a platform: `name::platform` goes before `name`. The name is the one in the Dockerfile, where
/// an image's may also be written in full: `docker.io/library/alpine:latest` is `alpine`.
pub(crate) fn find<'c>(
    contexts: &'c BTreeMap<String, NamedContext>,
    name: &str,
    platform: &Platform,
) -> Option<(&'c str, &'c NamedContext)> {
    if matches!(name, "scratch" | "context") {
        return None;
    }
    let short = familiar(name);
    let platform = platform.normalized().to_string();
    let names = [name, short.as_str()];
    let found =
        |name: &str| contexts.get_key_value(&format!("{name}::{platform}")).or_else(|| contexts.get_key_value(name));
    names.iter().find_map(|name| found(name)).map(|(name, context)| (name.as_str(), context))
}

/// An image's name as people write it.
fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").filter(|_| short != name || !short.contains('.')).unwrap_or(short);
    short.strip_suffix(":latest").unwrap_or(short).to_owned()
}
