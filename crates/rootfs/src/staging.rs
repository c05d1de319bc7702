//! Directories that appear whole or not at all.
//!
//! The tree is made beside its destination under a temporary name and renamed at the end. A second temporary directory
//! beside it takes what is being deleted and, without names, what is being fetched. Both are locked as long as their process lives;
//! what a dead process left is found by its missing lock and removed, never by its age.

use std::ffi::OsStr;
use std::hash::BuildHasher as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use rustix::fs::{AtFlags, FlockOperation, Mode};
use rustix::io::Errno;

use crate::UnpackError;
use crate::directory::handle::{READ, list, look, open_child};
use crate::directory::{Trash, invalid, open_root};

const PREFIX: &str = ".skycap-unpacking-";

/// A tree under way. Dropped without [`Stage::commit`] it takes everything with it.
///
/// Somebody else may be able to write to the destination's parent. So everything is done relative to descriptors of the
/// parent and of the temporary directories, and no name in the parent is ever followed.
pub(crate) struct Stage {
    destination: PathBuf,
    parent_path: PathBuf,
    parent: OwnedFd,
    tree: Temporary,
    side: Temporary,
    is_committed: bool,
}

/// A locked directory in the destination's parent.
struct Temporary {
    name: String,
    /// Open for reading; also holds the lock.
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
        let side = Temporary::create(&parent).map_err(at("create a directory in", &parent_path))?;
        sweep(&parent, &side);
        let tree = match Temporary::create(&parent) {
            Ok(tree) => tree,
            Err(error) => {
                let _ = side.remove(&parent);
                return Err(at("create a directory in", &parent_path)(error));
            }
        };
        Ok(Self { destination, parent_path, parent, tree, side, is_committed: false })
    }

    /// What the tree is to become.
    pub(crate) fn destination(&self) -> &Path {
        &self.destination
    }

    /// The tree's root.
    pub(crate) fn root(&self) -> io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.tree.directory, 0).map_err(Into::into)
    }

    /// Begins the tree again; what it held is deleted.
    pub(crate) fn restart(&mut self) -> Result<(), UnpackError> {
        let tree = Temporary::create(&self.parent).map_err(at("create a directory in", &self.parent_path))?;
        let old = std::mem::replace(&mut self.tree, tree);
        let deleted = self.trash().and_then(|trash| old.delete(&self.parent, &trash));
        deleted.map_err(at("delete", &self.parent_path.join(&old.name)))
    }

    /// Where what is replaced can be deleted.
    pub(crate) fn trash(&self) -> io::Result<Trash> {
        self.side.trash()
    }

    /// A directory for files without names.
    pub(crate) fn side(&self) -> io::Result<OwnedFd> {
        rustix::io::fcntl_dupfd_cloexec(&self.side.directory, 0).map_err(Into::into)
    }

    /// Makes the tree visible. With `sync`, it survives a power cut from then on.
    pub(crate) fn commit(mut self, sync: bool) -> Result<(), UnpackError> {
        if sync {
            let synced = rustix::fs::syncfs(&self.tree.directory).map_err(io::Error::from);
            synced.map_err(at("synchronise", &self.parent_path.join(&self.tree.name)))?;
        }
        self.rename().map_err(at("rename the finished tree to", &self.destination))?;
        self.is_committed = true;
        if sync {
            let synced = open_child(&self.parent, b".", READ)
                .and_then(|parent| rustix::fs::fsync(&parent).map_err(io::Error::from));
            synced.map_err(at("synchronise", &self.parent_path))?;
        }
        Ok(())
    }

    fn rename(&self) -> io::Result<()> {
        let name = self.destination.file_name().ok_or_else(|| invalid("it has no name of its own"))?;
        rustix::fs::renameat(&self.parent, &self.tree.name, &self.parent, name)?;
        if self.tree.is_at(&self.parent, name) {
            return Ok(());
        }
        Err(io::Error::other("somebody else has put something in its place"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let clean = || -> io::Result<()> {
            let trash = self.side.trash()?;
            if !self.is_committed {
                self.tree.delete(&self.parent, &trash)?;
            }
            trash.empty()?;
            self.side.remove(&self.parent)
        };
        // Nobody can be told any more; the next run sweeps what is left.
        let _ = clean();
    }
}

impl Temporary {
    fn create(parent: &OwnedFd) -> io::Result<Self> {
        const TRIES: usize = 100;
        for _ in 0..TRIES {
            // Keyed with fresh random numbers.
            let name = format!("{PREFIX}{:016x}", std::hash::RandomState::new().hash_one(std::process::id()));
            match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                other => other?,
            }
            let directory = match open_child(parent, name.as_bytes(), READ) {
                // Before it is locked, a sweep of another process may take it away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    // Out of descriptors, for one. Nobody holds a lock that would keep it.
                    let _ = rustix::fs::unlinkat(parent, &name, AtFlags::REMOVEDIR);
                    return Err(error);
                }
                Ok(directory) => directory,
            };
            let temporary = Self { name, directory };
            if lock(&temporary.directory) && temporary.is_at(parent, OsStr::new(&temporary.name)) {
                temporary.check(parent)?;
                return Ok(temporary);
            }
        }
        Err(io::Error::other("other processes keep removing our temporary directories"))
    }

    /// What was opened must be what was made, not what somebody has put in its place.
    fn check(&self, parent: &OwnedFd) -> io::Result<()> {
        let us = rustix::process::geteuid().as_raw();
        let (stat, around) = (rustix::fs::fstat(&self.directory)?, rustix::fs::fstat(parent)?);
        // Where we own the parent, nobody else can do that, and some file systems know only one owner.
        if (stat.st_uid != us && around.st_uid != us) || !list(open_child(&self.directory, b".", READ)?)?.is_empty() {
            return Err(io::Error::other("somebody else has put something in the place of a temporary directory"));
        }
        Ok(())
    }

    /// Whether it is what has this name.
    fn is_at(&self, parent: &OwnedFd, name: &OsStr) -> bool {
        let there = look(parent, name.as_bytes()).ok().flatten();
        let ours = rustix::fs::fstat(&self.directory).ok();
        there.zip(ours).is_some_and(|(there, ours)| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino))
    }

    fn trash(&self) -> io::Result<Trash> {
        Ok(Trash::new(open_child(&self.directory, b".", READ)?))
    }

    /// Deletes it with everything in it, unless somebody has put something in its place.
    fn delete(&self, parent: &OwnedFd, trash: &Trash) -> io::Result<()> {
        if self.is_at(parent, OsStr::new(&self.name)) { trash.take(parent, self.name.as_bytes()) } else { Ok(()) }
    }

    /// Removes it; it must be empty.
    fn remove(&self, parent: &OwnedFd) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(parent, &self.name, AtFlags::REMOVEDIR)?)
    }
}

/// Whether the lock is ours now. Where there are no locks nobody sweeps either.
fn lock(directory: &OwnedFd) -> bool {
    !matches!(rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK))
}

/// Removes what dead processes left. Best effort: a left-over is no reason not to work.
fn sweep(parent: &OwnedFd, side: &Temporary) {
    let listed = open_child(parent, b".", READ).and_then(list);
    for child in listed.into_iter().flatten() {
        if child.is_directory && child.name.starts_with(PREFIX.as_bytes()) && child.name != side.name.as_bytes() {
            let _ = remove_if_dead(&child.name, parent, side);
        }
    }
}

fn remove_if_dead(name: &[u8], parent: &OwnedFd, side: &Temporary) -> io::Result<()> {
    let directory = match open_child(parent, name, READ) {
        // A finished tree may be unreadable.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Trash::open_up(parent, name)?;
            open_child(parent, name, READ)?
        }
        other => other?,
    };
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
