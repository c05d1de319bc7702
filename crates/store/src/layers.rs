//! What layers hold: their listings. And the directories that `RUN --mount=type=cache` mounts.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use skycap_image::{Descriptor, Kind, Layer, SourceError};
use skycap_rootfs::{Fault, LayerIndex, Limits, UnpackError};

use crate::blobs::is_right;
use crate::lowers::ROOT;
use crate::{MOUNTS, Store, hashed};

/// The kind of records that listings are.
pub(crate) const INDEX: &str = "layer-index";
/// What a cache mount is called, beside its directory.
pub(crate) const ID: &str = "id";

impl Store {
    /// The layer's listing. The layer is streamed once, kept, and its listing kept under its diff ID.
    pub fn layer_index(&self, layer: &Layer) -> Result<Arc<LayerIndex>, SourceError> {
        if let Some(index) = self.state().indexes.get(&layer.diff_id).and_then(std::sync::Weak::upgrade) {
            return Ok(index);
        }
        let key = layer.diff_id.to_string();
        let kept = self.record(INDEX, &key).and_then(|bytes| LayerIndex::decode(&bytes));
        let index = Arc::new(match kept {
            Some(index) => index,
            None => self.list(layer, &key)?,
        });
        self.state().indexes.insert(layer.diff_id, Arc::downgrade(&index));
        Ok(index)
    }

    fn list(&self, layer: &Layer, key: &str) -> Result<LayerIndex, SourceError> {
        let index = self.with_layer("list", layer, |layer| LayerIndex::of(layer, &Limits::default()))?;
        let kept = self.set_record(INDEX, key, &index.encode());
        kept.map_err(|error| SourceError::io(format!("cannot keep the listing of layer {key}"), error))?;
        Ok(index)
    }

    /// Does something with the layer out of the store. Should the blob have been damaged in a way that its file does not
    /// show, as a disk does it, it is fetched again.
    pub(crate) fn with_layer<T>(
        &self,
        doing: &str,
        layer: &Layer,
        work: impl Fn(&Layer) -> Result<T, UnpackError>,
    ) -> Result<T, SourceError> {
        let kept = self.keep_layer(layer)?;
        let done = match work(&kept).map_err(|error| refused(doing, layer, error)) {
            Err(error) if error.kind == Kind::Corrupt && self.was_damaged(&layer.descriptor) => {
                work(&self.keep_layer(layer)?).map_err(|error| refused(doing, layer, error))
            }
            done => done,
        };
        done
    }

    /// Reads a blob, whatever its seal says; a damaged one is removed.
    fn was_damaged(&self, blob: &Descriptor) -> bool {
        let path = self.blob_path(&blob.digest);
        let is_damaged = fs::symlink_metadata(&path).is_ok() && !is_right(&path, &blob.digest);
        if is_damaged {
            self.remove_blob(&blob.digest);
        }
        is_damaged
    }

    /// A directory that outlives builds, made if it is missing: what `RUN --mount=type=cache` mounts. Its content is the
    /// user's; the collector may remove it when nobody uses it.
    pub fn cache_mount(&self, id: &str) -> io::Result<PathBuf> {
        let entry = format!("{MOUNTS}/{}", hashed(id));
        self.lease(&entry)?;
        let path = self.dir().join(&entry);
        fs::create_dir_all(path.join(ROOT))?;
        if !path.join(ID).exists() {
            // For people who list the store; nothing depends on it.
            let _ = fs::write(path.join(ID), id);
        }
        Ok(path.join(ROOT))
    }
}

fn refused(doing: &str, layer: &Layer, error: UnpackError) -> SourceError {
    let kind = match &error {
        UnpackError::Layer { fault: Fault::Source(source), .. } => source.kind,
        UnpackError::Layer { fault: Fault::Read(source), .. } => Kind::of(source),
        UnpackError::Layer { fault: Fault::Apply { .. }, .. } | UnpackError::Destination { .. } => Kind::Other,
        UnpackError::Layer { .. } | UnpackError::File { .. } => Kind::Corrupt,
    };
    SourceError::caused(kind, format!("cannot {doing} layer {}", layer.descriptor.digest), error)
}
