//! Why a build failed.

use skycap_image::SourceError;
use skycap_rootfs::{InvalidPath, MergeError, ResolveError, UnpackError};

use crate::dockerfile::{ExpandError, MountError, ParseError};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a build failed. Errors of an instruction begin with `NAME:LINE: `.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile does not parse.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// An instruction cannot be done, or failed.
    #[error("{file}:{line}: {what}")]
    Step {
        /// The Dockerfile's name.
        file: String,
        /// The line where the instruction begins.
        line: usize,
        /// What happened.
        what: String,
        /// What the user can do.
        hint: Option<String>,
        /// The cause.
        #[source]
        source: Option<Cause>,
    },
    /// The request itself cannot be fulfilled.
    #[error("{what}")]
    Request {
        /// What is wrong.
        what: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// Something outside any instruction failed.
    #[error("{what}")]
    Other {
        /// What was being done.
        what: String,
        /// The cause.
        #[source]
        source: Cause,
    },
    /// The Dockerfile wants what its checks find to be an error, and they found something.
    #[error("lint violation found for rules: {rules}")]
    Lint {
        /// The rules' names.
        rules: String,
    },
    /// The build was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

/// What reading and writing end with once the build is cancelled; whoever sees it asks whether it is.
pub(crate) fn cancelled() -> std::io::Error {
    std::io::Error::other("the build was cancelled")
}

impl BuildError {
    /// A fault of no instruction.
    pub(crate) fn of_request(doing: impl Into<String>, fault: Fault) -> Self {
        match fault {
            Fault::Failed { what, source: Some(source), .. } => Self::Other { what, source },
            Fault::Failed { what, hint, source: None } => {
                Self::Request { what: format!("{}: {what}", doing.into()), hint }
            }
            Fault::Elsewhere(error) => *error,
            Fault::Cancelled => Self::Cancelled,
        }
    }

    /// The line of the Dockerfile, where one is to blame.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Parse(error) => Some(error.line),
            Self::Step { line, .. } => Some(*line),
            _ => None,
        }
    }

    /// What the user can do, where there is something.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Step { hint, .. } | Self::Request { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }
}

/// What went wrong in an instruction, before it is known which one it was.
#[derive(Debug)]
pub(crate) enum Fault {
    /// It cannot be done, or it failed.
    Failed { what: String, hint: Option<String>, source: Option<Cause> },
    /// It is another instruction's, which it names.
    Elsewhere(Box<BuildError>),
    /// The build was asked to stop.
    Cancelled,
}

impl Fault {
    /// A fault without a further cause.
    pub fn new(what: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), hint: None, source: None }
    }

    /// A fault with its cause.
    pub fn caused(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Failed { what: what.into(), hint: None, source: Some(source.into()) }
    }

    /// The same with something that the user can do.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        match self {
            Self::Failed { what, source, .. } => Self::Failed { what, hint: Some(hint.into()), source },
            other => other,
        }
    }

    /// The same as the cause of a wider fault.
    #[must_use]
    pub fn in_doing(self, doing: &str) -> Self {
        match self {
            Self::Failed { what, hint, source } => Self::Failed { what: format!("{doing}: {what}"), hint, source },
            other => other,
        }
    }

    /// Says which instruction it was.
    pub fn at(self, file: &str, line: usize) -> BuildError {
        match self {
            Self::Failed { what, hint, source } => BuildError::Step { file: file.to_owned(), line, what, hint, source },
            Self::Elsewhere(error) => *error,
            Self::Cancelled => BuildError::Cancelled,
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<SourceError> for Fault {
    fn from(error: SourceError) -> Self {
        Self::Failed { what: error.what, hint: None, source: error.source }
    }
}

impl From<UnpackError> for Fault {
    fn from(error: UnpackError) -> Self {
        Self::Failed { what: error.to_string(), hint: None, source: causes(&error) }
    }
}

/// Everything behind an error, in one line.
fn causes(error: &dyn std::error::Error) -> Option<Cause> {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(": ").into())
}

macro_rules! plain {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::new(error.to_string())
            }
        })*
    };
}

plain!(MergeError, ResolveError, InvalidPath, ExpandError, MountError, String);

impl From<&str> for Fault {
    fn from(what: &str) -> Self {
        Self::new(what)
    }
}
