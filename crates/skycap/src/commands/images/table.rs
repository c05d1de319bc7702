//! An artifact for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use skycap_image::attestation::is_attestation;
use skycap_image::{Artifact, Compression, ContainerConfig, Image, Index, MediaType};

use super::inspect::{Attested, Shown};
use crate::report::{bytes, columns, printable};

/// Where values begin.
const INDENT: usize = 13;

/// Lines of `Name: value`. What images say is made harmless for terminals.
pub fn text(shown: &Shown<'_>) -> String {
    let mut out = Lines::default();
    out.line("Name", shown.name);
    out.line("Digest", &shown.artifact.descriptor().digest.to_string());
    let is_image = !matches!(shown.artifact, Artifact::Image(image) if is_other(image));
    out.line("Type", if is_image { kind(&shown.artifact.descriptor().media_type) } else { "OCI artifact" });
    if let Artifact::Index(index) = shown.artifact {
        platforms(index, &mut out);
        attestations(shown, &mut out);
        let why = match (&shown.image, &shown.chosen_by) {
            (Some(_), Some(platform)) => format!("\n{platform} (--platform shows another)\n"),
            (Some(image), None) => format!("\n{}\n", image.config().platform()),
            (None, _) => "\nnone is for this machine: --platform shows one\n".to_owned(),
        };
        out.0.push_str(&why);
        if let Some(image) = &shown.image {
            out.line("Digest", &image.descriptor().digest.to_string());
        }
    }
    if let Some(image) = &shown.image {
        image_lines(image, matches!(shown.artifact, Artifact::Image(_)), &mut out);
    }
    out.0
}

/// Whether something is kept in the form of an image that is none.
fn is_other(image: &Image) -> bool {
    image.layers().len() != image.manifest().layers.len()
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, value: &str) {
        let label = if name.is_empty() { String::new() } else { format!("{name}:") };
        let _ = writeln!(self.0, "{label:<INDENT$}{}", printable(value));
    }

    /// Several values, the first beside the name.
    fn list(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        for (at, value) in values.into_iter().enumerate() {
            self.line(if at == 0 { name } else { "" }, &value);
        }
    }

    fn table(&mut self, name: &str, rows: impl Iterator<Item = Vec<String>>) {
        self.list(name, columns(rows).lines().map(str::to_owned));
    }

    fn texts(&mut self, name: &str, texts: &BTreeMap<String, String>) {
        self.list(name, texts.iter().map(|(key, value)| format!("{key}={value}")));
    }
}

fn platforms(index: &Index, out: &mut Lines) {
    let images = index.manifests().iter().filter(|child| !is_attestation(child));
    out.table(
        "Platforms",
        images.map(|child| {
            let platform = child.platform.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
            vec![platform, child.digest.to_string()]
        }),
    );
}

/// What is said about which image.
fn attestations(shown: &Shown<'_>, out: &mut Lines) {
    let about = |attested: &Attested| attested.platform.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
    out.table("Attested", shown.attested.iter().map(|attested| vec![about(attested), attested.says.join(", ")]));
}

fn image_lines(image: &Image, with_platform: bool, out: &mut Lines) {
    let (manifest, config) = (image.manifest(), image.config());
    let is_image = manifest.config.media_type.is_image_config();
    if let Some(kind) = &manifest.artifact_type {
        out.line("Artifact", kind);
    }
    if is_image && with_platform {
        out.line("Platform", &config.platform().to_string());
    }
    if let Some(created) = &config.created {
        out.line("Created", created);
    }
    let size: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let plural = if manifest.layers.len() == 1 { "" } else { "s" };
    out.line("Size", &format!("{} in {} layer{plural}", bytes(size), manifest.layers.len()));
    out.table(
        "Layers",
        manifest
            .layers
            .iter()
            .map(|layer| vec![layer.digest.to_string(), bytes(layer.size), packing(&layer.media_type).to_owned()]),
    );
    container(&config.config, out);
    out.texts("Labels", &config.config.labels);
    out.texts("Annotations", &manifest.annotations);
}

fn container(config: &ContainerConfig, out: &mut Lines) {
    let words = |words: &Option<Vec<String>>| words.as_ref().and_then(|words| serde_json::to_string(words).ok());
    for (name, value) in [("Entrypoint", words(&config.entrypoint)), ("Cmd", words(&config.cmd))] {
        if let Some(value) = value {
            out.line(name, &value);
        }
    }
    let keys = |map: &BTreeMap<String, serde_json::Value>| map.keys().cloned().collect::<Vec<_>>().join(" ");
    for (name, value) in [
        ("User", config.user.clone()),
        ("Directory", config.working_dir.clone()),
        ("Ports", keys(&config.exposed_ports)),
        ("Volumes", keys(&config.volumes)),
        ("Stop signal", config.stop_signal.clone().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            out.line(name, &value);
        }
    }
    out.list("Env", config.env.clone().unwrap_or_default());
}

fn kind(media_type: &MediaType) -> &str {
    match media_type {
        MediaType::OciIndex => "OCI index",
        MediaType::DockerManifestList => "Docker manifest list",
        MediaType::OciManifest => "OCI image",
        MediaType::DockerManifest => "Docker image",
        other => other.as_str(),
    }
}

/// How a layer is packed, or what it is if it is no layer.
fn packing(media_type: &MediaType) -> &str {
    use MediaType::{DockerLayer, OciLayer};
    match (media_type, media_type.compression()) {
        (_, Compression::Gzip) => "gzip",
        (_, Compression::Zstd) => "zstd",
        (OciLayer | DockerLayer, _) => "not compressed",
        (other, _) => other.as_str(),
    }
}
