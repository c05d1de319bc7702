//! Google's registries (`gcr.io`, `*.pkg.dev`), with what Google calls application default credentials.
//!
//! | found | becomes |
//! |---|---|
//! | a service account's key (`GOOGLE_APPLICATION_CREDENTIALS`, type `service_account`) | user `_json_key` with the key: the registry takes it as it is |
//! | a workload identity federation (type `external_account`, subject token in a file or behind a URL) | exchanged for an access token, if asked for in the name of a service account |
//! | a person's login (type `authorized_user`) | exchanged for an access token |
//! | nothing | the metadata server's access token (a machine's or Kubernetes workload's service account) |
//!
//! An access token is the password of the user `oauth2accesstoken`.

use serde::Deserialize;
use serde_json::Value;
use skycap_image::{Kind, Secret, SourceError};

use super::wire::{Question, Wire};
use super::{Surroundings, basic, denied};
use crate::{Client, Credentials};

const KEY_USER: &str = "_json_key";
const TOKEN_USER: &str = "oauth2accesstoken";
const METADATA: &str = "metadata.google.internal";
const METADATA_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// A configuration file of application default credentials.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Configuration {
    ServiceAccount,
    AuthorizedUser { client_id: String, client_secret: Secret, refresh_token: Secret },
    ExternalAccount(Federation),
}

#[derive(Deserialize)]
struct Federation {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    credential_source: SubjectSource,
}

/// Where a federation's subject token is.
#[derive(Deserialize)]
struct SubjectSource {
    file: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    format: SubjectFormat,
}

#[derive(Default, Deserialize)]
struct SubjectFormat {
    #[serde(default, rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

/// Asks for credentials for Google's registries.
pub fn login(client: &Client, surroundings: &Surroundings) -> Result<Credentials, SourceError> {
    let wire = Wire(client.clone());
    let Some(path) = surroundings.variable("GOOGLE_APPLICATION_CREDENTIALS") else {
        return metadata_token(&wire, surroundings).map(|token| basic(TOKEN_USER, token));
    };
    let bytes = Surroundings::file(path)?;
    // The cause could quote a key.
    let configuration: Configuration = serde_json::from_slice(&bytes).map_err(|_| {
        let kinds = "service_account, external_account and authorized_user are";
        SourceError::new(Kind::Corrupt, format!("{path} is not a credential configuration that is known ({kinds})"))
    })?;
    let token = match configuration {
        Configuration::ServiceAccount => {
            let key = String::from_utf8(bytes).map_err(|_| denied(format!("{path} is not text")))?;
            return Ok(basic(KEY_USER, Secret::new(key)));
        }
        Configuration::AuthorizedUser { client_id, client_secret, refresh_token } => {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", &client_id),
                ("client_secret", client_secret.reveal()),
                ("refresh_token", refresh_token.reveal()),
            ];
            access_token(&wire, &Question::form(TOKEN_URL, &fields)?)?
        }
        Configuration::ExternalAccount(federation) => federation.token(&wire)?,
    };
    Ok(basic(TOKEN_USER, token))
}

fn metadata_token(wire: &Wire, surroundings: &Surroundings) -> Result<Secret, SourceError> {
    let host = surroundings.variable("GCE_METADATA_HOST").unwrap_or(METADATA);
    let question = Question::get(&format!("http://{host}{METADATA_PATH}"))?.with("metadata-flavor", "Google")?;
    access_token(wire, &question).map_err(|error| {
        let hint = "not on Google Cloud? set GOOGLE_APPLICATION_CREDENTIALS";
        SourceError { what: format!("no Google identity: {} ({hint})", error.what), ..error }
    })
}

impl Federation {
    fn token(&self, wire: &Wire) -> Result<Secret, SourceError> {
        let subject = self.credential_source.token(wire)?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &*self.audience),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", &*self.subject_token_type),
            ("subject_token", subject.reveal()),
        ];
        let federated = access_token(wire, &Question::form(&self.token_url, &fields)?)?;
        let Some(url) = &self.service_account_impersonation_url else { return Ok(federated) };
        let bearer = format!("Bearer {}", federated.reveal());
        let question = Question::form(url, &[("scope", SCOPE)])?.with("authorization", &bearer)?;
        access_token(wire, &question)
    }
}

impl SubjectSource {
    fn token(&self, wire: &Wire) -> Result<Secret, SourceError> {
        let bytes = match (&self.file, &self.url) {
            (Some(file), _) => Surroundings::file(file)?,
            (None, Some(url)) => {
                let mut question = Question::get(url)?;
                for (name, value) in &self.headers {
                    let name = reqwest::header::HeaderName::from_bytes(name.as_bytes());
                    let value = reqwest::header::HeaderValue::from_str(value);
                    let invalid = || SourceError::new(Kind::Other, "credential_source.headers holds what is no header");
                    question.headers.insert(name.map_err(|_| invalid())?, value.map_err(|_| invalid())?);
                }
                wire.ask_ok(&question)?.to_vec()
            }
            (None, None) => {
                let what = "credential_source has neither file nor url (AWS and executables are not supported)";
                return Err(SourceError::new(Kind::Other, what));
            }
        };
        let field = self.format.subject_token_field_name.as_deref();
        let text = match (&*self.format.kind, field) {
            ("json", Some(field)) => {
                let document: Option<Value> = serde_json::from_slice(&bytes).ok();
                document.and_then(|document| document.get(field)?.as_str().map(str::to_owned))
            }
            _ => String::from_utf8(bytes).ok(),
        };
        let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        text.map(Secret::new).ok_or_else(|| denied("credential_source holds no token"))
    }
}

/// Google's services say `access_token`, its impersonation `accessToken`.
#[derive(Deserialize)]
struct Access {
    #[serde(alias = "accessToken")]
    access_token: Secret,
}

fn access_token(wire: &Wire, question: &Question) -> Result<Secret, SourceError> {
    let body = wire.ask_ok(question)?;
    let access: Result<Access, _> = serde_json::from_slice(&body);
    // The cause could quote a token.
    access.map(|access| access.access_token).map_err(|_| denied("the answer holds no access token"))
}
