//! A layer before it is written: what it adds to the file systems below it.
//!
//! Directories that lead to something new are recorded with what they are below, because in an overlay the uppermost
//! layer decides a directory's mode and owner.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skycap_rootfs::{Entry, Kind, Metadata, Time, TreePath, View};

use crate::error::Fault;
use crate::files;
use crate::graph::From;
use crate::owner::Owner;

/// The time of everything that a build makes itself, and of files of the context: 1980-01-02T00:00:00Z
/// (`docs/decisions/0004-file-times-in-layers.md`).
pub(crate) const FIXED_TIME: Time = Time { seconds: 315_619_200, nanoseconds: 0 };

/// A file of the layer.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    /// What it is.
    pub entry: Entry,
    /// Where its bytes are.
    pub content: Content,
}

/// A file of a tree that is copied from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The tree.
    pub tree: From,
    /// Where the file is in it.
    pub path: TreePath,
}

/// Where the bytes of a regular file are.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// It is no regular file.
    None,
    /// In memory.
    Bytes(Arc<[u8]>),
    /// A file of a tree that is copied from.
    Source(Place),
    /// A part of the spool. Files of the same part are one file with several names.
    Spooled {
        /// Where it begins.
        offset: u64,
    },
}

/// What a layer adds to a view.
pub(crate) struct Changes<'v> {
    below: &'v View,
    items: BTreeMap<TreePath, Item>,
    /// Directories below that something else has taken the place of.
    buried: BTreeSet<TreePath>,
}

impl<'v> Changes<'v> {
    /// No changes yet.
    pub fn to(below: &'v View) -> Self {
        Self { below, items: BTreeMap::new(), buried: BTreeSet::new() }
    }

    /// What is at a path now; links are not followed.
    pub fn find(&self, path: &TreePath) -> Option<&Entry> {
        if let Some(item) = self.items.get(path) {
            return Some(&item.entry);
        }
        let mut above = path.parent();
        while let Some(directory) = above {
            if self.buried.contains(&directory) {
                return None;
            }
            above = directory.parent();
        }
        self.below.lookup(path)
    }

    /// Where a path leads inside the root, links followed, also the last.
    pub fn resolve(&self, path: &TreePath) -> Result<TreePath, Fault> {
        files::resolve(&|path| Ok(self.find(path).cloned()), path)
    }

    /// Makes a directory and what is missing on the way, with mode 0755. No component may be a link.
    pub fn make_directories(&mut self, path: &TreePath, owner: Owner) -> Result<(), Fault> {
        let mut reached = TreePath::root();
        for component in path.components() {
            reached = reached.join(component)?;
            match self.find(&reached) {
                Some(entry) if entry.is_directory() => {}
                Some(_) => return Err(Fault::new(format!("/{reached}: not a directory"))),
                None => {
                    let metadata =
                        Metadata { uid: owner.uid, gid: owner.gid, mtime: FIXED_TIME, ..Metadata::implied() };
                    self.put(
                        &reached,
                        Item { entry: Entry { kind: Kind::Directory, metadata }, content: Content::None },
                    );
                }
            }
        }
        Ok(())
    }

    /// Puts a file where its parents are. What was there is replaced; a directory over a directory keeps what is in it.
    pub fn put(&mut self, path: &TreePath, item: Item) {
        self.record_parents(path);
        if !item.entry.is_directory() {
            if self.find(path).is_some_and(Entry::is_directory) {
                self.items.retain(|known, _| !known.starts_with(path));
            }
            if self.below.lookup(path).is_some_and(Entry::is_directory) {
                self.buried.insert(path.clone());
            }
        }
        self.items.insert(path.clone(), item);
    }

    fn record_parents(&mut self, path: &TreePath) {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            if self.items.contains_key(&directory) {
                break;
            }
            if let Some(entry) = self.below.lookup(&directory).filter(|entry| entry.is_directory()) {
                self.items.insert(directory.clone(), Item { entry: entry.clone(), content: Content::None });
            }
            above = directory.parent();
        }
    }

    /// The files of other trees that it takes, each once, in order.
    pub fn sources(&self) -> BTreeSet<Place> {
        let places = self.items.values().filter_map(|item| match &item.content {
            Content::Source(place) => Some(place.clone()),
            _ => None,
        });
        places.collect()
    }

    /// Everything to write, parents first, and whether it hides the directory that is below it.
    pub fn items(&self) -> impl Iterator<Item = (&TreePath, &Item, bool)> {
        self.items.iter().map(|(path, item)| (path, item, item.entry.is_directory() && self.buried.contains(path)))
    }
}
