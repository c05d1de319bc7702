//! The merged view of an image's layers.
//!
//! Listings are applied one above the other by the same rules as on disk ([`crate::unpack`]): links in the way of an entry
//! are followed inside the root, missing parents are made, a whiteout hides lower layers only. So the view says what
//! unpacking would make, with the owners that unpacking may not be able to give.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::{io, os::unix::ffi::OsStrExt as _};

use skycap_image::Layer;

use crate::stream::{LayerTar, read_layer_tar};
use crate::{Entry, Fault, Kind, LayerIndex, Limits, TreePath, UnpackError};

pub(crate) mod difference;
mod merge;

/// As many links as Linux follows.
const MOST_LINKS: usize = 40;

/// The files of an image as all its layers together make them, in memory and without content.
#[derive(Clone)]
pub struct View {
    /// The root is the first. Those that no directory names any more are left where they are.
    inodes: Vec<Inode>,
    layers: Vec<Arc<LayerIndex>>,
}

/// A file; hard links share it.
#[derive(Clone)]
struct Inode {
    entry: Entry,
    /// The layer that described it last.
    layer: usize,
    /// The layer that first had it.
    made: usize,
    /// Where its content begins in that layer's bare tar.
    at: u64,
    /// Of a directory.
    children: BTreeMap<Box<[u8]>, Child>,
}

/// A name in a directory.
#[derive(Clone, Copy)]
struct Child {
    inode: usize,
    /// The layer that set the name, by an entry of its own.
    set: Option<usize>,
}

const ROOT: usize = 0;

/// Why a path inside a view leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// More than 40 symbolic links.
    #[error("{0}: too many levels of symbolic links")]
    Loop(String),
    /// A component in the middle is no directory.
    #[error("{0}: not a directory")]
    NotADirectory(String),
    /// It holds a NUL byte.
    #[error("{0}: holds a NUL byte")]
    Nul(String),
}

impl Default for View {
    /// Of an image without layers: an empty root.
    fn default() -> Self {
        Self { inodes: vec![Inode::implied(0)], layers: Vec::new() }
    }
}

impl View {
    /// Applies listings, lowest layer first.
    pub fn new(layers: &[Arc<LayerIndex>]) -> Result<Self, MergeError> {
        let mut view = Self { layers: layers.to_vec(), ..Self::default() };
        for (number, layer) in layers.iter().enumerate() {
            merge::apply(&mut view, number, layer).map_err(|(path, what)| MergeError { layer: number, path, what })?;
        }
        Ok(view)
    }

    /// What is at exactly this path; symbolic links are not followed, neither on the way nor at the end.
    pub fn lookup(&self, path: &TreePath) -> Option<&Entry> {
        self.inode(path).map(|inode| &inode.entry)
    }

    /// Where a path leads after `chroot`: links are followed inside the root, `..` stops at the root. What does not exist
    /// is kept as named, so the answer may be a path where something can be made.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<TreePath, ResolveError> {
        let bytes = path.as_os_str().as_bytes();
        let shown = || bytes.escape_ascii().to_string();
        if bytes.contains(&0) {
            return Err(ResolveError::Nul(shown()));
        }
        let mut left: VecDeque<&[u8]> = names(bytes).collect();
        let mut real: Vec<&[u8]> = Vec::new();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == b".." {
                real.pop();
                continue;
            }
            real.push(name);
            let Some(inode) = self.at(&real) else { continue };
            match &inode.entry.kind {
                Kind::Directory => {}
                Kind::Symlink(target) if follow_last || !left.is_empty() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(ResolveError::Loop(shown()));
                    }
                    real.pop();
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    names(target).rev().for_each(|name| left.push_front(name));
                }
                _ if left.is_empty() => {}
                _ => return Err(ResolveError::NotADirectory(shown())),
            }
        }
        Ok(TreePath::from_components(real))
    }

    /// The names in a directory, sorted; nothing if there is no directory at this path.
    pub fn children<'v>(&'v self, path: &TreePath) -> impl Iterator<Item = (&'v [u8], &'v Entry)> {
        let children = self.inode(path).map(|inode| &inode.children);
        let children = children.into_iter().flatten();
        children.filter_map(|(name, child)| self.inodes.get(child.inode).map(|inode| (&**name, &inode.entry)))
    }

    /// Everything below a path, the path itself first if it exists, parents before children, sorted.
    pub fn walk<'v>(&'v self, from: &TreePath) -> impl Iterator<Item = (TreePath, &'v Entry)> {
        let mut pending: Vec<(TreePath, &Inode)> =
            self.inode(from).map(|inode| (from.clone(), inode)).into_iter().collect();
        std::iter::from_fn(move || {
            let (path, inode) = pending.pop()?;
            for (name, child) in inode.children.iter().rev() {
                if let (Ok(path), Some(inode)) = (path.join(name), self.inodes.get(child.inode)) {
                    pending.push((path, inode));
                }
            }
            Some((path, &inode.entry))
        })
    }

    /// Which layer (counted from the lowest, 0) made what is at this path. For a directory, which described it last.
    pub fn layer_of(&self, path: &TreePath) -> Option<usize> {
        self.inode(path).map(|inode| inode.layer)
    }

    /// Tells hard links apart: two paths with the same number are one file.
    pub fn inode_of(&self, path: &TreePath) -> Option<u64> {
        self.find(path).map(|inode| inode as u64)
    }

    /// The content of a regular file, which may have `limit` bytes at most. `layers` are those of the view, in its order; they
    /// are not opened for `/etc/passwd` and `/etc/group` unless these are huge.
    pub fn read(&self, path: &TreePath, layers: &[Layer], limit: u64) -> Result<Vec<u8>, UnpackError> {
        let failed = |what: String| UnpackError::File { path: path.clone(), what };
        match self.lookup(path).map(|entry| &entry.kind) {
            Some(Kind::File { size }) if *size <= limit => {}
            Some(Kind::File { size }) => return Err(failed(format!("it has {size} bytes, more than {limit}"))),
            Some(_) => return Err(failed("it is no regular file".to_owned())),
            None => return Err(failed("it does not exist".to_owned())),
        }
        if let Some(content) = self.inode(path).and_then(|inode| self.layers.get(inode.layer)?.content(inode.at)) {
            return Ok(content.to_vec());
        }
        let mut content = Vec::new();
        self.contents(std::slice::from_ref(path), layers, &mut |_, _, data| data.read_to_end(&mut content).map(drop))?;
        Ok(content)
    }

    /// Visits the content of regular files, each file once, each layer streamed at most once; in the order of the layers, not
    /// of `paths`.
    /// Every layer that is opened is checked to its end, so the answer is only good if there is no error.
    pub fn contents(
        &self,
        paths: &[TreePath],
        layers: &[Layer],
        visit: &mut VisitContent<'_>,
    ) -> Result<(), UnpackError> {
        let mut wanted: BTreeMap<usize, BTreeMap<u64, Vec<&TreePath>>> = BTreeMap::new();
        for path in paths {
            let Some(inode) = self.inode(path).filter(|inode| inode.entry.is_file()) else {
                return Err(UnpackError::File { path: path.clone(), what: "it is no regular file".to_owned() });
            };
            wanted.entry(inode.layer).or_default().entry(inode.at).or_default().push(path);
        }
        for (number, mut wanted) in wanted {
            let layer = layers.get(number).ok_or_else(|| UnpackError::File {
                path: paths.first().cloned().unwrap_or_default(),
                what: format!("layer {number} of the image is not at hand"),
            })?;
            read_layer_tar(layer, &Limits::default(), &mut |tar| self.pick(tar, &mut wanted, visit))?;
        }
        Ok(())
    }

    /// Hands out the content of the wanted entries of one layer.
    fn pick(
        &self,
        tar: &mut LayerTar<'_>,
        wanted: &mut BTreeMap<u64, Vec<&TreePath>>,
        visit: &mut VisitContent<'_>,
    ) -> Result<(), Fault> {
        while !wanted.is_empty() {
            if tar.next()?.is_none() {
                let text = "the layer lacks files that its listing has";
                return Err(Fault::Read(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
            let Some(paths) = wanted.remove(&tar.data_offset()) else { continue };
            let Some((&path, entry)) = paths.first().and_then(|path| Some((path, self.lookup(path)?))) else {
                continue;
            };
            visit(&paths, entry, tar).map_err(|source| Fault::Apply { path: path.clone(), source })?;
        }
        Ok(())
    }

    fn inode(&self, path: &TreePath) -> Option<&Inode> {
        self.find(path).and_then(|inode| self.inodes.get(inode))
    }

    fn find(&self, path: &TreePath) -> Option<usize> {
        self.descend(path.components())
    }

    fn at(&self, names: &[&[u8]]) -> Option<&Inode> {
        self.descend(names.iter().copied()).and_then(|inode| self.inodes.get(inode))
    }

    fn descend<'n>(&self, mut names: impl Iterator<Item = &'n [u8]>) -> Option<usize> {
        names.try_fold(ROOT, |inode, name| Some(self.inodes.get(inode)?.children.get(name)?.inode))
    }
}

/// Takes the content of a file, which has been asked for under these names.
pub type VisitContent<'v> = dyn FnMut(&[&TreePath], &Entry, &mut dyn io::Read) -> io::Result<()> + 'v;

/// Layers that do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("layer {layer} (counted from 0) does not fit onto those below it: {path}: {what}")]
pub struct MergeError {
    /// The layer, counted from the lowest.
    pub layer: usize,
    /// The entry.
    pub path: TreePath,
    /// What is wrong.
    pub what: String,
}

/// The names of a path in an archive or a link; `.` and empty ones say nothing.
fn names(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b"."))
}
