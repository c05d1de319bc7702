//! What the original has no parameter for, and what its programs read from the environment in either form. Each has one
//! spelling, so that none can be mistaken for one of the original's.

use std::path::PathBuf;

use skycap_build::attest::{Attest, InvalidAttest, Provenance, Sbom};
use skycap_image::{Compression, Secret, suggest};
use skycap_registry::Proxies;

use super::{Login, Params};
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
            cache_from: get("CACHE_FROM").unwrap_or_default(),
            cache_to: get("CACHE_TO").unwrap_or_default(),
            ca_certs: get("REGISTRY_CA_CERTS").unwrap_or_default(),
            attest: attest(environment)?,
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

/// What is asked for and cannot be had is an error, so a name that is nearly one of them is as well.
fn attest(environment: &Environment) -> Result<Attest, Failure> {
    const NAMES: [&str; 2] = ["ATTEST_SBOM", "ATTEST_PROVENANCE"];
    for (rest, _) in named(environment, "ATTEST_") {
        let name = format!("ATTEST_{rest}");
        if !NAMES.contains(&name.as_str()) {
            let near = suggest::nearest(&name, NAMES).map(|near| format!("did you mean {near}? ")).unwrap_or_default();
            return Err(Failure::new(format!("{name}: there is no such attestation"))
                .with_hint(format!("{near}known are {}", NAMES.join(" and "))));
        }
    }
    let get = |name: &str| environment.get(name);
    Ok(Attest {
        sbom: get("ATTEST_SBOM").map(|text| attested("ATTEST_SBOM", Sbom::parse(text))).transpose()?.flatten(),
        provenance: get("ATTEST_PROVENANCE").map(provenance).transpose()?.flatten(),
    })
}

/// What `--provenance` of buildx takes, and the bare names of modes.
fn provenance(text: &str) -> Result<Option<Provenance>, Failure> {
    let parsed = Provenance::parse(text);
    let parsed =
        if parsed.is_err() && !text.contains('=') { Provenance::parse(&format!("mode={text}")) } else { parsed };
    attested("ATTEST_PROVENANCE", parsed)
}

fn attested<T>(name: &str, parsed: Result<T, InvalidAttest>) -> Result<T, Failure> {
    parsed.map_err(|error| Failure::new(format!("{name}: {error}")).with_hint(error.hint()))
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
