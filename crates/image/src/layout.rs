//! OCI image layouts: a directory with `index.json` and `blobs/` (OCI image-spec, image-layout.md).

use std::path::{Path, PathBuf};

use crate::{Artifact, BlobReader, BlobSource, Descriptor, ImageSink, ImageSource, Name, SourceError};

/// An OCI image layout on disk. Clones are the same layout.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Opens a directory that has an `index.json`.
    pub fn open(_dir: impl AsRef<Path>) -> Result<Self, SourceError> {
        unimplemented!()
    }

    /// Makes a new, empty layout in a directory that is made if it is missing and must not hold a layout yet.
    pub fn create(_dir: impl AsRef<Path>) -> Result<Self, SourceError> {
        unimplemented!()
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `index.json` lists, in its order.
    pub fn artifacts(&self) -> Result<Vec<(Option<Name>, Descriptor)>, SourceError> {
        unimplemented!()
    }

    /// Reads an artifact by its descriptor.
    pub fn artifact(&self, _descriptor: &Descriptor) -> Result<Artifact, SourceError> {
        unimplemented!()
    }

    /// The one artifact of a layout that lists one.
    pub fn only(&self) -> Result<Artifact, SourceError> {
        unimplemented!()
    }

    /// `index.json` itself as an index, with its own bytes and digest (registry-image pushes layouts this way).
    pub fn as_index(&self) -> Result<Artifact, SourceError> {
        unimplemented!()
    }

    /// Makes a new layout whose `index.json` is the artifact: the raw bytes of an index, or an index of one image.
    pub fn create_as(_dir: impl AsRef<Path>, _artifact: &Artifact) -> Result<Self, SourceError> {
        unimplemented!()
    }
}

impl BlobSource for Layout {
    fn open_unverified(&self, _blob: &Descriptor) -> Result<BlobReader, SourceError> {
        unimplemented!()
    }
}

impl ImageSource for Layout {
    fn find(&self, _name: &Name) -> Result<Option<Descriptor>, SourceError> {
        unimplemented!()
    }

    fn get(&self, _name: &Name) -> Result<Artifact, SourceError> {
        unimplemented!()
    }
}

impl ImageSink for Layout {
    fn put(&self, _artifact: &Artifact, _names: &[Name]) -> Result<Descriptor, SourceError> {
        unimplemented!()
    }
}
