//! Amazon ECR, private and public.
//!
//! Keys come from the source or from AWS's default chain; roles are assumed one after the other; the last identity asks
//! ECR for a token, whose user is `AWS`.

use std::collections::HashMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use reqsign_aws_v4::{
    AssumeRoleGrant, AssumeRoleGranter, AssumeRoleWithWebIdentityCredentialProvider, Credential, ECSCredentialProvider,
    EnvCredentialProvider, IMDSv2CredentialProvider, ProcessCredentialProvider, ProfileCredentialProvider,
    RequestSigner, SSOCredentialProvider,
};
use reqsign_core::{
    CommandExecute, CommandOutput, Context, Env, FileRead, GrantCredential, ProvideCredentialDyn, SignRequest,
};
use serde::Deserialize;
use skycap_image::{Digest, Kind, Secret, SourceError};
use url::Url;

use super::wire::{Answer, Question, Wire};
use super::{Login, Surroundings, basic, denied};
use crate::Client;

/// The registry that everybody may read from.
pub const PUBLIC: &str = "public.ecr.aws";
/// The one region in which the public registry gives out tokens.
const PUBLIC_REGION: &str = "us-east-1";
/// What assumed roles show in AWS's logs.
const SESSION_NAME: &str = "skycap";

/// A pair of keys, with the token that belongs to temporary ones.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: Secret,
    /// The session token of temporary keys.
    pub session: Option<Secret>,
}

/// How to become somebody at ECR.
#[derive(Clone, Debug)]
pub struct Ecr {
    /// The region of the registry, such as `eu-west-1`.
    pub region: String,
    /// Keys; without them AWS's default chain is asked: environment, shared configuration, SSO, web identity, process,
    /// container (ECS, pod identity), instance.
    pub keys: Option<Keys>,
    /// Roles to assume, each with the identity of the one before.
    pub roles: Vec<String>,
    /// The account whose registry is meant; without it the one that the token is for.
    pub account: Option<String>,
    /// Whether the public registry is meant.
    pub public: bool,
}

impl Ecr {
    /// Asks for a token.
    pub fn login(&self, client: &Client, surroundings: &Surroundings) -> Result<Login, SourceError> {
        check_region(&self.region)?;
        let wire = Wire(client.clone());
        let context = Context::new()
            .with_http_send(wire.clone())
            .with_env(Around(surroundings.clone()))
            .with_file_read(Files)
            .with_command_execute(Programs(surroundings.clone()));
        let credential = client.inner.block_on(self.credential(&context))?;
        let authorization = self.authorization(&wire, &context, &credential)?;
        let password = password(&authorization.token)?;
        let registry = match (&self.account, self.public) {
            (_, true) => PUBLIC.to_owned(),
            (Some(account), false) => format!("{account}.dkr.ecr.{}.{}", self.region, suffix(&self.region)),
            (None, false) => authorization.host()?,
        };
        Ok(Login { registry, credentials: basic("AWS", password) })
    }

    async fn credential(&self, context: &Context) -> Result<Credential, SourceError> {
        let mut credential = match &self.keys {
            Some(keys) => Credential {
                access_key_id: keys.id.clone(),
                secret_access_key: keys.secret.reveal().to_owned(),
                session_token: keys.session.as_ref().map(|token| token.reveal().to_owned()),
                expires_in: None,
            },
            None => from_chain(context, &self.region).await?,
        };
        for role in &self.roles {
            let granter = AssumeRoleGranter::new(&self.region, AssumeRoleGrant::new(role, SESSION_NAME));
            let granted = granter.grant_credential(context, &credential, None).await;
            credential = granted.map_err(|error| failed(&format!("cannot assume the role {role}"), &error))?;
        }
        Ok(credential)
    }

    fn authorization(
        &self,
        wire: &Wire,
        context: &Context,
        credential: &Credential,
    ) -> Result<Authorization, SourceError> {
        let (service, region, url, target) = if self.public {
            let url = format!("https://api.ecr-public.{PUBLIC_REGION}.amazonaws.com/");
            ("ecr-public", PUBLIC_REGION, url, "SpencerFrontendService.GetAuthorizationToken")
        } else {
            let url = format!("https://api.ecr.{}.{}/", self.region, suffix(&self.region));
            ("ecr", &*self.region, url, "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken")
        };
        let body = Bytes::from_static(b"{}");
        let mut parts = http::Request::post(&url)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target)
            .header("x-amz-content-sha256", Digest::sha256(&body).hex())
            .body(())
            .map_err(|error| SourceError::caused(Kind::Other, format!("cannot ask {url}"), error))?
            .into_parts()
            .0;
        let signer = RequestSigner::new(service, region).with_standard_session_token();
        let signed = wire.0.inner.block_on(signer.sign_request(context, &mut parts, Some(credential), None));
        signed.map_err(|error| failed("cannot sign the request for an ECR token", &error))?;
        let url = Url::parse(&url).map_err(|error| SourceError::caused(Kind::Other, "cannot ask ECR", error))?;
        let answer = wire.ask(&Question { method: parts.method, url, headers: parts.headers, body })?;
        Authorization::read(&answer)
    }
}

/// The names of China's partition end differently.
fn suffix(region: &str) -> &'static str {
    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" }
}

/// A region becomes part of a host's name.
fn check_region(region: &str) -> Result<(), SourceError> {
    let is_sound = !region.is_empty() && region.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let what = || format!("{region:?} is not an AWS region (eu-west-1 is one)");
    if is_sound { Ok(()) } else { Err(SourceError::new(Kind::Other, what())) }
}

/// AWS's default chain, in its order. What went wrong on the way is said if nothing comes of it.
async fn from_chain(context: &Context, region: &str) -> Result<Credential, SourceError> {
    let web_identity =
        AssumeRoleWithWebIdentityCredentialProvider::new().with_region(region.to_owned()).with_regional_sts_endpoint();
    let chain: [(&str, Box<dyn ProvideCredentialDyn<Credential = Credential>>); 7] = [
        ("environment", Box::new(EnvCredentialProvider::new())),
        ("shared configuration", Box::new(ProfileCredentialProvider::new())),
        ("SSO", Box::new(SSOCredentialProvider::new())),
        ("web identity", Box::new(web_identity)),
        ("process", Box::new(ProcessCredentialProvider::new())),
        ("container", Box::new(ECSCredentialProvider::new())),
        ("instance metadata", Box::new(IMDSv2CredentialProvider::new())),
    ];
    let mut reasons = Vec::new();
    for (name, provider) in chain {
        match provider.provide_credential_dyn(context).await {
            Ok(Some(credential)) => return Ok(credential),
            Ok(None) => {}
            Err(error) => reasons.push(format!("{name}: {}", described(&error))),
        }
    }
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join("; ")) };
    Err(denied(format!("no AWS credentials: no keys were given, and there are none in the default chain{reasons}")))
}

fn failed(what: &str, error: &reqsign_core::Error) -> SourceError {
    let kind = match error.kind() {
        reqsign_core::ErrorKind::RateLimited => Kind::RateLimited,
        reqsign_core::ErrorKind::CredentialInvalid | reqsign_core::ErrorKind::PermissionDenied => Kind::Denied,
        _ => Kind::Other,
    };
    SourceError::new(kind, format!("{what}: {}", described(error)))
}

/// An error with its causes on one line; the crate promises that no secrets are among them.
fn described(error: &reqsign_core::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// A token is `AWS:password` in base64.
fn password(token: &str) -> Result<Secret, SourceError> {
    let decoded = STANDARD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let password = decoded.as_deref().and_then(|text| text.split_once(':')).map(|(_, password)| Secret::new(password));
    password.ok_or_else(|| denied("ECR's token is not a user and a password"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authorization {
    #[serde(rename = "authorizationToken")]
    token: String,
    proxy_endpoint: Option<String>,
}

/// The private registry answers with a list, the public one with a single authorization.
#[derive(Deserialize)]
#[serde(untagged)]
enum Authorizations {
    List(Vec<Authorization>),
    One(Authorization),
}

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "authorizationData")]
    data: Option<Authorizations>,
}

/// What ECR says instead: `{"__type":"AccessDeniedException","message":…}`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Refusal {
    #[serde(rename = "__type")]
    kind: String,
    #[serde(alias = "Message")]
    message: String,
}

impl Authorization {
    fn read(answer: &Answer) -> Result<Self, SourceError> {
        if answer.status != 200 {
            let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
            let kind = refusal.kind.rsplit('#').next().unwrap_or_default();
            let hint = "the identity needs ecr:GetAuthorizationToken";
            let what = format!("ECR gives no token: status {}: {kind}: {} ({hint})", answer.status, refusal.message);
            return Err(denied(what));
        }
        let document: Document = serde_json::from_slice(&answer.body).map_err(|error| {
            SourceError::caused(Kind::Corrupt, "ECR's answer is not the document that is expected", error)
        })?;
        let first = match document.data {
            Some(Authorizations::List(list)) => list.into_iter().next(),
            Some(Authorizations::One(authorization)) => Some(authorization),
            None => None,
        };
        first.ok_or_else(|| denied("ECR's answer holds no authorization"))
    }

    fn host(&self) -> Result<String, SourceError> {
        let endpoint = self.proxy_endpoint.as_deref().and_then(|endpoint| Url::parse(endpoint).ok());
        let host = endpoint.as_ref().and_then(Url::host_str).map(str::to_owned);
        host.ok_or_else(|| SourceError::new(Kind::Corrupt, "ECR's answer names no registry; set aws_account_id"))
    }
}

/// The environment that the library sees.
#[derive(Debug)]
struct Around(Surroundings);

impl Env for Around {
    fn var(&self, key: &str) -> Option<String> {
        self.0.environment.get(key).cloned()
    }

    fn vars(&self) -> HashMap<String, String> {
        self.0.environment.clone().into_iter().collect()
    }

    fn home_dir(&self) -> Option<PathBuf> {
        self.0.variable("HOME").map(PathBuf::from)
    }
}

/// The files that the library may read.
#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        Surroundings::file(path).map_err(|error| reqsign_core::Error::config_invalid(format!("{error}")))
    }
}

/// `credential_process` of the shared configuration.
#[derive(Debug)]
struct Programs(Surroundings);

impl CommandExecute for Programs {
    async fn command_execute<'a>(
        &'a self,
        program: &'a str,
        arguments: &'a [&'a str],
    ) -> reqsign_core::Result<CommandOutput> {
        let mut command = std::process::Command::new(program);
        command.args(arguments).env_clear().envs(&self.0.environment).stdin(std::process::Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        let output = output.map_err(std::io::Error::other).and_then(|output| output);
        let output =
            output.map_err(|error| reqsign_core::Error::config_invalid(format!("cannot run {program}: {error}")))?;
        Ok(CommandOutput { status: output.status.code().unwrap_or(1), stdout: output.stdout, stderr: output.stderr })
    }
}
