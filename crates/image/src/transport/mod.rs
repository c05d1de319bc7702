//! Where an image is, in the words that skopeo has for it.
//!
//! ```text
//! docker://HOST/REPOSITORY[:TAG][@DIGEST]   a registry; a name without a transport is the same
//! oci:DIR[:NAME]                            an OCI layout; NAME may be @DIGEST
//! oci-archive:FILE[:NAME]                   an OCI layout in a tar
//! docker-archive:FILE[:REPOSITORY:TAG]      what `docker save` writes
//! dir:DIR                                   one image, a file for each part
//! ```
//!
//! Parsing looks at the text only. What is local is read and written here ([`Transport::open`], [`Transport::write`]); who
//! talks to registries is somebody else.

mod local;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::suggest::nearest;
use crate::{Digest, InvalidReference, Name, Reference};

pub use local::Listed;

/// The transports that are supported.
const KNOWN: [&str; 5] = ["docker", "oci", "oci-archive", "docker-archive", "dir"];

/// A place and, where it holds several, the name of an image there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A registry.
    Registry(Reference),
    /// An OCI layout in a directory.
    Layout {
        /// The directory.
        dir: PathBuf,
        /// Which of its images; may be left out if there is one, or to write without a name.
        name: Option<Name>,
    },
    /// An OCI layout in a tar.
    OciArchive {
        /// The tar, compressed or not.
        file: PathBuf,
        /// As for a layout.
        name: Option<Name>,
    },
    /// What `docker save` writes.
    DockerArchive {
        /// The tar, compressed or not.
        file: PathBuf,
        /// `repository:tag`.
        name: Option<String>,
    },
    /// One image, a file for each part.
    Directory(PathBuf),
}

/// Text that names no place, or one that is not supported.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}: {why}")]
pub struct InvalidTransport {
    text: String,
    why: String,
    hint: Option<String>,
}

impl InvalidTransport {
    /// What the user can do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl Transport {
    /// Whether this is a registry.
    pub fn reference(&self) -> Option<&Reference> {
        if let Self::Registry(reference) = self { Some(reference) } else { None }
    }
}

impl FromStr for Transport {
    type Err = InvalidTransport;

    fn from_str(text: &str) -> Result<Self, InvalidTransport> {
        let invalid =
            |why: &str, hint: Option<String>| InvalidTransport { text: text.to_owned(), why: why.to_owned(), hint };
        let (scheme, rest) = text.split_once(':').unwrap_or(("", text));
        match scheme {
            "docker" => {
                let name = rest.strip_prefix("//");
                let hint = || Some(format!("write docker://{rest}"));
                registry(text, name.ok_or_else(|| invalid("a registry's name begins with //", hint()))?)
            }
            "oci" | "oci-archive" | "docker-archive" | "dir" if rest.is_empty() => {
                Err(invalid("the path is missing", Some(format!("write {scheme}:PATH"))))
            }
            "oci" | "oci-archive" => {
                let (path, name) = split(rest);
                let name = name.map(oci_name).transpose().map_err(|why| invalid(&why, None))?;
                let path = PathBuf::from(path);
                Ok(if scheme == "oci" {
                    Self::Layout { dir: path, name }
                } else {
                    Self::OciArchive { file: path, name }
                })
            }
            "docker-archive" => {
                let (path, name) = split(rest);
                let name = name.map(docker_name).transpose().map_err(|error| invalid(&error.to_string(), None))?;
                Ok(Self::DockerArchive { file: path.into(), name })
            }
            "dir" => Ok(Self::Directory(rest.into())),
            "containers-storage" => Err(invalid(
                "the storage of podman and buildah is not read",
                Some("`podman save --format oci-archive -o image.tar NAME`, then oci-archive:image.tar".to_owned()),
            )),
            "docker-daemon" => Err(invalid(
                "Docker's daemon is not asked",
                Some(
                    "`docker save -o image.tar NAME`, then docker-archive:image.tar; `docker load -i` reads one"
                        .to_owned(),
                ),
            )),
            _ if text.starts_with(['/', '.', '~']) => Err(invalid(
                "this is a path, not an image's name",
                Some(format!("say what it is: oci:{text}, oci-archive:{text} or docker-archive:{text}")),
            )),
            _ if rest.starts_with("//") => {
                let host = &rest[2..];
                let plain = if scheme == "http" { "; --tls-verify=false allows plain HTTP" } else { "" };
                Err(invalid("there is no such transport", Some(format!("write docker://{host}{plain}"))))
            }
            // Words this long that are nearly a transport are no repository's name.
            _ => match nearest(scheme, KNOWN).filter(|_| scheme.len() > 5) {
                Some(near) => Err(invalid("there is no such transport", Some(format!("did you mean {near}:{rest}?")))),
                None => registry(text, text),
            },
        }
    }
}

fn registry(text: &str, name: &str) -> Result<Transport, InvalidTransport> {
    let invalid = |error: InvalidReference| {
        let upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
        let hint = matches!(error, InvalidReference::Characters(_)) && upper;
        InvalidTransport {
            text: text.to_owned(),
            why: error.to_string(),
            hint: hint.then(|| "repositories are written in lower case".to_owned()),
        }
    };
    name.parse().map(Transport::Registry).map_err(invalid)
}

/// A path ends at the first colon, as skopeo has it.
fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(path, name)| (path, Some(name).filter(|name| !name.is_empty())))
}

fn oci_name(text: &str) -> Result<Name, String> {
    match text.strip_prefix('@') {
        Some(digest) => digest.parse::<Digest>().map(Name::Digest).map_err(|error| error.to_string()),
        None if text.chars().any(char::is_control) => Err("a name cannot hold control characters".to_owned()),
        None => Ok(Name::Tag(text.to_owned())),
    }
}

/// As it was written, with the tag that it means.
fn docker_name(text: &str) -> Result<String, InvalidReference> {
    let reference: Reference = text.parse()?;
    Ok(if reference.tag.is_some() { text.to_owned() } else { format!("{text}:latest") })
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, scheme: &str, path: &PathBuf, name: Option<String>| {
            write!(f, "{scheme}:{}", path.display())?;
            name.map_or(Ok(()), |name| write!(f, ":{name}"))
        };
        let oci = |name: &Option<Name>| {
            name.as_ref().map(|name| match name {
                Name::Tag(tag) => tag.clone(),
                Name::Digest(digest) => format!("@{digest}"),
            })
        };
        match self {
            // As people write it.
            Self::Registry(reference) => {
                write!(f, "{}", reference.to_string().replacen("index.docker.io/", "docker.io/", 1))
            }
            Self::Layout { dir, name } => named(f, "oci", dir, oci(name)),
            Self::OciArchive { file, name } => named(f, "oci-archive", file, oci(name)),
            Self::DockerArchive { file, name } => named(f, "docker-archive", file, name.clone()),
            Self::Directory(dir) => named(f, "dir", dir, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spelled_as_skopeo_spells_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, expected) in [
            ("alpine", "docker.io/library/alpine"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("docker://r.io/a/b:1", "r.io/a/b:1"),
            ("localhost:5000/app", "localhost:5000/app"),
            ("oci:dir", "oci:dir"),
            ("oci:/a/b:r.io/x:1", "oci:/a/b:r.io/x:1"),
            ("oci:dir:", "oci:dir"),
            ("oci-archive:x.tar:1", "oci-archive:x.tar:1"),
            ("docker-archive:x.tar", "docker-archive:x.tar"),
            ("docker-archive:x.tar:app", "docker-archive:x.tar:app:latest"),
            ("docker-archive:x.tar:r.io:5000/app:2", "docker-archive:x.tar:r.io:5000/app:2"),
            ("dir:a:b", "dir:a:b"),
        ] {
            assert_eq!(text.parse::<Transport>().unwrap().to_string(), expected, "{text}");
        }
        let by_digest = format!("oci:dir:@{digest}").parse::<Transport>().unwrap();
        assert_eq!(
            by_digest,
            Transport::Layout { dir: "dir".into(), name: Some(Name::Digest(digest.parse().unwrap())) }
        );
    }

    #[test]
    fn what_cannot_be_a_place_is_refused_with_a_way_out() {
        for (text, why, hint) in [
            ("containers-storage:x", "podman", "podman save"),
            ("docker-daemon:x:1", "daemon", "docker save"),
            ("docker:alpine", "begins with //", "docker://alpine"),
            ("docker-archve:x.tar", "no such transport", "did you mean docker-archive:x.tar?"),
            ("https://r.io/x", "no such transport", "write docker://r.io/x"),
            ("http://r.io/x", "no such transport", "--tls-verify=false"),
            ("./image.tar", "is a path", "docker-archive:./image.tar"),
            ("oci:", "path is missing", "oci:PATH"),
            ("r.io/App", "characters", "lower case"),
        ] {
            let error = text.parse::<Transport>().unwrap_err();
            assert!(error.to_string().contains(why), "{text}: {error}");
            assert!(error.hint().is_some_and(|given| given.contains(hint)), "{text}: {:?}", error.hint());
        }
        for text in ["", "oci:dir:@sha256:1", "docker-archive:x:UPPER", "oci:d:a\nb"] {
            assert!(text.parse::<Transport>().is_err(), "{text}");
        }
    }
}
