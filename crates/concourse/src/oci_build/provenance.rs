//! How much an image says of how it was made.

use super::values::truth;
use crate::Failure;

/// How much an image says of how it was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Provenance {
    /// What was asked for, without values of arguments.
    Min,
    /// That, the values of arguments and the Dockerfile.
    Max,
}

impl Provenance {
    /// `min`, `max`, or a switch.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Failure> {
        match (text, truth(text)) {
            ("min", _) | (_, Some(true)) => Ok(Some(Self::Min)),
            ("max", _) => Ok(Some(Self::Max)),
            (_, Some(false)) => Ok(None),
            _ => Err(Failure::new(format!("ATTEST_PROVENANCE: {text:?} is none of min, max, true and false"))),
        }
    }
}
