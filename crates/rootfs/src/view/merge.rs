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
    /// Hard links whose target has not come yet, and those targets.
    links: Vec<(&'i TreePath, &'i TreePath)>,
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
                if self.link(directory, name, target)? {
                    return Ok(());
                }
                self.children(directory).remove(name);
                self.links.push((path, target));
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

    /// Whether the target was there to be linked to.
    fn link(&mut self, directory: usize, name: &[u8], target: &TreePath) -> Result<bool, String> {
        let Some(mut inode) = self.target(target)? else { return Ok(false) };
        let there = self.view.inodes[directory].children.get(name).copied();
        if there.is_some_and(|there| self.view.inodes[there.inode].entry.is_directory()) {
            // What the link replaces may hold its target.
            self.children(directory).remove(name);
            inode = self.target(target)?.ok_or("a hard link that replaces the directory of its target")?;
        }
        self.set(directory, name, inode);
        Ok(true)
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
        for (path, target) in std::mem::take(&mut self.links) {
            self.deferred_link(path, target).map_err(|what| (path.clone(), what))?;
        }
        Ok(())
    }

    fn deferred_link(&mut self, path: &TreePath, target: &TreePath) -> Result<(), String> {
        let Some((directory, name)) = path.split() else { return Ok(()) };
        let Some(directory) = self.existing(directory)? else { return Ok(()) };
        if !self.view.inodes[directory].children.contains_key(name) && !self.link(directory, name, target)? {
            return Err(format!("it is a hard link to {target}, which does not exist"));
        }
        Ok(())
    }

    fn whiteout(&mut self, directory: &[u8], name: &[u8]) -> Result<(), String> {
        let Some(directory) = self.existing(directory)? else { return Ok(()) };
        if self.view.inodes[directory].made != self.layer || directory == ROOT {
            self.clear(directory, vec![name.into()]);
        }
        Ok(())
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), String> {
        let directory = match self.directory(path, true) {
            Err(NoDirectory::NotADirectory) => return Ok(()),
            other => other.map_err(|error| error.text().to_owned())?,
        };
        if self.view.inodes[directory].made != self.layer || directory == ROOT {
            let names = self.children(directory).keys().cloned().collect();
            self.clear(directory, names);
        }
        Ok(())
    }

    /// Removes what lower layers have under some names of a directory, and what this layer has not set in the directories
    /// below them. Without recursion, because trees may be very deep.
    fn clear(&mut self, directory: usize, names: Vec<Box<[u8]>>) {
        let mut open = vec![(directory, Box::default(), names.into_iter())];
        while let Some((directory, _, names)) = open.last_mut() {
            let directory = *directory;
            let Some(name) = names.next() else {
                let done = open.pop();
                if let (Some((inode, name, _)), Some((parent, ..))) = (done, open.last()) {
                    self.cleared(*parent, &name, inode);
                }
                continue;
            };
            let Some(child) = self.view.inodes[directory].children.get(&name).copied() else { continue };
            let inode = &self.view.inodes[child.inode];
            if inode.entry.is_directory() {
                if inode.made != self.layer {
                    let names: Vec<Box<[u8]>> = inode.children.keys().cloned().collect();
                    open.push((child.inode, name, names.into_iter()));
                }
            } else if child.set != Some(self.layer) {
                self.children(directory).remove(&name);
            }
        }
    }

    /// Removes a directory itself unless this layer needs it.
    fn cleared(&mut self, parent: usize, name: &[u8], inode: usize) {
        let layer = self.layer;
        if self.view.inodes[parent].children.get(name).is_some_and(|child| child.set == Some(layer)) {
            return;
        }
        if self.view.inodes[inode].children.is_empty() {
            self.children(parent).remove(name);
        } else {
            // Only implied by this layer now; what lower layers said of it is hidden.
            let inode = &mut self.view.inodes[inode];
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
