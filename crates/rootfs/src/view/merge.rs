//! Applying a listing to a view, by the rules of the tree on disk.

use std::collections::{BTreeMap, VecDeque};

use super::{Child, Inode, MOST_LINKS, ROOT, View, names};
use crate::{Entry, Kind, LayerIndex, Metadata, Record, TreePath};

type Failed = (TreePath, String);

/// Why there is no directory at a path.
enum NoDirectory {
    Absent,
    NotADirectory,
    Loop,
}

pub(super) fn apply(view: &mut View, layer: usize, index: &LayerIndex) -> Result<(), Failed> {
    let mut merge = Merge { view, layer, links: Vec::new() };
    for (path, record) in index.records() {
        merge.record(path, record).map_err(|what| (path.clone(), what))?;
    }
    merge.deferred_links()
}

struct Merge<'v, 'i> {
    view: &'v mut View,
    layer: usize,
    /// Hard links whose target has not come yet: directory, name, path, target.
    links: Vec<(usize, Box<[u8]>, &'i TreePath, &'i TreePath)>,
}

impl Inode {
    /// A directory that no layer describes.
    pub(super) fn implied(layer: usize) -> Self {
        let entry = Entry { kind: Kind::Directory, metadata: Metadata::implied() };
        Self { entry, layer, made: layer, at: 0, children: BTreeMap::new() }
    }
}

impl<'i> Merge<'_, 'i> {
    fn record(&mut self, path: &'i TreePath, record: &'i Record) -> Result<(), String> {
        let Some((directory, name)) = path.split() else { return self.root(record) };
        match record {
            Record::Whiteout => self.whiteout(directory, name),
            Record::Opaque => self.opaque(path.as_bytes()),
            Record::Hardlink(target) => {
                let directory = self.parent(directory)?;
                if let Some(inode) = self.target(target)? {
                    self.set(directory, name, inode);
                } else {
                    self.children(directory).remove(name);
                    self.links.push((directory, name.into(), path, target));
                }
                Ok(())
            }
            Record::Entry(entry, at) => {
                let directory = self.parent(directory)?;
                self.entry(directory, name, entry, *at);
                Ok(())
            }
        }
    }

    fn root(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Entry(entry, _) if entry.is_directory() => {
                self.describe(ROOT, entry);
                Ok(())
            }
            Record::Opaque => self.opaque(b""),
            _ => Err("the root may only be a directory".to_owned()),
        }
    }

    fn entry(&mut self, directory: usize, name: &[u8], entry: &Entry, at: u64) {
        let there = self.view.inodes[directory].children.get(name).copied();
        match there {
            Some(child) if entry.is_directory() && self.view.inodes[child.inode].entry.is_directory() => {
                self.describe(child.inode, entry);
                self.set(directory, name, child.inode);
            }
            _ => {
                let (layer, children) = (self.layer, BTreeMap::new());
                let inode = self.add(Inode { entry: entry.clone(), layer, made: layer, at, children });
                self.set(directory, name, inode);
            }
        }
    }

    fn describe(&mut self, inode: usize, entry: &Entry) {
        let layer = self.layer;
        let inode = &mut self.view.inodes[inode];
        inode.entry = entry.clone();
        inode.layer = layer;
    }

    fn add(&mut self, inode: Inode) -> usize {
        self.view.inodes.push(inode);
        self.view.inodes.len() - 1
    }

    fn set(&mut self, directory: usize, name: &[u8], inode: usize) {
        let set = Some(self.layer);
        self.children(directory).insert(name.into(), Child { inode, set });
    }

    fn children(&mut self, directory: usize) -> &mut BTreeMap<Box<[u8]>, Child> {
        &mut self.view.inodes[directory].children
    }

    /// The directory that an entry goes to; made if it is missing.
    fn parent(&mut self, path: &[u8]) -> Result<usize, String> {
        self.directory(path, true).map_err(|error| NoDirectory::text(&error).to_owned())
    }

    /// The directory that a marker or the target of a link speaks of.
    fn existing(&mut self, path: &[u8]) -> Result<Option<usize>, String> {
        match self.directory(path, false) {
            Ok(inode) => Ok(Some(inode)),
            Err(NoDirectory::Loop) => Err(NoDirectory::Loop.text().to_owned()),
            Err(_) => Ok(None),
        }
    }

    fn directory(&mut self, path: &[u8], make: bool) -> Result<usize, NoDirectory> {
        let mut left: VecDeque<Box<[u8]>> = names(path).map(Into::into).collect();
        // From the root to where it is; what is above it is where `..` leads.
        let mut stack = vec![ROOT];
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            let at = *stack.last().unwrap_or(&ROOT);
            if &*name == b".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let Some(child) = self.view.inodes[at].children.get(&name).copied() else {
                if !make {
                    return Err(NoDirectory::Absent);
                }
                let inode = self.add(Inode::implied(self.layer));
                self.children(at).insert(name, Child { inode, set: None });
                stack.push(inode);
                continue;
            };
            match &self.view.inodes[child.inode].entry.kind {
                Kind::Directory => stack.push(child.inode),
                Kind::Symlink(target) => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(NoDirectory::Loop);
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    names(target).rev().for_each(|name| left.push_front(name.into()));
                }
                _ => return Err(NoDirectory::NotADirectory),
            }
        }
        Ok(*stack.last().unwrap_or(&ROOT))
    }

    fn target(&mut self, path: &TreePath) -> Result<Option<usize>, String> {
        let (directory, name) = path.split().ok_or("a hard link to the root")?;
        let Some(directory) = self.existing(directory)? else { return Ok(None) };
        let Some(child) = self.view.inodes[directory].children.get(name) else { return Ok(None) };
        if self.view.inodes[child.inode].entry.is_directory() {
            return Err("a hard link to a directory".to_owned());
        }
        Ok(Some(child.inode))
    }

    fn deferred_links(&mut self) -> Result<(), Failed> {
        for (directory, name, path, target) in std::mem::take(&mut self.links) {
            if self.view.inodes[directory].children.contains_key(&name) {
                continue;
            }
            match self.target(target).map_err(|what| (path.clone(), what))? {
                Some(inode) => self.set(directory, &name, inode),
                None => return Err((path.clone(), format!("it is a hard link to {target}, which does not exist"))),
            }
        }
        Ok(())
    }

    fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Result<(), String> {
        let Some(directory) = self.existing(directory)? else { return Ok(()) };
        if self.view.inodes[directory].made != self.layer || directory == ROOT {
            self.clear_child(directory, name);
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), String> {
        let directory = match self.directory(path, true) {
            Err(NoDirectory::NotADirectory) => return Ok(()),
            other => other.map_err(|error| error.text().to_owned())?,
        };
        if self.view.inodes[directory].made != self.layer || directory == ROOT {
            self.clear(directory);
        }
        Ok(())
    }

    /// Removes what lower layers have in a directory; says whether anything is left.
    fn clear(&mut self, directory: usize) -> bool {
        let names: Vec<Box<[u8]>> = self.view.inodes[directory].children.keys().cloned().collect();
        for name in names {
            self.clear_child(directory, &name);
        }
        !self.view.inodes[directory].children.is_empty()
    }

    fn clear_child(&mut self, directory: usize, name: &[u8]) {
        let Some(child) = self.view.inodes[directory].children.get(name).copied() else { return };
        let is_own = child.set == Some(self.layer);
        let inode = &self.view.inodes[child.inode];
        if !inode.entry.is_directory() {
            if !is_own {
                self.children(directory).remove(name);
            }
            return;
        }
        if inode.made == self.layer {
            return;
        }
        if !self.clear(child.inode) && !is_own {
            self.children(directory).remove(name);
        } else if !is_own {
            // Only implied by this layer now; what lower layers said of it is hidden.
            let layer = self.layer;
            let inode = &mut self.view.inodes[child.inode];
            inode.entry.metadata = Metadata::implied();
            inode.layer = layer;
        }
    }
}

impl NoDirectory {
    fn text(&self) -> &'static str {
        match self {
            Self::Absent => "its directory does not exist",
            Self::NotADirectory => "a parent of it is no directory",
            Self::Loop => "too many levels of symbolic links",
        }
    }
}
