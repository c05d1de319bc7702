//! What is in a layer, without its content.

use skycap_image::Layer;

use crate::{Entry, Limits, TreePath, UnpackError};

/// One entry of a layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A file of any type, and where its content begins in the bare tar (zero if it has none).
    Entry(Entry, u64),
    /// Another name of this file.
    Hardlink(TreePath),
    /// Hides this path of lower layers.
    Whiteout,
    /// Hides the content that lower layers have in this directory.
    Opaque,
}

/// The listing of a layer, in the order of the archive: later entries win.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LayerIndex {
    records: Vec<(TreePath, Record)>,
}

impl LayerIndex {
    /// Streams a layer once and lists it.
    pub fn of(layer: &Layer, limits: &Limits) -> Result<Self, UnpackError> {
        let _ = (layer, limits);
        unimplemented!()
    }

    /// The entries in the order of the archive.
    pub fn records(&self) -> &[(TreePath, Record)] {
        &self.records
    }

    /// Whether unpacking the layer alone, for overlayfs, needs to know what is below it: some parent directory is not
    /// described, or a hard link leads to a file of a lower layer. Without a need, one directory serves every image.
    pub fn needs_below(&self) -> bool {
        unimplemented!()
    }

    /// The bytes to keep: versioned and checked, read by [`LayerIndex::decode`].
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// Reads what [`LayerIndex::encode`] made; `None` if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let _ = bytes;
        unimplemented!()
    }
}
