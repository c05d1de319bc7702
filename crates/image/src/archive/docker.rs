//! `manifest.json`: reading its entries as images, and writing it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::corrupt;
use super::members::{Members, Span};
use crate::{Compression, Descriptor, Digest, ImageConfig, Manifest, MediaType, RawManifest, SourceError};

/// The name of the file that makes an archive Docker's.
pub(super) const MANIFEST: &str = "manifest.json";

/// Of all images in an archive. `docker save` of a thousand images stays below it.
const MOST_LAYERS: usize = 50_000;

/// One image in `manifest.json` (moby `image/spec`, "Combined Image JSON + Filesystem Changeset Format").
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    /// The config's name in the archive.
    pub config: String,
    /// `repository:tag`.
    pub repo_tags: Option<Vec<String>>,
    /// The layers' names, lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
    /// Foreign layers by diff ID.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layer_sources: BTreeMap<Digest, Descriptor>,
}

/// An image of the archive, with a manifest made for it: the archive has none.
pub(super) struct Described {
    pub names: Vec<String>,
    pub manifest: RawManifest,
    pub config: (Digest, Vec<u8>),
    /// Which members the layers are.
    pub layers: Vec<(Digest, Span)>,
}

/// Reads `manifest.json`.
pub(super) fn entries(members: &Members) -> Result<Vec<Entry>, SourceError> {
    let bytes = members.document(MANIFEST)?;
    let parsed: Result<Vec<Entry>, _> = serde_json::from_slice(&bytes);
    let entries =
        parsed.map_err(|error| SourceError::caused(crate::Kind::Corrupt, "manifest.json does not parse", error))?;
    let layers: usize = entries.iter().map(|entry| 1 + entry.layers.len()).sum();
    if layers > MOST_LAYERS {
        return Err(corrupt(format!("manifest.json lists {layers} configs and layers, more than {MOST_LAYERS}")));
    }
    Ok(entries)
}

/// Finds out what an entry's layers are and makes the manifest that go-containerregistry makes, byte for byte: that is
/// what registry-image's versions are the digests of. Only layers in zstd, which it labels gzip, get their right label.
pub(super) fn describe(
    members: &Members,
    entry: Entry,
    hashed: &mut BTreeMap<u64, Digest>,
) -> Result<Described, SourceError> {
    let config_bytes = members.document(&entry.config)?;
    let config: ImageConfig = serde_json::from_slice(&config_bytes).map_err(|error| {
        SourceError::caused(crate::Kind::Corrupt, format!("config {} does not parse", entry.config), error)
    })?;
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != entry.layers.len() {
        let (layers, diff_ids) = (entry.layers.len(), diff_ids.len());
        return Err(corrupt(format!("manifest.json lists {layers} layers but {} {diff_ids} diff IDs", entry.config)));
    }
    let mut layers = Vec::new();
    let mut descriptors = Vec::new();
    for (name, diff_id) in entry.layers.iter().zip(diff_ids) {
        match entry.layer_sources.get(diff_id) {
            Some(foreign) if !members.has(name) => descriptors.push(foreign.clone()),
            _ => {
                let span = members.find(name)?;
                let descriptor = layer(members, name, span, *diff_id, hashed)?;
                layers.push((descriptor.digest, span));
                descriptors.push(descriptor);
            }
        }
    }
    let digest = Digest::sha256(&config_bytes);
    let config = Descriptor::new(MediaType::DockerConfig, digest, config_bytes.len() as u64);
    Ok(Described {
        names: entry.repo_tags.unwrap_or_default(),
        manifest: RawManifest::new(MediaType::DockerManifest, manifest(&config, &descriptors)?),
        config: (digest, config_bytes),
        layers,
    })
}

/// `hashed` remembers by offset, so that a layer of many images is read once.
fn layer(
    members: &Members,
    name: &str,
    span: Span,
    diff_id: Digest,
    hashed: &mut BTreeMap<u64, Digest>,
) -> Result<Descriptor, SourceError> {
    let compression = members.compression(span)?;
    let media_type = match compression {
        Compression::None => MediaType::DockerLayer,
        Compression::Zstd => MediaType::DockerLayerZstd,
        Compression::Gzip | Compression::Bzip2 | Compression::Xz => MediaType::DockerLayerGzip,
    };
    let digest = match (compression, claimed(name)) {
        (Compression::None, _) => diff_id,
        // Whoever reads the layer checks the claim.
        (_, Some(digest)) => digest,
        (_, None) => match hashed.get(&span.offset) {
            Some(digest) => *digest,
            None => *hashed.entry(span.offset).or_insert(members.digest(span)?),
        },
    };
    Ok(Descriptor::new(media_type, digest, span.size))
}

/// The digest that a name in an OCI layout states.
fn claimed(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// A descriptor in go-containerregistry's order of fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Ordered<'d> {
    media_type: &'d MediaType,
    size: u64,
    digest: Digest,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    urls: &'d [String],
}

impl<'d> From<&'d Descriptor> for Ordered<'d> {
    fn from(descriptor: &'d Descriptor) -> Self {
        let Descriptor { media_type, size, digest, urls, .. } = descriptor;
        Self { media_type, size: *size, digest: *digest, urls }
    }
}

fn manifest(config: &Descriptor, layers: &[Descriptor]) -> Result<Vec<u8>, SourceError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'d> {
        schema_version: u32,
        media_type: MediaType,
        config: Ordered<'d>,
        layers: Vec<Ordered<'d>>,
    }
    let document = Document {
        schema_version: 2,
        media_type: MediaType::DockerManifest,
        config: Ordered::from(config),
        layers: layers.iter().map(Ordered::from).collect(),
    };
    crate::document::to_json(&document)
}

/// `manifest.json` with one image.
pub(super) fn to_json(
    config: String,
    names: &[String],
    layers: Vec<String>,
    manifest: &Manifest,
    diff_ids: &[Digest],
) -> Result<Vec<u8>, SourceError> {
    let foreign = manifest.layers.iter().zip(diff_ids).filter(|(layer, _)| layer.media_type.is_foreign_layer());
    let entry = Entry {
        config,
        repo_tags: (!names.is_empty()).then(|| names.to_vec()),
        layers,
        layer_sources: foreign.map(|(layer, diff_id)| (*diff_id, layer.clone())).collect(),
    };
    crate::document::to_json(&[entry])
}
