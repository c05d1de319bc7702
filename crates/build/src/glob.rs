//! Wildcards, as Go's `filepath.Match` reads them: the ones of `COPY` and `ADD`.

/// A pattern that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// Whether the whole of `name` matches `pattern`; `*` and `?` stop at `/`.
pub fn matches(_pattern: &[u8], _name: &[u8]) -> Result<bool, BadPattern> {
    unimplemented!("glob")
}

/// Whether a source of `COPY` is a pattern at all: it holds `*`, `?` or `[`.
pub fn has_wildcard(_path: &[u8]) -> bool {
    unimplemented!("glob")
}
