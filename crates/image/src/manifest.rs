//! Manifests and indexes. The raw bytes are kept beside the parsed value: what was pulled is never serialised again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::descriptor::{null_as_default, texts};
use crate::{Descriptor, MediaType};

/// A manifest as stored, with the descriptor of its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawManifest {
    /// What the bytes are, their length and digest.
    pub descriptor: Descriptor,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl RawManifest {
    /// The bytes under their sha256 digest.
    pub fn new(media_type: MediaType, bytes: Vec<u8>) -> Self {
        Self { descriptor: Descriptor::of(media_type, &bytes), bytes }
    }
}

/// The manifest of one image (OCI image-spec, manifest.md; Docker schema 2).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Docker requires it, OCI recommends it.
    #[serde(default, skip_serializing_if = "is_unnamed")]
    pub media_type: MediaType,
    /// For artifacts that are not images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The image configuration.
    pub config: Descriptor,
    /// Lowest layer first.
    #[serde(default, deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests, usually one a platform (OCI image-spec, image-index.md; Docker manifest list).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexManifest {
    /// Always 2.
    pub schema_version: u32,
    /// Docker requires it, OCI recommends it.
    #[serde(default, skip_serializing_if = "is_unnamed")]
    pub media_type: MediaType,
    /// For indexes that are not images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// In the order they were written; the first that fits wins.
    #[serde(default, deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this one says something about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Free text.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

fn is_unnamed(media_type: &MediaType) -> bool {
    media_type.as_str().is_empty()
}
