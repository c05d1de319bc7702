//! What one layer makes of the files below it, as overlayfs must be told.
//!
//! The layer is applied to the view of what is below it, by the rules by which everything is unpacked. Then both views are
//! compared, directory by directory: what the lower one has under the same name and as the same file need not be said;
//! what is gone becomes a mark; a directory that took the place of another hides all of it. So the stack of directories
//! shows what unpacking would have made, whatever the layer holds.
//!
//! A layer that [stands alone](LayerIndex::needs_below) is applied to the least that can be below it: at every path that
//! it speaks of there is something, and in every directory something that it cannot name.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{Child, Inode, ROOT, View, merge};
use crate::{Entry, Kind, LayerIndex, Metadata, Record, TreePath};

/// What the directory of a layer holds. Paths are free of links.
#[derive(Default)]
pub(crate) struct Difference {
    /// Directories, parents first, the root at the very beginning; whether each hides what is below it.
    pub(crate) directories: Vec<(TreePath, Metadata, bool)>,
    /// What has no content.
    pub(crate) others: Vec<(TreePath, Entry)>,
    /// Regular files, by the place of their content in the bare tar.
    pub(crate) files: HashMap<u64, TreePath>,
    /// Further names of the files and others, and the first one.
    pub(crate) links: Vec<(TreePath, TreePath)>,
    /// Names that hide what is below them.
    pub(crate) whiteouts: Vec<TreePath>,
}

/// In a directory whose lower content is not known: a name that no file can have.
const UNKNOWN: &[u8] = b"/";

impl Difference {
    /// Of a layer from what is below it; or the entry that does not fit, and why.
    pub(crate) fn of(index: &LayerIndex, below: &View) -> Result<Self, (TreePath, String)> {
        let least;
        let below = if index.needs_below() {
            below
        } else {
            least = least_below(index);
            &least
        };
        let layer = below.layers.len();
        let mut above = below.clone();
        merge::apply(&mut above, layer, index)?;
        let difference = Self::default();
        let mut walk = Walk { below, above: &above, layer, difference, waiting: Vec::new(), names: HashMap::new() };
        walk.whole()?;
        Ok(walk.difference)
    }
}

struct Walk<'v> {
    below: &'v View,
    above: &'v View,
    layer: usize,
    difference: Difference,
    /// Unchanged directories on the way to where the walk is, said only if something in them changed.
    waiting: Vec<(TreePath, Metadata)>,
    /// The first names of the layer's own files, by inode.
    names: HashMap<usize, TreePath>,
}

/// A directory to look at.
struct Visit {
    path: TreePath,
    inode: usize,
    below: Below,
}

/// What lower layers have at a directory's path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// The same directory.
    Same,
    /// Another directory, which must not show.
    Other,
    /// None.
    Nothing,
}

impl Walk<'_> {
    fn whole(&mut self) -> Result<(), (TreePath, String)> {
        let mut pending = vec![Visit { path: TreePath::root(), inode: ROOT, below: Below::Same }];
        while let Some(visit) = pending.pop() {
            let new = &self.above.inodes[visit.inode];
            let nothing = BTreeMap::new();
            let old = if visit.below == Below::Same { &self.below.inodes[visit.inode].children } else { &nothing };
            self.directory(&visit, new, old);
            for (name, child) in new.children.iter().rev().filter(|(name, _)| &***name != UNKNOWN) {
                self.child(&visit, name, *child, old.get(name).copied(), &mut pending)?;
            }
        }
        Ok(())
    }

    /// The directory itself, and the names that are gone from it.
    fn directory(&mut self, visit: &Visit, new: &Inode, old: &BTreeMap<Box<[u8]>, Child>) {
        let gone: Vec<&[u8]> =
            old.keys().filter(|name| !new.children.contains_key(*name)).map(|name| &**name).collect();
        let stays =
            || old.iter().any(|(name, child)| new.children.get(name).is_some_and(|new| new.inode == child.inode));
        // One mark instead of many. The root cannot have it: overlayfs does not look for it there.
        let hides_all = visit.inode != ROOT && (gone.contains(&UNKNOWN) || gone.len() > 1 && !stays());
        let is_opaque = visit.below == Below::Other || hides_all;
        let metadata = new.entry.metadata.clone();
        let is_said = visit.inode == ROOT || visit.below != Below::Same || new.layer == self.layer || is_opaque;
        if !is_said && gone.is_empty() {
            self.waiting.push((visit.path.clone(), metadata));
            return;
        }
        self.say_parents(&visit.path);
        self.difference.directories.push((visit.path.clone(), metadata, is_opaque));
        if !is_opaque {
            let whiteouts =
                gone.into_iter().filter(|name| *name != UNKNOWN).filter_map(|name| visit.path.join(name).ok());
            self.difference.whiteouts.extend(whiteouts);
        }
    }

    fn child(
        &mut self,
        parent: &Visit,
        name: &[u8],
        child: Child,
        old: Option<Child>,
        pending: &mut Vec<Visit>,
    ) -> Result<(), (TreePath, String)> {
        let is_same = old.is_some_and(|old| old.inode == child.inode);
        let entry = &self.above.inodes[child.inode].entry;
        if is_same && !entry.is_directory() {
            return Ok(());
        }
        let Ok(path) = parent.path.join(name) else { return Ok(()) };
        if entry.is_directory() {
            let was_directory = || old.is_some_and(|old| self.below.inodes[old.inode].entry.is_directory());
            let below = match is_same {
                true => Below::Same,
                false if was_directory() => Below::Other,
                false => Below::Nothing,
            };
            pending.push(Visit { path, inode: child.inode, below });
            return Ok(());
        }
        if child.inode < self.below.inodes.len() {
            let text = "it is a hard link to a file of a lower layer, which overlay directories cannot hold";
            return Err((path, text.to_owned()));
        }
        self.say_parents(&path);
        self.file(path, child.inode, entry);
        Ok(())
    }

    fn file(&mut self, path: TreePath, inode: usize, entry: &Entry) {
        if let Some(first) = self.names.get(&inode) {
            self.difference.links.push((path, first.clone()));
            return;
        }
        self.names.insert(inode, path.clone());
        if entry.is_file() {
            self.difference.files.insert(self.above.inodes[inode].at, path);
        } else {
            self.difference.others.push((path, entry.clone()));
        }
    }

    /// Says the directories that lead to a change.
    fn say_parents(&mut self, path: &TreePath) {
        for (directory, metadata) in std::mem::take(&mut self.waiting) {
            // Others are left from subtrees without a change.
            if path.starts_with(&directory) {
                self.difference.directories.push((directory, metadata, false));
            }
        }
    }
}

/// Something at every path that a layer speaks of, whose parents it describes itself.
fn least_below(index: &LayerIndex) -> View {
    let is_directory = |record: &Record| {
        matches!(record, Record::Opaque) || matches!(record, Record::Entry(entry, _) if entry.is_directory())
    };
    let directories: HashSet<&TreePath> =
        index.records().iter().filter(|(_, record)| is_directory(record)).map(|(path, _)| path).collect();
    let mut view = View { layers: vec![Arc::new(LayerIndex::default())], ..View::default() };
    let mut known: HashMap<&[u8], usize> = HashMap::from([(&b""[..], ROOT)]);
    for (path, _) in index.records() {
        let Some((parent, name)) = path.split() else { continue };
        let Some(&parent) = known.get(parent) else { continue };
        if view.inodes[parent].children.contains_key(name) {
            continue;
        }
        let inode = if directories.contains(path) {
            let mut inode = Inode::implied(0);
            inode.children.insert(UNKNOWN.into(), Child { inode: view.inodes.len() + 1, set: None });
            known.insert(path.as_bytes(), view.inodes.len());
            view.inodes.push(inode);
            view.inodes.len() - 1
        } else {
            view.inodes.len()
        };
        view.inodes.push(unknown());
        view.inodes[parent].children.insert(name.into(), Child { inode, set: None });
    }
    view
}

fn unknown() -> Inode {
    let entry = Entry { kind: Kind::File { size: 0 }, metadata: Metadata::default() };
    Inode { entry, layer: 0, made: 0, at: 0, children: BTreeMap::new() }
}
