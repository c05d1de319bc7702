//! Asks the two kinds of servers: Docker Hub's web API and registries.
//!
//! A registry is first asked as the original asks it, credentials unbidden. One that wants a token says so, and is then
//! asked again by the client that `registry-image` uses.

use std::collections::BTreeSet;

use serde_json::Value;
use skycap_image::{Digest, ImageSource as _, Name, Platform, Repository};
use skycap_registry::http::{Response, shown};
use skycap_registry::{Access, Credentials, Place};
use url::Url;

use super::source::Source;
use crate::{Failure, Host};

/// What of a manifest's forms is understood, newest last, as registry-image asks.
const MANIFESTS: &str = "application/vnd.docker.distribution.manifest.v2+json,application/vnd.oci.image.manifest.v1+json,\
    application/vnd.docker.distribution.manifest.list.v2+json,application/vnd.oci.image.index.v1+json";
/// The host of Docker Hub's web API.
const HUB: &str = "hub.docker.com";

/// A repository to ask about its tags.
pub(super) struct Site<'s> {
    source: &'s Source,
    host: &'s Host,
    base: Url,
    is_hub: bool,
}

impl<'s> Site<'s> {
    /// Checks the uri; asks nobody.
    pub(super) fn new(source: &'s Source, host: &'s Host) -> Result<Self, Failure> {
        let invalid = |why: &str| {
            Failure::new(format!("source.uri {:?} {why}", redacted(&source.uri))).with_hint(
                "examples: https://hub.docker.com/v2/repositories/library/ruby, https://quay.io/v2/coreos/etcd",
            )
        };
        let base =
            Url::parse(source.uri.trim_end_matches('/')).map_err(|error| invalid(&format!("is no URL: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(invalid("is no http or https URL"));
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(invalid("holds a user: write username and password beside it"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(invalid("holds a query or a fragment"));
        }
        let path_says_hub = base.path_segments().is_some_and(|mut segments| segments.next() == Some(HUB));
        let is_hub = base.host_str() == Some(HUB) || path_says_hub;
        if is_hub && source.credentials != Credentials::Anonymous {
            return Err(Failure::new("basic auth not supported")
                .with_hint("Docker Hub's web API is asked anonymously; remove username and password"));
        }
        Ok(Self { source, host, base, is_hub })
    }

    /// The tags of the first pages, in the server's order.
    pub(super) fn tags(&self) -> Result<Vec<String>, Failure> {
        let mut tags = Vec::new();
        let mut next = Some(self.first_page());
        let mut asked = BTreeSet::new();
        for _ in 0..self.source.pages {
            let Some(url) = next.take().filter(|url| asked.insert(url.clone())) else { break };
            let response = self.ask(&url, &[])?;
            if response.status == 401 && !self.is_hub {
                return self.tags_with_token();
            }
            let document = document(&response)?;
            let link = if self.is_hub {
                tags.extend(hub_tags(&response.url, &document)?);
                document.get("next").and_then(Value::as_str)
            } else {
                tags.extend(registry_tags(&response.url, &document)?);
                response.next_page()
            };
            next = link.map(|link| join(&response.url, link)).transpose()?;
        }
        Ok(tags)
    }

    /// What a tag stands for now.
    pub(super) fn digest(&self, tag: &str) -> Result<String, Failure> {
        if self.is_hub {
            let response = self.ask(&self.below(&["tags", tag]), &[])?;
            let platform = Platform::host();
            return hub_digest(&document(&response)?, &platform).ok_or_else(|| {
                let url = shown(&response.url);
                Failure::new(format!("{url} states no digest for {platform} and none for the tag itself"))
            });
        }
        let response = self.ask(&self.below(&["manifests", tag]), &[("accept", MANIFESTS)])?;
        match response.status {
            401 => self.digest_with_token(tag),
            200 => {
                let stated = response.header("docker-content-digest").and_then(|digest| digest.parse::<Digest>().ok());
                Ok(stated.unwrap_or_else(|| Digest::sha256(&response.body)).to_string())
            }
            _ => Err(unexpected(&response)),
        }
    }

    fn tags_with_token(&self) -> Result<Vec<String>, Failure> {
        let mut tags = self.place()?.tags()?;
        tags.truncate(self.source.pages.saturating_mul(self.source.tags_per_page));
        Ok(tags)
    }

    fn digest_with_token(&self, tag: &str) -> Result<String, Failure> {
        let place = self.place()?;
        let found = place.find(&Name::Tag(tag.to_owned()))?;
        let found = found.ok_or_else(|| Failure::new(format!("no tag {tag} in {}", place.repository())))?;
        Ok(found.digest.to_string())
    }

    /// The repository as registry-image sees it.
    fn place(&self) -> Result<Place, Failure> {
        let authority = match (self.base.host_str(), self.base.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (host, _) => {
                format!("{}:{}", host.unwrap_or_default(), if self.base.scheme() == "http" { 80 } else { 443 })
            }
        };
        let path = self.base.path().strip_prefix("/v2/").ok_or_else(|| {
            Failure::new(format!("{} wants a token, but its path does not begin with /v2/", self.base))
        })?;
        let repository: Result<Repository, _> = format!("{authority}/{path}").parse();
        let repository = repository.map_err(|error| Failure::new(format!("source.uri {}: {error}", self.base)))?;
        let access = Access {
            credentials: self.source.credentials.clone(),
            insecure_plain_http: self.base.scheme() == "http",
            ..Access::default()
        };
        Ok(self.host.client.place(repository, access)?)
    }

    fn first_page(&self) -> Url {
        let count = self.source.tags_per_page.to_string();
        let (mut url, parameter) =
            if self.is_hub { (self.below(&["tags"]), "page_size") } else { (self.below(&["tags", "list"]), "n") };
        url.query_pairs_mut().append_pair(parameter, &count);
        url
    }

    /// A URL below the repository's; segments are escaped.
    fn below(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// GETs; the credentials are for the repository's host. 200 and 401 are for the caller, anything else is an error.
    fn ask(&self, url: &Url, headers: &[(&str, &str)]) -> Result<Response, Failure> {
        let anonymous = Credentials::Anonymous;
        let credentials = if url.origin() == self.base.origin() { &self.source.credentials } else { &anonymous };
        let response = self.host.client.get(url.as_str(), headers, credentials)?;
        if matches!(response.status, 200 | 401) { Ok(response) } else { Err(unexpected(&response)) }
    }
}

fn redacted(uri: &str) -> String {
    match uri.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
        Some((scheme, rest)) => format!("{scheme}://***@{rest}"),
        None => uri.to_owned(),
    }
}

fn unexpected(response: &Response) -> Failure {
    Failure::new(format!("expected 200 but received {} from {}", response.status, shown(&response.url)))
}

fn document(response: &Response) -> Result<Value, Failure> {
    if response.status != 200 {
        return Err(unexpected(response));
    }
    serde_json::from_slice(&response.body)
        .map_err(|error| Failure::new(format!("{} did not answer JSON: {error}", shown(&response.url))))
}

fn hub_tags(url: &Url, document: &Value) -> Result<Vec<String>, Failure> {
    let results = document.get("results").and_then(Value::as_array);
    let results = results.ok_or_else(|| Failure::new(format!("{} did not answer a list of tags", shown(url))))?;
    let name = |result: &Value| result.get("name").and_then(Value::as_str).map(str::to_owned);
    Ok(results.iter().filter_map(name).collect())
}

fn registry_tags(url: &Url, document: &Value) -> Result<Vec<String>, Failure> {
    match document.get("tags") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(tags)) => Ok(tags.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        Some(_) => Err(Failure::new(format!("{} did not answer a list of tags", shown(url)))),
    }
}

/// The digest of the platform's image, else that of the whole tag.
fn hub_digest(document: &Value, platform: &Platform) -> Option<String> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let images = document.get("images").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let serves = |image: &&Value| {
        let field = |key| text(image, key).unwrap_or_default();
        platform.accepts(&Platform::new(&field("os"), &field("architecture")))
    };
    let of_platform = images.iter().filter(serves).find_map(|image| text(image, "digest"));
    of_platform.or_else(|| text(document, "digest")).filter(|digest| !digest.is_empty())
}

/// The next page: relative to this one, on the same host.
fn join(url: &Url, next: &str) -> Result<Url, Failure> {
    let joined = url
        .join(next)
        .map_err(|error| Failure::new(format!("{} names a next page that is no URL: {error}", shown(url))))?;
    if url.origin() == joined.origin() {
        return Ok(joined);
    }
    Err(Failure::new(format!("{} names a next page on another host: {}", shown(url), shown(&joined))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_next_page_is_on_the_same_host() -> Result<(), Box<dyn std::error::Error>> {
        let url = Url::parse("https://r.example/v2/a/tags/list?n=2")?;
        for (next, expected) in [
            ("/v2/a/tags/list?n=2&last=b", Some("https://r.example/v2/a/tags/list?n=2&last=b")),
            ("https://r.example/x", Some("https://r.example/x")),
            ("?last=b", Some("https://r.example/v2/a/tags/list?last=b")),
            ("https://evil.example/x", None),
            ("http://r.example/x", None),
            ("https://r.example:x/", None),
        ] {
            assert_eq!(join(&url, next).ok().as_ref().map(Url::as_str), expected, "{next}");
        }
        Ok(())
    }

    #[test]
    fn docker_hub_states_digests_by_platform() {
        let document = json!({
            "digest": "sha256:index",
            "images": [
                {"os": "linux", "architecture": "arm64", "digest": "sha256:arm"},
                {"os": "linux", "architecture": "amd64", "digest": "sha256:amd"},
            ],
        });
        let found = |platform: &str| hub_digest(&document, &platform.parse().ok()?);
        assert_eq!(found("linux/amd64").as_deref(), Some("sha256:amd"));
        assert_eq!(found("linux/s390x").as_deref(), Some("sha256:index"));
        assert_eq!(hub_digest(&json!({"images": []}), &Platform::host()), None);
        assert_eq!(hub_digest(&json!({"digest": ""}), &Platform::host()), None);
    }

    #[test]
    fn users_in_the_uri_do_not_show() {
        assert_eq!(redacted("https://u:p@r.example/v2/x"), "https://***@r.example/v2/x");
        assert_eq!(redacted("nonsense"), "nonsense");
    }
}
