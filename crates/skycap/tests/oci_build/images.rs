//! What an archive holds, as text.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use skycap_image::{Artifact, Image, Layer, archive, attestation, compress, tar};

use crate::names::Names;

/// The time that files of the context get.
const USUAL_TIME: i64 = 315_619_200;

/// Everything of an archive; its parts get names that begin with `label`.
pub fn describe(label: &str, path: &Path, names: &mut Names) -> String {
    let archive = archive::open_as(path, archive::Format::Oci).unwrap();
    let artifact = archive.only().unwrap();
    names.add_artifact(label, &artifact);
    let mut text = format!("{label} is {}\n", kind(path));
    match &artifact {
        Artifact::Image(image) => text += &show(image),
        Artifact::Index(index) => {
            let _ = writeln!(text, "index {}", index.raw().descriptor.media_type);
            for descriptor in index.manifests() {
                let platform = descriptor.platform.as_ref().map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(text, "for {platform} {:?}", descriptor.annotations);
                if attestation::is_attestation(descriptor) {
                    text += &statements(&index.child(descriptor).unwrap());
                    continue;
                }
                let Artifact::Image(image) = index.child(descriptor).unwrap() else { panic!("an index in an index") };
                text += &show(&image);
            }
        }
    }
    text
}

/// What an attestation is about.
fn statements(artifact: &Artifact) -> String {
    let Artifact::Image(image) = artifact else { panic!("an index of statements") };
    image.manifest().layers.iter().fold(String::new(), |mut text, layer| {
        let _ = writeln!(text, "  {} {:?}", layer.media_type, layer.annotations);
        text
    })
}

/// The names of the members that tell readers what it is.
fn kind(path: &Path) -> String {
    let mut reader = tar::Reader::new(std::fs::File::open(path).unwrap());
    let mut found = Vec::new();
    while let Some(header) = reader.next().unwrap() {
        let name = String::from_utf8_lossy(&header.path).into_owned();
        if !name.starts_with("blobs/") {
            found.push(name);
        }
    }
    found.join(", ")
}

fn show(image: &Image) -> String {
    let mut text = format!("{} {}\n", image.config().platform(), image.descriptor().media_type);
    let mut config: Value = serde_json::from_slice(image.config_bytes()).unwrap();
    let members = config.as_object_mut().unwrap();
    for name in ["rootfs", "architecture", "os"] {
        members.remove(name);
    }
    if let Some(history) = members.remove("history") {
        for entry in history.as_array().into_iter().flatten() {
            let _ = writeln!(text, "  by {}", entry["created_by"].as_str().unwrap_or_default());
        }
    }
    let _ = writeln!(text, "  config {}", skycap_concourse::encode(&config));
    if !image.manifest().annotations.is_empty() {
        let _ = writeln!(text, "  annotations {:?}", image.manifest().annotations);
    }
    for layer in image.layers() {
        let _ = write!(text, "  layer {} {}\n{}", layer.descriptor.digest, layer.descriptor.media_type, list(&layer));
    }
    text
}

fn list(layer: &Layer) -> String {
    let mut bytes = layer.open().unwrap();
    let mut text = String::new();
    {
        let (_, decoded) = compress::decoder(&mut bytes).unwrap();
        let mut reader = tar::Reader::new(decoded);
        while let Some(header) = reader.next().unwrap() {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut content).unwrap();
            let _ =
                write!(text, "    {} {:04o} {}:{}", header.path.escape_ascii(), header.mode, header.uid, header.gid);
            if header.mtime != USUAL_TIME {
                let _ = write!(text, " at {}", header.mtime);
            }
            if !header.link.is_empty() {
                let _ = write!(text, " -> {}", header.link.escape_ascii());
            }
            if header.kind == tar::Kind::File {
                let _ = write!(text, " \"{}\"", content.escape_ascii());
            }
            text.push('\n');
        }
        reader.finish().unwrap();
    }
    bytes.finish().unwrap();
    text
}
