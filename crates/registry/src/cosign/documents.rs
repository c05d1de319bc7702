//! What is signed, and where the signature stands: the simple signing payload of cosign, and the bundles of sigstore.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use skycap_image::{Descriptor, Digest, Kind, SourceError};

use super::PublicKey;

/// The media type of a payload.
pub(super) const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation of a payload's descriptor that holds its signature in base64.
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// The artifact type of a list of payloads.
pub(super) const SIGNATURES: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// The media type of a bundle, which is also the artifact type of what holds it.
pub(super) const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

const PAYLOAD_KIND: &str = "cosign container image signature";
/// The statement of a bundle that is a signature and says nothing more.
const SIGN_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT: &str = "application/vnd.in-toto+json";

fn unwritable(error: serde_json::Error) -> SourceError {
    SourceError::caused(Kind::Other, "cannot write the signature", error)
}

/// What is signed: this repository's image of that digest.
pub(super) fn payload(repository: &str, digest: &Digest) -> Result<Vec<u8>, SourceError> {
    let document = json!({
        "critical": {
            "identity": {"docker-reference": repository},
            "image": {"docker-manifest-digest": digest.to_string()},
            "type": PAYLOAD_KIND,
        },
        "optional": null,
    });
    serde_json::to_vec(&document).map_err(unwritable)
}

/// The config of a list of payloads: it is an image in form only.
pub(super) fn config(payloads: &[Descriptor]) -> Result<Vec<u8>, SourceError> {
    let diff_ids: Vec<String> = payloads.iter().map(|layer| layer.digest.to_string()).collect();
    let epoch = "0001-01-01T00:00:00Z";
    let history: Vec<Value> = payloads.iter().map(|_| json!({"created": epoch})).collect();
    let document = json!({
        "architecture": "", "created": epoch, "history": history, "os": "",
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "config": {},
    });
    serde_json::to_vec(&document).map_err(unwritable)
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: CriticalImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct CriticalImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Whether a payload says this digest and was signed with that key. What is unreadable was not.
pub(super) fn is_payload_signed(document: &[u8], signature: Option<&String>, digest: &Digest, key: &PublicKey) -> bool {
    let signature = signature.and_then(|text| STANDARD.decode(text).ok());
    let payload: Option<Payload> = serde_json::from_slice(document).ok();
    let says = payload.is_some_and(|payload| {
        payload.critical.kind == PAYLOAD_KIND && payload.critical.image.digest == digest.to_string()
    });
    says && signature.is_some_and(|signature| key.made(document, &signature))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    digest: std::collections::BTreeMap<String, String>,
}

/// Whether a bundle says this digest and was signed with that key. What is unreadable was not.
pub(super) fn is_bundle_signed(document: &[u8], digest: &Digest, key: &PublicKey) -> bool {
    let Ok(Bundle { dsse_envelope: envelope }) = serde_json::from_slice(document) else { return false };
    let Ok(payload) = STANDARD.decode(&envelope.payload) else { return false };
    let Ok(statement) = serde_json::from_slice::<Statement>(&payload) else { return false };
    let algorithm = digest.algorithm().name();
    let is_subject = |subject: &Subject| subject.digest.get(algorithm).is_some_and(|hex| *hex == digest.hex());
    let says = envelope.payload_type == STATEMENT
        && statement.predicate_type == SIGN_PREDICATE
        && statement.subject.iter().any(is_subject);
    let signed = pre_authentication(&envelope.payload_type, &payload);
    says && envelope
        .signatures
        .iter()
        .any(|signature| STANDARD.decode(&signature.sig).is_ok_and(|signature| key.made(&signed, &signature)))
}

/// What an envelope's signature is of (DSSE version 1).
fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend_from_slice(payload);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_before_a_signature_is_the_specifications_own_example() {
        let text = pre_authentication("http://example.com/HelloWorld", b"hello world");
        assert_eq!(text, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }
}
