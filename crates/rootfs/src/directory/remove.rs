//! Taking away what a layer replaces or hides.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::Directory;
use super::handle::{LOOK_UP, Listed, READ, below, file_type, list, list_some, look, open_below, open_child};
use super::resolve::Parent;
use crate::{Metadata, TreePath};

/// A directory on the same file system where trees go to be deleted.
///
/// A tree is deleted without recursion and with two descriptors, however deep it is: every directory met is moved up into
/// the trash first.
pub(crate) struct Trash {
    directory: OwnedFd,
}

/// Names that are read before they are deleted: a directory may have a million.
const AT_ONCE: usize = 4096;

/// Names in a trash are never used twice by one process, so what an interrupted deletion left is not in the way.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Trash {
    /// Uses an empty directory that nobody else writes to.
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self { directory }
    }

    /// Deletes the directory `name`, with everything in it.
    pub(crate) fn take(&self, parent: impl AsFd, name: &[u8]) -> io::Result<()> {
        let mut pending = vec![self.adopt(parent, name)?];
        while let Some(name) = pending.pop() {
            let directory = match open_child(&self.directory, name.as_bytes(), READ) {
                // Somebody has put something else at the name.
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTDIR | Errno::LOOP)) => {
                    rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty())?;
                    continue;
                }
                other => other?,
            };
            loop {
                let children = list_some(&directory, AT_ONCE)?;
                for child in &children {
                    if child.is_directory {
                        pending.push(self.adopt(&directory, &child.name)?);
                    } else {
                        rustix::fs::unlinkat(&directory, &child.name, AtFlags::empty())?;
                    }
                }
                if children.len() < AT_ONCE {
                    break;
                }
            }
            rustix::fs::unlinkat(&self.directory, &name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// Deletes whatever an interrupted deletion has left.
    pub(crate) fn empty(&self) -> io::Result<()> {
        for child in list(open_child(&self.directory, b".", READ)?)? {
            if child.is_directory {
                self.take(&self.directory, &child.name)?;
            } else {
                rustix::fs::unlinkat(&self.directory, &child.name, AtFlags::empty())?;
            }
        }
        Ok(())
    }

    fn adopt(&self, parent: impl AsFd, name: &[u8]) -> io::Result<String> {
        let parent = parent.as_fd();
        let new = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        match rustix::fs::renameat(parent, name, &self.directory, &new) {
            // A finished tree may have directories that its owner cannot write.
            Err(Errno::ACCESS) => {
                Self::open_up(parent, name)?;
                rustix::fs::renameat(parent, name, &self.directory, &new)?;
            }
            other => other?,
        }
        Self::open_up(&self.directory, new.as_bytes())?;
        Ok(new)
    }

    /// Gives us all rights to a directory of ours; links are not followed.
    pub(crate) fn open_up(parent: impl AsFd, name: &[u8]) -> io::Result<()> {
        let directory = match open_child(parent, name, LOOK_UP) {
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTDIR | Errno::LOOP)) => return Ok(()),
            other => other?,
        };
        if rustix::fs::fstat(&directory)?.st_mode & 0o700 != 0o700 {
            // The kernel has no fchmod for such descriptors before 6.6; this is the descriptor's inode, nothing else.
            rustix::fs::chmod(format!("/proc/self/fd/{}", directory.as_raw_fd()), Mode::RWXU)?;
        }
        Ok(())
    }
}

impl Directory<'_> {
    pub(super) fn whiteout(&mut self, path: &TreePath) -> io::Result<()> {
        let Some((directory, name)) = path.split() else { return Ok(()) };
        let Some(parent) = self.existing(directory)? else { return Ok(()) };
        if self.layer.has_made(parent.inode) {
            return Ok(());
        }
        match look(&parent.fd, name)?.map(|stat| file_type(&stat)) {
            None => Ok(()),
            Some(FileType::Directory) => self.clear(&parent, vec![Listed { name: name.to_vec(), is_directory: true }]),
            Some(_) if self.layer.owns(parent.inode, name) => Ok(()),
            Some(_) => self.remove(&parent, name),
        }
    }

    pub(super) fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        // A missing directory is made; a file has no content to hide.
        let directory = match self.parent(path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => return Ok(()),
            other => other?,
        };
        if self.layer.has_made(directory.inode) {
            return Ok(());
        }
        let children = list(open_child(&directory.fd, b".", READ)?)?;
        self.clear(&directory, children)
    }

    /// Removes what lower layers have under some names of a directory, and what the current layer has not set in the
    /// directories below them. Without recursion, because trees may be very deep.
    fn clear(&mut self, base: &Parent, names: Vec<Listed>) -> io::Result<()> {
        self.resolver.forget();
        let mut open = vec![Clearing { path: Vec::new(), inode: base.inode, names: names.into_iter(), left: false }];
        while let Some(directory) = open.last_mut() {
            let Some(child) = directory.names.next() else {
                let done = open.pop();
                self.cleared(base, done, open.last_mut())?;
                continue;
            };
            let path = below(&directory.path, &child.name);
            if !child.is_directory {
                directory.left |= self.clear_file(base, directory, &child.name)?;
                continue;
            }
            let child = open_below(&base.fd, &path, READ)?;
            let inode = rustix::fs::fstat(&child)?.st_ino;
            if self.layer.has_made(inode) {
                directory.left = true;
            } else {
                open.push(Clearing { path, inode, names: list(child)?.into_iter(), left: false });
            }
        }
        Ok(())
    }

    /// Removes a file unless the current layer has set it; says whether it is left.
    fn clear_file(&self, base: &Parent, directory: &Clearing, name: &[u8]) -> io::Result<bool> {
        if self.layer.owns(directory.inode, name) {
            return Ok(true);
        }
        let directory = open_below(&base.fd, &directory.path, LOOK_UP)?;
        rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;
        Ok(false)
    }

    /// Removes a directory itself unless the current layer needs it.
    fn cleared(&mut self, base: &Parent, done: Option<Clearing>, parent: Option<&mut Clearing>) -> io::Result<()> {
        let (Some(done), Some(parent)) = (done, parent) else { return Ok(()) };
        let name = done.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if self.layer.owns(parent.inode, name) {
            parent.left = true;
        } else if done.left {
            parent.left = true;
            // Only implied by this layer now; what lower layers said of it is hidden.
            let directory = open_below(&base.fd, &done.path, READ)?;
            self.described.describe(&directory, &Metadata::implied())?;
        } else {
            let parent = open_below(&base.fd, &parent.path, LOOK_UP)?;
            rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }
}

/// A directory that is being cleared.
struct Clearing {
    /// Below where clearing began.
    path: Vec<u8>,
    inode: u64,
    /// What is still to be looked at.
    names: std::vec::IntoIter<Listed>,
    /// Whether something in it stays.
    left: bool,
}
