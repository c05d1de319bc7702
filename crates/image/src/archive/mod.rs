//! Images in one tar file: what `docker save` writes and OCI layouts in a tar.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::{Artifact, BlobReader, BlobSource, Descriptor, Image, ImageSource, Name, SourceError};

/// Which of the two an archive is read as. One file can be both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `manifest.json`, as `docker save` writes it.
    Docker,
    /// `index.json`, an OCI layout.
    Oci,
}

/// An archive that is read in place. Clones are the same archive.
#[derive(Clone)]
pub struct Archive(#[allow(dead_code)] Arc<()>);

/// Opens an archive, plain or in gzip. One with a `manifest.json` is read as Docker's, as Docker's own tools do.
pub fn open(_path: impl AsRef<Path>) -> Result<Archive, SourceError> {
    unimplemented!()
}

/// Opens an archive as one of the two formats, even if it is both.
pub fn open_as(_path: impl AsRef<Path>, _format: Format) -> Result<Archive, SourceError> {
    unimplemented!()
}

impl Archive {
    /// What it is read as.
    pub fn format(&self) -> Format {
        unimplemented!()
    }

    /// Every image or index that it lists with the names it has there: `repository:tag` for Docker, reference names
    /// for OCI.
    pub fn artifacts(&self) -> Vec<(Vec<String>, Descriptor)> {
        unimplemented!()
    }

    /// The one artifact of an archive that lists one.
    pub fn only(&self) -> Result<Artifact, SourceError> {
        unimplemented!()
    }
}

impl BlobSource for Archive {
    fn open_unverified(&self, _blob: &Descriptor) -> Result<BlobReader, SourceError> {
        unimplemented!()
    }
}

impl ImageSource for Archive {
    fn find(&self, _name: &Name) -> Result<Option<Descriptor>, SourceError> {
        unimplemented!()
    }

    fn get(&self, _name: &Name) -> Result<Artifact, SourceError> {
        unimplemented!()
    }
}

/// Writes what recent `docker save` and BuildKit's `type=docker` write: an OCI layout with a `manifest.json`.
/// `names` are `repository:tag`.
pub fn write_docker<W: Write>(_image: &Image, _names: &[String], _out: W) -> Result<W, SourceError> {
    unimplemented!()
}

/// Writes what go-containerregistry's `tarball` (registry-image's `format: oci`) writes: config, layers and
/// `manifest.json` side by side.
pub fn write_docker_flat<W: Write>(_image: &Image, _names: &[String], _out: W) -> Result<W, SourceError> {
    unimplemented!()
}

/// Writes an OCI layout as a tar, what BuildKit's `type=oci` writes. `names` are reference names.
pub fn write_oci<W: Write>(_artifact: &Artifact, _names: &[String], _out: W) -> Result<W, SourceError> {
    unimplemented!()
}
