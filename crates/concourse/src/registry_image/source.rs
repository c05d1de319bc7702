//! `source` of registry-image, and how it becomes a place to talk to.

use std::sync::Arc;

use skycap_image::{Event, InvalidReference, Platform, Progress, Repository, Secret};
use skycap_registry::{Access, Client, Credentials, Place, Settings};

use super::identity::Identity;
use super::trust::{ContentTrustSource, CosignSource};
use crate::progress::Talkative;
use crate::protocol::{DecodeError, Value};
use crate::{Failure, Host};

pub(super) const HALF_A_LOGIN: &str = "username and password only count together: the one that is set is not used";

/// The fields of `source` that are honoured, as they were written.
#[allow(clippy::struct_excessive_bools, reason = "they are the resource's own switches")]
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    pub(crate) repository: String,
    pub(crate) insecure: bool,
    pub(crate) tag: String,
    pub(crate) tag_regex: String,
    pub(crate) created_at_sort: bool,
    /// What `tag_regex` finds is a version. Not a field of the original.
    pub(crate) tag_regex_semver: bool,
    pub(crate) variant: String,
    pub(crate) semver_constraint: String,
    pub(crate) pre_releases: bool,
    pub(crate) pre_release_prefixes: Vec<String>,
    username: String,
    password: Secret,
    mirror: Option<MirrorSource>,
    ca_certs: Vec<String>,
    pub(crate) platform: Option<PlatformSource>,
    pub(crate) label_regex: String,
    pub(crate) annotation_regex: String,
    pub(crate) debug: bool,
    /// Layers that the registry lacks are fetched from where the manifest says. Not a field of the original.
    pub(crate) foreign_layers: bool,
    /// What a put signs with on a Notary server.
    pub(crate) content_trust: Option<ContentTrustSource>,
    /// What a put signs with, and a get verifies with.
    pub(crate) cosign: Option<CosignSource>,
    /// Who we are to a cloud.
    pub(super) identity: Identity,
}

#[derive(Clone, Debug, Default)]
struct MirrorSource {
    host: String,
    username: String,
    password: Secret,
}

/// `platform`, in the source or in a get's params.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PlatformSource {
    architecture: String,
    os: String,
}

impl Source {
    /// Reads the object field by field.
    pub(crate) fn decode(value: &Value<'_>) -> Result<Self, DecodeError> {
        let mut source = Self::default();
        value.object_of("resource.Source", |key, value| source.field(key, value))?;
        Ok(source)
    }

    fn field(&mut self, key: &str, value: &Value<'_>) -> Result<(), DecodeError> {
        match key {
            "repository" => value.string(&mut self.repository),
            "insecure" => value.boolean(&mut self.insecure),
            "tag" => lenient_string(value, &mut self.tag),
            "tag_regex" => value.string(&mut self.tag_regex),
            "created_at_sort" => value.boolean(&mut self.created_at_sort),
            "tag_regex_semver" => value.boolean(&mut self.tag_regex_semver),
            "variant" => value.string(&mut self.variant),
            "semver_constraint" => value.string(&mut self.semver_constraint),
            "pre_releases" => value.boolean(&mut self.pre_releases),
            "pre_release_prefixes" => value.strings(&mut self.pre_release_prefixes),
            "username" => value.string(&mut self.username),
            "password" => secret(value, &mut self.password),
            "registry_mirror" => decode_mirror(value, &mut self.mirror),
            "content_trust" => ContentTrustSource::decode(value, &mut self.content_trust),
            "cosign" => CosignSource::decode(value, &mut self.cosign),
            "ca_certs" => value.strings(&mut self.ca_certs),
            "platform" => PlatformSource::decode(value, &mut self.platform),
            "label_regex" => value.string(&mut self.label_regex),
            "annotation_regex" => value.string(&mut self.annotation_regex),
            "debug" => value.boolean(&mut self.debug),
            "foreign_layers" => value.boolean(&mut self.foreign_layers),
            _ => self.identity.field(key, value).unwrap_or_else(|| Err(value.unknown().with_hint(meant(key)))),
        }
    }

    /// Somebody else from now on.
    pub(super) fn set_user(&mut self, username: &str, password: &Secret) {
        username.clone_into(&mut self.username);
        self.password = password.clone();
    }

    /// The repository by its full name. The error is only the name's; who asks says what it was needed for.
    pub(crate) fn parse_repository(&self) -> Result<Repository, Failure> {
        let invalid = |error: InvalidReference| {
            let failure = Failure::new(error.to_string());
            way_out(&self.repository).into_iter().fold(failure, Failure::with_hint)
        };
        let repository: Repository = self.repository.parse().map_err(invalid)?;
        // The original refuses names of one letter, which are names elsewhere.
        let official = repository.path().strip_prefix("library/").filter(|_| !self.repository.contains("library/"));
        let path = official.unwrap_or(repository.path());
        if path.len() < 2 { Err(invalid(InvalidReference::Length(path.to_owned()))) } else { Ok(repository) }
    }

    /// The same for check and get, in their words.
    pub(super) fn resolve_repository(&self) -> Result<Repository, Failure> {
        self.parse_repository().map_err(|failure| failure.during("resolve repository"))
    }

    /// The repository at its origin. Opens no connection.
    pub(crate) fn origin(&self, client: &Client, host: &Host, push: bool) -> Result<Place, Failure> {
        let credentials = self.credentials(host)?;
        Ok(client.place(self.parse_repository()?, Access { credentials, push, ..self.access() })?)
    }

    /// Who we are to the repository's registry.
    pub(crate) fn credentials(&self, host: &Host) -> Result<Credentials, Failure> {
        let repository = self.parse_repository()?;
        if self.username.is_empty() || self.password.is_empty() {
            return Ok(host.keychain.credentials(repository.registry())?);
        }
        Ok(Credentials::Basic { username: self.username.clone(), password: self.password.clone() })
    }

    /// Says what is set and does nothing; once in a step.
    pub(super) fn warn(&self, host: &Host) {
        if self.username.is_empty() != self.password.is_empty() {
            host.progress.event(Event::Warning(HALF_A_LOGIN));
        }
        self.identity.warn(host);
    }

    /// Which of user name and password say something.
    pub(super) fn user(&self) -> (Option<&str>, bool) {
        (Some(self.username.as_str()).filter(|name| !name.is_empty()), !self.password.is_empty())
    }

    /// The mirror's host, and whether it has a user of its own.
    pub(super) fn mirror_host(&self) -> Option<(&str, bool)> {
        let mirror = self.mirror.as_ref()?;
        Some((&mirror.host, !mirror.username.is_empty() && !mirror.password.is_empty()))
    }

    /// How many certificates are trusted beside the system's.
    pub(super) fn certificates(&self) -> usize {
        self.ca_certs.len()
    }

    /// The settings for servers beside the registry that the same certificates vouch for.
    pub(super) fn settings(&self, host: &Host) -> Settings {
        let mut settings = host.settings().clone();
        settings.ca_certs.extend(self.ca_certs.iter().cloned());
        settings
    }

    /// The repository at the mirror, where there is one that applies. Its user is its own.
    pub(crate) fn mirror(&self, client: &Client) -> Result<Option<Place>, Failure> {
        let Some(mirror) = &self.mirror else { return Ok(None) };
        let repository = self.parse_repository();
        let repository = repository.map_err(|f| f.during("parse repository").during("failed to resolve mirror"))?;
        if !repository.is_docker_hub() {
            return Ok(None);
        }
        let registry = authority(&mirror.host)?;
        let credentials = if mirror.username.is_empty() || mirror.password.is_empty() {
            Credentials::Anonymous
        } else {
            Credentials::Basic { username: mirror.username.clone(), password: mirror.password.clone() }
        };
        let access = Access { credentials, ..self.access() };
        Ok(Some(client.place(repository.with_registry(&registry), access)?))
    }

    fn access(&self) -> Access {
        Access { insecure_plain_http: self.insecure, ca_certs: self.ca_certs.clone(), ..Access::default() }
    }

    /// Who is told what happens: with `debug`, what else only fault-finders see is said aloud.
    pub(crate) fn progress(&self, host: &Host) -> Arc<dyn Progress> {
        if self.debug { Talkative::around(&host.progress) } else { Arc::clone(&host.progress) }
    }
}

impl PlatformSource {
    /// Reads the object; `null` leaves the platform as it is.
    pub(crate) fn decode(value: &Value<'_>, target: &mut Option<Self>) -> Result<(), DecodeError> {
        if value.is_null() {
            return Ok(());
        }
        let platform = target.get_or_insert_default();
        value.object_of("resource.PlatformField", |key, value| match key {
            "architecture" => value.string(&mut platform.architecture),
            "os" => value.string(&mut platform.os),
            _ => Err(value.unknown()),
        })
    }

    /// The name of the architecture, without a variant.
    pub(super) fn architecture(&self) -> &str {
        self.architecture.split_once('/').map_or(self.architecture.as_str(), |(name, _)| name)
    }

    /// The platform, with what was left out taken from this machine. `arm64/v8` names a variant as well.
    pub(crate) fn platform(&self) -> Platform {
        let host = Platform::host();
        let (architecture, variant) = match self.architecture.split_once('/') {
            Some((architecture, variant)) => (architecture, Some(variant.to_owned())),
            None => (self.architecture.as_str(), None),
        };
        let architecture = if architecture.is_empty() { host.architecture.as_str() } else { architecture };
        let os = if self.os.is_empty() { host.os.as_str() } else { self.os.as_str() };
        Platform { variant, ..Platform::new(os, architecture) }
    }
}

/// A string is taken as it is; anything else becomes its JSON text, so that `tag: 1.10` is `1.10`.
fn lenient_string(value: &Value<'_>, target: &mut String) -> Result<(), DecodeError> {
    if value.text().starts_with('"') || value.is_null() {
        value.string(target)
    } else {
        value.text().clone_into(target);
        Ok(())
    }
}

pub(super) fn secret(value: &Value<'_>, target: &mut Secret) -> Result<(), DecodeError> {
    let mut text = target.reveal().to_owned();
    value.string(&mut text)?;
    *target = Secret::new(text);
    Ok(())
}

fn decode_mirror(value: &Value<'_>, target: &mut Option<MirrorSource>) -> Result<(), DecodeError> {
    if value.is_null() {
        return Ok(());
    }
    let mirror = target.get_or_insert_default();
    value.object_of("resource.RegistryMirror", |key, value| match key {
        "host" => value.string(&mut mirror.host),
        "username" => value.string(&mut mirror.username),
        "password" => secret(value, &mut mirror.password),
        _ => Err(value.unknown()),
    })
}

/// What is called otherwise here: in the source of docker-image, from which people come.
fn meant(field: &str) -> Option<&'static str> {
    Some(match field {
        "insecure_registries" => "insecure: true allows plain HTTP, and ca_certs trusts certificates",
        "regex" | "regexp" | "tag_filter" => "tag_regex is the field for that",
        _ => return None,
    })
}

/// What helps with a repository's name that is none, where it is something that people write.
fn way_out(name: &str) -> Option<&'static str> {
    let last = name.rsplit('/').next().unwrap_or_default();
    Some(match () {
        () if name.contains("://") => "source.repository is written without a scheme, as registry.example/app",
        () if name.contains('@') => {
            "source.repository holds no digest: follow a tag with source.tag, and pin the version"
        }
        () if last.contains(':') => "a tag goes into source.tag",
        () if name.contains(char::is_whitespace) => "there is white space in source.repository",
        () if name.contains(char::is_uppercase) => "names of repositories are written in lower case",
        () => return None,
    })
}

/// The registry that a mirror's `host` names: an authority, nothing else. An empty one is Docker Hub.
fn authority(host: &str) -> Result<String, Failure> {
    let invalid = || {
        let what = "failed to resolve mirror: parse mirror registry: registries must be valid RFC 3986 URI authorities";
        Failure::new(format!("{what}: {host}"))
            .with_hint("registry_mirror.host is host or host:port, without https:// and without a path")
    };
    if host.is_empty() {
        return Ok("index.docker.io".to_owned());
    }
    if host.contains('/') {
        return Err(invalid());
    }
    // A port makes any host a registry in the grammar of names.
    let name = if host.contains(['.', ':']) { format!("{host}/library/x") } else { format!("{host}:443/library/x") };
    let repository: Repository = name.parse().map_err(|_| invalid())?;
    Ok(if host.contains(['.', ':']) { repository.registry().to_owned() } else { host.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::identity::Kind;
    use super::*;
    use crate::protocol::request;

    fn decode(text: &str) -> Result<Source, String> {
        let raw = request(text.as_bytes()).map_err(|e| e.to_string())?;
        Source::decode(&Value::root(&raw, "source")).map_err(|e| e.to_string())
    }

    #[test]
    fn a_tag_that_is_no_string_is_taken_as_it_was_written() -> Result<(), String> {
        for (json, expected) in
            [("\"1.0\"", "1.0"), ("42", "42"), ("42.1", "42.1"), ("1.10", "1.10"), ("true", "true"), ("null", "")]
        {
            assert_eq!(decode(&format!("{{\"tag\":{json}}}"))?.tag, expected);
        }
        Ok(())
    }

    #[test]
    fn a_field_of_a_cloud_without_the_one_it_belongs_to_is_known_to_do_nothing() -> Result<(), String> {
        for (json, kind, idle) in [
            (r#"{"aws_region":"eu-west-1","aws_role_arns":["a"]}"#, Some(Kind::Amazon), &[][..]),
            (r#"{"AWS_role_arns":["a"]}"#, None, &["aws_role_arns"]),
            (r#"{"azure_acr":true,"azure_tenant_id":"t"}"#, Some(Kind::Azure), &[]),
            (r#"{"azure_tenant_id":"t"}"#, None, &["azure_tenant_id"]),
            (r#"{"google_auth":true}"#, Some(Kind::Google), &[]),
            (r#"{"aws_region":"","azure_acr":false,"aws_role_arns":null}"#, None, &[]),
        ] {
            let identity = decode(json)?.identity;
            assert_eq!((identity.kind(), &identity.idle()[..]), (kind, idle), "{json}");
        }
        Ok(())
    }

    #[test]
    fn mirrors_are_authorities() {
        for (host, expected) in [
            ("", Some("index.docker.io")),
            ("mirror", Some("mirror")),
            ("localhost", Some("localhost")),
            ("m.example:5000", Some("m.example:5000")),
            ("docker.io", Some("index.docker.io")),
            ("https://m", None),
            ("m.example/path", None),
            ("m.example:port", None),
            ("a b", None),
            ("user@m.example", None),
        ] {
            assert_eq!(authority(host).ok().as_deref(), expected, "{host}");
        }
    }

    #[test]
    fn a_platform_is_filled_up_from_this_machine() {
        let platform = |architecture: &str, os: &str| {
            PlatformSource { architecture: architecture.to_owned(), os: os.to_owned() }.platform().to_string()
        };
        assert_eq!(platform("s390x", ""), "linux/s390x");
        assert_eq!(platform("", "windows"), format!("windows/{}", Platform::host().architecture));
        assert_eq!(platform("arm64/v8", "linux"), "linux/arm64/v8");
    }

    #[test]
    fn secrets_do_not_show() -> Result<(), String> {
        let source = decode(r#"{"username":"u","password":"hunter2","registry_mirror":{"password":"hunter3"}}"#)?;
        assert!(!format!("{source:?}").contains("hunter"));
        Ok(())
    }
}
