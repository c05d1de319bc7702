//! The merged view of an image's layers.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use skycap_image::Layer;

use crate::{Entry, LayerIndex, TreePath, UnpackError};

/// The files of an image as all its layers together make them, in memory and without content.
#[derive(Clone, Default)]
pub struct View {}

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

impl View {
    /// Applies listings, lowest layer first.
    pub fn new(layers: Vec<Arc<LayerIndex>>) -> Result<Self, UnpackError> {
        let _ = layers;
        unimplemented!()
    }

    /// What is at exactly this path; symbolic links are not followed, neither on the way nor at the end.
    pub fn lookup(&self, path: &TreePath) -> Option<&Entry> {
        let _ = path;
        unimplemented!()
    }

    /// Where a path leads after `chroot`: links are followed inside the root, `..` stops at the root. What does not exist
    /// is kept as named, so the answer may be a path where something can be made.
    pub fn resolve(&self, path: &Path, follow_last: bool) -> Result<TreePath, ResolveError> {
        let _ = (path, follow_last);
        unimplemented!()
    }

    /// The names in a directory, sorted; nothing if there is no directory at this path.
    pub fn children<'v>(&'v self, path: &TreePath) -> impl Iterator<Item = (&'v [u8], &'v Entry)> {
        let _ = path;
        std::iter::empty()
    }

    /// Everything below a path, the path itself first if it exists, parents before children, sorted.
    pub fn walk<'v>(&'v self, from: &TreePath) -> impl Iterator<Item = (TreePath, &'v Entry)> {
        let _ = from;
        std::iter::empty()
    }

    /// Which layer (counted from the lowest, 0) made what is at this path.
    pub fn layer_of(&self, path: &TreePath) -> Option<usize> {
        let _ = path;
        unimplemented!()
    }

    /// The content of a regular file, which may have `limit` bytes at most. `layers` are those of the view, in its order.
    pub fn read(&self, path: &TreePath, layers: &[Layer], limit: u64) -> Result<Vec<u8>, UnpackError> {
        let _ = (path, layers, limit);
        unimplemented!()
    }

    /// Visits the content of regular files, each layer streamed at most once; in the order of the layers, not of `paths`.
    pub fn contents(
        &self,
        paths: &[TreePath],
        layers: &[Layer],
        visit: &mut dyn FnMut(&TreePath, &Entry, &mut dyn Read) -> io::Result<()>,
    ) -> Result<(), UnpackError> {
        let _ = (paths, layers, visit);
        unimplemented!()
    }
}
