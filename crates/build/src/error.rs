//! Why a build failed.

use skycap_image::SourceError;

use crate::dockerfile::ParseError;

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
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The request itself cannot be fulfilled.
    #[error("{what}")]
    Request {
        /// What is wrong.
        what: String,
        /// What the user can do.
        hint: Option<String>,
    },
    /// A place of images failed outside any instruction.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The store failed.
    #[error("{what}")]
    Store {
        /// What was being done.
        what: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The build was asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
}

impl BuildError {
    /// The line of the Dockerfile, where one is to blame.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Parse(error) => Some(error.span.line),
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
