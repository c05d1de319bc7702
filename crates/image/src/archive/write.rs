//! Writing an archive: headers with mode and size only, no times, no owners, in a fixed order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;

use super::docker;
use super::plan::Plan;
use crate::layout::{CONTAINERD_NAME, REF_NAME, empty_index};
use crate::tar::Header;
use crate::walk::{Part, walk};
use crate::{Artifact, BlobSource, Compression, Descriptor, Digest, Image, IndexManifest, SourceError};

/// The content of `oci-layout`, as containerd writes it.
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes what recent `docker save` and BuildKit's `type=docker` write: an OCI layout with a `manifest.json`.
/// `names` are `repository:tag`. Returns `out`.
pub fn write_docker<W: Write>(image: &Image, names: &[String], out: W) -> Result<W, SourceError> {
    plan_docker(image, names)?.write(out)
}

/// Plans what [`write_docker`] writes.
pub fn plan_docker(image: &Image, names: &[String]) -> Result<Plan, SourceError> {
    let blob = |descriptor: &Descriptor| blob_name(&descriptor.digest);
    let manifest = image.manifest();
    let layers = manifest.layers.iter().map(blob).collect();
    let diff_ids = &image.config().rootfs.diff_ids;
    let entry = docker::to_json(blob(&manifest.config), names, layers, manifest, diff_ids)?;
    let index = index(image.descriptor(), names, |name, descriptor| {
        let tag = name.rsplit_once(':').map_or(name, |(_, tag)| tag);
        descriptor.annotations.insert(CONTAINERD_NAME.to_owned(), name.to_owned());
        descriptor.annotations.insert(REF_NAME.to_owned(), tag.to_owned());
    });
    layout(&Artifact::Image(image.clone()), &index, Some(&entry))
}

/// Writes an OCI layout as a tar, what BuildKit's `type=oci` writes. `names` are reference names. Returns `out`.
pub fn write_oci<W: Write>(artifact: &Artifact, names: &[String], out: W) -> Result<W, SourceError> {
    plan_oci(artifact, names)?.write(out)
}

/// Plans what [`write_oci`] writes.
pub fn plan_oci(artifact: &Artifact, names: &[String]) -> Result<Plan, SourceError> {
    let index = index(artifact.descriptor(), names, |name, descriptor| {
        descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
    });
    layout(artifact, &index, None)
}

/// Writes what go-containerregistry's `tarball` writes, which is registry-image's format `oci`: config, layers and
/// `manifest.json` side by side. Returns `out`.
pub fn write_docker_flat<W: Write>(image: &Image, names: &[String], out: W) -> Result<W, SourceError> {
    plan_docker_flat(image, names)?.write(out)
}

/// Plans what [`write_docker_flat`] writes.
pub fn plan_docker_flat(image: &Image, names: &[String]) -> Result<Plan, SourceError> {
    let manifest = image.manifest();
    let config = manifest.config.digest.to_string();
    let layers = manifest.layers.iter().map(flat_name).collect();
    let entry = docker::to_json(config.clone(), names, layers, manifest, &image.config().rootfs.diff_ids)?;
    let mut plan = Plan::new();
    add(&mut plan, &config, 0o644, image.config_bytes())?;
    let mut written = BTreeSet::new();
    for layer in &manifest.layers {
        if written.insert(layer.digest) {
            plan.add_blob(&Header::file(flat_name(layer), layer.size), image.blobs(), layer)?;
        }
    }
    add(&mut plan, docker::MANIFEST, 0o644, &entry)?;
    Ok(plan.end())
}

fn flat_name(layer: &Descriptor) -> String {
    let extension = match layer.media_type.compression() {
        Compression::None => "tar",
        Compression::Zstd => "tar.zst",
        Compression::Gzip | Compression::Bzip2 | Compression::Xz => "tar.gz",
    };
    format!("{}.{extension}", layer.digest.hex())
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn index(descriptor: &Descriptor, names: &[String], annotate: impl Fn(&str, &mut Descriptor)) -> IndexManifest {
    let bare = Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size);
    let named = |name: &String| {
        let mut descriptor = bare.clone();
        annotate(name, &mut descriptor);
        descriptor
    };
    let manifests = if names.is_empty() { vec![bare.clone()] } else { names.iter().map(named).collect() };
    IndexManifest { manifests, ..empty_index() }
}

/// In containerd's order: sorted by name.
fn layout(artifact: &Artifact, index: &IndexManifest, manifest_json: Option<&[u8]>) -> Result<Plan, SourceError> {
    let blobs = blobs(artifact)?;
    let mut plan = Plan::new();
    let mut directories = BTreeSet::from(["blobs/".to_owned()]);
    for name in blobs.keys() {
        directories.extend(name.rsplit_once('/').map(|(directory, _)| format!("{directory}/")));
    }
    let mut directories = directories.into_iter().peekable();
    for (name, content) in &blobs {
        while let Some(directory) = directories.next_if(|directory| directory < name) {
            plan.add(&Header::directory(directory), b"")?;
        }
        match content {
            Content::Document(bytes) => add(&mut plan, name, 0o444, bytes)?,
            Content::Blob(from, blob) => {
                plan.add_blob(&Header { mode: 0o444, ..Header::file(name.as_str(), blob.size) }, from, blob)?;
            }
        }
    }
    add(&mut plan, "index.json", 0o644, &crate::document::to_json(index)?)?;
    if let Some(bytes) = manifest_json {
        add(&mut plan, docker::MANIFEST, 0o644, bytes)?;
    }
    add(&mut plan, "oci-layout", 0o444, MARKER)?;
    Ok(plan.end())
}

/// What stands under a name.
enum Content {
    Document(Vec<u8>),
    Blob(Arc<dyn BlobSource>, Box<Descriptor>),
}

fn blobs(artifact: &Artifact) -> Result<BTreeMap<String, Content>, SourceError> {
    let mut blobs = BTreeMap::new();
    walk(artifact, &mut |part| {
        match part {
            Part::Blob(from, blob) => {
                blobs.insert(blob_name(&blob.digest), Content::Blob(Arc::clone(from), Box::new(blob.clone())))
            }
            Part::Document(document, bytes) => {
                blobs.insert(blob_name(&document.digest), Content::Document(bytes.to_vec()))
            }
        };
        Ok(())
    })?;
    Ok(blobs)
}

fn add(plan: &mut Plan, name: &str, mode: u32, bytes: &[u8]) -> Result<(), SourceError> {
    plan.add(&Header { mode, ..Header::file(name, bytes.len() as u64) }, bytes)
}
