//! Where in a Dockerfile something stands.

/// A place in a Dockerfile. Lines and columns count from 1; a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The line where it begins.
    pub line: usize,
    /// The column where it begins.
    pub column: usize,
    /// The last line that belongs to it; heredocs belong to their instruction.
    pub end_line: usize,
}

/// A value and where it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What was read.
    pub value: T,
    /// Where.
    pub span: Span,
    /// The text that it was read from, continuation lines joined and outer blanks gone; without heredoc bodies.
    pub text: String,
}

impl<T> Spanned<T> {
    /// Another value from the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span, text: self.text }
    }
}
