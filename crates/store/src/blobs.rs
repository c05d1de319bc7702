//! Blobs by digest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use skycap_image::{
    Algorithm, BlobReader, BlobSource, Descriptor, Digest, Hasher, Kind, MediaType, SourceError, Staged, Verified,
};

use crate::remove::remove;
use crate::seal::{Lasts, Stamp, settle};
use crate::{BLOBS, Store, boot};

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

    /// Whether a blob is here and its bytes are right. A damaged one is removed. Its bytes are read unless its file looks as
    /// it did when they were last found right: same inode, size, time of modification and of status change.
    pub fn verify(&self, blob: &Descriptor) -> bool {
        self.open_whole(blob).is_ok()
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
        self.place(staged, &blob.digest, Lasts::Forever)
    }

    /// Begins a blob whose digest is not known yet.
    pub fn writer(&self) -> io::Result<BlobWriter> {
        let staged = Staged::create(self.0.session.directory(), "blob-").map_err(|error| self.named(&error))?;
        Ok(BlobWriter { store: self.clone(), staged, hasher: Hasher::new(Algorithm::Sha256), size: 0 })
    }

    /// An error with where it happened.
    fn named(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("{}: {error}", self.dir().display()))
    }

    fn place(&self, staged: Staged, digest: &Digest, lasts: Lasts) -> io::Result<()> {
        self.lease(&entry(digest))?;
        let path = self.blob_path(digest);
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            remove(&path)?;
        }
        let Some(parent) = path.parent() else { return Ok(()) };
        fs::create_dir_all(parent)?;
        settle(staged.file())?;
        let file = staged.file().try_clone()?;
        match lasts {
            Lasts::Forever => {
                staged.commit(&path, 0o644)?;
                File::open(parent)?.sync_all()?;
            }
            Lasts::ThisBoot => staged.commit_unsynced(&path, 0o644)?,
        }
        // Renaming is a change of status.
        self.seal(digest, &Stamp::from(&file.metadata()?), lasts);
        Ok(())
    }

    /// The blob's file.
    fn open_whole(&self, blob: &Descriptor) -> Result<File, Refused> {
        self.lease(&entry(&blob.digest)).map_err(Refused::NotNow)?;
        let path = self.blob_path(&blob.digest);
        let refused = match open_file(&path) {
            Ok(file) if self.is_whole(&file, blob) => {
                self.note_use_of_blob(&blob.digest);
                return Ok(file);
            }
            Ok(_) => None,
            Err(error) => Some(error),
        };
        // A caller with a wrong size does not make a good blob bad.
        if is_damaged(&path, &blob.digest) {
            self.remove_blob(&blob.digest);
        }
        Err(match refused {
            Some(error) if error.kind() == io::ErrorKind::NotFound => Refused::Absent,
            Some(error) if tells_damage(&error, &path) => Refused::Damaged(error),
            Some(error) => Refused::NotNow(error),
            None => Refused::Absent,
        })
    }

    pub(crate) fn remove_blob(&self, digest: &Digest) {
        self.unseal(digest);
        let _ = remove(&self.blob_path(digest));
    }

    fn is_whole(&self, file: &File, blob: &Descriptor) -> bool {
        let Ok(metadata) = file.metadata() else { return false };
        if metadata.len() != blob.size {
            return false;
        }
        if self.is_sealed(&blob.digest, &Stamp::from(&metadata)) {
            return true;
        }
        // Who does not own the file cannot settle it. Then there is no seal, and every handle reads it.
        let _ = settle(file);
        let look = || file.metadata().ok().map(|metadata| Stamp::from(&metadata));
        let before = look();
        if Verified::new(file, blob).finish().is_err() {
            return false;
        }
        // A seal must not outlive what it speaks of. And when somebody puts the same blob in this one's place meanwhile, this
        // file is still whole, but not the one that a seal would speak of.
        if let Some(stamp) = before.filter(|before| file.sync_all().is_ok() && look().as_ref() == Some(before)) {
            self.seal(&blob.digest, &stamp, Lasts::Forever);
        }
        (&*file).rewind().is_ok()
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir().join(entry(digest))
    }
}

/// Opens a regular file for reading, without following a link or waiting for a pipe's other end.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// Whether a file is certainly not the blob of that digest.
pub(crate) fn is_damaged(path: &Path, digest: &Digest) -> bool {
    let file = match open_file(path) {
        Ok(file) => file,
        Err(error) => return tells_damage(&error, path),
    };
    let size = file.metadata().map_or(0, |metadata| metadata.len());
    Verified::new(file, &Descriptor::new(MediaType::default(), *digest, size)).finish().is_err()
}

/// Whether an error at opening is the file's fault: not if we have run out of something, nor if it is somebody else's.
pub(crate) fn tells_damage(error: &io::Error, path: &Path) -> bool {
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::NOENT];
    if exhausted.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) {
        return false;
    }
    let is_ours = || fs::symlink_metadata(path).is_ok_and(|m| m.uid() == rustix::process::geteuid().as_raw());
    error.kind() != io::ErrorKind::PermissionDenied || is_ours()
}

/// A blob's path below the store's directory.
pub(crate) fn entry(digest: &Digest) -> String {
    format!("{BLOBS}/{}/{}", digest.algorithm().name(), digest.hex())
}

/// Why a blob cannot be had.
enum Refused {
    /// It is not there, or its bytes are not its own.
    Absent,
    /// It could not be opened, and was removed.
    Damaged(io::Error),
    /// It may be there.
    NotNow(io::Error),
}

impl BlobSource for Store {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        let path = || self.blob_path(&blob.digest);
        match self.open_whole(blob) {
            Ok(file) => Ok(Box::new(file)),
            Err(Refused::Absent) => {
                Err(SourceError::new(Kind::NotFound, format!("no blob {} in the cache", blob.digest)))
            }
            Err(Refused::Damaged(error)) => {
                let what = format!("cannot read {} in the cache, which is given up", path().display());
                Err(SourceError::caused(Kind::NotFound, what, error))
            }
            Err(Refused::NotNow(error)) => {
                Err(SourceError::io(format!("cannot read {} in the cache", path().display()), error))
            }
        }
    }

    fn kept_in(&self) -> Option<&Path> {
        Some(self.dir())
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.open_whole(blob).ok().map(|_| self.blob_path(&blob.digest))
    }
}

impl BlobWriter {
    /// Keeps what was written. It was made here and can be made again, so nobody waits for the disk: after a reboot its bytes
    /// are read before they are believed.
    pub fn commit(self, media_type: MediaType) -> io::Result<Descriptor> {
        let digest = self.hasher.finish();
        let store = self.store.clone();
        let lasts = if boot::id().is_some() { Lasts::ThisBoot } else { Lasts::Forever };
        store.place(self.staged, &digest, lasts).map_err(|error| store.named(&error))?;
        Ok(Descriptor::new(media_type, digest, self.size))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.staged.write(bytes).map_err(|error| self.store.named(&error))?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
