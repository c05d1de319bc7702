//! Another place seen through the store.
//!
//! That a blob is here does not mean that whoever asks may have it: it may have come from a repository that others cannot
//! read, and a hostile manifest elsewhere may name its digest. So a place that knows askers is asked once for each blob
//! that somebody else brought, and the answer is kept.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use skycap_image::{BlobReader, BlobSource, Descriptor, Kind, Layer, RawManifest, SourceError, Verified};

use crate::{Lock, Store};

/// How often whoever waits for a download is shown that it goes on.
const BEAT: Duration = Duration::from_secs(1);

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

/// The kind of record that says who may have what.
const MAY_HAVE: &str = "may-have";

impl Through {
    fn fetch(&self, blob: &Descriptor) -> Result<(), SourceError> {
        let was_here = self.store.verify(blob);
        if was_here && self.may_have(blob)? {
            return Ok(());
        }
        let failed = |error| {
            let directory = self.store.dir().display();
            SourceError::io(format!("cannot keep blob {} in the cache {directory}", blob.digest), error)
        };
        let lock = self.store.lock_or_go_alone(&format!("blob {}", blob.digest)).map_err(failed)?;
        // Somebody else may have fetched it meanwhile.
        if !was_here && self.is_ours(blob)? {
            return Ok(());
        }
        let fetch = || {
            let reader =
                Beating { reader: self.source.open_unverified(blob)?, lock: lock.as_ref(), next: Instant::now() };
            self.store.ingest(blob, reader).map_err(failed)
        };
        match fetch() {
            // A mirror's or a proxy's fault, perhaps: once more, from the beginning.
            Err(error) if error.kind == Kind::Corrupt => fetch()?,
            fetched => fetched?,
        }
        self.remember(blob);
        Ok(())
    }

    /// Whether the blob is here and the asker may have it.
    fn is_ours(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        Ok(self.store.verify(blob) && self.may_have(blob)?)
    }

    fn may_have(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        let Some(key) = self.key(blob) else { return Ok(true) };
        if self.store.record(MAY_HAVE, &key).is_some() {
            return Ok(true);
        }
        let may = self.source.holds(blob)?;
        if may {
            self.remember(blob);
        }
        Ok(may)
    }

    fn key(&self, blob: &Descriptor) -> Option<String> {
        self.source.asker().map(|asker| format!("{}\n{asker}", blob.digest))
    }

    /// A record that cannot be written costs one more question.
    fn remember(&self, blob: &Descriptor) {
        if let Some(key) = self.key(blob) {
            let _ = self.store.set_record(MAY_HAVE, &key, &[]);
        }
    }
}

/// A download that shows those who wait for it that it goes on.
struct Beating<'l> {
    reader: BlobReader,
    lock: Option<&'l Lock>,
    next: Instant,
}

impl Read for Beating<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if Instant::now() >= self.next {
            if let Some(lock) = self.lock {
                lock.beat();
            }
            self.next = Instant::now() + BEAT;
        }
        Ok(count)
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
        if self.is_ours(manifest)? {
            return self.store.manifest(manifest);
        }
        let raw = self.source.manifest(manifest)?;
        let kept = self.store.ingest(manifest, &raw.bytes[..]);
        kept.map_err(|error| {
            let directory = self.store.dir().display();
            SourceError::io(format!("cannot keep manifest {} in the cache {directory}", manifest.digest), error)
        })?;
        self.remember(manifest);
        Ok(raw)
    }

    fn asker(&self) -> Option<String> {
        self.source.asker()
    }

    fn holds(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        if self.is_ours(blob)? { Ok(true) } else { self.source.holds(blob) }
    }

    fn kept_in(&self) -> Option<&Path> {
        Some(self.store.dir())
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        let kept = self.is_ours(blob).is_ok_and(|ours| ours).then(|| self.store.file(blob)).flatten();
        kept.or_else(|| self.source.file(blob))
    }
}
