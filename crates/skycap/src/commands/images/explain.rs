//! Why an image could not be had, and what the user can do about it.

use std::path::Path;

use skycap_image::archive;
use skycap_image::suggest::most_like;
use skycap_image::transport::Transport;
use skycap_image::{Kind, Reference, SourceError};
use skycap_registry::{ELSEWHERE, Place};

use crate::failure::{Failure, chain};

/// As many names are shown.
const SHOWN: usize = 6;

/// An error of a registry. If a tag is missing, the registry is asked for tags like it.
pub fn registry(error: &SourceError, reference: &Reference, place: &Place) -> Failure {
    let failure = Failure::new(chain(error));
    if let Some(hint) = lies_here(reference) {
        return failure.with_hint(hint);
    }
    let hint = match error.kind {
        // A part of what was to be pushed.
        Kind::NotFound if !failure.message.contains("://") => None,
        Kind::NotFound if failure.message.contains(ELSEWHERE) => {
            Some("--foreign-layers fetches it from there".to_owned())
        }
        Kind::NotFound if reference.digest.is_none() => missing(reference, place),
        Kind::NotFound => None,
        _ => of_text(&failure.message, error.kind, reference),
    };
    if let Some(hint) = hint { failure.with_hint(hint) } else { failure }
}

/// Whoever writes `image.tar` may mean the file of that name.
fn lies_here(reference: &Reference) -> Option<String> {
    let path = Some(reference.repository.path()).filter(|_| reference.repository.is_docker_hub())?;
    let path = Path::new(path.strip_prefix("library/").unwrap_or(path));
    let shown = path.display();
    if path.join("index.json").is_file() {
        return Some(format!("{shown} is a layout here: oci:{shown}"));
    }
    archive_scheme(path).map(|scheme| format!("{shown} is an archive here: {scheme}:{shown}"))
}

fn archive_scheme(path: &Path) -> Option<&'static str> {
    let archive = path.is_file().then(|| archive::open(path).ok())??;
    Some(if archive.format() == archive::Format::Oci { "oci-archive" } else { "docker-archive" })
}

fn missing(reference: &Reference, place: &Place) -> Option<String> {
    let name = reference.repository.to_string().replacen("index.docker.io/", "docker.io/", 1);
    let tags = match place.tags() {
        Ok(tags) => tags,
        Err(error) if error.kind == Kind::NotFound => return Some(format!("there is no repository {name}")),
        Err(_) => return None,
    };
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let like = most_like(tag, tags.iter().map(String::as_str), SHOWN);
    let plural = if tags.len() == 1 { "" } else { "s" };
    Some(match (&like[..], tags.len()) {
        (_, 0) => format!("{name} has no tags"),
        (_, count @ 1..=SHOWN) => format!("{name} has {count} tag{plural}: {}", tags.join(", ")),
        ([], count) => format!("none of its {count} tags is like {tag}; `skycap tags {name}` lists them"),
        (like, count) => format!("tags like it: {}; `skycap tags {name}` lists all {count}", like.join(", ")),
    })
}

/// What the words of the client tell.
fn of_text(text: &str, kind: Kind, reference: &Reference) -> Option<String> {
    let registry = reference.repository.registry();
    let host = if reference.repository.is_docker_hub() { "" } else { registry };
    let hint = if kind == Kind::Denied {
        format!(
            "log in: `docker login {host}` or `podman login {host}`, or --username NAME --password-stdin; a repository that \
             does not exist may answer the same"
        )
    } else if kind == Kind::RateLimited {
        "registries allow more to those who log in; --mirror HOST asks another registry first".to_owned()
    } else if text.contains("UnknownIssuer") || text.contains("certificate") {
        "--ca-cert FILE trusts the authority that signed it; --tls-verify=false trusts anybody".to_owned()
    } else if text.contains("TLS:") || text.contains("InvalidContentType") || text.contains("corrupt message") {
        format!("if {registry} speaks plain HTTP, say --tls-verify=false")
    } else {
        return None;
    };
    Some(hint)
}

/// An error of a layout or archive.
pub fn local(error: &SourceError, from: &Transport) -> Failure {
    let failure = Failure::new(chain(error));
    let Ok(listed) = from.list() else {
        return match unlike(from) {
            Some(hint) => failure.with_hint(hint),
            None => failure,
        };
    };
    let names: Vec<String> = listed
        .into_iter()
        .map(|(names, listed)| names.into_iter().next().unwrap_or(format!("@{}", listed.digest)))
        .collect();
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
    if names.is_empty() {
        failure
    } else {
        failure.with_hint(format!("it holds {shown}{more}: name one behind the path"))
    }
}

/// What the path is instead.
fn unlike(from: &Transport) -> Option<String> {
    let (path, is_archive) = match from {
        Transport::Layout { dir, .. } | Transport::Directory(dir) => (dir, false),
        Transport::OciArchive { file, .. } | Transport::DockerArchive { file, .. } => (file, true),
        Transport::Registry(_) => return None,
    };
    let shown = path.display();
    if is_archive && path.join("index.json").is_file() {
        return Some(format!("it is a layout: oci:{shown}"));
    }
    archive_scheme(path).map(|scheme| format!("it is an archive: {scheme}:{shown}"))
}
