//! A tree on disk.
//!
//! Every entry is made relative to a descriptor of its parent, which [`resolve`] opened beneath the root; new files are
//! made exclusively, and what was at their name is removed, never written through. Metadata is set through descriptors.
//! Names are made by one thread in the order of the layer, content is written by others ([`writers`]); modes and times of
//! directories come last ([`described`]).
//!
//! A whiteout removes only what lower layers made. What the current layer made is known by two facts, which no link and no
//! spelling of a path can blur: the inodes of the directories it made (everything in them is its own), and the pairs of
//! directory inode and name that it set in older directories ([`layer`]).

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::read::{Data, Entries};
use crate::{Change, Device, Metadata, TreePath};

pub(crate) mod attributes;
mod described;
pub(crate) mod handle;
mod large;
mod layer;
mod node;
pub(crate) mod overlay;
mod remove;
mod resolve;
pub(crate) mod top_down;
pub(crate) mod writers;

use described::Described;
use handle::{LOOK_UP, READ, file_type, look, open_child};
use layer::CurrentLayer;
pub(crate) use remove::Trash;
use resolve::{Maker, Missing, Nobody, Parent, Resolver};
use writers::Writers;

/// A directory on disk that layers are applied to.
pub(crate) struct Directory<'t> {
    resolver: Resolver,
    trash: Trash,
    described: Described<'t>,
    writers: Writers<'t, 't>,
    layer: CurrentLayer,
}

impl<'t> Directory<'t> {
    /// Fills the empty directory `root`, which must not be visible to anybody else; `trash` takes what is replaced.
    pub(crate) fn new(root: OwnedFd, trash: Trash, writers: Writers<'t, 't>) -> io::Result<Self> {
        let mut tree = Self::bare(root, trash, writers);
        let root = rustix::io::fcntl_dupfd_cloexec(tree.resolver.root(), 0)?;
        tree.described.describe(&root, &Metadata::implied())?;
        Ok(tree)
    }

    /// The same for a directory with files.
    pub(crate) fn onto(root: OwnedFd, trash: Trash, writers: Writers<'t, 't>) -> io::Result<Self> {
        let mut tree = Self::bare(root, trash, writers);
        tree.described.remember(tree.resolver.root())?;
        Ok(tree)
    }

    fn bare(root: OwnedFd, trash: Trash, writers: Writers<'t, 't>) -> Self {
        let described = Described::new(writers.attributes());
        Self { resolver: Resolver::new(root), trash, described, writers, layer: CurrentLayer::default() }
    }

    /// The directory that an entry goes to; made if it is missing.
    fn parent(&mut self, path: &[u8]) -> io::Result<Rc<Parent>> {
        let Self { resolver, described, layer, .. } = self;
        resolver.directory(path, &mut ImpliedParents { described, layer })
    }

    /// The directory that a marker speaks of; nothing if there is none, or none could be.
    fn existing(&mut self, path: &[u8]) -> io::Result<Option<Rc<Parent>>> {
        match self.resolver.directory(path, &mut Nobody) {
            Ok(parent) => Ok(Some(parent)),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                _ => Err(error),
            },
        }
    }

    fn root_entry(&mut self, change: &Change<'_>) -> io::Result<()> {
        match change {
            Change::Directory(metadata) => {
                let root = open_child(self.resolver.root(), b".", READ)?;
                self.described.describe(&root, metadata)
            }
            Change::Opaque => self.opaque(b""),
            _ => Err(invalid(ROOT_ONLY)),
        }
    }

    /// Makes something at a name, with what was there removed if need be.
    fn replace<T>(&mut self, parent: &Parent, name: &[u8], make: impl Fn() -> rustix::io::Result<T>) -> io::Result<T> {
        let made = match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name)?;
                make()?
            }
            other => other?,
        };
        self.layer.touch(parent.inode, name);
        Ok(made)
    }

    fn remove(&mut self, parent: &Parent, name: &[u8]) -> io::Result<()> {
        let Some(stat) = look(&parent.fd, name)? else { return Ok(()) };
        match file_type(&stat) {
            FileType::Directory => {
                self.resolver.forget();
                self.trash.take(&parent.fd, name)
            }
            kind => {
                if kind == FileType::Symlink {
                    self.resolver.forget();
                }
                Ok(rustix::fs::unlinkat(&parent.fd, name, AtFlags::empty())?)
            }
        }
    }

    fn directory(&mut self, parent: &Parent, name: &[u8], metadata: &Metadata) -> io::Result<()> {
        let there = look(&parent.fd, name)?.is_some_and(|stat| file_type(&stat) == FileType::Directory);
        if there {
            self.layer.touch(parent.inode, name);
        } else {
            self.replace(parent, name, || rustix::fs::mkdirat(&parent.fd, name, Mode::RWXU))?;
        }
        let directory = open_child(&parent.fd, name, READ)?;
        if !there {
            let inode = rustix::fs::fstat(&directory)?.st_ino;
            self.layer.made(inode);
            self.described.forget(inode);
        }
        self.described.describe(&directory, metadata)
    }

    fn file(
        &mut self,
        path: &TreePath,
        metadata: &Metadata,
        hand_over: impl FnOnce(&mut Writers<'t, 't>, OwnedFd) -> io::Result<()>,
    ) -> io::Result<()> {
        let (directory, name) = path.split().ok_or_else(|| invalid(ROOT_ONLY))?;
        let parent = self.parent(directory)?;
        self.writers.make_room();
        let file = self.replace(&parent, name, || node::file(&parent.fd, name, metadata))?;
        hand_over(&mut self.writers, file)
    }

    fn symlink(&mut self, parent: &Parent, name: &[u8], metadata: &Metadata, target: &[u8]) -> io::Result<()> {
        self.replace(parent, name, || rustix::fs::symlinkat(target, &parent.fd, name))?;
        self.writers.attributes().symlink(&parent.fd, name, metadata)
    }

    fn special(
        &mut self,
        parent: &Parent,
        path: &TreePath,
        metadata: &Metadata,
        device: Option<Device>,
    ) -> io::Result<()> {
        let (_, name) = path.split().unwrap_or_default();
        let make = || node::special(&parent.fd, name, metadata, device);
        let attributes = self.writers.attributes();
        if self.replace(parent, name, make)? {
            return attributes.special(&parent.fd, name, metadata);
        }
        attributes.warn("devices", node::NO_DEVICES);
        let metadata = node::placeholder(metadata);
        self.file(path, &metadata, |writers, file| writers.empty(file, path, &metadata))
    }

    /// Another name for what is at `target`, which may come later in the layer.
    fn hard_link(&mut self, parent: &Parent, name: &[u8], path: &TreePath, target: &TreePath) -> io::Result<()> {
        if self.link_now(parent, name, target)? {
            return Ok(());
        }
        self.remove(parent, name)?;
        self.layer.touch(parent.inode, name);
        self.layer.links.push((path.clone(), target.clone()));
        Ok(())
    }

    /// Whether the target was there to be linked to.
    fn link_now(&mut self, parent: &Parent, name: &[u8], target: &TreePath) -> io::Result<bool> {
        let Some((mut directory, target_name, stat)) = self.target(target)? else { return Ok(false) };
        let there = look(&parent.fd, name)?;
        if there.is_some_and(|there| (there.st_ino, there.st_dev) == (stat.st_ino, stat.st_dev)) {
            self.layer.touch(parent.inode, name);
            return Ok(true);
        }
        if there.is_some_and(|there| file_type(&there) == FileType::Directory) {
            // What the link replaces may hold its target.
            self.remove(parent, name)?;
            let lost = || invalid("a hard link that replaces the directory of its target");
            (directory, ..) = self.target(target)?.ok_or_else(lost)?;
        }
        self.replace(parent, name, || {
            rustix::fs::linkat(&directory.fd, target_name, &parent.fd, name, AtFlags::empty())
        })?;
        Ok(true)
    }

    /// The directory, name and inode of what a hard link names.
    fn target<'n>(&mut self, target: &'n TreePath) -> io::Result<Option<Target<'n>>> {
        let (directory, name) = target.split().ok_or_else(|| invalid("a hard link to the root"))?;
        let Some(directory) = self.existing(directory)? else { return Ok(None) };
        let Some(stat) = look(&directory.fd, name)? else { return Ok(None) };
        if file_type(&stat) == FileType::Directory {
            return Err(invalid("a hard link to a directory"));
        }
        Ok(Some((directory, name, stat)))
    }

    /// Hard links whose targets came later. A later entry of the same name has won.
    fn deferred_links(&mut self) -> io::Result<()> {
        for (path, target) in std::mem::take(&mut self.layer.links) {
            let Some((directory, name)) = path.split() else { continue };
            let Some(parent) = self.existing(directory)? else { continue };
            if look(&parent.fd, name)?.is_none() && !self.link_now(&parent, name, &target)? {
                let text = format!("{path} is a hard link to {target}, which does not exist");
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
        }
        Ok(())
    }
}

impl Entries for Directory<'_> {
    fn file(&mut self, _: u64, path: &TreePath, metadata: &Metadata, data: &mut Data<'_, '_>) -> io::Result<()> {
        self.writers.check()?;
        self.file(path, metadata, |writers, file| writers.file(file, path, metadata, data))
    }

    fn other(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        self.writers.check()?;
        let Some((directory, name)) = path.split() else { return self.root_entry(&change) };
        match change {
            Change::Whiteout => return self.whiteout(path),
            Change::Opaque => return self.opaque(path.as_bytes()),
            _ => {}
        }
        let parent = self.parent(directory)?;
        match change {
            Change::Directory(metadata) => self.directory(&parent, name, metadata),
            Change::Symlink(metadata, target) => self.symlink(&parent, name, metadata, target),
            Change::Hardlink(_, target) => self.hard_link(&parent, name, path, target),
            Change::Device(metadata, device) => self.special(&parent, path, metadata, Some(device)),
            Change::Fifo(metadata) => self.special(&parent, path, metadata, None),
            Change::File(..) | Change::Whiteout | Change::Opaque => Ok(()),
        }
    }
}

impl Directory<'_> {
    /// The next entries are those of a layer.
    pub(crate) fn begin_layer(&mut self, layer: usize) {
        self.writers.layer = layer;
    }

    /// The layer is complete; what comes next belongs to the one above it.
    pub(crate) fn end_layer(&mut self) -> io::Result<()> {
        self.deferred_links()?;
        self.layer = CurrentLayer::default();
        Ok(())
    }

    /// Writes what is left and gives all directories their modes and times. Nothing can be applied afterwards.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writers.settle()?;
        self.described.finish(self.resolver.root())
    }
}

const ROOT_ONLY: &str = "the root may only be a directory";

/// Where a hard link leads: directory, name, and what is there.
type Target<'n> = (Rc<Parent>, &'n [u8], rustix::fs::Stat);

/// Makes the parents that a layer does not describe.
struct ImpliedParents<'d, 't> {
    described: &'d mut Described<'t>,
    layer: &'d mut CurrentLayer,
}

impl Maker for ImpliedParents<'_, '_> {
    fn missing(&mut self, _: &[u8]) -> Missing {
        Missing::Make
    }

    fn made(&mut self, _: &[u8], directory: &Parent) -> io::Result<()> {
        let open = open_child(&directory.fd, b".", READ)?;
        self.described.forget(directory.inode);
        self.described.describe(&open, &Metadata::implied())?;
        self.layer.made(directory.inode);
        Ok(())
    }
}

pub(crate) fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// Opened so that names can be looked up in it.
pub(crate) fn open_root(path: &std::path::Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, LOOK_UP, Mode::empty())?)
}
