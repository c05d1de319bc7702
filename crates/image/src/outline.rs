//! What a document says about itself before anybody knows whether it is a manifest or an index.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::MediaType;

/// The parts of a manifest or index that tell one from the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outline {
    /// What it says that it is; empty if it does not say.
    pub media_type: MediaType,
    /// Whether it lists manifests.
    pub lists_manifests: bool,
}

/// Why a document has no [`Outline`].
#[derive(Debug, thiserror::Error)]
pub enum InvalidOutline {
    /// It is not a JSON object, or names a part twice.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Two readers of it would see two images (CVE-2021-41190).
    #[error("the document is both a manifest and an index")]
    Ambiguous,
}

impl Outline {
    /// Reads the outline of a document; one that could be read as both is refused, whatever it says it is.
    pub fn read(document: &[u8]) -> Result<Self, InvalidOutline> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Parts {
            #[serde(default)]
            media_type: MediaType,
            manifests: Option<IgnoredAny>,
            layers: Option<IgnoredAny>,
            config: Option<IgnoredAny>,
        }
        let Parts { media_type, manifests, layers, config } = serde_json::from_slice(document)?;
        if manifests.is_some() && (layers.is_some() || config.is_some()) {
            return Err(InvalidOutline::Ambiguous);
        }
        Ok(Self { media_type, lists_manifests: manifests.is_some() })
    }
}
