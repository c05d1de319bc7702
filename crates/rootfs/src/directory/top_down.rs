//! Layers applied from the uppermost down, so that what a higher layer replaces or hides is never written.
//!
//! The result is that of applying them in order, for histories in which every path means the same place throughout: no
//! entry lies below a link or file. In those, an entry wins if nothing is at its name yet and no higher layer hides it.
//! That an history is of this kind is checked on the way, by three facts about paths, kept as hashes:
//!
//! - what hides: whiteouts and opaque markers hide a subtree from the layers below theirs; so does a file, as soon as a
//!   directory of a higher layer has taken its place;
//! - what was assumed: a layer that has `a/b` but no entry for the directory `a` before it relies on the layers below.
//!   If one of those has something else at `a`, and no layer between them has replaced or hidden that, then `a/b` belonged
//!   elsewhere;
//! - the names that the current layer itself gave to files: below those it cannot have anything.
//!
//! Anything else that order could decide (a hard link to a name that this layer has not, or that a higher layer replaces;
//! a name that is a file and then a directory within one layer) also ends the attempt with [`TopDown::is_not_plain`];
//! the layers are then applied in order. Visible or not, every entry is looked at: what is hidden itself may have led
//! elsewhere.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher as _;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::described::Described;
use super::handle::{LOOK_UP, READ, look, open_below, open_child};
use super::node;
use super::writers::Writers;
use crate::read::{Data, Entries};
use crate::{Change, Device, Metadata, TreePath};

/// A layer by its place among those that are read: 1 is the uppermost, 0 is none.
type Number = u32;

/// A path, hashed with a secret key: nobody can make two paths meet.
type Key = u64;

pub(crate) struct TopDown<'t> {
    root: OwnedFd,
    described: Described<'t>,
    writers: Writers<'t, 't>,
    secret: RandomState,
    folders: HashMap<Key, Folder>,
    /// Paths that are hidden with all below them, and the lowest layer so far that hides them.
    hidden: HashMap<Key, Number>,
    /// Directories whose content is hidden, likewise.
    opaque: HashMap<Key, Number>,
    layer: This,
    lowest: Number,
    place: Option<Place>,
    is_not_plain: bool,
    skipped: Skipped,
}

/// What the current layer has said.
#[derive(Default)]
struct This {
    number: Number,
    /// Names of files (of any type but directory) that it made.
    made: HashSet<Key>,
    /// Those that higher layers have replaced or hidden.
    lost: HashSet<Key>,
    /// What it hides from the layers below.
    hides: Vec<Key>,
    clears: Vec<Key>,
    /// Directories that it clears and does not describe: if it also hides them, order decides whether they are left.
    marked: Vec<TreePath>,
    /// Hard links whose target has not come yet.
    links: Vec<(TreePath, TreePath)>,
}

/// A path that layers use as a directory.
#[derive(Default)]
struct Folder {
    /// It is in the tree.
    exists: bool,
    /// The layer whose description it has: the highest that describes it where nothing hides that.
    described_by: Number,
    /// The last layer that described it.
    described_in: Number,
    /// The last layer that used it without having described it, unless one below that has described it.
    assumed_in: Number,
}

/// The directory of the last entry.
#[derive(Clone)]
struct Place {
    path: Rc<[u8]>,
    key: Key,
    /// The lowest layer so far that hides what is in it.
    cover: Number,
    /// None if something hides it.
    directory: Option<Rc<OwnedFd>>,
}

/// A name in a directory.
struct Name {
    key: Key,
    cover: Number,
    directory: Option<Rc<OwnedFd>>,
}

/// What was not written.
#[derive(Clone, Copy, Default)]
pub(crate) struct Skipped {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

/// What is known about the target of a hard link.
enum Target {
    Made,
    Lost,
    Unknown,
}

impl<'t> TopDown<'t> {
    /// Fills the empty directory `root`, which must not be visible to anybody else, with so many layers.
    pub(crate) fn new(root: OwnedFd, layers: usize, writers: Writers<'t, 't>) -> io::Result<Self> {
        let mut described = Described::new(writers.attributes());
        described.describe(&open_child(&root, b".", READ)?, &Metadata::implied())?;
        let secret = RandomState::new();
        let top = secret.hash_one(0);
        let folders = [(top, Folder { exists: true, ..Folder::default() })].into();
        Ok(Self {
            root,
            described,
            writers,
            secret,
            folders,
            hidden: HashMap::new(),
            opaque: HashMap::new(),
            layer: This::default(),
            lowest: Number::try_from(layers).unwrap_or(Number::MAX),
            place: None,
            is_not_plain: false,
            skipped: Skipped::default(),
        })
    }

    /// Whether the last error means that only applying in order can tell what the tree is.
    pub(crate) fn is_not_plain(&self) -> bool {
        self.is_not_plain
    }

    /// The next entries are those of the layer below, `layer` by the caller's count.
    pub(crate) fn begin_layer(&mut self, layer: usize) {
        self.writers.layer = layer;
        self.layer = This { number: self.layer.number + 1, ..This::default() };
        self.place = None;
    }

    /// The layer is complete.
    pub(crate) fn end_layer(&mut self) -> io::Result<()> {
        for (path, target) in std::mem::take(&mut self.layer.links) {
            self.deferred_link(&path, &target)?;
        }
        if self.hides_what_it_marked() {
            return self.not_plain();
        }
        let number = self.layer.number;
        self.hidden.extend(self.layer.hides.drain(..).map(|key| (key, number)));
        self.opaque.extend(self.layer.clears.drain(..).map(|key| (key, number)));
        Ok(())
    }

    /// Writes what is left and gives all directories their modes and times.
    pub(crate) fn finish(mut self) -> io::Result<Skipped> {
        self.writers.settle()?;
        self.described.finish(&self.root)?;
        Ok(self.skipped)
    }

    fn hides_what_it_marked(&self) -> bool {
        if self.layer.marked.is_empty() {
            return false;
        }
        let hides: HashSet<Key> = self.layer.hides.iter().copied().collect();
        let clears: HashSet<Key> = self.layer.clears.iter().copied().collect();
        self.layer.marked.iter().any(|path| {
            let mut key = self.top();
            path.components().any(|name| {
                let is_cleared = clears.contains(&key);
                key = self.below(key, name);
                is_cleared || hides.contains(&key)
            })
        })
    }

    fn top(&self) -> Key {
        self.secret.hash_one(0)
    }

    fn below(&self, key: Key, name: &[u8]) -> Key {
        self.secret.hash_one((key, name))
    }

    fn not_plain<T>(&mut self) -> io::Result<T> {
        self.is_not_plain = true;
        Err(io::Error::other("what this is depends on the order of the layers"))
    }

    /// The directory that an entry goes to, made if it is missing and `make` says so.
    fn place(&mut self, path: &[u8], make: bool) -> io::Result<Place> {
        if let Some(place) = &self.place
            && *place.path == *path
            && (place.directory.is_some() || place.cover > 0)
        {
            return Ok(place.clone());
        }
        let mut key = self.top();
        let mut cover = self.opaque.get(&key).copied().unwrap_or(0);
        // What nothing hides on the way there, in bytes of the path.
        let (mut at, mut visible) = (0, 0);
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            key = self.below(key, name);
            if self.layer.made.contains(&key) || self.layer.lost.contains(&key) {
                return self.not_plain();
            }
            cover = cover.max(self.hidden.get(&key).copied().unwrap_or(0));
            at += name.len() + usize::from(at > 0);
            if cover == 0 {
                visible = at;
            }
            cover = cover.max(self.opaque.get(&key).copied().unwrap_or(0));
            let folder = self.folders.entry(key).or_default();
            if folder.described_in != self.layer.number {
                folder.assumed_in = self.layer.number;
            }
        }
        let directory = if cover == 0 {
            self.open(path, make)?.map(Rc::new)
        } else {
            // The directories above what is hidden are not.
            self.open(path.get(..visible).unwrap_or_default(), make)?;
            None
        };
        let place = Place { path: path.into(), key, cover, directory };
        self.place = Some(place.clone());
        Ok(place)
    }

    /// A directory of the tree; none if a file of a higher layer is in the way.
    fn open(&mut self, path: &[u8], make: bool) -> io::Result<Option<OwnedFd>> {
        match open_below(&self.root, path, LOOK_UP).map_err(|error| (Errno::from_io_error(&error), error)) {
            Ok(directory) => Ok(Some(directory)),
            Err((Some(Errno::NOENT), _)) if make => self.make(path),
            Err((Some(Errno::NOTDIR | Errno::LOOP | Errno::NOENT), _)) => Ok(None),
            Err((_, error)) => Err(error),
        }
    }

    /// Makes the directories of a path that are missing.
    fn make(&mut self, path: &[u8]) -> io::Result<Option<OwnedFd>> {
        let mut at: Option<OwnedFd> = None;
        let mut key = self.top();
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            key = self.below(key, name);
            let parent = at.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
            let is_new = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(error) => return Err(error.into()),
            };
            let flags = if is_new { READ } else { LOOK_UP };
            let directory = match open_child(parent, name, flags) {
                Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTDIR | Errno::LOOP)) => {
                    return Ok(None);
                }
                other => other?,
            };
            if is_new {
                self.described.describe(&directory, &Metadata::implied())?;
                self.folders.entry(key).or_default().exists = true;
            }
            at = Some(directory);
        }
        Ok(at)
    }

    fn name(&mut self, path: &TreePath, make: bool) -> io::Result<Name> {
        let (directory, name) = path.split().ok_or_else(|| super::invalid(super::ROOT_ONLY))?;
        let place = self.place(directory, make)?;
        let key = self.below(place.key, name);
        let cover = place.cover.max(self.hidden.get(&key).copied().unwrap_or(0));
        Ok(Name { key, cover, directory: place.directory.filter(|_| cover == 0) })
    }

    /// Something that is no directory. Returns what `make` made, or nothing if a higher layer wins.
    fn file<T>(
        &mut self,
        path: &TreePath,
        make: impl Fn(&OwnedFd, &[u8]) -> rustix::io::Result<T>,
    ) -> io::Result<Option<(Rc<OwnedFd>, T)>> {
        let name = self.name(path, true)?;
        if self.is_shadowed(&name)? {
            return Ok(None);
        }
        let (Some(directory), Some(last)) = (name.directory, path.file_name()) else { return Ok(None) };
        let made = match make(&directory, last) {
            Err(Errno::EXIST) if self.layer.made.contains(&name.key) => {
                rustix::fs::unlinkat(&directory, last, AtFlags::empty())?;
                make(&directory, last)?
            }
            Err(Errno::EXIST) => {
                self.layer.lost.insert(name.key);
                return Ok(None);
            }
            other => other?,
        };
        self.layer.made.insert(name.key);
        Ok(Some((directory, made)))
    }

    /// Whether something that is no directory is known to lose its name, without a look at the tree.
    fn is_shadowed(&mut self, name: &Name) -> io::Result<bool> {
        if let Some(folder) = self.folders.get(&name.key) {
            let is_assumed = folder.assumed_in > 0 && folder.assumed_in >= name.cover;
            if is_assumed || folder.described_in == self.layer.number {
                return self.not_plain();
            }
            // It replaced what the layers below have there, before a directory of a higher layer replaced it.
            self.layer.hides.push(name.key);
            self.layer.lost.insert(name.key);
            return Ok(true);
        }
        if name.directory.is_none() {
            self.layer.lost.insert(name.key);
        }
        Ok(self.layer.lost.contains(&name.key))
    }

    fn directory(&mut self, path: &TreePath, metadata: &Metadata) -> io::Result<()> {
        let name = self.name(path, true)?;
        if self.layer.made.contains(&name.key) || self.layer.lost.contains(&name.key) {
            return self.not_plain();
        }
        let number = self.layer.number;
        let folder = self.folders.entry(name.key).or_default();
        let is_wanted = folder.described_by == 0 || folder.described_by == number;
        folder.described_in = number;
        if folder.assumed_in != number {
            folder.assumed_in = 0;
        }
        let exists = folder.exists;
        let (Some(parent), Some(last)) = (name.directory, path.file_name()) else { return Ok(()) };
        if !is_wanted {
            return Ok(());
        }
        if !exists {
            match rustix::fs::mkdirat(&parent, last, Mode::RWXU) {
                // A file of a higher layer is there.
                Err(Errno::EXIST) => return Ok(()),
                other => other?,
            }
        }
        self.described.describe(&open_child(&parent, last, READ)?, metadata)?;
        let folder = self.folders.entry(name.key).or_default();
        (folder.exists, folder.described_by) = (true, number);
        Ok(())
    }

    fn root_entry(&mut self, change: &Change<'_>) -> io::Result<()> {
        let (top, number) = (self.top(), self.layer.number);
        match change {
            Change::Directory(metadata) => {
                let folder = self.folders.entry(top).or_default();
                if folder.described_by == 0 || folder.described_by == number {
                    folder.described_by = number;
                    self.described.describe(&open_child(&self.root, b".", READ)?, metadata)?;
                }
                Ok(())
            }
            Change::Opaque => {
                self.layer.clears.push(top);
                Ok(())
            }
            _ => self.not_plain(),
        }
    }

    fn symlink(&mut self, path: &TreePath, metadata: &Metadata, target: &[u8]) -> io::Result<()> {
        let made = self.file(path, |directory, name| rustix::fs::symlinkat(target, directory, name))?;
        let (Some((directory, ())), Some(name)) = (made, path.file_name()) else { return Ok(()) };
        self.writers.attributes().symlink(&directory, name, metadata)
    }

    fn special(&mut self, path: &TreePath, metadata: &Metadata, device: Option<Device>) -> io::Result<()> {
        let made = self.file(path, |directory, name| {
            let is_made = node::special(directory, name, metadata, device)?;
            if is_made { Ok(None) } else { node::file(directory, name, &node::placeholder(metadata)).map(Some) }
        })?;
        let (Some((directory, made)), Some(name)) = (made, path.file_name()) else { return Ok(()) };
        let attributes = self.writers.attributes();
        let Some(file) = made else { return attributes.special(&directory, name, metadata) };
        attributes.warn("devices", node::NO_DEVICES);
        self.writers.empty(file, path, &node::placeholder(metadata))
    }

    fn target(&self, path: &TreePath) -> (Key, Target) {
        let key = path.components().fold(self.top(), |key, name| self.below(key, name));
        if self.layer.made.contains(&key) {
            (key, Target::Made)
        } else if self.layer.lost.contains(&key) {
            (key, Target::Lost)
        } else {
            (key, Target::Unknown)
        }
    }

    fn hard_link(&mut self, path: &TreePath, target: &TreePath) -> io::Result<()> {
        match self.target(target) {
            (key, Target::Made) => self.link_to(path, target, key),
            (_, Target::Lost) => self.link_to_lost(path),
            (_, Target::Unknown) => {
                let name = self.name(path, true)?;
                if self.layer.made.contains(&name.key) {
                    return self.not_plain();
                }
                self.layer.links.push((path.clone(), target.clone()));
                Ok(())
            }
        }
    }

    fn deferred_link(&mut self, path: &TreePath, target: &TreePath) -> io::Result<()> {
        let name = self.name(path, true)?;
        match self.target(target) {
            // A later entry of the same name has won.
            (_, Target::Made | Target::Lost) if self.layer.made.contains(&name.key) => Ok(()),
            // In a layer above others, the link may mean what one of those has there.
            (key, Target::Made) if self.layer.number == self.lowest => self.link_to(path, target, key),
            (_, Target::Made | Target::Lost) => self.link_to_lost(path),
            (_, Target::Unknown) => self.not_plain(),
        }
    }

    /// The target is this layer's own and is in the tree.
    fn link_to(&mut self, path: &TreePath, target: &TreePath, target_key: Key) -> io::Result<()> {
        let (directory, last) = target.split().ok_or_else(|| super::invalid("a hard link to the root"))?;
        if self.name(path, true)?.key == target_key {
            return Ok(());
        }
        let from = open_below(&self.root, directory, LOOK_UP)?;
        self.file(path, |to, name| rustix::fs::linkat(&from, last, to, name, AtFlags::empty())).map(drop)
    }

    /// The target is not in the tree, so this name must be lost, too.
    fn link_to_lost(&mut self, path: &TreePath) -> io::Result<()> {
        let name = self.name(path, true)?;
        if self.is_shadowed(&name)? {
            return Ok(());
        }
        let (Some(directory), Some(last)) = (&name.directory, path.file_name()) else { return Ok(()) };
        if self.layer.made.contains(&name.key) || look(directory, last)?.is_none() {
            return self.not_plain();
        }
        self.layer.lost.insert(name.key);
        Ok(())
    }

    fn whiteout(&mut self, path: &TreePath) -> io::Result<()> {
        if !path.is_root() {
            let name = self.name(path, false)?;
            self.layer.hides.push(name.key);
        }
        Ok(())
    }

    fn make_opaque(&mut self, path: &TreePath) -> io::Result<()> {
        let place = self.place(path.as_bytes(), true)?;
        self.layer.clears.push(place.key);
        let number = self.layer.number;
        if self.folders.get(&place.key).is_some_and(|folder| folder.described_in != number) {
            self.layer.marked.push(path.clone());
        }
        Ok(())
    }

    fn skip(&mut self, data: &mut Data<'_, '_>) -> io::Result<()> {
        self.skipped.files += 1;
        self.skipped.bytes += data.size();
        data.slices(&mut drop)
    }
}

impl Entries for TopDown<'_> {
    fn file(&mut self, _: u64, path: &TreePath, metadata: &Metadata, data: &mut Data<'_, '_>) -> io::Result<()> {
        self.writers.check()?;
        if path.is_root() {
            return self.not_plain();
        }
        self.writers.make_room();
        match self.file(path, |directory, name| node::file(directory, name, metadata))? {
            Some((_, file)) => self.writers.file(file, path, metadata, data),
            None => self.skip(data),
        }
    }

    fn other(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        self.writers.check()?;
        if path.is_root() {
            return self.root_entry(&change);
        }
        match change {
            Change::Directory(metadata) => self.directory(path, metadata),
            Change::Symlink(metadata, target) => self.symlink(path, metadata, target),
            Change::Hardlink(_, target) => self.hard_link(path, target),
            Change::Device(metadata, device) => self.special(path, metadata, Some(device)),
            Change::Fifo(metadata) => self.special(path, metadata, None),
            Change::Whiteout => self.whiteout(path),
            Change::Opaque => self.make_opaque(path),
            Change::File(..) => Ok(()),
        }
    }
}
