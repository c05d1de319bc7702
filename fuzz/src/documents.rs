//! Manifests, indexes and configs.
//!
//! - What parses, printed and parsed again, is the same, and prints the same again.
//! - A document that could be read as manifest and as index is never opened (CVE-2021-41190).
//! - What opens as an image has as many layers as diff IDs.

use std::sync::Arc;

use serde_json::Value;
use skycap_image::{Artifact, ImageConfig, IndexManifest, Manifest, MediaType, Memory, Outline, RawManifest};

/// See the module.
pub fn documents(input: &[u8]) {
    round_trip::<Manifest>(input);
    round_trip::<IndexManifest>(input);
    round_trip::<ImageConfig>(input);
    confusion(input);
    for media_type in [MediaType::default(), MediaType::OciManifest, MediaType::OciIndex, MediaType::DockerManifest] {
        open(media_type, input);
    }
}

fn round_trip<T>(input: &[u8])
where
    T: serde_json_value::Document,
{
    let Some(parsed) = T::parse(input) else { return };
    let printed = parsed.print();
    let again = T::parse(&printed).expect("what we print can be read");
    assert!(again == parsed, "{}", String::from_utf8_lossy(&printed));
    assert_eq!(again.print(), printed);
}

/// The documents that are parsed and printed.
mod serde_json_value {
    use skycap_image::{ImageConfig, IndexManifest, Manifest};

    pub trait Document: Sized + PartialEq {
        fn parse(bytes: &[u8]) -> Option<Self>;
        fn print(&self) -> Vec<u8>;
    }

    macro_rules! documents {
        ($($name:ident)*) => {$(
            impl Document for $name {
                fn parse(bytes: &[u8]) -> Option<Self> {
                    serde_json::from_slice(bytes).ok()
                }
                fn print(&self) -> Vec<u8> {
                    serde_json::to_vec(self).expect("memory does not fail")
                }
            }
        )*};
    }

    documents!(Manifest IndexManifest ImageConfig);
}

fn confusion(input: &[u8]) {
    let Ok(Value::Object(fields)) = serde_json::from_slice(input) else { return };
    // Go takes a field by any spelling.
    let has = |name: &str| fields.iter().any(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_null());
    if has("manifests") && (has("layers") || has("config")) {
        assert!(Outline::read(input).is_err());
    }
}

fn open(media_type: MediaType, input: &[u8]) {
    let memory = Memory::default();
    memory.add(MediaType::OciConfig, input);
    memory.add(MediaType::OciEmpty, &b"{}"[..]);
    memory.add(MediaType::OciConfig, &br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#[..]);
    let Ok(artifact) = Artifact::open(RawManifest::new(media_type, input.to_vec()), Arc::new(memory)) else { return };
    match artifact {
        Artifact::Image(image) => {
            let layers = image.layers().len();
            assert!(layers == image.manifest().layers.len() || layers == 0);
        }
        Artifact::Index(index) => assert!(index.manifests().len() <= input.len()),
    }
}
