//! `.dockerignore`.

/// What an ignore file says.
#[derive(Debug, Clone, Default)]
pub struct Ignore {}

/// An ignore file that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidIgnore {
    /// What is wrong.
    pub message: String,
}

impl Ignore {
    /// Reads an ignore file.
    pub fn parse(_bytes: &[u8]) -> Result<Self, InvalidIgnore> {
        unimplemented!("ignore")
    }

    /// From patterns, such as those of `--exclude`.
    pub fn from_patterns<'a>(_patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidIgnore> {
        unimplemented!("ignore")
    }

    /// Whether a path, relative to the context and with `/`, is left out: it or a directory above it matches, and no later `!` pattern takes it back.
    pub fn matches(&self, _path: &[u8]) -> bool {
        unimplemented!("ignore")
    }

    /// Whether something below an ignored directory may be taken back, so that a walk must go in.
    pub fn may_reinclude_below(&self, _directory: &[u8]) -> bool {
        unimplemented!("ignore")
    }
}
