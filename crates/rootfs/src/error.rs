//! Why a layer could not become files.

use std::io;
use std::path::PathBuf;

use skycap_image::{Digest, Kind, SourceError};

use crate::{InvalidPath, TreePath};

/// Why layers could not be read or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A layer is at fault.
    #[error("cannot use layer {layer}")]
    Layer {
        /// The layer's blob.
        layer: Box<Digest>,
        /// What is wrong with it.
        #[source]
        fault: Fault,
    },
    /// A file of an image cannot be read.
    #[error("cannot read {path} of the image: {what}")]
    File {
        /// The file.
        path: TreePath,
        /// Why.
        what: String,
    },
    /// The caller wanted it to stop. Nothing is left.
    #[error("unpacking was stopped")]
    Stopped,
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

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Its blob could not be opened.
    #[error("its blob cannot be opened")]
    Source(#[source] SourceError),
    /// Reading it failed half-way, or its bytes are not what they should be.
    #[error("it cannot be read to its end")]
    Read(#[source] io::Error),
    /// It unpacks to other bytes than the image's config says.
    #[error("it unpacks to {found}, but the image's config says {expected}")]
    DiffId {
        /// The diff ID in the config.
        expected: Box<Digest>,
        /// The digest of the bare tar.
        found: Box<Digest>,
    },
    /// An entry's name is not one a tree can hold.
    #[error("it holds a name that is not allowed")]
    Name(#[source] InvalidPath),
    /// An entry makes no sense.
    #[error("{path}: {what}")]
    Entry {
        /// The entry's name, escaped.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// It goes beyond a limit.
    #[error("it has more than {limit} {what} (limit {name})")]
    Limit {
        /// The limit's value.
        limit: u64,
        /// What is counted.
        what: &'static str,
        /// The limit's name in [`crate::Limits`].
        name: &'static str,
    },
    /// An entry could not be applied to the tree.
    #[error("{path} cannot be made")]
    Apply {
        /// The entry.
        path: TreePath,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl UnpackError {
    /// How a caller may react, as far as the place that the layers came from is to blame.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Layer { fault: Fault::Source(error), .. } => error.kind,
            Self::Layer { fault: Fault::Read(error), .. } => kind_of(error),
            Self::Layer { fault: Fault::DiffId { .. } | Fault::Name(_) | Fault::Entry { .. }, .. } => Kind::Corrupt,
            _ => Kind::Other,
        }
    }
}

/// A place's error may have travelled inside an I/O error.
fn kind_of(error: &io::Error) -> Kind {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<SourceError>());
    match inner {
        Some(error) => error.kind,
        None if error.kind() == io::ErrorKind::InvalidData => Kind::Corrupt,
        None => Kind::Other,
    }
}

impl Fault {
    pub(crate) fn of(self, layer: &skycap_image::Layer) -> UnpackError {
        UnpackError::Layer { layer: Box::new(layer.descriptor.digest), fault: self }
    }
}

/// A limit, travelling inside an I/O error.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} {1} (limit {2})")]
pub(crate) struct OverLimit(pub(crate) u64, pub(crate) &'static str, pub(crate) &'static str);

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error.downcast::<OverLimit>() {
            Ok(OverLimit(limit, what, name)) => Self::Limit { limit, what, name },
            Err(error) => Self::Read(error),
        }
    }
}
