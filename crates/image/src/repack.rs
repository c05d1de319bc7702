//! Layers packed otherwise: bare tars compressed before they travel, or everything in another compression.
//!
//! What the layers hold stays, so configs stay byte for byte. Manifests change where layers do, indexes where manifests do,
//! and with them their digests; everything else that they say is kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::attestation::REFERENCE_DIGEST;
use crate::compress::{LayerEncoder, decoder};
use crate::document::to_json;
use crate::image::DEEPEST_INDEX;
use crate::progress::Task;
use crate::{
    Artifact, BlobReader, BlobSource, Compression, Descriptor, Digest, Image, Index, Kind, MediaType, Progress,
    RawManifest, SourceError,
};

/// How to pack.
#[derive(Clone, Copy, Debug)]
pub struct Repack<'r> {
    /// What layers are to be in: gzip, zstd or none.
    pub compression: Compression,
    /// Leave alone what is compressed already, whatever it is in.
    pub only_bare: bool,
    /// How many threads compress.
    pub threads: usize,
    /// Where packed layers are kept. The artifact that comes back reads them there.
    pub scratch: &'r Path,
}

/// The artifact with its layers packed as wanted; `None` if they are so already. Foreign layers and artifacts that are no
/// images stay as they are.
pub fn repack(
    artifact: &Artifact,
    wanted: Repack<'_>,
    progress: &dyn Progress,
) -> Result<Option<Artifact>, SourceError> {
    let mut work = Work { wanted, progress, packed: BTreeMap::new(), documents: BTreeMap::new() };
    let Some(raw) = work.artifact(artifact, DEEPEST_INDEX)? else { return Ok(None) };
    let blobs = Packed { layers: work.files(), documents: work.documents, rest: Arc::clone(artifact.blobs()) };
    Artifact::open(raw, Arc::new(blobs)).map(Some)
}

struct Work<'r> {
    wanted: Repack<'r>,
    progress: &'r dyn Progress,
    /// What became of each layer.
    packed: BTreeMap<Digest, Descriptor>,
    documents: BTreeMap<Digest, Vec<u8>>,
}

impl Work<'_> {
    fn artifact(&mut self, artifact: &Artifact, depth: usize) -> Result<Option<RawManifest>, SourceError> {
        let raw = match artifact {
            Artifact::Image(image) => self.image(image)?,
            Artifact::Index(index) => {
                let deeper = depth.checked_sub(1).ok_or_else(|| {
                    let what =
                        format!("index {} is nested more than {DEEPEST_INDEX} deep", index.raw().descriptor.digest);
                    SourceError::new(Kind::Corrupt, what)
                })?;
                self.index(index, deeper)?
            }
        };
        if let Some(raw) = &raw {
            self.documents.insert(raw.descriptor.digest, raw.bytes.clone());
        }
        Ok(raw)
    }

    fn index(&mut self, index: &Index, depth: usize) -> Result<Option<RawManifest>, SourceError> {
        let mut changed = BTreeMap::new();
        for child in index.manifests() {
            if let Some(raw) = self.artifact(&index.child(child)?, depth)? {
                changed.insert(child.digest, raw.descriptor);
            }
        }
        if changed.is_empty() {
            return Ok(None);
        }
        edited(index.raw(), "manifests", |entry, old| {
            if let Some(attested) = entry.pointer_mut(&format!("/annotations/{REFERENCE_DIGEST}"))
                && let Some(now) = attested.as_str().and_then(|text| changed.get(&text.parse::<Digest>().ok()?))
            {
                *attested = now.digest.to_string().into();
            }
            if let Some(now) = changed.get(&old) {
                entry["digest"] = now.digest.to_string().into();
                entry["size"] = now.size.into();
            }
        })
        .map(Some)
    }

    fn image(&mut self, image: &Image) -> Result<Option<RawManifest>, SourceError> {
        let docker = image.descriptor().media_type == MediaType::DockerManifest;
        let mut changed = false;
        for layer in image.layers() {
            let known = self.packed.contains_key(&layer.descriptor.digest);
            if !known && self.is_to_be_packed(&layer.descriptor) {
                let packed = self.pack(&**image.blobs(), &layer.descriptor, layer.diff_id, docker)?;
                self.packed.insert(layer.descriptor.digest, packed);
            }
            changed |= self.packed.contains_key(&layer.descriptor.digest);
        }
        if !changed {
            return Ok(None);
        }
        let packed = &self.packed;
        edited(image.raw(), "layers", |entry, old| {
            if let Some(now) = packed.get(&old) {
                entry["mediaType"] = now.media_type.as_str().into();
                entry["digest"] = now.digest.to_string().into();
                entry["size"] = now.size.into();
                if let Some(entry) = entry.as_object_mut() {
                    entry.remove("data");
                }
            }
        })
        .map(Some)
    }

    fn is_to_be_packed(&self, layer: &Descriptor) -> bool {
        let now = layer.media_type.compression();
        let wanted = if self.wanted.only_bare { now == Compression::None } else { now != self.wanted.compression };
        wanted && is_layer(&layer.media_type)
    }

    fn pack(
        &self,
        blobs: &dyn BlobSource,
        layer: &Descriptor,
        diff_id: Digest,
        docker: bool,
    ) -> Result<Descriptor, SourceError> {
        let failed = |error: io::Error| SourceError::io(format!("cannot compress layer {}", layer.digest), error);
        let label = format!("compress layer {}", &layer.digest.hex()[..12]);
        let task = Task::start(self.progress, &label, Some(layer.size));
        let file = File::create(self.path(&layer.digest)).map_err(failed)?;
        let threads = self.wanted.threads;
        let mut encoder = LayerEncoder::new(file, self.wanted.compression, docker, threads).map_err(failed)?;
        let mut reader = blobs.open(layer)?;
        {
            let mut counted = Counted { from: &mut reader, task: &task };
            let (_, mut bare) = decoder(&mut counted).map_err(failed)?;
            io::copy(&mut bare, &mut encoder).map_err(failed)?;
        }
        reader.finish().map_err(failed)?;
        let (packed, file) = encoder.finish().map_err(failed)?;
        if packed.diff_id != diff_id {
            let what = format!("layer {} holds {}, its config says {diff_id}", layer.digest, packed.diff_id);
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        drop(file);
        task.finish("compressed");
        Ok(packed.descriptor)
    }

    fn path(&self, layer: &Digest) -> PathBuf {
        self.wanted.scratch.join(layer.hex())
    }

    fn files(&self) -> BTreeMap<Digest, PathBuf> {
        self.packed.iter().map(|(old, now)| (now.digest, self.path(old))).collect()
    }
}

fn is_layer(media_type: &MediaType) -> bool {
    use MediaType::{DockerLayer, DockerLayerGzip, DockerLayerZstd, OciLayer, OciLayerGzip, OciLayerZstd};
    matches!(media_type, OciLayer | OciLayerGzip | OciLayerZstd | DockerLayer | DockerLayerGzip | DockerLayerZstd)
}

/// The document with entries of a list changed and everything else as it was, in its order.
fn edited(raw: &RawManifest, list: &str, mut edit: impl FnMut(&mut Value, Digest)) -> Result<RawManifest, SourceError> {
    let mut document: Value = serde_json::from_slice(&raw.bytes).map_err(|error| {
        SourceError::caused(Kind::Corrupt, format!("{} does not parse", raw.descriptor.digest), error)
    })?;
    for entry in document.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
        let digest = entry.get("digest").and_then(Value::as_str).and_then(|text| text.parse().ok());
        if let Some(digest) = digest {
            edit(entry, digest);
        }
    }
    Ok(RawManifest::new(raw.descriptor.media_type.clone(), to_json(&document)?))
}

/// Reports what is read.
struct Counted<'c, R> {
    from: &'c mut R,
    task: &'c Task<'c>,
}

impl<R: io::Read> io::Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.task.advance(count as u64);
        Ok(count)
    }
}

/// The layers and documents that were made, the rest where it was.
struct Packed {
    layers: BTreeMap<Digest, PathBuf>,
    documents: BTreeMap<Digest, Vec<u8>>,
    rest: Arc<dyn BlobSource>,
}

impl BlobSource for Packed {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        if let Some(bytes) = self.documents.get(&blob.digest) {
            return Ok(Box::new(io::Cursor::new(bytes.clone())));
        }
        let Some(path) = self.layers.get(&blob.digest) else { return self.rest.open_unverified(blob) };
        let file = File::open(path);
        Ok(Box::new(file.map_err(|error| SourceError::io(format!("cannot read {}", path.display()), error))?))
    }

    fn manifest(&self, manifest: &Descriptor) -> Result<RawManifest, SourceError> {
        match self.documents.get(&manifest.digest) {
            Some(bytes) => Ok(RawManifest { descriptor: manifest.clone(), bytes: bytes.clone() }),
            None => self.rest.manifest(manifest),
        }
    }

    fn asker(&self) -> Option<String> {
        self.rest.asker()
    }

    fn holds(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        let is_ours = self.layers.contains_key(&blob.digest) || self.documents.contains_key(&blob.digest);
        if is_ours { Ok(true) } else { self.rest.holds(blob) }
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.layers.get(&blob.digest).cloned().or_else(|| self.rest.file(blob))
    }
}
