//! Who we are to a cloud: credentials for its registry that live for some hours, for whoever this process is there (a role,
//! a managed identity, a service account).
//!
//! Each login is plain data with one function that asks the cloud's token services. They are reached as registries are:
//! `hosts`, proxies and certificates of the [`Settings`](crate::Settings) apply. Everything else that a login may look at,
//! the environment and files that it names, comes in through [`Surroundings`].

pub mod acr;
pub mod ecr;
pub mod google;
mod wire;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use skycap_image::{Kind, Secret, SourceError};

use crate::Credentials;

/// Token and configuration files beyond this are refused.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What a process finds around itself in a cloud: its environment, which also names files with tokens.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The environment of the resource's process.
    pub environment: BTreeMap<String, String>,
}

impl Surroundings {
    /// A variable that is set and not empty.
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A file that the environment or a configuration names.
    fn file(path: &str) -> Result<Vec<u8>, SourceError> {
        let failed = |error| SourceError::io(format!("cannot read {path}"), error);
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(SourceError::new(Kind::Corrupt, format!("{path} is larger than {LARGEST_FILE} bytes")));
        }
        Ok(bytes)
    }

    /// A token in a file, without white space around it.
    fn token(path: &str) -> Result<Secret, SourceError> {
        let text = String::from_utf8(Self::file(path)?);
        let text = text.map_err(|_| SourceError::new(Kind::Corrupt, format!("{path} is not text")))?;
        match text.trim() {
            "" => Err(SourceError::new(Kind::Denied, format!("{path} is empty: a token is expected there"))),
            token => Ok(Secret::new(token)),
        }
    }
}

/// What a login comes to.
#[derive(Clone, Debug)]
pub struct Login {
    /// The registry's host.
    pub registry: String,
    /// Who we are there.
    pub credentials: Credentials,
}

fn basic(username: &str, password: Secret) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password }
}

fn denied(what: impl Into<String>) -> SourceError {
    SourceError::new(Kind::Denied, what)
}
