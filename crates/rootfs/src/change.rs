//! What a layer does to a tree.

use std::io::{self, Read};

use crate::{Device, Metadata, TreePath};

/// One entry of a layer.
#[allow(missing_docs, reason = "the variants say what their fields are")]
pub enum Change<'a> {
    /// A directory; one that is there already keeps its content.
    Directory(&'a Metadata),
    /// A regular file: its length in bytes, and exactly that many bytes.
    File(&'a Metadata, u64, &'a mut dyn Read),
    /// A symbolic link and its target, stored as it is.
    Symlink(&'a Metadata, &'a [u8]),
    /// Another name of a file of the tree, which is not a directory. Its metadata is the file's, repeated for readers that
    /// look at it; trees do not.
    Hardlink(&'a Metadata, &'a TreePath),
    /// A device node.
    Device(&'a Metadata, Device),
    /// A named pipe.
    Fifo(&'a Metadata),
    /// Hides what lower layers have under this path. Entries of the layer itself stay, wherever they stand in it.
    Whiteout,
    /// Hides what lower layers have in this directory, in the same way.
    Opaque,
}

/// Something that layers can be applied to, lowest first.
pub trait Tree {
    /// Takes one entry. What was at the path is replaced, unless both are directories.
    fn apply(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()>;

    /// The layer is complete; what comes next belongs to the one above it.
    fn end_layer(&mut self) -> io::Result<()> {
        Ok(())
    }
}
