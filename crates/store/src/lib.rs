//! What do we already have on this disk, and how does it stay whole?

#![allow(missing_docs, clippy::missing_const_for_fn, unused_variables)]

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skycap_image::{BlobReader, BlobSource, Descriptor, Digest, Layer, MediaType, Progress, SourceError};
use skycap_rootfs::{LayerIndex, OverlayXattrs, Owners};

/// The store of one directory. Clones share it; several processes may use one directory at once.
#[derive(Clone)]
pub struct Store {
    dir: Arc<PathBuf>,
}

/// A blob being written.
pub struct BlobWriter {}

/// A private directory that is removed when this is dropped.
pub struct Scratch {
    path: PathBuf,
}

/// An exclusive lock between processes, until dropped.
pub struct Lock {}

/// What [`Store::gc`] did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    /// Entries removed.
    pub removed: u64,
    /// Their bytes.
    pub freed: u64,
    /// Bytes that stay.
    pub kept: u64,
}

impl Store {
    /// Opens the store in a directory, which is made if it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        unimplemented!()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether a blob is here, by name and size only.
    pub fn has(&self, digest: &Digest) -> bool {
        unimplemented!()
    }

    /// Whether a blob is here and whole; a damaged one is removed.
    pub fn verify(&self, blob: &Descriptor) -> bool {
        unimplemented!()
    }

    /// Takes a blob in: checked, staged, synced and renamed.
    pub fn ingest(&self, blob: &Descriptor, reader: impl Read) -> io::Result<()> {
        unimplemented!()
    }

    /// Takes in a blob whose digest is not known yet.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        unimplemented!()
    }

    /// The layer with its blob in the store, where it is copied to if it is missing.
    pub fn keep_layer(&self, layer: &Layer) -> Result<Layer, SourceError> {
        unimplemented!()
    }

    /// `source` through this store: what is here is not asked for again, and what is asked for stays here.
    pub fn through(&self, source: Arc<dyn BlobSource>) -> Arc<dyn BlobSource> {
        unimplemented!()
    }

    /// The layer's listing, kept by diff ID.
    pub fn layer_index(&self, layer: &Layer) -> Result<Arc<LayerIndex>, SourceError> {
        unimplemented!()
    }

    /// The layer unpacked as an overlayfs lower directory. `below` are the layers under it, lowest first.
    pub fn lower(
        &self,
        layer: &Layer,
        below: &[Layer],
        owners: Owners,
        style: OverlayXattrs,
        progress: &dyn Progress,
    ) -> Result<PathBuf, SourceError> {
        unimplemented!()
    }

    /// A small document kept under a kind and a key; absent if damaged.
    pub fn record(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        unimplemented!()
    }

    /// Keeps a small document.
    pub fn set_record(&self, kind: &str, key: &str, bytes: &[u8]) -> io::Result<()> {
        unimplemented!()
    }

    /// A private directory on the store's file system.
    pub fn scratch(&self) -> io::Result<Scratch> {
        unimplemented!()
    }

    /// A directory that outlives builds, made if it is missing (`RUN --mount=type=cache`).
    pub fn cache_mount(&self, id: &str) -> io::Result<PathBuf> {
        unimplemented!()
    }

    /// Waits for an exclusive lock of this name.
    pub fn lock(&self, name: &str) -> io::Result<Lock> {
        unimplemented!()
    }

    /// Removes what was not used for `age`, then what was not used for longest until `limit` bytes are left. What any
    /// living process uses stays.
    pub fn gc(&self, limit: u64, age: Duration) -> io::Result<Collected> {
        unimplemented!()
    }
}

impl BlobSource for Store {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        unimplemented!()
    }
}

impl BlobWriter {
    /// Keeps what was written.
    pub fn commit(self, media_type: MediaType) -> io::Result<Descriptor> {
        unimplemented!()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}

impl Scratch {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
