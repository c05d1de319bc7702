//! What `RUN --mount=type=ssh` speaks to: an agent that runs already, or one of our own for private keys.
//!
//! A program in the sandbox never gets the running agent's socket itself: that has another owner and mode than the mount
//! asks for, and the agent looks at who calls. `Served` listens on a socket of its own, for one RUN, and either passes the
//! bytes on or answers by itself.

mod agent;
mod key;
mod openssh;
mod pem;
mod serve;
mod wire;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use key::{KeyError, PrivateKey};
pub(crate) use serve::Served;

/// How many bytes of a key's file are read.
const LARGEST: u64 = 100 * 1024;

/// Where the answers of an agent come from.
#[derive(Clone, Debug)]
pub enum SshSource {
    /// The socket of an agent that runs.
    Agent(PathBuf),
    /// Keys of which we are the agent.
    Keys(Arc<[PrivateKey]>),
}

/// Why files give no [`SshSource`].
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// There was nothing to open.
    #[error("no agent's socket and no private key was named")]
    Nothing,
    /// An agent and something else.
    #[error("only one socket of an agent can be used, and no keys beside it")]
    SeveralSockets,
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no key that can be used.
    #[error("{}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
}

impl SshSource {
    /// What the paths of one `--ssh id=PATH,PATH` mean: the socket of an agent, or files of private keys.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SshError> {
        let mut keys = Vec::new();
        for path in paths {
            if is_socket(path).map_err(|source| SshError::Unreadable { path: path.clone(), source })? {
                return if paths.len() == 1 { Ok(Self::Agent(path.clone())) } else { Err(SshError::SeveralSockets) };
            }
            let mut text = Vec::new();
            let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
            read.map_err(|source| SshError::Unreadable { path: path.clone(), source })?;
            keys.push(PrivateKey::parse(&text).map_err(|source| SshError::Key { path: path.clone(), source })?);
        }
        if keys.is_empty() { Err(SshError::Nothing) } else { Ok(Self::Keys(keys.into())) }
    }
}

impl SshError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Nothing => Some("start an agent and set SSH_AUTH_SOCK, or name a file of a private key"),
            Self::Key { source, .. } => source.hint(),
            Self::SeveralSockets | Self::Unreadable { .. } => None,
        }
    }
}

fn is_socket(path: &Path) -> std::io::Result<bool> {
    use std::os::unix::fs::FileTypeExt as _;
    Ok(std::fs::metadata(path)?.file_type().is_socket())
}
