//! Writing an archive: headers with mode and size only, no times, no owners, in a fixed order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use super::docker;
use crate::layout::{CONTAINERD_NAME, REF_NAME, empty_index};
use crate::tar::{Header, Writer};
use crate::walk::{Part, walk};
use crate::{Artifact, BlobSource, Compression, Descriptor, Digest, Image, IndexManifest, SourceError};

/// The content of `oci-layout`, as containerd writes it.
const MARKER: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// Writes what recent `docker save` and BuildKit's `type=docker` write: an OCI layout with a `manifest.json`.
/// `names` are `repository:tag`. Returns `out`.
pub fn write_docker<W: Write>(image: &Image, names: &[String], out: W) -> Result<W, SourceError> {
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
    write_layout(&Artifact::Image(image.clone()), &index, Some(&entry), out)
}

/// Writes an OCI layout as a tar, what BuildKit's `type=oci` writes. `names` are reference names. Returns `out`.
pub fn write_oci<W: Write>(artifact: &Artifact, names: &[String], out: W) -> Result<W, SourceError> {
    let index = index(artifact.descriptor(), names, |name, descriptor| {
        descriptor.annotations.insert(REF_NAME.to_owned(), name.to_owned());
    });
    write_layout(artifact, &index, None, out)
}

/// Writes what go-containerregistry's `tarball` writes, which is registry-image's format `oci`: config, layers and
/// `manifest.json` side by side. Returns `out`.
pub fn write_docker_flat<W: Write>(image: &Image, names: &[String], out: W) -> Result<W, SourceError> {
    let manifest = image.manifest();
    let config = manifest.config.digest.to_string();
    let layers = manifest.layers.iter().map(flat_name).collect();
    let entry = docker::to_json(config.clone(), names, layers, manifest, &image.config().rootfs.diff_ids)?;
    let mut tar = Writer::new(out);
    append(&mut tar, &config, 0o644, image.config_bytes())?;
    let mut written = BTreeSet::new();
    for layer in &manifest.layers {
        if written.insert(layer.digest) {
            append_blob(&mut tar, &flat_name(layer), 0o644, &**image.blobs(), layer)?;
        }
    }
    append(&mut tar, docker::MANIFEST, 0o644, &entry)?;
    Ok(tar.finish()?)
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

/// Writes in containerd's order: sorted by name.
fn write_layout<W: Write>(
    artifact: &Artifact,
    index: &IndexManifest,
    manifest_json: Option<&[u8]>,
    out: W,
) -> Result<W, SourceError> {
    let blobs = blobs(artifact)?;
    let mut tar = Writer::new(out);
    let mut directories = BTreeSet::from(["blobs/".to_owned()]);
    for name in blobs.keys() {
        directories.extend(name.rsplit_once('/').map(|(directory, _)| format!("{directory}/")));
    }
    let mut directories = directories.into_iter().peekable();
    for (name, content) in &blobs {
        while let Some(directory) = directories.next_if(|directory| directory < name) {
            tar.entry(&Header::directory(directory))?;
        }
        match content {
            (_, Some(bytes)) => append(&mut tar, name, 0o444, bytes)?,
            (blob, None) => append_blob(&mut tar, name, 0o444, &**artifact.blobs(), blob)?,
        }
    }
    append(&mut tar, "index.json", 0o644, &crate::document::to_json(index)?)?;
    if let Some(bytes) = manifest_json {
        append(&mut tar, docker::MANIFEST, 0o644, bytes)?;
    }
    append(&mut tar, "oci-layout", 0o444, MARKER)?;
    Ok(tar.finish()?)
}

/// Blobs by their names; documents with their bytes.
type Blobs = BTreeMap<String, (Descriptor, Option<Vec<u8>>)>;

fn blobs(artifact: &Artifact) -> Result<Blobs, SourceError> {
    let mut blobs = Blobs::new();
    walk(artifact, &mut |part| {
        let (descriptor, bytes) = match part {
            Part::Blob(_, blob) => (blob, None),
            Part::Document(document, bytes) => (document, Some(bytes.to_vec())),
        };
        blobs.insert(blob_name(&descriptor.digest), (descriptor.clone(), bytes));
        Ok(())
    })?;
    Ok(blobs)
}

fn append<W: Write>(tar: &mut Writer<W>, name: &str, mode: u32, bytes: &[u8]) -> Result<(), SourceError> {
    let header = Header { mode, ..Header::file(name, bytes.len() as u64) };
    tar.append(&header, bytes).map_err(|error| SourceError::io(format!("cannot write {name} to an archive"), error))
}

fn append_blob<W: Write>(
    tar: &mut Writer<W>,
    name: &str,
    mode: u32,
    from: &dyn BlobSource,
    blob: &Descriptor,
) -> Result<(), SourceError> {
    let mut reader = from.open(blob)?;
    let header = Header { mode, ..Header::file(name, blob.size) };
    let written = tar.append(&header, &mut reader).and_then(|()| reader.finish());
    written.map_err(|error| SourceError::io(format!("cannot write {name} to an archive"), error))
}
