//! The form in which steps travel: a field of an image's configuration, beside the layers that it speaks of.
//!
//! A cache is an ordinary image, so that every registry and every tool can keep, copy and delete it, and an image that was
//! built can be its own cache. The field's name says its version; other versions are not looked at.

use serde::{Deserialize, Serialize};
use skycap_image::{Digest, ImageConfig};

/// The field.
const FIELD: &str = "dev.skycap.build-cache.v1";

/// A step that was done.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    /// What it depends on.
    pub key: Digest,
    /// Which of the image's layers it made.
    pub layer: usize,
    /// When, in RFC 3339.
    pub created: String,
    /// When the first of the programs began that may have written files of it, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<i64>,
}

/// The steps that a configuration speaks of; none if it is not understood.
pub(crate) fn steps(config: &ImageConfig) -> Vec<Step> {
    let field = config.extra.get(FIELD);
    field.and_then(|field| serde_json::from_value(field.clone()).ok()).unwrap_or_default()
}

/// Adds steps to a configuration.
pub(crate) fn put(config: &mut ImageConfig, mut steps: Vec<Step>) {
    steps.sort_by_key(|step| step.key);
    if let Ok(field) = serde_json::to_value(steps) {
        config.extra.insert(FIELD.to_owned(), field);
    }
}
