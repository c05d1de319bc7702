//! The end of a build: layers and a configuration become an image.

use std::collections::BTreeMap;
use std::sync::Arc;

use skycap_image::{
    BlobReader, BlobSource, Descriptor, Digest, History, Image, ImageConfig, Kind, Layer, MediaType, Memory,
    SourceError,
};

use crate::plan::Entry;

/// What the histories of BuildKit's images say, which tools look for.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// What an image is made of.
pub(crate) struct Parts<'a> {
    /// Everything but layers, history and times.
    pub config: ImageConfig,
    /// The base's history.
    pub base_history: Vec<History>,
    /// What the build adds to it, and when the layer was made, if the line stands for one.
    pub entries: Vec<(&'a Entry, Option<String>)>,
    /// All layers, lowest first.
    pub layers: Vec<Layer>,
    /// Docker's media types.
    pub docker: bool,
    /// The time that everything new states, in RFC 3339.
    pub epoch: Option<String>,
}

/// Puts an image together.
pub(crate) fn image(parts: Parts<'_>) -> Result<Image, SourceError> {
    let mut config = parts.config;
    let new = parts.entries.into_iter().map(|(entry, created)| History {
        created: parts.epoch.clone().or(created),
        created_by: Some(entry.created_by.clone()),
        comment: Some(COMMENT.to_owned()),
        empty_layer: entry.node.is_none(),
        ..History::default()
    });
    config.history = parts.base_history.into_iter().chain(new).collect();
    fill_times(&mut config.history);
    config.created = config.history.last().and_then(|line| line.created.clone());
    put_together(config, parts.layers, parts.docker)
}

/// An image of a configuration, which gets the layers' diff IDs, and layers, each read where it is.
pub(crate) fn put_together(mut config: ImageConfig, layers: Vec<Layer>, docker: bool) -> Result<Image, SourceError> {
    config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id).collect();
    let descriptors = layers.iter().map(|layer| with_media_type(&layer.descriptor, docker)).collect();
    let blobs = Arc::new(Blobs {
        documents: Memory::default(),
        layers: layers.into_iter().map(|layer| (layer.descriptor.digest, layer.blobs)).collect(),
    });
    let image = Image::assemble(&config, descriptors, docker, Arc::clone(&blobs) as Arc<dyn BlobSource>)?;
    blobs.documents.add(image.manifest().config.media_type.clone(), image.config_bytes());
    blobs.documents.add(image.descriptor().media_type.clone(), image.raw().bytes.as_slice());
    Ok(image)
}

/// Lines without a time get that of the first new layer, or of the layer before them, as in BuildKit's exporter.
fn fill_times(history: &mut [History]) {
    let first_gap = history.iter().position(|line| line.created.is_none());
    let Some(first_gap) = first_gap else { return };
    let time = |line: &History| line.created.clone();
    let after = history[first_gap..].iter().find_map(time);
    let mut last = after.or_else(|| history[..first_gap].iter().rev().find_map(time));
    for line in &mut history[first_gap..] {
        match &line.created {
            Some(created) => last = Some(created.clone()),
            None => line.created.clone_from(&last),
        }
    }
}

/// The same layer under the name that the image's kind of manifest has for it.
pub(crate) fn with_media_type(layer: &Descriptor, docker: bool) -> Descriptor {
    use MediaType as M;
    let media_type = match (&layer.media_type, docker) {
        (M::OciLayer, true) => M::DockerLayer,
        (M::OciLayerGzip, true) => M::DockerLayerGzip,
        (M::OciLayerZstd, true) => M::DockerLayerZstd,
        (M::OciForeignLayerGzip, true) => M::DockerForeignLayer,
        (M::DockerLayer, false) => M::OciLayer,
        (M::DockerLayerGzip, false) => M::OciLayerGzip,
        (M::DockerLayerZstd, false) => M::OciLayerZstd,
        (M::DockerForeignLayer, false) => M::OciForeignLayerGzip,
        (same, _) => same.clone(),
    };
    Descriptor { media_type, ..layer.clone() }
}

/// Each blob from where it is: new layers from the store, a base's from the base's own place.
struct Blobs {
    documents: Memory,
    layers: BTreeMap<Digest, Arc<dyn BlobSource>>,
}

impl BlobSource for Blobs {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        match self.layers.get(&blob.digest) {
            Some(source) => source.open_unverified(blob),
            None => self.documents.open_unverified(blob).map_err(|_| {
                SourceError::new(Kind::NotFound, format!("blob {} is no part of the image that was built", blob.digest))
            }),
        }
    }

    fn file(&self, blob: &Descriptor) -> Option<std::path::PathBuf> {
        self.layers.get(&blob.digest)?.file(blob)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_time_get_that_of_a_neighbour() {
        for (given, filled) in [
            (&["1", "", "2", ""][..], &["1", "2", "2", "2"][..]),
            (&["1", "", ""], &["1", "1", "1"]),
            (&["", "", "3", "", "4", ""], &["3", "3", "3", "3", "4", "4"]),
            (&["1", "2"], &["1", "2"]),
            (&["", ""], &["", ""]),
        ] {
            let line =
                |text: &&str| History { created: (!text.is_empty()).then(|| (*text).to_owned()), ..History::default() };
            let mut history: Vec<History> = given.iter().map(line).collect();
            fill_times(&mut history);
            assert_eq!(history, filled.iter().map(line).collect::<Vec<_>>());
        }
    }
}
