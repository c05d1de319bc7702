//! The same image or index with annotations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::document::{parse, to_json};
use crate::{Artifact, Image, Index, Kind, RawManifest, SourceError};

/// Adds annotations to an image's manifest, everything else as it was, and others to its descriptor, where an index lists
/// it. A name that is there already gets the new value.
pub fn image(
    image: &Image,
    annotations: &BTreeMap<String, String>,
    of_descriptor: &BTreeMap<String, String>,
) -> Result<Image, SourceError> {
    let mut now = with(image.raw(), annotations)?;
    now.descriptor.annotations.extend(of_descriptor.clone());
    let manifest = parse(&now.bytes, &now.descriptor)?;
    Image::from_parts(now, manifest, image.config_bytes().to_vec(), Arc::clone(image.blobs()))
}

/// The same for an index.
pub fn index(index: &Index, annotations: &BTreeMap<String, String>) -> Result<Artifact, SourceError> {
    Artifact::open(with(index.raw(), annotations)?, Arc::clone(index.blobs()))
}

fn with(raw: &RawManifest, annotations: &BTreeMap<String, String>) -> Result<RawManifest, SourceError> {
    if annotations.is_empty() {
        return Ok(raw.clone());
    }
    let unreadable = || SourceError::new(Kind::Corrupt, format!("{} does not parse", raw.descriptor.digest));
    let mut document: Map<String, Value> = serde_json::from_slice(&raw.bytes).map_err(|_| unreadable())?;
    let entry = document.entry("annotations").or_insert_with(|| Value::Object(Map::new()));
    let known = entry.as_object_mut().ok_or_else(unreadable)?;
    known.extend(annotations.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))));
    let mut now = RawManifest::new(raw.descriptor.media_type.clone(), to_json(&document)?);
    now.descriptor.annotations.clone_from(&raw.descriptor.annotations);
    now.descriptor.platform.clone_from(&raw.descriptor.platform);
    Ok(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attestation::{self, Attested};
    use crate::{ImageConfig, Memory, Platform};

    fn map(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn annotations_change_the_manifest_and_nothing_else() {
        let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
        let before = Image::assemble(&config, Vec::new(), false, Arc::new(Memory::default())).unwrap();
        let changed = image(&before, &map("a", "1"), &map("d", "2")).unwrap();
        assert_eq!(changed.manifest().annotations, map("a", "1"));
        assert_eq!(changed.manifest().config, before.manifest().config);
        assert_eq!(changed.descriptor().annotations, map("d", "2"));
        assert_ne!(changed.descriptor().digest, before.descriptor().digest);
        assert_eq!(image(&before, &BTreeMap::new(), &BTreeMap::new()).unwrap().descriptor(), before.descriptor());

        let platform = Platform::new("linux", "amd64");
        let all = attestation::index(&[Attested { image: changed, platform, attestations: Vec::new() }]).unwrap();
        let Artifact::Index(all) = index(&all, &map("i", "3")).unwrap() else { panic!() };
        assert_eq!(all.manifests()[0].annotations, map("d", "2"));
        assert!(String::from_utf8_lossy(&all.raw().bytes).contains("\"annotations\":{\"i\":\"3\"}"));
        assert!(all.child(&all.manifests()[0]).is_ok());
    }
}
