//! Heredocs.

use super::expand::ExpandError;
use super::instruction::Heredoc;

/// The heredoc that a word opens, if it opens one; its content is empty.
pub(super) fn word(_text: &str) -> Result<Option<Heredoc>, ExpandError> {
    unimplemented!("heredocs")
}
