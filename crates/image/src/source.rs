//! The interfaces between a place where images live and everything that reads or writes them.

use std::fmt;
use std::io::Read;

use crate::{Artifact, Descriptor, Digest, RawManifest, Reference, Verified};

/// What went wrong, as far as a caller decides by it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// It is not there.
    NotFound,
    /// Credentials are missing, wrong or not enough.
    Denied,
    /// Too many requests; the text says how long to wait if the registry said so.
    RateLimited,
    /// Worth another try: a broken connection, a timeout, a server's fault.
    Transient,
    /// The bytes are not what their digest says, or a document does not parse.
    Corrupt,
    /// Anything else.
    Other,
}

/// An error of a place where images live. Its text says what was being done and to what; the cause chain says why.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct SourceError {
    /// What was being done, to what, and what happened, in lower case.
    pub what: String,
    /// How a caller may react.
    pub kind: Kind,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl SourceError {
    /// An error without a further cause.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { what: what.into(), kind, source: None }
    }

    /// An error with its cause.
    pub fn caused(
        kind: Kind,
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { what: what.into(), kind, source: Some(source.into()) }
    }

    /// An I/O error with what was being done and to what. A [`SourceError`] that travelled inside it keeps its kind.
    pub fn io(what: impl Into<String>, error: std::io::Error) -> Self {
        let cause = Self::from(error);
        Self::caused(cause.kind, what, cause)
    }
}

impl From<std::io::Error> for SourceError {
    /// Keeps a [`SourceError`] that travelled inside an I/O error, as one does that a blob's reader met half-way.
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<SourceError>() {
            Ok(inner) => inner,
            Err(error) => Self::new(Kind::of(&error), error.to_string()),
        }
    }
}

impl Kind {
    /// How an I/O error is to be taken.
    pub fn of(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::NotFound,
            std::io::ErrorKind::PermissionDenied => Self::Denied,
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof => Self::Corrupt,
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::ConnectionReset => Self::Transient,
            _ => Self::Other,
        }
    }
}

impl From<SourceError> for std::io::Error {
    fn from(error: SourceError) -> Self {
        let kind = match error.kind {
            Kind::NotFound => std::io::ErrorKind::NotFound,
            Kind::Denied => std::io::ErrorKind::PermissionDenied,
            Kind::Corrupt => std::io::ErrorKind::InvalidData,
            Kind::RateLimited | Kind::Transient | Kind::Other => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

/// How a place calls an artifact.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Name {
    /// A name that can move: a registry's tag, a layout's `org.opencontainers.image.ref.name`, an archive's tag.
    Tag(String),
    /// A name that cannot.
    Digest(Digest),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

/// The bytes of a blob, not yet checked by anybody.
pub type BlobReader = Box<dyn Read + Send>;

/// A place that holds blobs and manifests by digest: a registry's repository, a layout, an archive, memory, the store.
pub trait BlobSource: Send + Sync {
    /// Opens a blob without checking anything. Use [`BlobSource::open`] unless the bytes are checked elsewhere.
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError>;

    /// Opens a blob; reading it to the end fails unless its bytes are what the descriptor says.
    fn open(&self, blob: &Descriptor) -> Result<Verified<BlobReader>, SourceError> {
        Ok(Verified::new(self.open_unverified(blob)?, blob))
    }

    /// Reads a manifest by its descriptor and checks it. Places that keep manifests among blobs need not override this.
    fn manifest(&self, manifest: &Descriptor) -> Result<RawManifest, SourceError> {
        let bytes = crate::document::read_small(self, manifest)?;
        Ok(RawManifest { descriptor: manifest.clone(), bytes })
    }

    /// Who asks here, where one may see what another may not: a registry's repository and an identity, never a secret. A
    /// shared cache keeps apart what belongs to different askers. `None`: who can open the place may see all of it.
    fn asker(&self) -> Option<String> {
        None
    }

    /// Whether the asker may have this blob or manifest, found out without reading it.
    fn holds(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        match self.open_unverified(blob) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Denied) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The directory of the store in which this place keeps what it reads, if it does: there is no use in keeping it again.
    fn kept_in(&self) -> Option<&std::path::Path> {
        None
    }

    /// The local file that holds exactly this blob's bytes, where there is one. Saves copies; never a promise.
    fn file(&self, _blob: &Descriptor) -> Option<std::path::PathBuf> {
        None
    }
}

/// A place to read images from.
pub trait ImageSource {
    /// What the name stands for now, without fetching it; `None` if there is nothing of that name.
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError>;

    /// The artifact of that name; absence is an error of kind [`Kind::NotFound`].
    fn get(&self, name: &Name) -> Result<Artifact, SourceError>;
}

/// A place to write images to.
pub trait ImageSink {
    /// Writes the artifact's blobs and manifests, then the names: a reader never sees a name whose parts are missing.
    /// Without names the artifact can only be found by digest.
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError>;
}

/// Finds images by their full references, wherever those lead. What the builder and the runner are handed.
pub trait Resolver: Send + Sync {
    /// What the reference stands for now; `None` if there is no such image.
    fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, SourceError>;

    /// The artifact that the reference names.
    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError>;
}
