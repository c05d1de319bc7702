//! One repository's directory: its blobs, and who may change it at a time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use skycap_image::Digest;
use tempfile::TempPath;

use super::files::{make_directory, settle, sync_directory};

/// A blob that somebody asked for is marked as used, unless that was done less than this ago.
const FRESH: Duration = Duration::from_mins(10);

/// Where a repository is, whether it is there or not.
pub(super) struct Repository {
    root: PathBuf,
    directory: PathBuf,
    pub(super) staging: PathBuf,
}

/// Held while a repository changes.
pub(super) struct Guard {
    _lock: File,
}

impl Repository {
    pub fn new(root: PathBuf, directory: PathBuf, staging: PathBuf) -> Self {
        Self { root, directory, staging }
    }

    /// Whether anything was ever pushed here. Blobs alone make no repository.
    pub fn is_known(&self) -> bool {
        self.at("manifests").is_dir()
    }

    /// A file or directory inside.
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn tags_directory(&self) -> PathBuf {
        self.at("tags")
    }

    /// The file of a blob, whether it is there or not.
    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.at("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// Makes a directory inside, and the repository with it.
    pub(super) fn make(&self, directory: &Path) -> io::Result<()> {
        make_directory(&self.root, directory)
    }

    /// For adding: many may add at once.
    pub fn adding(&self) -> io::Result<Guard> {
        self.guard(File::lock_shared)
    }

    /// For taking away: nobody adds meanwhile, so nobody finds a part that is gone a moment later.
    pub fn removing(&self) -> io::Result<Guard> {
        self.guard(File::lock)
    }

    /// Whoever wants to change something waits in one line, or a removal would wait for ever while others add.
    fn guard(&self, take: fn(&File) -> io::Result<()>) -> io::Result<Guard> {
        self.make(&self.directory)?;
        let open = |name| File::options().create(true).truncate(false).write(true).open(self.at(name));
        let turn = open("turn")?;
        turn.lock()?;
        let lock = open("lock")?;
        take(&lock)?;
        Ok(Guard { _lock: lock })
    }

    /// Takes checked bytes in as a blob.
    pub fn keep_blob(&self, digest: Digest, file: &File, staged: TempPath) -> io::Result<()> {
        let _guard = self.adding()?;
        let path = self.blob(digest);
        if path.exists() {
            return mark_used(&path);
        }
        path.parent().map_or(Ok(()), |parent| self.make(parent))?;
        settle(file, staged, &path)
    }

    /// Links a blob from another repository; `false` if it is not there.
    pub fn mount(&self, from: &Self, digest: Digest) -> io::Result<bool> {
        let (source, target) = (from.blob(digest), self.blob(digest));
        if !source.is_file() {
            return Ok(false);
        }
        let _guard = self.adding()?;
        let Some(parent) = target.parent() else { return Ok(false) };
        self.make(parent)?;
        match fs::hard_link(&source, &target) {
            Ok(()) => sync_directory(parent)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => mark_used(&target)?,
            // No link (too many of them, a file system without, or it was deleted just now): the client uploads the bytes.
            Err(_) => return Ok(false),
        }
        Ok(true)
    }
}

/// Whoever hears that a blob is there may not send it, so a collection must spare it for a while as if it were new.
pub(super) fn mark_used(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    let now = SystemTime::now();
    if now.duration_since(file.metadata()?.modified()?).is_ok_and(|age| age < FRESH) {
        return Ok(());
    }
    file.set_modified(now)
}
