//! `out`: a file or directory becomes an image in a registry, under one or several tags.

use std::path::Path;

use serde_json::{Value, json};
use skycap_image::{Event, ImageSink, Kind, Name};

use super::request::PutRequest;
use super::tags::{Wanted, tags};
use super::trust::Signers;
use super::{find_image, load};
use crate::inputs::{Inputs, Reader};
use crate::version::Version;
use crate::{Failure, Host};

/// The tag of a put that names none.
const DEFAULT_TAG: &str = "latest";

/// Pushes what the request names below `source`.
pub(super) fn put(request: &PutRequest, source: &Path, host: &Host) -> Result<Value, Failure> {
    let progress = request.source.progress(host);
    let repository =
        request.source.parse_repository().map_err(|failure| failure.during("could not resolve repository"))?;
    let inputs = Inputs::new(Reader::Put, source, host.confinement())?;
    let mut tags = collect_tags(request, &inputs, host)?;
    if tags.is_empty() {
        let warning = "neither source.tag nor params.version is set: pushing as latest";
        progress.event(Event::Warning(warning));
        tags.push(DEFAULT_TAG.to_owned());
    }
    for tag in &tags {
        repository.with_tag(tag).map_err(|error| Failure::new(format!("cannot push as {tag:?}: {error}")))?;
    }

    // Whatever is wrong with a key is found before anything is pushed.
    let credentials = request.source.credentials(host)?;
    let signers = Signers::open(request.source.content_trust.as_ref(), request.source.cosign.as_ref(), &credentials)?;

    let path = find_image::find(&inputs, &request.image)?;
    let artifact = load::load(&inputs, &path, &host.scratch);
    let artifact =
        artifact.map_err(|f| f.during(format_args!("could not load image from path '{}'", request.image)))?;

    let client = host.client.with_progress(std::sync::Arc::clone(&progress));
    let place = request.source.origin(&client, host, true);
    let place = place.map_err(|failure| failure.during("failed to set repo/auth options"))?;
    let mut names: Vec<Name> = Vec::new();
    for tag in &tags {
        let name = Name::Tag(tag.clone());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    progress.event(Event::Note(&format!("pushing tag(s) {}", tags.join(", "))));
    let pushed = place.put(&artifact, &names);
    let pushed = pushed.map_err(|error| Failure::from(error).during("pushing image failed: pushing tag(s)"))?;
    progress.event(Event::Note("pushed"));
    signers.sign(&place, &pushed, &tags, &request.source.settings(host), &progress)?;

    let first = tags.first().map(String::as_str).unwrap_or_default();
    Ok(json!({
        "version": {"tag": first, "digest": pushed.digest.to_string()},
        "metadata": [
            {"name": "repository", "value": request.source.repository},
            {"name": "tags", "value": tags.join(" ")},
        ],
    }))
}

fn collect_tags(request: &PutRequest, inputs: &Inputs, host: &Host) -> Result<Vec<String>, Failure> {
    let version = if request.version.is_empty() { None } else { Some(Version::parse(&request.version)) };
    let version = version.transpose().map_err(|error| Failure::new(error.to_string()))?;
    let moves_aliases = request.bump_aliases && version.as_ref().is_some_and(|version| !version.is_pre_release());
    let remote = moves_aliases.then(|| remote_tags(request, host)).transpose();
    let remote = remote.map_err(|failure| failure.during("determine aliases: list repository tags"))?;
    let wanted = Wanted {
        tag: &request.source.tag,
        version: version.as_ref(),
        variant: &request.source.variant,
        remote: remote.as_deref(),
        additional: &additional_tags(request, inputs)?,
        prefix: &request.tag_prefix,
    };
    tags(&wanted)
}

/// The repository's tags; none if there is no such repository yet.
fn remote_tags(request: &PutRequest, host: &Host) -> Result<Vec<String>, Failure> {
    match request.source.origin(&host.client, host, false)?.tags() {
        Err(error) if error.kind == Kind::NotFound => Ok(Vec::new()),
        found => Ok(found?),
    }
}

fn additional_tags(request: &PutRequest, inputs: &Inputs) -> Result<String, Failure> {
    if request.additional_tags.is_empty() {
        return Ok(String::new());
    }
    // As `params.image`: a path from the root is one below the put's directory.
    let path = Path::new(request.additional_tags.trim_start_matches('/'));
    inputs.text("params.additional_tags", path).map_err(|failure| {
        let shown = inputs.directory().join(path).display().to_string();
        failure.during(format_args!("failed to read file at {shown:?}")).during("could not parse additional tags")
    })
}
