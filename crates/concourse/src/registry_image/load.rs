//! What a put may push: an archive (`docker save`, OCI), or a directory that is an OCI layout.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::archive::{self, Format};
use skycap_image::compress::LayerEncoder;
use skycap_image::layout::Layout;
use skycap_image::{
    Artifact, BlobReader, BlobSource, Compression, Descriptor, Digest, Image, ImageSource, MediaType, Name,
    RawManifest, SourceError,
};

use crate::Failure;
use crate::failure::chain;
use crate::files::io_failure;
use crate::inputs::Inputs;

/// Opens what is at `path` in the inputs. Layers that have to be compressed first are kept in files without a name in
/// `scratch`: nothing is left of them, whatever happens to us.
pub(super) fn load(inputs: &Inputs, path: &Path, scratch: &Path) -> Result<Artifact, Failure> {
    let (named, path) = (path, &inputs.find("params.image", path)?);
    if path.is_dir() {
        inputs.check_below("params.image", path)?;
        let context = format!("loading {} as OCI layout", path.display());
        return open_layout(inputs, path).map_err(|failure| {
            let failure = failure.during(context).during("new index image from path");
            no_layout(inputs, named).into_iter().fold(failure, Failure::with_hint)
        });
    }
    open_archive(path, scratch).map_err(|failure| failure.during(format_args!("loading {} as tarball", path.display())))
}

fn open_archive(path: &Path, scratch: &Path) -> Result<Artifact, Failure> {
    let archive = archive::open(path)?;
    let artifact = archive.only()?;
    match (archive.format(), artifact) {
        (Format::Docker, Artifact::Image(image)) => Ok(Artifact::Image(with_packed_layers(image, scratch)?)),
        (_, artifact) => Ok(artifact),
    }
}

/// A layout is its index; one around a single index is that index; one with the marker of a single image is that image.
fn open_layout(inputs: &Inputs, path: &Path) -> Result<Artifact, Failure> {
    let layout = Layout::open(path)?;
    let mut artifact = layout.as_index()?;
    while let Artifact::Index(index) = &artifact
        && let [only] = index.manifests()
        && only.media_type.is_index()
    {
        artifact = index.child(only)?;
    }
    let Some(marker) = inputs.read_if_there("params.image", &path.join("single-image-digest"))? else {
        return Ok(artifact);
    };
    let digest = String::from_utf8_lossy(&marker).trim().parse();
    single_image(&artifact, &layout, digest.map_err(|error| Failure::new(format!("new hash: {error}")))?)
}

/// What helps where a directory is no layout: most often the archive in it was meant.
fn no_layout(inputs: &Inputs, directory: &Path) -> Option<String> {
    let holds =
        |name: &str| inputs.find_if_there("params.image", &directory.join(name)).is_ok_and(|found| found.is_some());
    if holds("index.json") {
        return None;
    }
    let archive = directory.strip_prefix(inputs.directory()).unwrap_or(directory).join("image.tar");
    Some(if holds("image.tar") {
        format!("params.image: {} is the archive in that directory", archive.display())
    } else {
        "params.image names an archive, such as image/image.tar, or a directory that is an OCI layout".to_owned()
    })
}

fn single_image(artifact: &Artifact, layout: &Layout, digest: Digest) -> Result<Artifact, Failure> {
    let listed = match artifact {
        Artifact::Index(index) => index.manifests().iter().find(|child| child.digest == digest),
        Artifact::Image(_) => None,
    };
    match listed {
        Some(descriptor) => Ok(layout.artifact(descriptor)?),
        None => Ok(layout.get(&Name::Digest(digest))?),
    }
}

/// The image with every layer that is a bare tar in gzip. Everything else, the config included, stays byte for byte.
fn with_packed_layers(image: Image, scratch: &Path) -> Result<Image, Failure> {
    let is_bare = |layer: &Descriptor| matches!(layer.media_type, MediaType::DockerLayer | MediaType::OciLayer);
    if !image.manifest().layers.iter().any(is_bare) {
        return Ok(image);
    }
    let mut files = BTreeMap::new();
    let mut manifest = image.manifest().clone();
    for layer in manifest.layers.iter_mut().filter(|layer| is_bare(layer)) {
        let file = tempfile::tempfile_in(scratch).map_err(|error| io_failure("make a file in", scratch, &error))?;
        *layer = pack(&**image.blobs(), layer, &file)?;
        files.insert(layer.digest, Arc::new(file));
    }
    let bytes = with_layers(&image.raw().bytes, &manifest.layers).map_err(|error| Failure::new(chain(&error)))?;
    let raw = RawManifest::new(image.descriptor().media_type.clone(), bytes);
    let blobs = Arc::new(Packed { files, rest: Arc::clone(image.blobs()) });
    Ok(Image::from_parts(raw, manifest, image.config_bytes().to_vec(), blobs)?)
}

/// The document of a manifest with other layers: its keys stay in their order, of which the digest is made.
fn with_layers(document: &[u8], layers: &[Descriptor]) -> serde_json::Result<Vec<u8>> {
    let mut document: serde_json::Value = serde_json::from_slice(document)?;
    let entries = document.get_mut("layers").and_then(serde_json::Value::as_array_mut).into_iter().flatten();
    for (entry, layer) in entries.zip(layers) {
        entry["mediaType"] = layer.media_type.as_str().into();
        entry["size"] = layer.size.into();
        entry["digest"] = layer.digest.to_string().into();
    }
    serde_json::to_vec(&document)
}

fn pack(blobs: &dyn BlobSource, layer: &Descriptor, file: &File) -> Result<Descriptor, Failure> {
    let failed = |error: io::Error| {
        Failure::from(SourceError::from(error)).during(format_args!("compress layer {}", layer.digest))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut reader = blobs.open(layer)?;
    let mut encoder = LayerEncoder::new(file, Compression::Gzip, true, threads).map_err(failed)?;
    io::copy(&mut reader, &mut encoder).map_err(failed)?;
    reader.finish().map_err(failed)?;
    let (packed, _) = encoder.finish().map_err(failed)?;
    Ok(packed.descriptor)
}

/// Some blobs in files of their own, the rest where they were.
struct Packed {
    files: BTreeMap<Digest, Arc<File>>,
    rest: Arc<dyn BlobSource>,
}

/// Reads a file from its beginning, whoever else reads it.
struct FromStart {
    file: Arc<File>,
    offset: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl BlobSource for Packed {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        match self.files.get(&blob.digest) {
            Some(file) => Ok(Box::new(FromStart { file: Arc::clone(file), offset: 0 })),
            None => self.rest.open_unverified(blob),
        }
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.rest.file(blob)
    }
}
