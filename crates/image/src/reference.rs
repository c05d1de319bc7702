//! Names of images, read the way `google/go-containerregistry` reads them, because that is what registry-image users
//! have been writing: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`. Repositories of one letter, which that library refuses, are
//! names to the distribution specification and to Docker, and here as well.

use std::fmt;
use std::str::FromStr;

use crate::{Digest, Name};

/// The registry that a name without a registry means.
const DOCKER_HUB: &str = "index.docker.io";
/// The bytes of a repository's path.
const LONGEST_PATH: usize = 255;

/// A repository in a registry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    registry: String,
    path: String,
}

/// A repository with a tag, a digest, both or neither.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Where it lives.
    pub repository: Repository,
    /// The tag, if one was written.
    pub tag: Option<String>,
    /// The digest, if one was written; it wins over the tag.
    pub digest: Option<Digest>,
}

/// Text that names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// Nothing was written.
    #[error("a repository name must be specified")]
    Empty,
    /// A character that no repository has.
    #[error("repository can only contain the characters `abcdefghijklmnopqrstuvwxyz0123456789_-./`: {0}")]
    Characters(String),
    /// Too long (or too short, for whoever is stricter than the specification).
    #[error("repository must be between 2 and 255 characters in length: {0}")]
    Length(String),
    /// Not `host` or `host:port`.
    #[error("registries must be valid RFC 3986 URI authorities: {0}")]
    Registry(String),
    /// A tag outside `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`.
    #[error("tag can only contain letters, digits, `_`, `-` and `.`, at most 128 of them: {0:?}")]
    Tag(String),
    /// The part behind `@`.
    #[error(transparent)]
    Digest(#[from] crate::InvalidDigest),
}

impl Repository {
    /// The registry's `host` or `host:port`; Docker Hub is `index.docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in that registry, such as `library/ruby`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether this is on Docker Hub.
    pub fn is_docker_hub(&self) -> bool {
        self.registry == DOCKER_HUB
    }

    /// A repository of the same path elsewhere.
    #[must_use]
    pub fn with_registry(&self, registry: &str) -> Self {
        Self { registry: registry.to_owned(), path: self.path.clone() }
    }

    /// This repository with a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, InvalidReference> {
        check_tag(tag)?;
        Ok(Reference { repository: self.clone(), tag: Some(tag.to_owned()), digest: None })
    }

    /// This repository with a digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { repository: self.clone(), tag: None, digest: Some(digest) }
    }
}

impl FromStr for Repository {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.is_empty() {
            return Err(InvalidReference::Empty);
        }
        let (registry, path) = match text.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
            _ => (DOCKER_HUB, text),
        };
        let registry = if registry == "docker.io" { DOCKER_HUB } else { registry };
        check_registry(registry)?;
        check_path(path)?;
        let official = registry == DOCKER_HUB && !path.contains('/');
        let path = if official { format!("library/{path}") } else { path.to_owned() };
        // What is printed must be a name again.
        if path.len() > LONGEST_PATH {
            return Err(InvalidReference::Length(path));
        }
        Ok(Self { registry: registry.to_owned(), path })
    }
}

/// The host and port go into URLs: nothing that could end the authority may pass.
fn check_registry(registry: &str) -> Result<(), InvalidReference> {
    let invalid = || InvalidReference::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            ("v6", if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(invalid)?) })
        }
        None => registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port))),
    };
    let host_is_sound =
        !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let port_is_sound = port.is_none_or(is_port);
    if host_is_sound && port_is_sound { Ok(()) } else { Err(invalid()) }
}

fn check_path(path: &str) -> Result<(), InvalidReference> {
    if path.bytes().any(|b| !matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'/')) {
        return Err(InvalidReference::Characters(path.to_owned()));
    }
    // Components made of nothing or of dots would climb in a URL or in a directory.
    let climbs = path.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if climbs {
        return Err(InvalidReference::Characters(path.to_owned()));
    }
    if path.len() <= LONGEST_PATH { Ok(()) } else { Err(InvalidReference::Length(path.to_owned())) }
}

fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    let sound = !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if sound { Ok(()) } else { Err(InvalidReference::Tag(tag.to_owned())) }
}

impl Reference {
    /// What to ask the repository for: the digest, else the tag, else `latest`.
    pub fn name(&self) -> Name {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => Name::Digest(*digest),
            (None, Some(tag)) => Name::Tag(tag.clone()),
            (None, None) => Name::Tag("latest".to_owned()),
        }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        Ok(Self { repository: name.parse()?, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R89. Found by fuzzing: with `library/` in front the name was too long for itself.
    #[test]
    fn what_is_printed_is_a_name_again() {
        let longest = "a".repeat(247);
        let reference: Reference = longest.parse().unwrap();
        assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
        assert!("a".repeat(248).parse::<Reference>().is_err());
        assert!("host:+80/x/y".parse::<Reference>().is_err());
    }

    #[test]
    fn names_are_read_as_go_containerregistry_reads_them() {
        for (text, expected) in [
            ("ruby", "index.docker.io/library/ruby"),
            ("docker.io/tlwr/my-image", "index.docker.io/tlwr/my-image"),
            ("localhost/x/y", "localhost/x/y"),
            ("127.0.0.1:5000/aa:1.2", "127.0.0.1:5000/aa:1.2"),
            ("127.0.0.1:5000/a:1.2", "127.0.0.1:5000/a:1.2"),
            ("a", "index.docker.io/library/a"),
            ("[::1]:5000/ab", "[::1]:5000/ab"),
            ("a.b/c-d_e/f.g:T_1", "a.b/c-d_e/f.g:T_1"),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), expected);
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let digest = Digest::sha256(b"");
        let reference: Reference = format!("ruby:3@{digest}").parse().unwrap();
        assert_eq!(reference.name(), Name::Digest(digest));
        assert_eq!("ruby".parse::<Reference>().unwrap().name(), Name::Tag("latest".into()));
    }

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "",
            "UPPER/case",
            "a.b/../c",
            "a.b//c",
            "a.b/c/",
            "a.b:port/cc",
            "x y/zz",
            "a.b/cc:-t",
            "a.b/cc:",
            "a.b/cc@sha256:1",
            "user@host.io/cc",
            "host.io?x/cc",
            "[::1/cc",
            "localhost:99999/cc",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}
