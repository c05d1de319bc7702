//! The parts of an artifact in the order in which they must be written.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::image::DEEPEST_INDEX;
use crate::{Artifact, BlobSource, Descriptor, Digest, Image, Kind, SourceError};

/// One part.
pub(crate) enum Part<'a> {
    /// A layer, and where to read it.
    Blob(&'a Arc<dyn BlobSource>, &'a Descriptor),
    /// A config, manifest or index.
    Document(&'a Descriptor, &'a [u8]),
}

/// Visits every part once, children before parents: whoever writes in this order never has a document whose parts are
/// missing. Foreign layers stay where their addresses say and are left out.
pub(crate) fn walk(
    artifact: &Artifact,
    visit: &mut dyn FnMut(Part<'_>) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    below(artifact, DEEPEST_INDEX, &mut BTreeSet::new(), visit)
}

fn below(
    artifact: &Artifact,
    depth: usize,
    seen: &mut BTreeSet<Digest>,
    visit: &mut dyn FnMut(Part<'_>) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    let raw = artifact.raw();
    if !seen.insert(raw.descriptor.digest) {
        return Ok(());
    }
    match artifact {
        Artifact::Image(image) => parts(image, seen, visit)?,
        Artifact::Index(index) => {
            let Some(depth) = depth.checked_sub(1) else {
                let what = format!("index {} is nested more than {DEEPEST_INDEX} deep", raw.descriptor.digest);
                return Err(SourceError::new(Kind::Corrupt, what));
            };
            for child in index.manifests() {
                below(&index.child(child)?, depth, seen, visit)?;
            }
        }
    }
    visit(Part::Document(&raw.descriptor, &raw.bytes))
}

fn parts(
    image: &Image,
    seen: &mut BTreeSet<Digest>,
    visit: &mut dyn FnMut(Part<'_>) -> Result<(), SourceError>,
) -> Result<(), SourceError> {
    for layer in &image.manifest().layers {
        let is_elsewhere = layer.media_type.is_foreign_layer() && !layer.urls.is_empty();
        if !is_elsewhere && seen.insert(layer.digest) {
            visit(Part::Blob(image.blobs(), layer))?;
        }
    }
    let config = &image.manifest().config;
    if seen.insert(config.digest) { visit(Part::Document(config, image.config_bytes())) } else { Ok(()) }
}
