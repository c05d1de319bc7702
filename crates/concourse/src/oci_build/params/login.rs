//! The login of the fork: `LOGIN`, `REGION`, `REGISTRIES`, `PASS`, `REG_URL`.

use skycap_image::Secret;
use skycap_registry::cloud::{Surroundings, ecr::Ecr};
use skycap_registry::{Client, Credentials, Keychain};

use crate::{Environment, Failure};

/// Where the fork looks for ECR if nothing is said.
const REGION: &str = "eu-west-1";
/// Docker Hub, as Docker's configuration names it.
const HUB: &str = "https://index.docker.io/v1/";

/// Who to become before bases are fetched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Login {
    /// Somebody whom AWS knows, at Amazon's registries.
    Amazon {
        /// The region of the registries.
        region: String,
        /// The accounts whose registries are meant; without any, the account that the keys belong to.
        accounts: Vec<String>,
    },
    /// Somebody with a password.
    Password {
        /// The registry's `host` or `host:port`.
        registry: String,
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
}

impl Login {
    /// What `LOGIN` and its companions say. To the fork every word but `ECR` and `PASS` is no login; here such a word has to be a no.
    pub(super) fn read(environment: &Environment) -> Result<Option<Self>, Failure> {
        let login = environment.get("LOGIN").unwrap_or_default();
        match login.to_ascii_lowercase().as_str() {
            "ecr" => amazon(environment).map(Some),
            "pass" => password(environment).map(Some),
            "" | "none" | "no" | "false" | "off" => Ok(None),
            _ => Err(Failure::new(format!("LOGIN is {login:?}"))
                .with_hint("LOGIN is ECR or PASS; none is needed to build without one")),
        }
    }

    /// The keychain with what the login gives in front.
    pub(in crate::oci_build) fn unlock(
        &self,
        keychain: Keychain,
        client: &Client,
        environment: &Environment,
    ) -> Result<Keychain, Failure> {
        match self {
            Self::Password { registry, username, password } => {
                let credentials = Credentials::Basic { username: username.clone(), password: password.clone() };
                Ok(keychain.with(registry, credentials))
            }
            Self::Amazon { region, accounts } => {
                let variables = environment.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
                let surroundings = Surroundings { environment: variables.collect() };
                let own = [None];
                let accounts: Vec<Option<String>> = accounts.iter().cloned().map(Some).collect();
                let accounts = if accounts.is_empty() { &own[..] } else { &accounts[..] };
                accounts.iter().try_fold(keychain, |keychain, account| {
                    let (account, roles) = (account.clone(), Vec::new());
                    let ecr = Ecr { region: region.clone(), keys: None, roles, account, public: false };
                    let login = ecr.login(client, &surroundings);
                    let login =
                        login.map_err(|error| Failure::new(crate::failure::chain(&error)).during("LOGIN=ECR"))?;
                    Ok(keychain.with(&login.registry, login.credentials))
                })
            }
        }
    }
}

fn amazon(environment: &Environment) -> Result<Login, Failure> {
    let is_set = environment.iter().any(|(name, _)| name == "REGION");
    let of_sdk = || environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION"));
    let region = match environment.get("REGION") {
        Some(region) => region,
        None if is_set => of_sdk().ok_or_else(|| {
            Failure::new("LOGIN=ECR: REGION is empty, and so are AWS_REGION and AWS_DEFAULT_REGION")
                .with_hint("name the region, or leave REGION out for eu-west-1")
        })?,
        None => REGION,
    };
    let accounts = environment.get("REGISTRIES").unwrap_or_default().split(',').map(str::trim);
    let accounts: Vec<String> = accounts.filter(|account| !account.is_empty()).map(str::to_owned).collect();
    // An account becomes part of a host's name.
    if let Some(other) = accounts.iter().find(|account| !account.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(Failure::new(format!("REGISTRIES: {other:?} is no AWS account"))
            .with_hint("accounts are numbers of 12 digits, separated by commas"));
    }
    Ok(Login::Amazon { region: region.to_owned(), accounts })
}

fn password(environment: &Environment) -> Result<Login, Failure> {
    let missing = |what: &str| {
        Failure::new(format!("LOGIN=PASS: {what}")).with_hint("PASS is user:password, REG_URL the registry")
    };
    let pass = environment.get("PASS").ok_or_else(|| missing("PASS env var not set"))?;
    let (username, password) = pass.split_once(':').ok_or_else(|| missing("PASS holds no colon"))?;
    let url = environment.get("REG_URL").unwrap_or(HUB).trim();
    let registry = registry_of(url).ok_or_else(|| {
        Failure::new(format!("REG_URL: {url:?} is no registry"))
            .with_hint("it is HOST[:PORT], or the URL of a registry such as https://index.docker.io/v1/")
    })?;
    let (username, password) = (username.to_owned(), Secret::new(password));
    Ok(Login::Password { registry, username, password })
}

/// The host in a registry's URL.
fn registry_of(url: &str) -> Option<String> {
    let bare = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or(url);
    let host = bare.split('/').next().unwrap_or_default();
    let is_sound = !host.is_empty() && !host.contains(['@', ' ', '?', '#']);
    is_sound.then(|| host.to_owned())
}
