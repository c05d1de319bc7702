//! Another place seen through the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::{BlobReader, BlobSource, Descriptor, Layer, RawManifest, SourceError, Verified};

use crate::Store;

struct Through {
    store: Store,
    source: Arc<dyn BlobSource>,
}

impl Store {
    /// `source` through this store: what is here is not asked for again, and what is asked for is kept here. Several
    /// processes that want the same blob at the same time fetch it once.
    pub fn through(&self, source: Arc<dyn BlobSource>) -> Arc<dyn BlobSource> {
        // A second layer of the same would wait for the lock that the first one holds.
        if self.keeps(&*source) { source } else { Arc::new(Through { store: self.clone(), source }) }
    }

    fn keeps(&self, source: &dyn BlobSource) -> bool {
        source.kept_in() == Some(self.dir())
    }

    /// Copies the layer's blob into the store if it is not there. The layer returned is read from the store, or from its
    /// own place again should the store's copy be lost later.
    pub fn keep_layer(&self, layer: &Layer) -> Result<Layer, SourceError> {
        let through = self.through(Arc::clone(&layer.blobs));
        through.open_unverified(&layer.descriptor)?;
        Ok(Layer { blobs: through, ..layer.clone() })
    }
}

impl Through {
    fn fetch(&self, blob: &Descriptor) -> Result<(), SourceError> {
        if self.store.verify(blob) {
            return Ok(());
        }
        let failed = |error| SourceError::io(format!("cannot keep blob {} in the cache", blob.digest), error);
        let _lock = self.store.lock(&format!("blob {}", blob.digest)).map_err(failed)?;
        if self.store.verify(blob) {
            return Ok(());
        }
        self.store.ingest(blob, self.source.open_unverified(blob)?).map_err(failed)
    }
}

impl BlobSource for Through {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        self.fetch(blob)?;
        self.store.open_unverified(blob)
    }

    fn open(&self, blob: &Descriptor) -> Result<Verified<BlobReader>, SourceError> {
        self.fetch(blob)?;
        self.store.open(blob)
    }

    /// Manifests are asked for in their own way: a registry does not give them out as blobs.
    fn manifest(&self, manifest: &Descriptor) -> Result<RawManifest, SourceError> {
        if self.store.verify(manifest) {
            return self.store.manifest(manifest);
        }
        let raw = self.source.manifest(manifest)?;
        let kept = self.store.ingest(manifest, &raw.bytes[..]);
        kept.map_err(|error| SourceError::io(format!("cannot keep manifest {} in the cache", manifest.digest), error))?;
        Ok(raw)
    }

    fn kept_in(&self) -> Option<&Path> {
        Some(self.store.dir())
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.store.file(blob).or_else(|| self.source.file(blob))
    }
}
