//! What the original has no parameter for, and what its programs read from the environment in either form. Each has one
//! spelling, so that none can be mistaken for one of the original's.

use std::path::PathBuf;

use skycap_image::{Compression, Secret};
use skycap_registry::Proxies;

use super::{Login, Params};
use crate::oci_build::provenance::Provenance;
use crate::oci_build::values::truth;
use crate::{Environment, Failure};

impl Params {
    /// Adds them.
    pub(super) fn with_surroundings(self, environment: &Environment) -> Result<Self, Failure> {
        let get = |name: &str| environment.get(name).map(str::to_owned);
        let either = |upper: &str, lower: &str| get(lower).or_else(|| get(upper));
        let params = Self {
            compression: get("OUTPUT_COMPRESSION").map(|text| compression(&text)).transpose()?,
            build_contexts: named(environment, "BUILD_CONTEXT_").collect(),
            ssh_keys: named(environment, "BUILDKIT_SSHTEXT_").map(|(id, text)| (id, Secret::new(text))).collect(),
            ca_certs: get("REGISTRY_CA_CERTS").unwrap_or_default(),
            sbom: get("ATTEST_SBOM").map(|text| switch("ATTEST_SBOM", &text)).transpose()?.unwrap_or_default(),
            provenance: get("ATTEST_PROVENANCE").map(|text| Provenance::parse(&text)).transpose()?.flatten(),
            docker_config: get("DOCKER_CONFIG").map(PathBuf::from),
            login: Login::read(environment)?,
            proxies: Proxies {
                http: either("HTTP_PROXY", "http_proxy"),
                https: either("HTTPS_PROXY", "https_proxy"),
                no: either("NO_PROXY", "no_proxy"),
            },
            ssh_agent: get("SSH_AUTH_SOCK").map(PathBuf::from),
            source_date_epoch: get("SOURCE_DATE_EPOCH").map(|text| epoch(&text)).transpose()?,
            ..self
        };
        params.settled()
    }
}

/// The variables of a prefix that say something.
fn named<'e>(environment: &'e Environment, prefix: &'e str) -> impl Iterator<Item = (String, String)> + use<'e> {
    let said = environment.with_prefix(prefix).filter(|(name, value)| !name.is_empty() && !value.is_empty());
    said.map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn epoch(text: &str) -> Result<i64, Failure> {
    let parsed = text.trim().parse();
    parsed.map_err(|_| Failure::new(format!("SOURCE_DATE_EPOCH must be seconds since 1970, not {text:?}")))
}

fn switch(name: &str, text: &str) -> Result<bool, Failure> {
    truth(text).ok_or_else(|| Failure::new(format!("{name}: {text:?} is neither true nor false")))
}

fn compression(text: &str) -> Result<Compression, Failure> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        "uncompressed" => Ok(Compression::None),
        other => Err(Failure::new(format!("OUTPUT_COMPRESSION: {other:?} is not known"))
            .with_hint("it is gzip, zstd or uncompressed")),
    }
}
