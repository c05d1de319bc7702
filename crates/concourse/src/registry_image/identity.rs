//! Logins to clouds: `aws_*`, `azure_*` and `google_auth` become a registry, a user and a password before anything else is
//! done.

use skycap_image::{Event, Secret, SourceError};
use skycap_registry::cloud::acr::{Acr, Cloud};
use skycap_registry::cloud::ecr::{self, Ecr, Keys};
use skycap_registry::cloud::{Login, Surroundings, google};
use skycap_registry::{Client, Credentials};

use super::source::{Source, secret};
use crate::protocol::{DecodeError, Value};
use crate::{Failure, Host};

pub(super) const HALF_A_KEY: &str =
    "aws_access_key_id and aws_secret_access_key only count together: AWS's default chain is asked";

/// The fields of the source that say who we are to a cloud.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    aws_access_key_id: String,
    aws_secret_access_key: Secret,
    aws_session_token: Secret,
    aws_region: String,
    aws_role_arn: String,
    aws_role_arns: Vec<String>,
    aws_account_id: String,
    aws_ecr_registry_id: String,
    azure_acr: bool,
    azure_client_id: String,
    azure_tenant_id: String,
    azure_environment: String,
    google_auth: bool,
}

/// Which cloud a source logs in to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Amazon ECR.
    Amazon,
    /// Azure Container Registry.
    Azure,
    /// Google's registries.
    Google,
}

impl Identity {
    /// Reads a field, if it is one of these.
    pub(super) fn field(&mut self, key: &str, value: &Value<'_>) -> Option<Result<(), DecodeError>> {
        Some(match key {
            "aws_access_key_id" => value.string(&mut self.aws_access_key_id),
            "aws_secret_access_key" => secret(value, &mut self.aws_secret_access_key),
            "aws_session_token" => secret(value, &mut self.aws_session_token),
            "aws_region" => value.string(&mut self.aws_region),
            "aws_role_arn" => value.string(&mut self.aws_role_arn),
            "aws_role_arns" => value.strings(&mut self.aws_role_arns),
            "aws_account_id" => value.string(&mut self.aws_account_id),
            "aws_ecr_registry_id" => value.string(&mut self.aws_ecr_registry_id),
            "azure_acr" => value.boolean(&mut self.azure_acr),
            "azure_client_id" => value.string(&mut self.azure_client_id),
            "azure_tenant_id" => value.string(&mut self.azure_tenant_id),
            "azure_environment" => value.string(&mut self.azure_environment),
            "google_auth" => value.boolean(&mut self.google_auth),
            _ => return None,
        })
    }

    /// The cloud that is logged in to, if one is.
    pub(super) fn kind(&self) -> Option<Kind> {
        match () {
            () if !self.aws_region.is_empty() => Some(Kind::Amazon),
            () if self.azure_acr => Some(Kind::Azure),
            () if self.google_auth => Some(Kind::Google),
            () => None,
        }
    }

    /// Fields that say something and do nothing, because the one that they belong to is not set.
    pub(super) fn idle(&self) -> Vec<&'static str> {
        let no_region = self.aws_region.is_empty();
        let table = [
            ("aws_access_key_id", no_region && !self.aws_access_key_id.is_empty()),
            ("aws_role_arn", no_region && !self.aws_role_arn.is_empty()),
            ("aws_role_arns", no_region && !self.aws_role_arns.is_empty()),
            ("aws_account_id", no_region && !self.aws_account_id.is_empty()),
            ("azure_client_id", !self.azure_acr && !self.azure_client_id.is_empty()),
            ("azure_tenant_id", !self.azure_acr && !self.azure_tenant_id.is_empty()),
            ("azure_environment", !self.azure_acr && !self.azure_environment.is_empty()),
        ];
        table.into_iter().filter(|(_, is_idle)| *is_idle).map(|(name, _)| name).collect()
    }

    /// Whether only one of the two halves of Amazon's keys is set, which is then not used.
    pub(super) fn has_half_a_key(&self) -> bool {
        !self.aws_region.is_empty() && self.aws_access_key_id.is_empty() != self.aws_secret_access_key.is_empty()
    }

    pub(super) fn warn(&self, host: &Host) {
        let warning = |text: &str| host.progress.event(Event::Warning(text));
        if self.has_half_a_key() {
            warning(HALF_A_KEY);
        }
        if !self.aws_ecr_registry_id.is_empty() {
            warning("aws_ecr_registry_id is deprecated and not used: aws_account_id names the registry");
        }
        for field in self.idle() {
            let needed = if field.starts_with("aws") { "aws_region" } else { "azure_acr: true" };
            warning(&format!("{field} does nothing without {needed}"));
        }
        if self.cloud().is_none() && !self.azure_environment.is_empty() {
            let known = "AzurePublic, AzureGovernment or AzureChina";
            warning(&format!(
                "azure_environment {:?} is not {known}: the registry's name tells",
                self.azure_environment
            ));
        }
    }

    fn cloud(&self) -> Option<Cloud> {
        Cloud::parse(&self.azure_environment)
    }

    /// The roles to assume, in order.
    fn roles(&self) -> Result<Vec<String>, Failure> {
        match (self.aws_role_arn.is_empty(), self.aws_role_arns.is_empty()) {
            (false, false) => Err(Failure::new("`aws_role_arn` cannot be set at the same time as `aws_role_arns`")),
            (false, true) => Ok(vec![self.aws_role_arn.clone()]),
            (true, _) => Ok(self.aws_role_arns.clone()),
        }
    }

    fn amazon(&self, repository: &str) -> Result<Ecr, Failure> {
        let has_keys = !self.aws_access_key_id.is_empty() && !self.aws_secret_access_key.is_empty();
        Ok(Ecr {
            region: self.aws_region.clone(),
            keys: has_keys.then(|| Keys {
                id: self.aws_access_key_id.clone(),
                secret: self.aws_secret_access_key.clone(),
                session: (!self.aws_session_token.is_empty()).then(|| self.aws_session_token.clone()),
            }),
            roles: self.roles()?,
            account: said(&self.aws_account_id),
            public: is_public(repository),
        })
    }
}

/// A field that is not empty.
fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Whether a repository is in the registry that everybody may read from.
fn is_public(repository: &str) -> bool {
    repository.strip_prefix(ecr::PUBLIC).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a repository names a registry of Amazon's itself.
fn names_ecr(repository: &str) -> bool {
    is_public(repository) || repository.split_once('/').is_some_and(|(first, _)| first.contains(".dkr.ecr."))
}

/// Logs in where the source asks for it. What comes back names its registry, and has the user and password that the cloud gave.
pub(super) fn logged_in(source: Source, host: &Host) -> Result<Source, Failure> {
    source.warn(host);
    source.check_login()?;
    let Some(kind) = source.identity.kind() else { return Ok(source) };
    let surroundings = Surroundings {
        environment: host.environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    };
    let client = Client::new(source.settings(host), source.progress(host))?;
    let during =
        |whom: &str, error: SourceError| Failure::from(error).during(format_args!("cannot authenticate with {whom}"));
    match kind {
        Kind::Amazon => {
            let wanted = source.identity.amazon(&source.repository)?;
            let login = wanted.login(&client, &surroundings).map_err(|error| during("ECR", error))?;
            Ok(source.at_ecr(&login))
        }
        Kind::Azure => {
            let registry = source.parse_repository()?.registry().to_owned();
            let acr = Acr {
                registry,
                client_id: said(&source.identity.azure_client_id),
                tenant: said(&source.identity.azure_tenant_id),
                cloud: source.identity.cloud(),
                plain_http: source.insecure,
            };
            let login = acr.login(&client, &surroundings).map_err(|error| during("ACR", error))?;
            Ok(source.with_credentials(&login.credentials))
        }
        Kind::Google => {
            let credentials = google::login(&client, &surroundings).map_err(|error| during("Google", error))?;
            Ok(source.with_credentials(&credentials))
        }
    }
}

impl Source {
    /// What is wrong with the fields of a login, found before anybody is asked who we are. What a cloud says of us is no
    /// business of Docker Hub's, where a repository is that names no registry.
    pub(super) fn check_login(&self) -> Result<(), Failure> {
        let asked = [!self.identity.aws_region.is_empty(), self.identity.azure_acr, self.identity.google_auth];
        if asked.iter().filter(|is_asked| **is_asked).count() > 1 {
            return Err(Failure::new("of aws_region, azure_acr and google_auth only one can be set"));
        }
        let (whom, field, example) = match self.identity.kind() {
            None => return Ok(()),
            Some(Kind::Amazon) => {
                return self.identity.roles().map(drop).map_err(|f| f.during("cannot authenticate with ECR"));
            }
            Some(Kind::Azure) => ("ACR", "azure_acr", "example.azurecr.io/app"),
            Some(Kind::Google) => ("Google", "google_auth", "europe-docker.pkg.dev/project/app"),
        };
        if !self.is_on_docker_hub() {
            return Ok(());
        }
        let what = format!("cannot authenticate with {whom}: the repository {} is on Docker Hub", self.repository);
        let hint = format!("{field} needs source.repository with its registry, such as {example}");
        Err(Failure::new(what).with_hint(hint))
    }

    /// Whether the login decides in which registry the repository is.
    pub(super) fn gets_its_registry_from_amazon(&self) -> bool {
        self.identity.kind() == Some(Kind::Amazon) && !names_ecr(&self.repository)
    }

    /// Whether the repository is on Docker Hub, where mirrors are asked for it.
    pub(super) fn is_on_docker_hub(&self) -> bool {
        !self.gets_its_registry_from_amazon() && self.parse_repository().is_ok_and(|name| name.is_docker_hub())
    }

    /// The repository at the registry of a login. One that names a registry of Amazon's already stays as it is.
    fn at_ecr(mut self, login: &Login) -> Self {
        if !names_ecr(&self.repository) {
            self.repository = format!("{}/{}", login.registry, self.repository);
        }
        self.with_credentials(&login.credentials)
    }

    fn with_credentials(mut self, credentials: &Credentials) -> Self {
        if let Credentials::Basic { username, password } = credentials {
            self.set_user(username, password);
        }
        self
    }
}
