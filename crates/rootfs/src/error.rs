//! Why a layer could not become files.

use std::io;
use std::path::PathBuf;

use skycap_image::{Digest, SourceError};

use crate::{InvalidPath, TreePath};

/// Why a layer could not be read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Its blob could not be opened.
    #[error("cannot read layer {layer}")]
    Source {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// Reading it failed half-way, or its bytes are not what they should be.
    #[error("layer {layer} cannot be read to its end")]
    Read {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It unpacks to other bytes than the image's config says.
    #[error("layer {layer} unpacks to {found}, but the image's config says {expected}")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// The diff ID in the config.
        expected: Digest,
        /// The digest of the bare tar.
        found: Digest,
    },
    /// An entry's name is not one a tree can hold.
    #[error("layer {layer} is refused")]
    Name {
        /// The layer's blob.
        layer: Digest,
        /// Why.
        #[source]
        source: InvalidPath,
    },
    /// An entry makes no sense.
    #[error("layer {layer} is refused: {path}: {what}")]
    Entry {
        /// The layer's blob.
        layer: Digest,
        /// The entry's name, escaped.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// It goes beyond a limit.
    #[error("layer {layer} is refused: more than {limit} {what} (limit {name})")]
    Limit {
        /// The layer's blob.
        layer: Digest,
        /// The limit's value.
        limit: u64,
        /// What is counted.
        what: &'static str,
        /// The limit's name in [`crate::Limits`].
        name: &'static str,
    },
    /// An entry could not be applied.
    #[error("cannot unpack {path} of layer {layer}")]
    Apply {
        /// The layer's blob.
        layer: Digest,
        /// The entry.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The destination could not be prepared or finished.
    #[error("cannot {doing} {}", path.display())]
    Destination {
        /// `create`, `synchronise`, `rename` …
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
