//! An artifact as JSON: the keys of `skopeo inspect`, and more.

use serde_json::{Map, Value, json};
use skycap_image::{Artifact, Descriptor, Image};

use super::inspect::Shown;
use crate::failure::Failure;

/// `RepoTags` is left out: `skycap tags` asks for them.
pub fn document(shown: &Shown<'_>) -> Result<String, Failure> {
    let mut document = Map::new();
    let name = repository(shown.name);
    document.insert("Name".to_owned(), name.into());
    document.insert("Digest".to_owned(), shown.artifact.descriptor().digest.to_string().into());
    document.insert("MediaType".to_owned(), shown.artifact.descriptor().media_type.as_str().into());
    if let Artifact::Index(index) = shown.artifact {
        document.insert("Platforms".to_owned(), index.manifests().iter().map(child).collect());
    }
    if !shown.attested.is_empty() {
        let attested = shown.attested.iter();
        let attested = attested
            .map(|about| json!({"Platform": about.platform.as_ref().map(ToString::to_string), "Types": about.says}));
        document.insert("Attested".to_owned(), attested.collect());
    }
    if let Some(image) = &shown.image {
        add_image(&mut document, image)?;
    }
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// A reference without tag and digest, as skopeo has it; a place that is a file, as it is.
fn repository(name: &str) -> String {
    let reference = name.parse::<skycap_image::Reference>();
    reference.map_or_else(
        |_| name.to_owned(),
        |reference| reference.repository.to_string().replacen("index.docker.io/", "docker.io/", 1),
    )
}

fn child(descriptor: &Descriptor) -> Value {
    let mut child = json!({
        "Platform": descriptor.platform.as_ref().map(ToString::to_string),
        "Digest": descriptor.digest.to_string(),
        "MediaType": descriptor.media_type.as_str(),
    });
    if !descriptor.annotations.is_empty() {
        child["Annotations"] = json!(descriptor.annotations);
    }
    child
}

fn add_image(document: &mut Map<String, Value>, image: &Image) -> Result<(), Failure> {
    let (manifest, config) = (image.manifest(), image.config());
    let layers: Vec<String> = manifest.layers.iter().map(|layer| layer.digest.to_string()).collect();
    let layer = |layer: &Descriptor| {
        json!({
            "MIMEType": layer.media_type.as_str(),
            "Digest": layer.digest.to_string(),
            "Size": layer.size,
            "Annotations": (!layer.annotations.is_empty()).then_some(&layer.annotations),
        })
    };
    let part = json!({
        "Created": config.created,
        "Labels": (!config.config.labels.is_empty()).then_some(&config.config.labels),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Layers": layers,
        "LayersData": manifest.layers.iter().map(layer).collect::<Vec<_>>(),
        "Env": config.config.env,
        "ImageDigest": image.descriptor().digest.to_string(),
        "ConfigDigest": manifest.config.digest.to_string(),
        "Size": manifest.layers.iter().map(|layer| layer.size).sum::<u64>(),
        "ArtifactType": manifest.artifact_type,
        "Annotations": (!manifest.annotations.is_empty()).then_some(&manifest.annotations),
        "Config": serde_json::to_value(&config.config)?,
    });
    if let Value::Object(part) = part {
        document.extend(part);
    }
    Ok(())
}
