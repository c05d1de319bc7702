//! What a document says about itself before anybody knows whether it is a manifest or an index.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

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
    /// Go reads a field however it is spelled, others do not.
    #[error("the document spells a field as {0:?}, which some readers take and others leave")]
    Respelled(String),
}

const KEYS: [&str; 4] = ["mediaType", "manifests", "layers", "config"];

impl Outline {
    /// Reads the outline of a document; one that could be read as both is refused, whatever it says it is.
    pub fn read(document: &[u8]) -> Result<Self, InvalidOutline> {
        let Parts { media_type, manifests, layers, config, respelled } = serde_json::from_slice(document)?;
        if let Some(key) = respelled {
            return Err(InvalidOutline::Respelled(key));
        }
        if manifests.is_some() && (layers.is_some() || config.is_some()) {
            return Err(InvalidOutline::Ambiguous);
        }
        Ok(Self { media_type: media_type.unwrap_or_default(), lists_manifests: manifests.is_some() })
    }
}

/// The fields that decide.
#[derive(Default)]
struct Parts {
    media_type: Option<MediaType>,
    manifests: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    /// One of them in other letters.
    respelled: Option<String>,
}

impl<'de> Deserialize<'de> for Parts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartsVisitor)
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parts, A::Error> {
        let mut parts = Parts::default();
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            let known = KEYS.iter().find(|known| known.eq_ignore_ascii_case(&key));
            match known.copied() {
                None => drop(map.next_value::<IgnoredAny>()?),
                Some(known) if !seen.insert(known) => return Err(A::Error::duplicate_field(known)),
                Some(known) => {
                    if *key != *known {
                        parts.respelled = Some(key.into_owned());
                    }
                    match known {
                        "mediaType" => parts.media_type = Some(map.next_value()?),
                        "manifests" => parts.manifests = map.next_value()?,
                        "layers" => parts.layers = map.next_value()?,
                        _ => parts.config = map.next_value()?,
                    }
                }
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// M28: every field that decides, twice or in other letters.
    #[test]
    fn a_field_that_decides_stands_once_and_as_it_is_spelled() {
        for (document, text) in [
            (r#"{"manifests":[],"manifests":[]}"#, "duplicate field `manifests`"),
            (r#"{"layers":[],"Layers":[]}"#, "duplicate field `layers`"),
            (r#"{"manifests":[],"Layers":[]}"#, "Layers"),
            (r#"{"MEDIATYPE":"x"}"#, "MEDIATYPE"),
            (r#"{"manifests":[],"config":{}}"#, "both a manifest and an index"),
            ("[]", "expected a JSON object"),
        ] {
            let error = Outline::read(document.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(text), "{document}: {error}");
        }
        let outline = Outline::read(br#"{"manifests":null,"layers":[],"mediaType":null,"other":1,"other":2}"#).unwrap();
        assert_eq!(outline, Outline { media_type: MediaType::default(), lists_manifests: false });
    }
}
