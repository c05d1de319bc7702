//! `RUN --mount`: a list of `key[=value]`, in CSV.
//!
//! Values expand, so a mount is kept as written ([`MountFlag`]) and becomes a [`Mount`] when the variables are known. One
//! that holds no variable is checked when the Dockerfile is parsed.

mod values;

use skycap_image::suggest;

use self::values::{boolean, bytes, csv, number};
use super::expand::{ExpandError, expand};

/// The value of a `--mount` flag, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFlag {
    fields: Vec<String>,
    from: Option<String>,
}

/// A mount with everything resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `type`
    pub kind: MountKind,
    /// `from`: a stage, an image or a named context.
    pub from: Option<String>,
    /// `source`; of a secret it is `id`.
    pub source: Option<String>,
    /// `target`; a relative one is below the working directory.
    pub target: Option<String>,
    /// Whether it is read-only; by default caches and tmpfs are not and the others are.
    pub read_only: bool,
    /// `id`
    pub id: Option<String>,
    /// `sharing`; only a cache has it.
    pub sharing: Option<Sharing>,
    /// `required`; only a secret and an agent have it.
    pub required: bool,
    /// `size` in bytes; only a tmpfs has it.
    pub size: Option<u64>,
    /// `mode`
    pub mode: Option<u32>,
    /// `uid`
    pub uid: Option<u32>,
    /// `gid`
    pub gid: Option<u32>,
    /// `env`: the variable that gets the secret; only a secret has it.
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
    /// Several at once; what a cache has if nothing is said.
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
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// What the author may have meant.
        suggestion: Option<&'static str>,
    },
    /// A value does not expand.
    #[error(transparent)]
    Expand(#[from] ExpandError),
}

const KINDS: [(&str, MountKind); 5] = [
    ("bind", MountKind::Bind),
    ("cache", MountKind::Cache),
    ("tmpfs", MountKind::Tmpfs),
    ("secret", MountKind::Secret),
    ("ssh", MountKind::Ssh),
];

const SHARINGS: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

impl MountKind {
    fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)).map(|(_, kind)| *kind)
    }

    /// As it is written.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl MountError {
    fn new(message: impl Into<String>) -> Self {
        Self::Invalid { message: message.into(), suggestion: None }
    }

    fn unknown(message: String, written: &str, options: impl IntoIterator<Item = &'static str>) -> Self {
        Self::Invalid { message, suggestion: suggest::nearest(written, options) }
    }

    /// What a user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Invalid { suggestion, .. } => suggestion.map(|name| format!("did you mean {name}?")),
            Self::Expand(_) => None,
        }
    }
}

impl MountFlag {
    /// Reads the value of the flag, and checks it as far as it can be checked without the variables.
    pub(super) fn parse(value: &str, escape: char) -> Result<Self, MountError> {
        let mut flag = Self { fields: csv(value)?, from: None };
        let pairs = flag.fields.iter().filter_map(|field| field.split_once('='));
        for (key, value) in pairs.filter(|(key, _)| key.eq_ignore_ascii_case("from")) {
            // A dollar at the end stands for itself.
            if value.find('$').is_some_and(|at| at + 1 < value.len()) {
                let key = key.to_lowercase();
                let what = "doesn't support variable expansion, define alias stage instead";
                return Err(MountError::new(format!("'{key}' {what}")));
            }
            flag.from = Some(expand(value, escape, &|_| None)?).filter(|from| !from.is_empty());
        }
        if !value.contains('$') {
            flag.resolve(&mut |word| expand(word, escape, &|_| None))?;
        }
        Ok(flag)
    }

    /// `from`, which holds no variables.
    pub fn from(&self) -> Option<&str> {
        self.from.as_deref()
    }

    /// `type`, unless that holds a variable or is none of the five.
    pub fn kind(&self) -> Option<MountKind> {
        let mut pairs = self.fields.iter().filter_map(|field| field.split_once('='));
        match pairs.rfind(|(key, _)| key.eq_ignore_ascii_case("type")) {
            Some((_, value)) => MountKind::named(value),
            None => Some(MountKind::Bind),
        }
    }

    /// The mount, once variables are known: `expand` is applied to every value.
    pub fn resolve(&self, expand: &mut dyn FnMut(&str) -> Result<String, ExpandError>) -> Result<Mount, MountError> {
        let mut draft = Draft::default();
        for field in &self.fields {
            match field.split_once('=') {
                Some((key, value)) => draft.set(&key.to_lowercase(), &expand(value)?, field)?,
                None => draft.set_bare(&field.to_lowercase(), field)?,
            }
        }
        draft.finish()
    }
}

/// A mount of which some keys have been read.
struct Draft {
    mount: Mount,
    /// `readonly` or `readwrite`, if one was given.
    read_only: Option<bool>,
}

impl Default for Draft {
    fn default() -> Self {
        let mount = Mount {
            kind: MountKind::Bind,
            from: None,
            source: None,
            target: None,
            read_only: true,
            id: None,
            sharing: None,
            required: false,
            size: None,
            mode: None,
            uid: None,
            gid: None,
            env: None,
        };
        Self { mount, read_only: None }
    }
}

impl Draft {
    fn set_bare(&mut self, key: &str, field: &str) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => self.set_required(true)?,
            _ => return Err(MountError::new(format!("invalid field '{field}' must be a key=value pair"))),
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str, field: &str) -> Result<(), MountError> {
        let mount = &mut self.mount;
        let some = || Some(value.to_owned()).filter(|value| !value.is_empty());
        match key {
            "type" => {
                let unknown = || {
                    let names = KINDS.iter().map(|(name, _)| *name);
                    MountError::unknown(format!("unsupported mount type {value:?}"), value, names)
                };
                mount.kind = MountKind::named(value).ok_or_else(unknown)?;
            }
            "from" => mount.from = some(),
            "source" | "src" => mount.source = some(),
            "target" | "dst" | "destination" => mount.target = some(),
            "readonly" | "ro" => self.read_only = Some(boolean(key, value)?),
            "readwrite" | "rw" => self.read_only = Some(!boolean(key, value)?),
            // BuildKit reads from left to right: the type must have come before.
            "required" => self.set_required(boolean(key, value)?)?,
            "size" if mount.kind == MountKind::Tmpfs => {
                let size = bytes(value);
                mount.size = Some(size.ok_or_else(|| MountError::new(format!("invalid value for {key}: {value}")))?);
            }
            "env" if mount.kind == MountKind::Secret => mount.env = some(),
            "size" | "env" => return Err(unexpected(key, mount.kind)),
            "id" => mount.id = some(),
            "sharing" => {
                let sharing = SHARINGS.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind);
                let unknown = || {
                    let names = SHARINGS.iter().map(|(name, _)| *name);
                    MountError::unknown(format!("unsupported sharing value {value:?}"), value, names)
                };
                mount.sharing = Some(sharing.ok_or_else(unknown)?);
            }
            "mode" => mount.mode = Some(number(key, value, 8)?),
            "uid" => mount.uid = Some(number(key, value, 10)?),
            "gid" => mount.gid = Some(number(key, value, 10)?),
            _ => return Err(MountError::unknown(format!("unexpected key '{key}' in '{field}'"), key, KEYS)),
        }
        Ok(())
    }

    fn set_required(&mut self, required: bool) -> Result<(), MountError> {
        if !matches!(self.mount.kind, MountKind::Secret | MountKind::Ssh) {
            return Err(unexpected("required", self.mount.kind));
        }
        self.mount.required = required;
        Ok(())
    }

    fn finish(self) -> Result<Mount, MountError> {
        let Self { mut mount, read_only } = self;
        let kind = mount.kind;
        mount.read_only = read_only.unwrap_or(!matches!(kind, MountKind::Cache | MountKind::Tmpfs));
        let owned = matches!(kind, MountKind::Secret | MountKind::Ssh | MountKind::Cache);
        for (name, given) in [("mode", mount.mode), ("uid", mount.uid), ("gid", mount.gid)] {
            if given.is_some() && !owned {
                return Err(MountError::new(format!("{name} not allowed for {:?} type mounts", kind.name())));
            }
        }
        if mount.sharing.is_some() && kind != MountKind::Cache {
            return Err(MountError::new(format!("invalid cache sharing set for {} mount", kind.name())));
        }
        if kind == MountKind::Secret {
            let (source, target, id) = (mount.source.is_some(), mount.target.is_some(), mount.id.is_some());
            let message = match () {
                () if mount.from.is_some() => "secret mount should not have a from",
                () if !source && !target && !id => "invalid secret mount. one of source, target required",
                () if source && id => "both source and id can't be set",
                () => {
                    mount.id = mount.id.or_else(|| mount.source.take());
                    return Ok(mount);
                }
            };
            return Err(MountError::new(message));
        }
        Ok(mount)
    }
}

fn unexpected(key: &str, kind: MountKind) -> MountError {
    MountError::new(format!("unexpected key '{key}' for mount type '{}'", kind.name()))
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
