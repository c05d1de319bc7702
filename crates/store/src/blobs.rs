//! Blobs by digest.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skycap_image::{
    Algorithm, BlobReader, BlobSource, Descriptor, Digest, Hasher, Kind, MediaType, SourceError, Staged, Verified,
};

use crate::remove::remove;
use crate::{BLOBS, Store};

/// What a file looked like when its bytes were found right. A file that looks the same is not read again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self { inode: metadata.ino(), size: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()) }
    }
}

/// A blob that is being written and whose digest comes out at the end.
pub struct BlobWriter {
    store: Store,
    staged: Staged,
    hasher: Hasher,
    size: u64,
}

impl Store {
    /// Whether there is a blob of that digest, without looking at its bytes. [`Store::verify`] does.
    pub fn has(&self, digest: &Digest) -> bool {
        self.lease(&entry(digest)).is_ok() && self.blob_path(digest).is_file()
    }

    /// Whether a blob is here and its bytes are right. A damaged one is removed. A handle reads a blob only the first
    /// time, or when its file has changed.
    pub fn verify(&self, blob: &Descriptor) -> bool {
        self.open_whole(blob).is_some()
    }

    /// Takes a blob in. Its bytes are checked and durable when it appears; nothing of it is kept after an error.
    pub fn ingest(&self, blob: &Descriptor, reader: impl Read) -> io::Result<()> {
        if self.verify(blob) {
            return Ok(());
        }
        let mut staged = Staged::create(self.0.session.directory(), "blob-")?;
        let mut reader = Verified::new(reader, blob);
        io::copy(&mut reader, &mut staged)?;
        reader.finish()?;
        self.place(staged, &blob.digest)
    }

    /// Begins a blob whose digest is not known yet.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        let staged = Staged::create(self.0.session.directory(), "blob-")?;
        Ok(BlobWriter { store: self.clone(), staged, hasher: Hasher::new(Algorithm::Sha256), size: 0 })
    }

    fn place(&self, staged: Staged, digest: &Digest) -> io::Result<()> {
        self.lease(&entry(digest))?;
        let path = self.blob_path(digest);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            remove(&path)?;
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
            let metadata = staged.file().metadata()?;
            staged.commit(&path, 0o644)?;
            File::open(parent)?.sync_all()?;
            self.state().whole.insert(*digest, Stamp::from(&metadata));
        }
        Ok(())
    }

    fn open_whole(&self, blob: &Descriptor) -> Option<File> {
        self.lease(&entry(&blob.digest)).ok()?;
        let path = self.blob_path(&blob.digest);
        let metadata = fs::symlink_metadata(&path).ok()?;
        let file = if metadata.is_file() && metadata.len() == blob.size { File::open(&path).ok() } else { None };
        let whole = file.filter(|file| self.is_whole(file, &metadata, blob));
        if whole.is_none() {
            self.state().whole.remove(&blob.digest);
            // A caller with a wrong size does not make a good blob bad.
            if !is_right(&path, &blob.digest) {
                let _ = remove(&path);
            }
        }
        whole
    }

    fn is_whole(&self, file: &File, metadata: &Metadata, blob: &Descriptor) -> bool {
        let stamp = Stamp::from(metadata);
        if self.state().whole.get(&blob.digest) == Some(&stamp) {
            return true;
        }
        let is_whole = Verified::new(file, blob).finish().is_ok();
        if is_whole {
            self.state().whole.insert(blob.digest, stamp);
        }
        is_whole && io::Seek::rewind(&mut &*file).is_ok()
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir().join(entry(digest))
    }
}

/// Whether a file's bytes hash to a digest.
fn is_right(path: &Path, digest: &Digest) -> bool {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
    let blob = Descriptor::new(MediaType::default(), *digest, size);
    File::open(path).is_ok_and(|file| Verified::new(file, &blob).finish().is_ok())
}

/// A blob's path below the store's directory.
fn entry(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm().name(), digest.hex())
}

fn absent(blob: &Descriptor) -> SourceError {
    SourceError::new(Kind::NotFound, format!("no blob {} in the cache", blob.digest))
}

impl BlobSource for Store {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        match self.open_whole(blob) {
            Some(file) => Ok(Box::new(file)),
            None => Err(absent(blob)),
        }
    }

    fn kept_in(&self) -> Option<&Path> {
        Some(self.dir())
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.open_whole(blob).map(|_| self.blob_path(&blob.digest))
    }
}

impl BlobWriter {
    /// Keeps what was written.
    pub fn commit(self, media_type: MediaType) -> io::Result<Descriptor> {
        let digest = self.hasher.finish();
        self.store.place(self.staged, &digest)?;
        Ok(Descriptor::new(media_type, digest, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.staged.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
