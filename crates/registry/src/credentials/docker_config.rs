//! Docker's `config.json`: `auths`, `credHelpers`, `credsStore`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use skycap_image::{Kind, Secret, SourceError};

use crate::Credentials;
use crate::origin::canonical;

/// The parts of the file that concern registries.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DockerConfig {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default)]
    cred_helpers: Option<BTreeMap<String, String>>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    auth: Secret,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: Secret,
    #[serde(default)]
    identitytoken: Secret,
    #[serde(default)]
    registrytoken: Secret,
}

impl DockerConfig {
    /// Reads the file's text.
    pub fn parse(bytes: &[u8]) -> Result<Self, SourceError> {
        serde_json::from_slice(bytes).map_err(|error| {
            // The parser's own text may quote a password; its position cannot.
            let what =
                format!("Docker's configuration does not parse: line {}, column {}", error.line(), error.column());
            SourceError::new(Kind::Other, what)
        })
    }

    /// The helper program that knows a host.
    pub fn helper(&self, host: &str) -> Option<&str> {
        let own = self.cred_helpers.iter().flatten().find(|(key, _)| host_of(key) == Some(host));
        own.map(|(_, name)| name).or(self.creds_store.as_ref()).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The credentials in the file itself.
    pub fn credentials(&self, host: &str) -> Result<Credentials, SourceError> {
        let Some((key, entry)) = self.auths.iter().flatten().find(|(key, _)| host_of(key) == Some(host)) else {
            return Ok(Credentials::Anonymous);
        };
        entry
            .credentials()
            .map_err(|why| SourceError::new(Kind::Other, format!("Docker's configuration, auths entry {key:?}: {why}")))
    }
}

impl Entry {
    fn credentials(&self) -> Result<Credentials, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Credentials::IdentityToken(self.identitytoken.clone()));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Credentials::RegistryToken(self.registrytoken.clone()));
        }
        if self.auth.is_empty() {
            if self.username.is_empty() {
                return Ok(Credentials::Anonymous);
            }
            return Ok(Credentials::Basic { username: self.username.clone(), password: self.password.clone() });
        }
        let decoded = STANDARD.decode(self.auth.reveal().trim()).map_err(|_| "auth is not base64")?;
        let text = String::from_utf8(decoded).map_err(|_| "auth is not text")?;
        let (username, password) = text.split_once(':').ok_or("auth is not user:password in base64")?;
        let password = password.trim_end_matches('\0');
        Ok(Credentials::Basic { username: username.to_owned(), password: Secret::new(password) })
    }
}

/// The registry that a key stands for. Docker writes hosts and, of old, URLs; keys that stand for a part of a registry
/// only (`host/team`, as other tools write them) must not give a password to all of it.
fn host_of(key: &str) -> Option<&str> {
    let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = stripped.unwrap_or(key).split_once('/').unwrap_or((stripped.unwrap_or(key), ""));
    let whole = matches!(path, "" | "v1" | "v1/" | "v2" | "v2/");
    (whole && !host.is_empty()).then(|| canonical(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_exactly() {
        let config = DockerConfig::parse(
            br#"{"auths":{"https://index.docker.io/v1/":{"auth":"aHVi OnB3"},"gcr.io":{"auth":"Z2NyOnB3"},
                "r.io:5000":{"username":"port","password":"pw"},"quay.io/team":{"auth":"dGVhbTpwdw=="},
                "acr.io":{"auth":"eDp5","identitytoken":"it"},"bad.io":{"auth":"!"},"reg.io":{"registrytoken":"x"}},
                "HttpHeaders":{"a":"b"}}"#,
        )
        .unwrap();
        let user = |host: &str| match config.credentials(host) {
            Ok(Credentials::Basic { username, .. }) => username,
            Ok(Credentials::Anonymous) => "-".to_owned(),
            Ok(Credentials::IdentityToken(_)) => "token".to_owned(),
            Ok(Credentials::RegistryToken(_)) => "registry token".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(user("gcr.io"), "gcr");
        for host in ["gcr.io.evil.com", "evil.gcr.io", "r.io", "r.io:5001", "quay.io"] {
            assert_eq!(user(host), "-", "{host}");
        }
        assert_eq!((user("r.io:5000"), user("acr.io")), ("port".to_owned(), "token".to_owned()));
        assert!(user("index.docker.io").contains("auth is not base64"), "a blank inside is no base64");
        assert!(user("bad.io").contains("\"bad.io\": auth is not base64"));
        assert_eq!(user("reg.io"), "registry token");
    }

    #[test]
    fn a_helper_is_chosen_by_host() {
        let config = DockerConfig::parse(br#"{"credHelpers":{"gcr.io":"gcloud"},"credsStore":"pass"}"#).unwrap();
        assert_eq!((config.helper("gcr.io"), config.helper("r.io")), (Some("gcloud"), Some("pass")));
        assert_eq!(DockerConfig::parse(b"{}").unwrap().helper("r.io"), None);
    }

    #[test]
    fn no_error_quotes_a_password() {
        let error = DockerConfig::parse(br#"{"auths":{"r":{"auth":"hunter2","username":7}}}"#).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
}
