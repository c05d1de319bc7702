//! Values of single flags: text from the shell becomes what a build is asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use skycap_build::dockerfile::Network;
use skycap_build::ignore::Ignore;
use skycap_build::remote::is_repository;
use skycap_build::ssh::SshSource;
use skycap_build::{Entitlement, NamedContext};
use skycap_image::transport::Transport;
use skycap_image::{Platform, Reference, SecretBytes};

use super::keys::{Fields, misplaced};
use crate::failure::Failure;

/// As `BuildKit` has it.
const LARGEST_SECRET: u64 = 500 * 1024;

/// The process's environment.
pub type Variables = BTreeMap<String, String>;

/// A value of a flag, read.
pub fn argument<T: FromStr<Err: std::fmt::Display>>(flag: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|error| Failure::usage(format!("{flag} {text}: {error}")))
}

/// `NAME=VALUE`; the last of a name wins.
pub fn pair(flag: &str, text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) => Err(misplaced(flag, text, 0, "the name is missing: expected NAME=VALUE")),
        None => Err(misplaced(flag, text, text.chars().count(), "expected NAME=VALUE")),
    }
}

/// `NAME=VALUE`, or `NAME` with the value of that variable; without such a variable the argument counts as not given.
pub fn build_args(texts: &[String], variables: &Variables) -> Result<BTreeMap<String, String>, Failure> {
    let mut arguments = BTreeMap::new();
    for text in texts {
        if text.contains('=') {
            arguments.extend([pair("--build-arg", text)?]);
        } else if text.is_empty() {
            return Err(Failure::usage("--build-arg: the name is missing: expected NAME=VALUE or NAME"));
        } else if let Some(value) = variables.get(text) {
            arguments.insert(text.clone(), value.clone());
        }
    }
    Ok(arguments)
}

/// Platforms, each once.
pub fn platforms(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts {
        let text = text.trim();
        let platform = if text == "local" { Platform::host() } else { platform(text)? };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

fn platform(text: &str) -> Result<Platform, Failure> {
    skycap_build::platform::parse(text)
        .map_err(|error| Failure::usage(format!("--platform {text}: {error}")).with_hint(error.hint()))
}

/// `NAME:IP` or `NAME=IP`; an IPv6 address may stand in brackets.
pub fn add_host(text: &str) -> Result<(String, IpAddr), Failure> {
    const FLAG: &str = "--add-host";
    let Some((name, address)) = text.split_once('=').or_else(|| text.split_once(':')) else {
        return Err(misplaced(FLAG, text, text.chars().count(), "expected NAME:IP"));
    };
    if name.is_empty() || name.contains(char::is_whitespace) {
        return Err(misplaced(FLAG, text, 0, "this is no name of a host"));
    }
    if address == "host-gateway" {
        return Err(misplaced(
            FLAG,
            text,
            name.chars().count() + 1,
            "there is no gateway: RUN has the network of this machine",
        )
        .with_hint(format!("{name}:127.0.0.1 is this machine")));
    }
    let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| misplaced(FLAG, text, name.chars().count() + 1, "this is no IP address"))?;
    Ok((name.to_owned(), address))
}

/// What every RUN is connected to.
pub fn network(text: Option<&str>) -> Result<Network, Failure> {
    match text {
        None | Some("default") => Ok(Network::Default),
        Some("none") => Ok(Network::None),
        Some("host") => Ok(Network::Host),
        Some(other) => {
            Err(Failure::usage(format!("--network {other}: there is no such network"))
                .with_hint("default, none or host"))
        }
    }
}

/// `security.insecure`, `network.host`.
pub fn allow(texts: &[String]) -> Result<BTreeSet<Entitlement>, Failure> {
    texts.iter().map(|text| argument("--allow", text)).collect()
}

/// `id=ID[,src=FILE|,env=NAME][,type=file|env]`.
pub fn secret(text: &str, variables: &Variables) -> Result<(String, SecretBytes), Failure> {
    let fields = Fields::parse("--secret", text)?;
    let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
    for field in &fields.list {
        let value = || fields.value(field).map(str::to_owned);
        match field.key.as_str() {
            "id" => id = Some(value()?),
            "src" | "source" => file = Some(value()?),
            "env" => variable = Some(value()?),
            "type" => match fields.value(field)? {
                known @ ("file" | "env") => kind = Some(known.to_owned()),
                _ => return Err(fields.wrong(field, "a secret's type is file or env")),
            },
            _ => return Err(fields.unknown(field, &["id", "src", "source", "env", "type"])),
        }
    }
    let id = id.ok_or_else(|| fields.incomplete("the id is missing: id=NAME"))?;
    match kind.as_deref() {
        // With type=env the source is a variable's name.
        Some("env") if variable.is_none() => variable = file.take().or_else(|| Some(id.clone())),
        Some("file") if variable.is_some() => return Err(fields.incomplete("type=file and env= contradict each other")),
        _ => {}
    }
    match (file, variable) {
        (Some(_), Some(_)) => Err(fields.incomplete("src= and env= contradict each other")),
        (None, Some(name)) => {
            let value =
                variables.get(&name).ok_or_else(|| fields.incomplete(&format!("there is no variable {name}")))?;
            Ok((id, SecretBytes::new(value.as_str())))
        }
        (Some(path), None) => Ok((id, secret_file(&fields, Path::new(&path))?)),
        (None, None) => {
            if let Some(value) = variables.get(&id).filter(|_| kind.is_none()) {
                return Ok((id, SecretBytes::new(value.as_str())));
            }
            let secret = secret_file(&fields, Path::new(&id));
            let hint = "src=FILE or env=NAME says where the secret is";
            Ok((id, secret.map_err(|failure| failure.with_hint(hint))?))
        }
    }
}

fn secret_file(fields: &Fields<'_>, path: &Path) -> Result<SecretBytes, Failure> {
    let failed = |why: &dyn std::fmt::Display| fields.incomplete(&format!("cannot read {}: {why}", path.display()));
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    file.take(LARGEST_SECRET + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > LARGEST_SECRET {
        return Err(failed(&format!("a secret has {LARGEST_SECRET} bytes at most")));
    }
    Ok(SecretBytes::new(bytes))
}

/// Every `--ssh`. As in buildx, a context that git fetches by SSH may ask the user's agent where nothing else is said.
pub fn agents(texts: &[String], context: &str, variables: &Variables) -> Result<BTreeMap<String, SshSource>, Failure> {
    let has_agent = variables.get("SSH_AUTH_SOCK").is_some_and(|path| !path.is_empty());
    let own = ["default".to_owned()];
    let is_default = texts.is_empty() && has_agent && (context.starts_with("git@") || context.starts_with("ssh://"));
    let texts = if is_default { &own[..] } else { texts };
    texts.iter().map(|text| ssh(text, variables)).collect()
}

/// `ID[=SOCKET|KEY[,KEY…]]`.
fn ssh(text: &str, variables: &Variables) -> Result<(String, SshSource), Failure> {
    let (id, paths) = match text.split_once('=') {
        Some((id, paths)) => (id, paths.split(',').map(PathBuf::from).collect()),
        None => (text, Vec::new()),
    };
    if id.is_empty() {
        return Err(misplaced("--ssh", text, 0, "the id is missing: expected default, or ID=SOCKET or ID=KEY"));
    }
    let paths: Vec<PathBuf> = if paths.is_empty() {
        let agent = variables.get("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).ok_or_else(|| {
            Failure::usage(format!("--ssh {text}: there is no agent: SSH_AUTH_SOCK is not set"))
                .with_hint(format!("start one with `eval $(ssh-agent)` and `ssh-add`, or name a key: --ssh {id}=KEY"))
        })?;
        vec![PathBuf::from(agent)]
    } else {
        paths
    };
    let source = SshSource::open(&paths).map_err(|error| {
        let failure = Failure::usage(format!("--ssh {text}: {}", crate::failure::chain(&error)));
        if let Some(hint) = error.hint() { failure.with_hint(hint) } else { failure }
    })?;
    Ok((id.to_owned(), source))
}

/// `NAME=CONTEXT`.
pub fn build_context(text: &str) -> Result<(String, NamedContext), Failure> {
    const FLAG: &str = "--build-context";
    let (name, value) = pair(FLAG, text)?;
    let column = name.chars().count() + 1;
    let wrong = |what: &str| misplaced(FLAG, text, column, what);
    if matches!(name.as_str(), "context" | "scratch") {
        return Err(misplaced(FLAG, text, 0, "this name cannot stand for something else"));
    }
    let context = if let Some(image) = value.strip_prefix("docker-image://") {
        NamedContext::Reference(image.parse::<Reference>().map_err(|error| wrong(&error.to_string()))?)
    } else if let Some(layout) = value.strip_prefix("oci-layout://") {
        NamedContext::Image(layout_image(layout).map_err(|why| wrong(&why))?)
    } else if value.is_empty() {
        return Err(wrong("the context is missing"));
    } else if is_git(&value) {
        NamedContext::Git(value)
    } else if is_http(&value) {
        NamedContext::Http(value)
    } else {
        let path = PathBuf::from(&value);
        if !path.is_dir() {
            return Err(wrong("there is no such directory")
                .with_hint("docker-image://REF, oci-layout://DIR:TAG, a git or http(s) URL, or a directory"));
        }
        let ignore = Ignore::for_dockerfile(&path, &path.join(""))?;
        NamedContext::Directory { path, ignore }
    };
    Ok((name, context))
}

/// `DIR`, `DIR:TAG`, `DIR@DIGEST` or both.
fn layout_image(text: &str) -> Result<skycap_image::Artifact, String> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let (dir, tag) =
        rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or((rest, None), |(dir, tag)| (dir, Some(tag)));
    let name = match (digest, tag) {
        (Some(digest), _) => format!("oci:{dir}:@{digest}"),
        (None, Some(tag)) => format!("oci:{dir}:{tag}"),
        (None, None) => format!("oci:{dir}"),
    };
    let place: Transport =
        name.parse().map_err(|error: skycap_image::transport::InvalidTransport| error.to_string())?;
    place.open().map_err(|error| crate::failure::chain(&error))
}

/// What Docker takes for a git repository: a git URL, or an http(s) one whose path ends in `.git`.
pub fn is_git(text: &str) -> bool {
    text.starts_with("github.com/") || is_repository(text)
}

pub fn is_http(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Seconds since 1970 for the times in the image.
pub fn source_date_epoch(variables: &Variables) -> Result<Option<i64>, Failure> {
    let text = variables.get("SOURCE_DATE_EPOCH").filter(|text| !text.is_empty());
    text.map(|text| {
        text.parse().map_err(|_| Failure::usage(format!("SOURCE_DATE_EPOCH={text}: expected seconds since 1970")))
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_docker_reads_them() {
        for (text, name, address) in [
            ("a:10.0.0.1", "a", "10.0.0.1"),
            ("a=::1", "a", "::1"),
            ("b:::1", "b", "::1"),
            ("b=[fe80::1]", "b", "fe80::1"),
        ] {
            assert_eq!(add_host(text).unwrap(), (name.to_owned(), address.parse().unwrap()), "{text}");
        }
        for text in ["", "a", ":10.0.0.1", "a:b", "a:host-gateway", "a b:10.0.0.1"] {
            assert_eq!(add_host(text).unwrap_err().code, 2, "{text}");
        }
    }

    #[test]
    fn arguments_come_from_the_shell_or_the_environment() {
        let variables = Variables::from([("TOKEN".to_owned(), "x=y".to_owned())]);
        let texts = ["A=1", "A=2", "TOKEN", "MISSING", "E="].map(str::to_owned);
        let found = build_args(&texts, &variables).unwrap();
        let expected = [("A", "2"), ("E", ""), ("TOKEN", "x=y")];
        assert_eq!(found, expected.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect());
        assert!(build_args(&["=x".to_owned()], &variables).is_err());
    }

    #[test]
    fn git_is_told_from_files() {
        for text in [
            "https://h/r.git",
            "https://h/r.git#main:sub",
            "git@h:r",
            "git://h/r",
            "https://h/r.git?ref=x",
            "ssh://h/r",
        ] {
            assert!(is_git(text), "{text}");
        }
        for text in ["https://h/r.tar.gz", "./r.git", "http://h/x#.git"] {
            assert!(!is_git(text), "{text}");
        }
    }
}
