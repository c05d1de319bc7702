//! What refers to what in a layout.

use serde::Deserialize;

use crate::layout::Layout;
use crate::{BlobSource, Descriptor, Digest, MediaType, SourceError};

/// The parts of a manifest that say what it is and what it is about.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Config>,
    #[serde(default, deserialize_with = "crate::descriptor::null_as_default")]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<MediaType>,
}

impl Layout {
    /// The manifests listed in `index.json` whose subject is this digest, described as a registry's referrers API does it:
    /// with their kind and annotations.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        let mut found: Vec<Descriptor> = Vec::new();
        for (_, listed) in self.artifacts()? {
            if found.iter().any(|known| known.digest == listed.digest) {
                continue;
            }
            let raw = self.manifest(&listed)?;
            // What is no manifest refers to nothing.
            let Ok(about) = serde_json::from_slice::<About>(&raw.bytes) else { continue };
            if about.subject.is_some_and(|its| its.digest == *subject) {
                let of_config = about.config.and_then(|config| config.media_type).map(|kind| kind.as_str().to_owned());
                found.push(Descriptor {
                    artifact_type: about.artifact_type.or(of_config),
                    annotations: about.annotations,
                    ..Descriptor::new(listed.media_type, listed.digest, listed.size)
                });
            }
        }
        Ok(found)
    }
}
