//! Who we are where: a keychain of credentials by host, filled from Docker's configuration, from credential helpers and by
//! hand.

mod docker_config;
mod helper;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Arc, Mutex};

use skycap_image::{Kind, SourceError};

use crate::Credentials;
use crate::client::lock;
use crate::origin::canonical;
use docker_config::DockerConfig;

/// Knows credentials by host. Hosts match exactly, port included; Docker Hub's names are one.
#[derive(Clone, Debug, Default)]
pub struct Keychain {
    given: BTreeMap<String, Credentials>,
    config: DockerConfig,
    /// Asked about hosts that this one does not know.
    next: Option<Box<Keychain>>,
    /// Where helper programs are looked for, as in `PATH`.
    search_path: OsString,
    /// What helpers said: asking again would start a program for every image.
    answers: Arc<Mutex<BTreeMap<String, Option<Credentials>>>>,
}

impl Keychain {
    /// Reads the text of Docker's `config.json`.
    pub fn from_docker_config(bytes: &[u8]) -> Result<Self, SourceError> {
        Ok(Self { config: DockerConfig::parse(bytes)?, ..Self::default() })
    }

    /// Reads `config.json` in a directory (`$DOCKER_CONFIG` or `~/.docker`); a keychain without entries if there is none.
    pub fn open(directory: &Path) -> Result<Self, SourceError> {
        let path = directory.join("config.json");
        let failed = |error: SourceError| SourceError { what: format!("{}: {}", path.display(), error.what), ..error };
        match std::fs::read(&path) {
            Ok(bytes) => Self::from_docker_config(&bytes).map_err(failed),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(failed(SourceError::caused(Kind::Other, "cannot be read", error))),
        }
    }

    /// Reads a file of the form of Docker's `config.json`, under whatever name; it must exist.
    pub fn open_file(path: &Path) -> Result<Self, SourceError> {
        let failed = |error: SourceError| SourceError { what: format!("{}: {}", path.display(), error.what), ..error };
        let bytes = std::fs::read(path).map_err(|error| failed(SourceError::io("cannot be read", error)))?;
        Self::from_docker_config(&bytes).map_err(failed)
    }

    /// A keychain that asks `other` about the hosts that this one does not know.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.next = Some(Box::new(match self.next.take() {
            Some(next) => next.or(other),
            None => other,
        }));
        self
    }

    /// Adds credentials for a host; they go before those of the configuration.
    #[must_use]
    pub fn with(mut self, host: &str, credentials: Credentials) -> Self {
        self.given.insert(canonical(host).to_owned(), credentials);
        self
    }

    /// Says where credential helpers (`docker-credential-…`) are looked for: the value of `PATH`.
    #[must_use]
    pub fn with_search_path(self, search_path: &OsStr) -> Self {
        let next = self.next.map(|next| Box::new(next.with_search_path(search_path)));
        Self { search_path: search_path.to_owned(), answers: Arc::default(), next, ..self }
    }

    /// Who we are to that registry (`host` or `host:port`). May run a credential helper, once, for at most half a minute.
    pub fn credentials(&self, host: &str) -> Result<Credentials, SourceError> {
        let host = canonical(host);
        if let Some(given) = self.given.get(host) {
            return Ok(given.clone());
        }
        if let Some(name) = self.config.helper(host)
            && let Some(credentials) = self.ask_helper(name, host)?
        {
            return Ok(credentials);
        }
        match (self.config.credentials(host)?, &self.next) {
            (Credentials::Anonymous, Some(next)) => next.credentials(host),
            (known, _) => Ok(known),
        }
    }

    fn ask_helper(&self, name: &str, host: &str) -> Result<Option<Credentials>, SourceError> {
        let mut answers = lock(&self.answers);
        if let Some(answer) = answers.get(host) {
            return Ok(answer.clone());
        }
        let answer = helper::get(name, &self.search_path, host)?;
        answers.insert(host.to_owned(), answer.clone());
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skycap_image::Secret;

    #[test]
    fn what_is_given_goes_before_the_configuration() {
        let config = br#"{"auths":{"r.io":{"auth":"dXNlcjpwdw=="}}}"#;
        let token = Credentials::IdentityToken(Secret::new("t"));
        let keychain = Keychain::from_docker_config(config).unwrap().with("docker.io", token.clone());
        assert_eq!(keychain.credentials("index.docker.io").unwrap(), token);
        let user = Credentials::Basic { username: "user".into(), password: Secret::new("pw") };
        assert_eq!(keychain.credentials("r.io").unwrap(), user);
        assert_eq!(keychain.with("r.io", Credentials::Anonymous).credentials("r.io").unwrap(), Credentials::Anonymous);
    }

    #[test]
    fn the_second_keychain_is_asked_about_what_the_first_does_not_know() {
        let of = |host: &str, user: &str| {
            let basic = Credentials::Basic { username: user.to_owned(), password: Secret::new("pw") };
            Keychain::default().with(host, basic)
        };
        let keychain = of("a.io", "first").or(of("a.io", "second")).or(of("b.io", "third"));
        let user = |host: &str| match keychain.credentials(host).unwrap() {
            Credentials::Basic { username, .. } => username,
            _ => "-".to_owned(),
        };
        assert_eq!(["a.io", "b.io", "c.io"].map(user), ["first", "third", "-"]);
    }

    #[test]
    fn no_configuration_is_no_error_and_a_broken_one_names_its_file() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Keychain::open(dir.path()).unwrap().credentials("r.io").unwrap(), Credentials::Anonymous);
        std::fs::write(dir.path().join("config.json"), "{").unwrap();
        let error = Keychain::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("config.json: "), "{error}");
    }
}
