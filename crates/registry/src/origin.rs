//! Which URL answers for a registry's name.

use std::collections::BTreeMap;
use std::net::IpAddr;

use skycap_image::{Kind, SourceError};
use url::Url;

/// Where a registry is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Origin {
    /// The settings say it.
    Told(Url),
    /// At its own name: in HTTPS, or else, where that is allowed, in plain HTTP.
    Named { https: Url, http: Option<Url> },
}

/// Finds the origin of `host` or `host:port`.
pub(crate) fn origin(registry: &str, hosts: &Hosts, insecure_plain_http: bool) -> Result<Origin, SourceError> {
    if let Some(told) = hosts.get(registry) {
        return Ok(Origin::Told(told.clone()));
    }
    let parse = |scheme: &str| {
        Url::parse(&format!("{scheme}://{registry}/"))
            .map_err(|error| SourceError::caused(Kind::Other, format!("{registry:?} is not a registry's host"), error))
    };
    let http = if insecure_plain_http || may_be_plain(registry) { Some(parse("http")?) } else { None };
    Ok(Origin::Named { https: parse("https")?, http })
}

/// Registries that everybody runs without TLS: on this machine and in private IPv4 networks.
fn may_be_plain(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => (host, true),
        _ => (registry, false),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => address.is_private() || address.octets() == [127, 0, 0, 1],
        Ok(IpAddr::V6(address)) => address.is_loopback(),
        Err(_) => (host == "localhost" && port) || host.ends_with(".localhost"),
    }
}

/// Who answers instead of whom.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts(BTreeMap<String, Url>);

impl Hosts {
    /// Checks the settings' map.
    pub fn parse(map: &BTreeMap<String, String>) -> Result<Self, SourceError> {
        let mut hosts = BTreeMap::new();
        for (host, base) in map {
            let sound = Url::parse(base).ok().filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.path() == "/"
                    && url.query().is_none()
                    && url.username().is_empty()
                    && url.password().is_none()
            });
            let url = sound.ok_or_else(|| {
                let what =
                    format!("{host} cannot be answered by {base:?} (expected a URL such as http://127.0.0.1:5000)");
                SourceError::new(Kind::Other, what)
            })?;
            hosts.insert(canonical(host).to_owned(), url);
        }
        Ok(Self(hosts))
    }

    /// Who answers for `host` or `host:port`.
    pub fn get(&self, host: &str) -> Option<&Url> {
        self.0.get(canonical(host))
    }
}

/// Docker Hub goes by three names.
pub(crate) fn canonical(host: &str) -> &str {
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_registries_close_by() {
        for (registry, expected) in [
            ("localhost:5000", true),
            ("localhost", false),
            ("a.localhost", true),
            ("a.localhost:80", true),
            ("127.0.0.1", true),
            ("127.0.0.1:5000", true),
            ("10.0.0.1:5000", true),
            ("192.168.1.1", true),
            ("[::1]:5000", true),
            ("8.8.8.8:5000", false),
            ("r.example.com:5000", false),
            ("127.0.0.1.example.com", false),
        ] {
            assert_eq!(may_be_plain(registry), expected, "{registry}");
            let Origin::Named { http, .. } = origin(registry, &Hosts::default(), false).unwrap() else { panic!() };
            assert_eq!(http.is_some(), expected, "{registry}");
        }
    }

    #[test]
    fn another_host_answers_for_docker_hub_under_each_of_its_names() {
        for name in ["docker.io", "index.docker.io", "registry-1.docker.io"] {
            let map = BTreeMap::from([(name.to_owned(), "http://127.0.0.1:5000".to_owned())]);
            let hosts = Hosts::parse(&map).unwrap();
            let told = Origin::Told(Url::parse("http://127.0.0.1:5000").unwrap());
            assert_eq!(origin("index.docker.io", &hosts, false).unwrap(), told);
        }
    }

    #[test]
    fn a_base_that_is_no_origin_is_refused() {
        for base in ["", "127.0.0.1:5000", "ftp://x/", "http://x/prefix", "http://u:p@x/"] {
            let map = BTreeMap::from([("r.io".to_owned(), base.to_owned())]);
            assert!(Hosts::parse(&map).is_err(), "{base}");
        }
    }
}
