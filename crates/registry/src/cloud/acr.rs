//! Azure Container Registry, as a managed identity or a workload identity.
//!
//! The identity gets a token of Entra ID for Azure's management API; the registry exchanges it for a refresh token of its
//! own, which is the password of a user that is all zeros.

use serde::Deserialize;
use skycap_image::{Event, Kind, Secret, SourceError};

use super::wire::{Question, Wire};
use super::{Login, Surroundings, basic, denied};
use crate::Client;

/// The user that a refresh token is the password of.
const USER: &str = "00000000-0000-0000-0000-000000000000";
/// Where a machine's identities are asked for.
const METADATA: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const METADATA_VERSION: &str = "2018-02-01";
const APP_SERVICE_VERSION: &str = "2019-08-01";
/// The tenant of who knows none.
const COMMON: &str = "common";

/// Azure, of which there are several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cloud {
    /// The one for everybody.
    Public,
    /// For the government of the United States.
    Government,
    /// In China.
    China,
}

impl Cloud {
    /// Reads the cloud's name: `AzurePublic`, `AzureGovernment` or `AzureChina`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "AzurePublic" => Some(Self::Public),
            "AzureGovernment" => Some(Self::Government),
            "AzureChina" => Some(Self::China),
            _ => None,
        }
    }

    /// The cloud that a registry's name belongs to.
    pub fn of_registry(host: &str) -> Self {
        let host = host.to_ascii_lowercase();
        match () {
            () if host.ends_with(".azurecr.us") => Self::Government,
            () if host.ends_with(".azurecr.cn") => Self::China,
            () => Self::Public,
        }
    }

    fn management(self) -> &'static str {
        match self {
            Self::Public => "https://management.azure.com/",
            Self::Government => "https://management.usgovcloudapi.net/",
            Self::China => "https://management.chinacloudapi.cn/",
        }
    }

    fn authority(self) -> &'static str {
        match self {
            Self::Public => "https://login.microsoftonline.com/",
            Self::Government => "https://login.microsoftonline.us/",
            Self::China => "https://login.chinacloudapi.cn/",
        }
    }
}

/// How to become somebody at a registry of Azure's.
#[derive(Clone, Debug)]
pub struct Acr {
    /// The registry's host, such as `example.azurecr.io`.
    pub registry: String,
    /// The client id of a user-assigned identity; without it the system-assigned one, or what the environment says.
    pub client_id: Option<String>,
    /// The tenant; without it the registry is asked.
    pub tenant: Option<String>,
    /// The cloud; without it the registry's name tells.
    pub cloud: Option<Cloud>,
    /// Whether the registry speaks plain HTTP.
    pub plain_http: bool,
}

impl Acr {
    /// Asks for a token, and exchanges it.
    pub fn login(&self, client: &Client, surroundings: &Surroundings) -> Result<Login, SourceError> {
        let wire = Wire(client.clone());
        let token = self.identity_token(&wire, surroundings)?;
        let tenant = match &self.tenant {
            Some(tenant) => tenant.clone(),
            None => self.tenant_of_registry(&wire),
        };
        let fields = [
            ("grant_type", "access_token"),
            ("service", &self.registry),
            ("tenant", &tenant),
            ("access_token", token.reveal()),
        ];
        let exchange = Question::form(&self.url("oauth2/exchange"), &fields)?;
        let answer = wire.ask_ok(&exchange).map_err(|error| SourceError {
            what: format!("the registry does not accept this identity: {}", error.what),
            ..error
        })?;
        let refresh: Refresh = read(&answer, "the registry's answer to the exchange")?;
        Ok(Login { registry: self.registry.clone(), credentials: basic(USER, Secret::new(refresh.refresh_token)) })
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}/{path}", if self.plain_http { "http" } else { "https" }, self.registry)
    }

    fn identity_token(&self, wire: &Wire, surroundings: &Surroundings) -> Result<Secret, SourceError> {
        let cloud = self.cloud.unwrap_or_else(|| Cloud::of_registry(&self.registry));
        let question = match surroundings.variable("AZURE_FEDERATED_TOKEN_FILE") {
            Some(file) => self.workload_identity(cloud, file, surroundings)?,
            None => self.managed_identity(cloud, surroundings)?,
        };
        let answer = wire.ask_ok(&question).map_err(|error| {
            let hint = "azure_acr needs a managed identity of this machine, or a workload identity (AZURE_FEDERATED_TOKEN_FILE)";
            SourceError { what: format!("no Azure identity: {} ({hint})", error.what), ..error }
        })?;
        let token: Access = read(&answer, "the answer of Azure's identity service")?;
        Ok(Secret::new(token.access_token))
    }

    /// Of the machine, or of the service that runs us, which says so in the environment.
    fn managed_identity(&self, cloud: Cloud, surroundings: &Surroundings) -> Result<Question, SourceError> {
        let service = surroundings.variable("IDENTITY_ENDPOINT").zip(surroundings.variable("IDENTITY_HEADER"));
        let (endpoint, version) =
            service.map_or((METADATA, METADATA_VERSION), |(endpoint, _)| (endpoint, APP_SERVICE_VERSION));
        let mut url = url::Url::parse(endpoint)
            .map_err(|error| SourceError::caused(Kind::Other, "IDENTITY_ENDPOINT is not a URL", error))?;
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", version).append_pair("resource", cloud.management());
        if let Some(client_id) = &self.client_id {
            query.append_pair("client_id", client_id);
        }
        drop(query);
        let question = Question::get(url.as_str())?;
        match service {
            Some((_, secret)) => question.with("x-identity-header", secret),
            None => question.with("metadata", "true"),
        }
    }

    /// Of the Kubernetes service account whose token lies in a file.
    fn workload_identity(
        &self,
        cloud: Cloud,
        file: &str,
        surroundings: &Surroundings,
    ) -> Result<Question, SourceError> {
        let of = |own: &Option<String>, name: &str| {
            let found = own.as_deref().or_else(|| surroundings.variable(name)).map(str::to_owned);
            found.ok_or_else(|| denied(format!("a workload identity needs {name}")))
        };
        let client_id = of(&self.client_id, "AZURE_CLIENT_ID")?;
        let tenant = of(&self.tenant, "AZURE_TENANT_ID")?;
        let authority = surroundings.variable("AZURE_AUTHORITY_HOST").unwrap_or(cloud.authority());
        let assertion = Surroundings::token(file)?;
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", &*client_id),
            ("scope", &*format!("{}.default", cloud.management())),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion.reveal()),
        ];
        Question::form(&format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')), &fields)
    }

    /// The registry names its tenant when it asks who we are.
    fn tenant_of_registry(&self, wire: &Wire) -> String {
        let found = Question::get(&self.url("v2/")).and_then(|question| wire.ask(&question));
        let challenge = match &found {
            Ok(answer) => answer.headers.get("www-authenticate").and_then(|value| value.to_str().ok()),
            Err(error) => {
                wire.0.progress.event(Event::Debug(&format!("the registry does not say its tenant: {error}")));
                None
            }
        };
        challenge.and_then(tenant_in).unwrap_or_else(|| COMMON.to_owned())
    }
}

/// `Bearer realm="…?tenant=contoso.com",…`
fn tenant_in(challenge: &str) -> Option<String> {
    let (_, rest) = challenge.split_once("tenant=")?;
    let tenant: String = rest.chars().take_while(|c| !matches!(c, '"' | '&')).collect();
    (!tenant.is_empty()).then_some(tenant)
}

#[derive(Deserialize)]
struct Access {
    access_token: String,
}

#[derive(Deserialize)]
struct Refresh {
    refresh_token: String,
}

fn read<T: serde::de::DeserializeOwned>(body: &[u8], what: &str) -> Result<T, SourceError> {
    // The cause could quote a token.
    serde_json::from_slice(body)
        .map_err(|_| SourceError::new(Kind::Corrupt, format!("{what} is not the document that is expected")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cloud_is_known_by_name_or_by_the_registry() {
        assert_eq!(Cloud::parse("AzureChina"), Some(Cloud::China));
        assert_eq!(Cloud::parse("azurepublic"), None);
        assert_eq!(Cloud::of_registry("Example.AzureCR.us"), Cloud::Government);
        assert_eq!(Cloud::of_registry("example.azurecr.io"), Cloud::Public);
    }

    #[test]
    fn the_tenant_is_read_from_a_challenge() {
        let table = [
            (r#"Bearer realm="https://r/oauth2/token?tenant=t-1&x=y",service="r""#, Some("t-1")),
            (r#"Bearer realm="https://r/oauth2/token",tenant=contoso.com""#, Some("contoso.com")),
            (r#"Bearer realm="https://r/oauth2/token""#, None),
            (r#"Bearer realm="https://r/oauth2/token?tenant=""#, None),
        ];
        for (challenge, expected) in table {
            assert_eq!(tenant_in(challenge).as_deref(), expected, "{challenge}");
        }
    }
}
