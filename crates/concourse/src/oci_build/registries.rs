//! Where images come from that are not at hand: registries, each with its mirrors, certificates and ways.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skycap_image::{
    Artifact, Descriptor, Event, ImageSource, Kind, Progress, Reference, Repository, Resolver, Secret, SourceError,
};
use skycap_registry::{Access, Client, ClientCertificate, Keychain, Place, Proxies};

use super::extra_config::{self, RegistryTable};
use super::params::Params;
use crate::inputs::Inputs;
use crate::{Failure, Host};

/// Docker Hub, as `BuildKit`'s configuration names it.
const HUB: &str = "docker.io";

/// The host with the certificates and proxies that the parameters name.
pub(super) fn connected(params: &Params, inputs: &Inputs, host: &Host) -> Result<Host, Failure> {
    let ca_certs = certificates(&params.ca_certs, inputs)?;
    skycap_registry::check_certificates(&ca_certs).map_err(|error| Failure::from(error).during("REGISTRY_CA_CERTS"))?;
    let mut settings = host.settings().clone();
    let Proxies { http, https, no } = params.proxies.clone();
    let own = settings.proxies.clone();
    settings.proxies =
        Proxies { http: http.or(own.http.clone()), https: https.or(own.https.clone()), no: no.or(own.no.clone()) };
    if ca_certs.is_empty() && settings.proxies == own {
        return Ok(host.clone());
    }
    settings.ca_certs.extend(ca_certs);
    host.clone().with_settings(settings)
}

/// Registries, with their mirrors in front.
pub(super) struct Registries {
    client: Client,
    keychain: Keychain,
    /// By `host` or `host:port`.
    known: BTreeMap<String, Known>,
    progress: Arc<dyn Progress>,
}

/// What is known of a registry beforehand.
#[derive(Default)]
struct Known {
    mirrors: Vec<String>,
    insecure_plain_http: bool,
    danger_skip_tls_verification: bool,
    ca_certs: Vec<String>,
    /// Shows a certificate of ours.
    client: Option<Client>,
}

impl Registries {
    /// Reads the files that the parameters name and checks the mirrors' names; logs in where that is asked for.
    pub(super) fn open(params: &Params, inputs: &Inputs, host: &Host) -> Result<Self, Failure> {
        let tables = extra_config::parse(&params.extra_config)?;
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        for (name, table) in tables {
            known.insert(canonical(&name).to_owned(), Known::open(&name, table, inputs, host)?);
        }
        let mirrors = params.registry_mirrors.iter().map(|mirror| mirror.trim().to_owned());
        let mirrors: Vec<String> = mirrors.filter(|mirror| !mirror.is_empty()).collect();
        check_mirrors("REGISTRY_MIRRORS", &mirrors)?;
        if !mirrors.is_empty() {
            let hub = known.entry(HUB.to_owned()).or_default();
            let more: Vec<String> = hub.mirrors.drain(..).filter(|mirror| !mirrors.contains(mirror)).collect();
            hub.mirrors = mirrors.into_iter().chain(more).collect();
        }
        let keychain = match &params.docker_config {
            Some(directory) => keychain(directory, inputs, host)?,
            None => host.keychain.clone(),
        };
        let keychain = match &params.login {
            Some(login) => login.unlock(keychain, &host.client, &host.environment)?,
            None => keychain,
        };
        let progress = Arc::clone(&host.progress);
        Ok(Self { client: host.client.clone(), keychain, known, progress })
    }

    /// Asks the mirrors first, each of which may fail, then the registry itself.
    fn ask<T>(
        &self,
        reference: &Reference,
        ask: impl Fn(&Place) -> Result<Option<T>, SourceError>,
    ) -> Result<Option<T>, SourceError> {
        let repository = &reference.repository;
        let known = self.known.get(canonical(repository.registry()));
        let mirrors = known.map(|known| &known.mirrors[..]).unwrap_or_default();
        for (mirror, there) in mirrors.iter().filter_map(|mirror| Some((mirror, at_mirror(mirror, repository.path())?)))
        {
            // A mirror with a port may be one that speaks plain HTTP.
            let answer = self.place(there, has_port(mirror), false).and_then(|place| ask(&place));
            let problem = match answer {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => continue,
                Err(error) => crate::failure::chain(&error),
            };
            self.progress.event(Event::Warning(&format!("mirror {mirror} failed for {reference}: {problem}")));
        }
        ask(&self.place(repository.clone(), false, false)?)
    }

    /// A repository, not contacted yet.
    pub(super) fn place(&self, repository: Repository, may_be_plain: bool, push: bool) -> Result<Place, SourceError> {
        let credentials = self.keychain.credentials(repository.registry())?;
        let unknown = Known::default();
        let known = self.known.get(canonical(repository.registry())).unwrap_or(&unknown);
        let access = Access {
            credentials,
            push,
            insecure_plain_http: may_be_plain || known.insecure_plain_http,
            danger_skip_tls_verification: known.danger_skip_tls_verification,
            ca_certs: known.ca_certs.clone(),
            ..Access::default()
        };
        known.client.as_ref().unwrap_or(&self.client).place(repository, access)
    }
}

impl Known {
    fn open(name: &str, table: RegistryTable, inputs: &Inputs, host: &Host) -> Result<Self, Failure> {
        let parameter = format!("BUILDKIT_EXTRA_CONFIG: registry.{name:?}");
        check_mirrors(&format!("{parameter}.mirrors"), &table.mirrors)?;
        let read = |key: &str, path: &String| {
            let setting = format!("{parameter}.{key}");
            inputs.text(&setting, Path::new(path)).map_err(|failure| failure.during(&setting))
        };
        let ca_certs: Vec<String> = table.ca.iter().map(|path| read("ca", path)).collect::<Result<_, _>>()?;
        skycap_registry::check_certificates(&ca_certs)
            .map_err(|error| Failure::from(error).during(format_args!("{parameter}.ca")))?;
        let client = match &table.keypair {
            None => None,
            Some(pair) => {
                let (certificate, key) = (read("keypair", &pair.cert)?, Secret::new(read("keypair", &pair.key)?));
                let client_certificate = Some(ClientCertificate { certificate, key });
                let settings = skycap_registry::Settings { client_certificate, ..host.settings().clone() };
                let client = host.client_with(settings);
                Some(client.map_err(|failure| failure.during(format_args!("{parameter}.keypair")))?)
            }
        };
        Ok(Self {
            mirrors: table.mirrors,
            insecure_plain_http: table.http,
            danger_skip_tls_verification: table.insecure,
            ca_certs,
            client,
        })
    }
}

impl Resolver for Registries {
    fn find(&self, reference: &Reference) -> Result<Option<Descriptor>, SourceError> {
        self.ask(reference, |place| place.find(&reference.name()))
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        let found = self.ask(reference, |place| place.get(&reference.name()).map(Some))?;
        found.ok_or_else(|| SourceError::new(Kind::NotFound, format!("no image {reference}")))
    }
}

/// Docker's configuration in a directory of the task.
fn keychain(directory: &Path, inputs: &Inputs, host: &Host) -> Result<Keychain, Failure> {
    let path = directory.join("config.json");
    let Some(bytes) = inputs.read_if_there("DOCKER_CONFIG", &path)? else { return Ok(Keychain::default()) };
    let keychain = Keychain::from_docker_config(&bytes);
    let keychain =
        keychain.map_err(|error| Failure::from(error).during(format_args!("DOCKER_CONFIG: {}", path.display())))?;
    Ok(match host.environment.get("PATH") {
        // Programs that a runner's machine has are not the task's.
        Some(search_path) if !inputs.is_confined() => keychain.with_search_path(search_path.as_ref()),
        _ => keychain,
    })
}

/// Certificates as text, or the paths of files with such.
fn certificates(parameter: &str, inputs: &Inputs) -> Result<Vec<String>, Failure> {
    if parameter.contains("-----BEGIN") {
        return Ok(vec![parameter.to_owned()]);
    }
    let paths = parameter.split(',').map(str::trim).filter(|path| !path.is_empty());
    let read = |path: &str| {
        let text = inputs.text("REGISTRY_CA_CERTS", Path::new(path));
        text.map_err(|failure| failure.during("REGISTRY_CA_CERTS"))
    };
    paths.map(read).collect()
}

/// Docker Hub goes by three names.
fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => HUB,
        other => other,
    }
}

fn check_mirrors(parameter: &str, mirrors: &[String]) -> Result<(), Failure> {
    match mirrors.iter().find(|mirror| at_mirror(mirror, "library/x").is_none()) {
        None => Ok(()),
        Some(mirror) => {
            Err(Failure::new(format!("{parameter}: {mirror:?} is not HOST[:PORT][/PATH]"))
                .with_hint("leave out https://"))
        }
    }
}

fn has_port(mirror: &str) -> bool {
    mirror.split('/').next().is_some_and(|host| host.contains(':'))
}

/// The repository of a mirror that stands for a path at the registry.
fn at_mirror(mirror: &str, path: &str) -> Option<Repository> {
    let (host, prefix) = mirror.split_once('/').unwrap_or((mirror, ""));
    // Without a dot or a port the grammar would take the host for a part of the path.
    let named = if host.contains(['.', ':']) || host == "localhost" { host.to_owned() } else { format!("{host}:443") };
    let prefix = prefix.trim_matches('/');
    let name = if prefix.is_empty() { format!("{named}/{path}") } else { format!("{named}/{prefix}/{path}") };
    let repository: Repository = name.parse().ok()?;
    Some(repository).filter(|_| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_may_have_ports_and_paths() {
        for (mirror, expected) in [
            ("m.example", Some("m.example/library/x")),
            ("m.example:5000", Some("m.example:5000/library/x")),
            ("harbor.example/proxy", Some("harbor.example/proxy/library/x")),
            ("cache", Some("cache:443/library/x")),
            ("localhost", Some("localhost/library/x")),
            ("https://m.example", None),
            ("", None),
            ("m.example/../x", None),
        ] {
            assert_eq!(at_mirror(mirror, "library/x").map(|found| found.to_string()).as_deref(), expected, "{mirror}");
        }
    }
}
