//! in-toto statements: what is said of what.

use serde::Serialize;
use serde_json::{Value, json};
use skycap_image::attestation::Attestation;
use skycap_image::{Image, Platform, Reference};

use super::purl;
use crate::error::BuildError;

/// What statements speak of: an image under each of its names.
pub(super) struct Subject<'a> {
    image: &'a Image,
    names: Vec<String>,
}

impl<'a> Subject<'a> {
    /// An image that will be known under these names; without one, the subject is called `_`, as by BuildKit.
    pub fn new(image: &'a Image, platform: &Platform, names: &[Reference]) -> Self {
        let names: Vec<String> = names.iter().map(|name| purl::image("docker", name, platform)).collect();
        Self { image, names: if names.is_empty() { vec!["_".to_owned()] } else { names } }
    }

    /// The statement that the predicate holds for the image.
    pub fn state(&self, predicate_type: &str, predicate: &impl Serialize) -> Result<Attestation, BuildError> {
        let digest = self.image.descriptor().digest;
        let digest = json!({ digest.algorithm().name(): digest.hex() });
        let subject: Vec<Value> = self.names.iter().map(|name| json!({"name": name, "digest": digest})).collect();
        let statement = Statement { kind: "https://in-toto.io/Statement/v1", predicate_type, subject, predicate };
        let bytes = serde_json::to_vec(&statement).map_err(|error| BuildError::Other {
            what: format!("cannot write the attestation {predicate_type}"),
            source: error.into(),
        })?;
        Ok(Attestation { predicate_type: predicate_type.to_owned(), statement: bytes })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement<'a, P> {
    #[serde(rename = "_type")]
    kind: &'static str,
    predicate_type: &'a str,
    subject: Vec<Value>,
    predicate: &'a P,
}
