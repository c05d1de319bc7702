//! What layers hold: their listings. And the directories that `RUN --mount=type=cache` mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::{Descriptor, Kind, Layer, SourceError};
use skycap_rootfs::{Fault, LayerIndex, Limits, UnpackError};

use crate::blobs::is_damaged;
use crate::lowers::ROOT;
use crate::remove::remove;
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

    /// Several threads or processes that need the same listing wait for the one that makes it.
    fn list(&self, layer: &Layer, key: &str) -> Result<LayerIndex, SourceError> {
        let lock = self.lock_or_go_alone(&format!("{INDEX} {key}"));
        let lists = || format!("cannot list layer {key} in the cache {}", self.dir().display());
        let _lock = lock.map_err(|error| SourceError::io(lists(), error))?;
        if let Some(index) = self.record(INDEX, key).and_then(|bytes| LayerIndex::decode(&bytes)) {
            return Ok(index);
        }
        let index = self.with_layer("list", layer, |layer| LayerIndex::of(layer, &Limits::default()))?;
        let kept = self.set_record(INDEX, key, &index.encode());
        kept.map_err(|error| {
            SourceError::io(format!("cannot keep the listing of layer {key} in {}", self.dir().display()), error)
        })?;
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
        match work(&kept).map_err(|error| refused(doing, layer, error)) {
            Err(error) if error.kind == Kind::Corrupt && self.was_damaged(&layer.descriptor) => {
                work(&self.keep_layer(layer)?).map_err(|error| refused(doing, layer, error))
            }
            done => done,
        }
    }

    /// Reads a blob, whatever its seal says; a damaged one is removed.
    fn was_damaged(&self, blob: &Descriptor) -> bool {
        let is_damaged = is_damaged(&self.blob_path(&blob.digest), &blob.digest);
        if is_damaged {
            self.remove_blob(&blob.digest);
        }
        is_damaged
    }

    /// A directory that outlives builds: what `RUN --mount=type=cache` mounts. Its content is the user's; the collector may
    /// remove it when nobody uses it.
    ///
    /// A new one is filled by `fill` first. Others wait meanwhile, and one that was not filled to the end is begun again.
    pub fn cache_mount<E: From<io::Error>>(
        &self,
        id: &str,
        fill: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let entry = format!("{MOUNTS}/{}", hashed(id));
        self.lease(&entry)?;
        let path = self.dir().join(&entry);
        let (root, name) = (path.join(ROOT), path.join(ID));
        let is_filled = || fs::symlink_metadata(&name).is_ok_and(|name| name.is_file()) && root.exists();
        if is_filled() {
            return Ok(root);
        }
        let _lock = self.lock(&format!("new {entry}"))?;
        if !is_filled() {
            // Whatever it is, and whatever a program left in it.
            remove(&name)?;
            remove(&root)?;
            fs::create_dir_all(&root)?;
            fill(&root)?;
            // The name is for people who list the store, and says that the directory was filled.
            fs::write(&name, id)?;
        }
        Ok(root)
    }
}

fn refused(doing: &str, layer: &Layer, error: UnpackError) -> SourceError {
    let kind = match &error {
        UnpackError::Layer { fault: Fault::Source(source), .. } => source.kind,
        UnpackError::Layer { fault: Fault::Read(source), .. } => Kind::of(source),
        UnpackError::Layer { fault: Fault::Apply { .. }, .. }
        | UnpackError::Destination { .. }
        | UnpackError::Stopped => Kind::Other,
        UnpackError::Layer { .. } | UnpackError::File { .. } => Kind::Corrupt,
    };
    SourceError::caused(kind, format!("cannot {doing} layer {}", layer.descriptor.digest), error)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use skycap_image::BlobSource;
    use skycap_testkit::listing::image;

    use crate::Store;
    use crate::seal::{Lasts, Stamp};

    /// K13: what the file does not show, as when the disk itself forgets.
    #[test]
    fn damage_that_no_time_tells_of_costs_another_fetch() {
        let dir = tempfile::tempdir().unwrap();
        let layer = &image("layer\n  file a \"1\"\n").layers()[0];
        let digest = layer.descriptor.digest;
        let index = {
            let store = Store::open(dir.path()).unwrap();
            let index = store.layer_index(layer).unwrap();
            let path = store.blob_path(&digest);
            let mut bytes = fs::read(&path).unwrap();
            bytes[0] ^= 1;
            fs::write(&path, bytes).unwrap();
            super::super::seal::settle(&fs::File::open(&path).unwrap()).unwrap();
            store.seal(&digest, &Stamp::from(&fs::metadata(&path).unwrap()), Lasts::Forever);
            fs::remove_dir_all(dir.path().join("records-1")).unwrap();
            index
        };
        let store = Store::open(dir.path()).unwrap();
        assert!(store.verify(&layer.descriptor), "nothing shows");
        assert!(store.open(&layer.descriptor).unwrap().finish().is_err(), "wrong bytes are not given out as right");
        assert_eq!(*store.layer_index(layer).unwrap(), *index);
        assert!(store.open(&layer.descriptor).unwrap().finish().is_ok());
    }

    /// K13
    #[test]
    fn what_was_found_right_is_not_read_again_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let layer = &image("layer\n  file a \"1\"\n").layers()[0];
        let digest = layer.descriptor.digest;
        Store::open(dir.path()).unwrap().keep_layer(layer).unwrap();
        let path = dir.path().join(crate::blobs::entry(&digest));
        let is_sealed = || {
            let stamp = Stamp::from(&fs::metadata(&path).unwrap());
            Store::open(dir.path()).unwrap().is_sealed(&digest, &stamp)
        };
        assert!(is_sealed());
        assert_eq!(fs::metadata(&path).unwrap().mtime(), 1_000_000_000);
        // Bytes that were written back at once, in the same tick of the clock, are still looked at.
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        assert!(!is_sealed());
        assert!(Store::open(dir.path()).unwrap().verify(&layer.descriptor));
        assert!(is_sealed());
    }

    /// K13: what stands where the directory of a cache mount was never filled goes away, whatever it is.
    #[test]
    fn a_cache_mount_that_was_not_filled_is_begun_again_over_anything() {
        use std::io;
        use std::path::{Path, PathBuf};
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let fails = |new: &Path| -> io::Result<()> {
            fs::write(new.join("half"), "")?;
            Err(io::Error::other("killed"))
        };
        store.cache_mount("c", fails).unwrap_err();
        let fills = |_: &Path| -> io::Result<()> { Ok(()) };
        let root: PathBuf = store.cache_mount("c", fills).unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        fs::remove_file(root.parent().unwrap().join(super::ID)).unwrap();
        fs::remove_dir(&root).unwrap();
        fs::write(&root, "a file").unwrap();
        assert_eq!(store.cache_mount("c", fills).unwrap(), root);
        assert!(root.is_dir());
    }
}
