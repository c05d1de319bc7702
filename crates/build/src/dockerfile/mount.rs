//! `RUN --mount`: a list of `key[=value]`, in CSV.
//!
//! Values expand, so a mount is kept as written ([`MountFlag`]) and becomes a [`Mount`] when the variables are known. One
//! that holds no variable is checked when the Dockerfile is parsed.

use super::expand::ExpandError;

/// The value of a `--mount` flag, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    fields: Vec<String>,
}

/// A mount with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `type`
    pub kind: MountKind,
    /// `from`: a stage, an image or a named context.
    pub from: Option<String>,
    /// `source`
    pub source: Option<String>,
    /// `target`; a relative one is below the working directory.
    pub target: Option<String>,
    /// Whether it is read-only; by default caches and tmpfs are not and the others are.
    pub read_only: bool,
    /// `id`
    pub id: Option<String>,
    /// `sharing`
    pub sharing: Sharing,
    /// `required`
    pub required: bool,
    /// `size` in bytes.
    pub size: Option<u64>,
    /// `mode`
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
    /// `env`: the variable that gets the secret.
    pub env: Option<String>,
}

/// `type` of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// Files of the context, a stage or an image.
    Bind,
    /// A directory that outlives the build.
    Cache,
    /// Memory.
    Tmpfs,
    /// A file or variable that stays out of the image.
    Secret,
    /// An agent's socket.
    Ssh,
}

/// `sharing` of a cache mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// Several at once.
    Shared,
    /// Each its own.
    Private,
    /// One after the other.
    Locked,
}

/// A mount that says something it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// The text of BuildKit.
    #[error("{0}")]
    Invalid(String),
    /// A value does not expand.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

impl MountFlag {
    /// The mount, once variables are known.
    pub fn resolve(&self, _expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>) -> Result<Mount, MountError> {
        let _ = &self.fields;
        unimplemented!("mounts")
    }
}
