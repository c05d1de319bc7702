//! The same image or index with annotations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::document::{parse, to_json};
use crate::{Artifact, Image, Kind, RawManifest, SourceError};

/// Adds annotations to the manifest or index, everything else as it was, and others to its descriptor, where an index or a
/// layout lists it. A name that is there already gets the new value.
pub fn annotated(
    artifact: &Artifact,
    annotations: &BTreeMap<String, String>,
    of_descriptor: &BTreeMap<String, String>,
) -> Result<Artifact, SourceError> {
    let raw = artifact.raw();
    let mut now = if annotations.is_empty() { raw.clone() } else { with(raw, annotations)? };
    now.descriptor.annotations.extend(of_descriptor.clone());
    match artifact {
        Artifact::Image(image) => {
            let manifest = parse(&now.bytes, &now.descriptor)?;
            let blobs = Arc::clone(image.blobs());
            Image::from_parts(now, manifest, image.config_bytes().to_vec(), blobs).map(Artifact::Image)
        }
        Artifact::Index(index) => Artifact::open(now, Arc::clone(index.blobs())),
    }
}

fn with(raw: &RawManifest, annotations: &BTreeMap<String, String>) -> Result<RawManifest, SourceError> {
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
    use crate::attestation::{Attested, index};
    use crate::{ImageConfig, Memory, Platform};

    fn map(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn annotations_change_the_manifest_and_nothing_else() {
        let config = ImageConfig { architecture: "amd64".into(), os: "linux".into(), ..ImageConfig::default() };
        let image = Image::assemble(&config, Vec::new(), false, Arc::new(Memory::default())).unwrap();
        let before = Artifact::Image(image.clone());
        let after = annotated(&before, &map("a", "1"), &map("d", "2")).unwrap();
        let Artifact::Image(changed) = &after else { panic!() };
        assert_eq!(changed.manifest().annotations, map("a", "1"));
        assert_eq!(changed.manifest().config, image.manifest().config);
        assert_eq!(changed.descriptor().annotations, map("d", "2"));
        assert_ne!(changed.descriptor().digest, image.descriptor().digest);
        let same = annotated(&before, &BTreeMap::new(), &BTreeMap::new()).unwrap();
        assert_eq!(same.descriptor(), before.descriptor());

        let platform = Platform::new("linux", "amd64");
        let all = index(&[Attested { image: changed.clone(), platform, attestations: Vec::new() }]).unwrap();
        let all = annotated(&Artifact::Index(all), &map("i", "3"), &BTreeMap::new()).unwrap();
        let Artifact::Index(all) = all else { panic!() };
        assert_eq!(all.manifests()[0].annotations, map("d", "2"));
        assert!(String::from_utf8_lossy(&all.raw().bytes).contains("\"annotations\":{\"i\":\"3\"}"));
        assert!(all.child(&all.manifests()[0].clone()).is_err() || !all.manifests().is_empty());
    }
}
