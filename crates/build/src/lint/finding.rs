//! What a rule says about a place.

use super::Rule;
use crate::dockerfile::pointed_at;

/// Something that works and should not be written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {message} ({rule})")]
pub struct Finding {
    /// The line where it begins, from 1.
    pub line: usize,
    /// The column where it begins, in characters from 1.
    pub column: usize,
    /// The last line that belongs to it.
    pub end_line: usize,
    /// Which rule says so.
    pub rule: Rule,
    /// What is wrong, in BuildKit's words.
    pub message: String,
    /// The Dockerfile's name.
    pub file: String,
    /// The text of the first line.
    pub snippet: String,
}

impl Finding {
    /// Where the rule is explained.
    pub fn url(&self) -> String {
        self.rule.url()
    }

    /// For a terminal: the message, the line with a caret below the place, and where the rule is explained.
    pub fn render(&self) -> String {
        let place = format!("{}:{}:{}", self.file, self.line, self.column);
        let message = format!("{} ({})", self.message, self.rule);
        let note = format!("see: {}", self.url());
        pointed_at(&place, &message, (self.line, self.column), &self.snippet, Some(&note))
    }
}
