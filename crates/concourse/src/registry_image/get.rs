//! `in`: a version becomes files.
//!
//! Everything that can be wrong with the request is found before anybody is asked. A registry that answers 429, to
//! whatever request, is asked everything again after a pause, with a new session: strict servers know that sequence of
//! requests from the original. Anything else that may pass is tried again request by request by the client.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};
use skycap_image::layout::Layout;
use skycap_image::{Artifact, Digest, Event, Image, ImageSource, Kind, Name, Platform, Progress, archive};
use skycap_registry::cosign::{self, PublicKey};
use skycap_registry::{Client, ELSEWHERE, Place, Settings};
use skycap_rootfs::{Fault, Limits, Unpack, UnpackError, unpack_until};

use super::Restarts;
use super::request::{GetRequest, Version};
use super::trust::CosignSource;
use crate::files::{Stage, io_failure, write_file};
use crate::pattern::GoPattern;
use crate::progress::Warnings;
use crate::{Failure, Host, encode};

/// What is being done when the manifest is asked for.
const MANIFEST: &str = "fetch descriptor";
/// How many layers are fetched at once.
const LAYERS_AT_ONCE: usize = 4;
/// A mirror that is short of breath is not waited for: the origin has the same image.
const MIRROR_RESTARTS: u32 = 1;

/// What is to be fetched, checked.
struct Order {
    format: Format,
    skip_download: bool,
    digest: Digest,
    platform: Platform,
    labels: Option<GoPattern>,
    annotations: Option<GoPattern>,
    /// The full name, for `image.tar`.
    name: String,
    /// Whose signature the image must bear.
    signer: Option<PublicKey>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Rootfs,
    Oci,
    OciLayout,
}

impl Order {
    fn of(request: &GetRequest) -> Result<Self, Failure> {
        let format = match request.format.as_str() {
            "" | "rootfs" => Format::Rootfs,
            "oci" => Format::Oci,
            "oci-layout" => Format::OciLayout,
            other => {
                let what = format!("unknown format provided, must be one of 'rootfs', 'oci', 'oci-layout': {other}");
                return Err(Failure::new(what).during("download failed"));
            }
        };
        let digest = request.version.digest.parse();
        let digest = digest.map_err(|error| Failure::new(format!("download failed: fetch descriptor: {error}")))?;
        let platform = request.platform.as_ref().or(request.source.platform.as_ref());
        let repository = request.source.resolve_repository()?;
        Ok(Self {
            format,
            skip_download: request.skip_download,
            digest,
            platform: platform.cloned().unwrap_or_default().platform(),
            labels: pattern("label_regex", &request.source.label_regex)?,
            annotations: pattern("annotation_regex", &request.source.annotation_regex)?,
            name: format!("{repository}:{}", request.version.tag),
            signer: request.source.cosign.as_ref().map(CosignSource::verifier).transpose()?.flatten(),
        })
    }

    /// Whether the image of one platform is needed at all.
    fn needs_image(&self) -> bool {
        let download = !self.skip_download && self.format != Format::OciLayout;
        download || self.labels.is_some() || self.annotations.is_some()
    }
}

pub(super) fn pattern(field: &str, text: &str) -> Result<Option<GoPattern>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = GoPattern::parse(text);
    parsed.map(Some).map_err(|e| Failure::new(format!("enriching metadata failed: invalid {field}: {e}")))
}

/// Fetches a version into `destination`.
pub(super) fn get(request: &GetRequest, destination: &Path, host: &Host) -> Result<Value, Failure> {
    let order = Order::of(request)?;
    let progress = request.source.progress(host);
    let client = &client(request, host)?.with_progress(Arc::clone(&progress));
    std::fs::create_dir_all(destination).map_err(|error| io_failure("make", destination, &error))?;
    let delivery = Delivery { order: &order, destination, host, progress: &*progress };

    let mut found = None;
    if let Some(mirror) = request.source.mirror(client)? {
        let restarts = Restarts { left: MIRROR_RESTARTS, ..host.restarts() };
        match delivery.fetch_with_restarts(&mirror, restarts) {
            Ok(fields) => found = Some(fields),
            Err(failure) => {
                let warning = format!("download from mirror {} failed: {}", mirror.repository(), failure.message);
                progress.event(Event::Warning(&warning));
            }
        }
    }
    let fields = if let Some(fields) = found {
        fields
    } else {
        let origin = request.source.origin(client, host, false)?;
        let fetched = delivery.fetch_with_restarts(&origin, host.restarts());
        fetched.map_err(|failure| explain_loss(failure, &origin, &request.version).during("download failed"))?
    };

    let version = &request.version;
    let repository = &request.source.repository;
    for (name, content) in [("tag", &version.tag), ("digest", &version.digest), ("repository", repository)] {
        write_file(destination, name, content).map_err(|failure| failure.during("saving version info failed"))?;
    }
    let mut metadata =
        vec![json!({"name": "repository", "value": repository}), json!({"name": "tag", "value": version.tag})];
    metadata.extend(fields);
    Ok(json!({"version": version.to_json(), "metadata": metadata}))
}

/// The client of gets, or one that goes to strangers as well, where the source wants that.
fn client(request: &GetRequest, host: &Host) -> Result<Client, Failure> {
    if !request.source.foreign_layers {
        return host.restarting_client();
    }
    let settings = Settings { foreign_layers: true, ..host.settings().clone() };
    host.clone().with_settings(settings)?.restarting_client()
}

struct Delivery<'d> {
    order: &'d Order,
    destination: &'d Path,
    host: &'d Host,
    progress: &'d dyn Progress,
}

impl Delivery<'_> {
    /// Fetches, and starts again with a new session while the registry answers 429.
    fn fetch_with_restarts(&self, place: &Place, restarts: Restarts) -> Result<Vec<Value>, Failure> {
        let note = format!("fetching {}@{}", place.repository(), self.order.digest);
        self.progress.event(Event::Note(&note));
        let mut restarts = restarts;
        loop {
            let failure = match self.fetch(place) {
                Ok(fields) => return Ok(fields),
                Err(failure) => failure,
            };
            let Some(pause) = restarts.after(&failure) else { return Err(failure) };
            let warning = format!("transient error: {}; retrying in {pause:?}", failure.message);
            self.progress.event(Event::Warning(&warning));
            thread::sleep(pause);
            place.forget();
        }
    }

    /// Fetches once; answers the metadata that the image itself gives.
    fn fetch(&self, place: &Place) -> Result<Vec<Value>, Failure> {
        place.ping().map_err(|error| Failure::from(error).during("initialize transport"))?;
        let raw = place.raw(&Name::Digest(self.order.digest));
        let raw = raw.map_err(|error| Failure::from(error).during(MANIFEST))?;
        if let Some(signer) = &self.order.signer {
            let verified = cosign::verify(place, &raw.descriptor, signer);
            verified.map_err(|error| {
                let hint =
                    "sign the image with cosign, give the key that it was signed with, or remove cosign.public_key";
                Failure::from(error).with_hint(hint).during("verify signature")
            })?;
        }
        if self.order.skip_download && !self.order.needs_image() {
            return Ok(limits(place));
        }
        let limits = limits(place);
        let during = |error| Failure::from(error).during("fetching image");
        let artifact = Artifact::open(raw, self.host.blobs_of(place)).map_err(during)?;
        let image = self.order.needs_image().then(|| artifact.for_platform(&self.order.platform)).transpose();
        let image = image.map_err(during)?;
        if !self.order.skip_download {
            match (self.order.format, &image) {
                (Format::OciLayout, _) => {
                    self.layout(&artifact).map_err(|failure| failure.during("write oci layout"))?;
                }
                (Format::Rootfs, Some(image)) => {
                    self.rootfs(image).map_err(|failure| failure.during("write rootfs"))?;
                }
                (Format::Oci, Some(image)) => {
                    self.archive(image).map_err(|failure| failure.during("write oci image"))?;
                }
                (Format::Rootfs | Format::Oci, None) => {}
            }
        }
        let mut fields = image.map(|image| self.fields(&image)).unwrap_or_default();
        fields.extend(limits);
        Ok(fields)
    }

    /// `rootfs/`, `metadata.json` and `labels.json`.
    fn rootfs(&self, image: &Image) -> Result<(), Failure> {
        check_is_image(image)?;
        // A container's volume does not outlive its machine; who keeps what was fetched makes all of it durable at once.
        let options =
            Unpack { owners: self.host.owners, concurrency: LAYERS_AT_ONCE, limits: Limits::default(), sync: false };
        // The client already reports every layer.
        let stage = Stage::new(self.destination, "rootfs");
        let unpacked =
            unpack_until(&image.layers(), stage.path(), &options, &Warnings(self.progress), &|| self.host.is_stopped());
        unpacked.map_err(|error| self.unextracted(&error).during("extract image"))?;
        // In place of what an interrupted get left there.
        stage.commit().map_err(|failure| failure.during("extract image"))?;
        let config = &image.config().config;
        let metadata = json!({
            "cmd": config.cmd,
            "entrypoint": config.entrypoint,
            "env": config.env,
            "user": config.user,
        });
        write_file(self.destination, "metadata.json", encode(&metadata) + "\n")?;
        self.labels(image)
    }

    /// A file of the image that cannot be made says its path in the image; on which disk, the hint says.
    fn unextracted(&self, error: &UnpackError) -> Failure {
        let failure = Failure::caused_by(error);
        match error {
            UnpackError::Layer { fault: Fault::Apply { .. }, .. } => {
                failure.with_hint(format!("the files go to {}", self.destination.join("rootfs").display()))
            }
            _ => failure,
        }
    }

    /// `image.tar`, as `docker load` reads it, and `labels.json`.
    fn archive(&self, image: &Image) -> Result<(), Failure> {
        check_is_image(image)?;
        let stage = Stage::new(self.destination, "image.tar");
        let planned = archive::plan_docker_flat(image, std::slice::from_ref(&self.order.name));
        let written = planned.and_then(|plan| plan.create(stage.path()));
        written.map_err(|error| Failure::from(error).during("write OCI image"))?;
        stage.commit()?;
        self.labels(image)
    }

    /// `oci/`: the index as it is, with everything below it.
    fn layout(&self, artifact: &Artifact) -> Result<(), Failure> {
        let stage = Stage::new(self.destination, "oci");
        // As with `rootfs/`: who keeps the volume makes all of it durable at once.
        let written = Layout::create_unsynced_as(stage.path(), artifact);
        written.map_err(|error| Failure::from(error).during("layout write"))?;
        if let Artifact::Image(image) = artifact {
            write_file(stage.path(), "single-image-digest", image.descriptor().digest.to_string())?;
        }
        stage.commit()
    }

    fn labels(&self, image: &Image) -> Result<(), Failure> {
        write_file(self.destination, "labels.json", encode(&json!(image.config().config.labels)) + "\n")
    }

    /// The labels and then the annotations whose keys match.
    fn fields(&self, image: &Image) -> Vec<Value> {
        let labels = matching(&image.config().config.labels, self.order.labels.as_ref());
        labels.chain(matching(&image.manifest().annotations, self.order.annotations.as_ref())).collect()
    }
}

fn matching<'m>(
    texts: &'m std::collections::BTreeMap<String, String>,
    pattern: Option<&'m GoPattern>,
) -> impl Iterator<Item = Value> + 'm {
    let chosen = texts.iter().filter(move |(key, _)| pattern.is_some_and(|pattern| pattern.is_match(key)));
    chosen.map(|(key, value)| json!({"name": key, "value": value}))
}

/// Other artifacts share an image's manifest but cannot be unpacked.
fn check_is_image(image: &Image) -> Result<(), Failure> {
    if image.layers().len() == image.manifest().layers.len() {
        return Ok(());
    }
    let config = &image.manifest().config.media_type;
    Err(Failure::new(format!("{} is no image: its config is a {config}", image.descriptor().digest))
        .with_hint("use `format: oci-layout` for artifacts that are no images"))
}

/// How many more images the registry gives out, in its own words; nothing where it does not say.
fn limits(place: &Place) -> Vec<Value> {
    let Some(limits) = place.rate_limit() else { return Vec::new() };
    let fields = [("ratelimit-limit", limits.limit), ("ratelimit-remaining", limits.remaining)];
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

/// A layer may lie elsewhere, which the source may allow. A version that was pinned or remembered may be gone: says what its
/// tag stands for now. One request more, and only then.
fn explain_loss(failure: Failure, place: &Place, version: &Version) -> Failure {
    if failure.message.contains(ELSEWHERE) {
        return failure.with_hint("source.foreign_layers: true fetches it from there, as nobody");
    }
    if failure.kind() != Some(Kind::NotFound) || !failure.message.starts_with(MANIFEST) || version.tag.is_empty() {
        return failure;
    }
    let (tag, gone) = (&version.tag, "the registry no longer has this digest");
    let hint = match ImageSource::find(place, &Name::Tag(tag.clone())) {
        Ok(Some(now)) => format!(
            "{gone}; the tag {tag} now stands for {}: check the resource again, and unpin the version if it is pinned",
            now.digest
        ),
        Ok(None) => {
            format!("{gone}, and no tag {tag}: were old images cleaned up? Unpin the version, or push it again")
        }
        Err(_) => return failure,
    };
    failure.with_hint(hint)
}
