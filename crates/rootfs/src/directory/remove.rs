//! Taking away what a layer replaces or hides.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::handle::{LOOK_UP, READ, below, file_type, list, look, open_below, open_child};
use super::resolve::Parent;
use super::{Directory, Form};
use crate::{Metadata, TreePath};

/// A directory on the same file system where trees go to be deleted.
///
/// A tree is deleted without recursion and with two descriptors, however deep it is: every directory met is moved up into
/// the trash first.
pub(crate) struct Trash {
    directory: OwnedFd,
}

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
            let directory = open_child(&self.directory, name.as_bytes(), READ)?;
            for child in list(&directory)? {
                if child.is_directory {
                    pending.push(self.adopt(&directory, &child.name)?);
                } else {
                    rustix::fs::unlinkat(&directory, &child.name, AtFlags::empty())?;
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
                open_up(parent, name)?;
                rustix::fs::renameat(parent, name, &self.directory, &new)?;
            }
            other => other?,
        }
        open_up(self.directory.as_fd(), new.as_bytes())?;
        Ok(new)
    }
}

/// Gives us all rights to a directory of ours, in a directory that only we write to.
fn open_up(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match look(parent, name)? {
        Some(stat) if file_type(&stat) == FileType::Directory && stat.st_mode & 0o700 != 0o700 => {
            Ok(rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?)
        }
        _ => Ok(()),
    }
}

impl Directory<'_> {
    pub(super) fn whiteout(&mut self, path: &TreePath) -> io::Result<()> {
        if let Form::Overlay(..) = self.form {
            self.hide(path);
            return Ok(());
        }
        let Some((directory, name)) = path.split() else { return Ok(()) };
        let Some(parent) = self.existing(directory)? else { return Ok(()) };
        if self.layer.has_made(parent.inode) {
            return Ok(());
        }
        match look(&parent.fd, name)?.map(|stat| file_type(&stat)) {
            None => Ok(()),
            Some(FileType::Directory) => self.clear_child(&parent, b"", name, parent.inode).map(drop),
            Some(_) if self.layer.owns(parent.inode, name) => Ok(()),
            Some(_) => self.remove(&parent, name),
        }
    }

    pub(super) fn opaque(&mut self, path: &[u8]) -> io::Result<()> {
        if let Form::Overlay(..) = self.form {
            return self.make_opaque(path);
        }
        // A missing directory is made; a file has no content to hide.
        let directory = match self.parent(path) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOTDIR) => return Ok(()),
            other => other?,
        };
        if self.layer.has_made(directory.inode) {
            return Ok(());
        }
        self.resolver.forget();
        self.clear(&directory, b"", directory.inode).map(drop)
    }

    /// Removes what lower layers have in the directory `path` below `base`; says whether anything is left.
    fn clear(&mut self, base: &Parent, path: &[u8], inode: u64) -> io::Result<bool> {
        let directory = open_below(&base.fd, path, READ)?;
        let children = list(&directory)?;
        drop(directory);
        let mut left = false;
        for child in children {
            if child.is_directory {
                left |= self.clear_child(base, path, &child.name, inode)?;
            } else if self.layer.owns(inode, &child.name) {
                left = true;
            } else {
                let directory = open_below(&base.fd, path, LOOK_UP)?;
                rustix::fs::unlinkat(&directory, &child.name, AtFlags::empty())?;
            }
        }
        Ok(left)
    }

    /// Removes what lower layers have in the directory `name` of the directory `path`, and that directory itself unless
    /// the current layer needs it. Says whether it is left.
    fn clear_child(&mut self, base: &Parent, path: &[u8], name: &[u8], inode: u64) -> io::Result<bool> {
        self.resolver.forget();
        let whole = below(path, name);
        let own_inode = rustix::fs::fstat(open_below(&base.fd, &whole, LOOK_UP)?)?.st_ino;
        if self.layer.has_made(own_inode) {
            return Ok(true);
        }
        let described = self.layer.owns(inode, name);
        if self.clear(base, &whole, own_inode)? || described {
            if !described {
                // Only implied by this layer now; what lower layers said of it is hidden.
                let directory = open_below(&base.fd, &whole, READ)?;
                self.describe(&directory, &Metadata::implied())?;
            }
            return Ok(true);
        }
        let parent = open_below(&base.fd, path, LOOK_UP)?;
        rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?;
        Ok(false)
    }
}
