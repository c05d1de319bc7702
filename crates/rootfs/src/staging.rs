//! Directories that appear whole or not at all.
//!
//! The tree is made beside its destination under a temporary name and renamed at the end. A second temporary directory
//! beside it takes what is being deleted and, without names, what is being fetched. Both are locked as long as their process lives;
//! what a dead process left is found by its missing lock and removed, never by its age.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, FlockOperation, Mode};
use rustix::io::Errno;

use crate::UnpackError;
use crate::directory::handle::look;
use crate::directory::{Trash, open_root};

const PREFIX: &str = ".skycap-unpacking-";

/// A tree under way. Dropped without [`Stage::commit`] it takes everything with it.
pub(crate) struct Stage {
    destination: PathBuf,
    parent: OwnedFd,
    tree: Temporary,
    side: Temporary,
    is_committed: bool,
}

/// A locked directory in the destination's parent.
struct Temporary {
    path: PathBuf,
    name: OsString,
    /// Also holds the lock.
    directory: OwnedFd,
}

impl Stage {
    /// Begins a tree that is to become `destination`, which must not exist or be an empty directory.
    pub(crate) fn create(destination: &Path) -> Result<Self, UnpackError> {
        let destination = free(destination).map_err(at("create", destination))?;
        let parent_path = match destination.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let parent = open_root(&parent_path).map_err(at("open", &parent_path))?;
        let side = Temporary::create(&parent_path).map_err(at("create a directory in", &parent_path))?;
        sweep(&parent_path, &parent, &side);
        let tree = Temporary::create(&parent_path).map_err(at("create a directory in", &parent_path))?;
        Ok(Self { destination, parent, tree, side, is_committed: false })
    }

    /// The tree's root.
    pub(crate) fn root(&self) -> io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.tree.directory, 0).map_err(Into::into)
    }

    /// Begins the tree again; what it held is deleted.
    pub(crate) fn restart(&mut self) -> Result<(), UnpackError> {
        let parent_path = self.tree.path.parent().unwrap_or(Path::new(".")).to_owned();
        let tree = Temporary::create(&parent_path).map_err(at("create a directory in", &parent_path))?;
        let old = std::mem::replace(&mut self.tree, tree);
        let deleted = self.trash().and_then(|trash| trash.take(&self.parent, old.name.as_bytes()));
        deleted.map_err(at("delete", &old.path))
    }

    /// Where what is replaced can be deleted.
    pub(crate) fn trash(&self) -> io::Result<Trash> {
        self.side.trash()
    }

    /// A directory for files that are unlinked at once.
    pub(crate) fn side(&self) -> &Path {
        &self.side.path
    }

    /// Makes the tree visible. With `sync`, it survives a power cut from then on.
    pub(crate) fn commit(mut self, sync: bool) -> Result<(), UnpackError> {
        if sync {
            let whole = fs::File::open(&self.side.path).map_err(at("open", &self.side.path))?;
            rustix::fs::syncfs(&whole).map_err(|error| at("synchronise", &self.tree.path)(error.into()))?;
        }
        fs::rename(&self.tree.path, &self.destination).map_err(at("rename the finished tree to", &self.destination))?;
        self.is_committed = true;
        if sync {
            let parent = self.destination.parent().filter(|parent| !parent.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new("."));
            fs::File::open(parent).and_then(|open| open.sync_all()).map_err(at("synchronise", parent))?;
        }
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let clean = || -> io::Result<()> {
            let trash = self.side.trash()?;
            if !self.is_committed {
                trash.take(&self.parent, self.tree.name.as_bytes())?;
            }
            trash.empty()?;
            Ok(rustix::fs::unlinkat(&self.parent, &self.side.name, AtFlags::REMOVEDIR)?)
        };
        // Nobody can be told any more; the next run sweeps what is left.
        let _ = clean();
    }
}

impl Temporary {
    fn create(parent: &Path) -> io::Result<Self> {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?.keep();
            let Some(name) = path.file_name().map(ToOwned::to_owned) else { continue };
            // Between making, opening and locking, a sweep of another process may have taken it away.
            let opened = match fs::File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other,
            };
            let opened = opened.inspect_err(|_| {
                // Out of descriptors, for one. Nobody holds a lock that would keep it.
                let _ = fs::remove_dir(&path);
            });
            let directory: OwnedFd = opened?.into();
            if lock(&directory) && fs::symlink_metadata(&path).is_ok() {
                return Ok(Self { path, name, directory });
            }
        }
        Err(io::Error::other("other processes keep removing our temporary directories"))
    }

    fn trash(&self) -> io::Result<Trash> {
        Ok(Trash::new(open_root(&self.path)?))
    }
}

/// Whether the lock is ours now. Where there are no locks nobody sweeps either.
fn lock(directory: &OwnedFd) -> bool {
    !matches!(rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK))
}

/// Removes what dead processes left. Best effort: a left-over is no reason not to work.
fn sweep(parent_path: &Path, parent: &OwnedFd, side: &Temporary) {
    let Ok(entries) = fs::read_dir(parent_path) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if !name.as_bytes().starts_with(PREFIX.as_bytes()) || name == side.name {
            continue;
        }
        let _ = remove_if_dead(&entry.path(), name.as_bytes(), parent, side);
    }
}

fn remove_if_dead(path: &Path, name: &[u8], parent: &OwnedFd, side: &Temporary) -> io::Result<()> {
    if look(parent, name)?.is_some_and(|stat| stat.st_mode & 0o400 == 0) {
        rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
    }
    let directory: OwnedFd = fs::File::open(path)?.into();
    if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
        side.trash()?.take(parent, name)?;
    }
    Ok(())
}

/// The real path of a destination that can be filled.
fn free(destination: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(destination).is_err() {
        return Ok(destination.to_owned());
    }
    let real = destination.canonicalize()?;
    if fs::read_dir(&real)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not empty"));
    }
    Ok(real)
}

pub(crate) fn at<'p>(doing: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> UnpackError + 'p {
    move |source| UnpackError::Destination { doing, path: path.to_owned(), source }
}
