//! A repository as a place.
use skycap_image::{
    Artifact, BlobReader, BlobSource, Descriptor, ImageSink, ImageSource, Name, RawManifest, Repository, SourceError,
};

/// A repository in a registry. Clones share its session.
#[derive(Clone)]
pub struct Place {}

impl Place {
    /// Which repository this is.
    pub fn repository(&self) -> &Repository {
        unimplemented!()
    }

    /// Asks the registry whether it is there and what authentication it wants. Done by itself before the first request.
    pub fn ping(&self) -> Result<(), SourceError> {
        unimplemented!()
    }

    /// Forgets what the ping said and the tokens: the next request starts a new session with a new ping.
    pub fn forget(&self) {
        unimplemented!()
    }

    /// All tags, in the registry's order, without duplicates.
    pub fn tags(&self) -> Result<Vec<String>, SourceError> {
        unimplemented!()
    }

    /// Finds many names at once; the answers are in the names' order.
    pub fn find_all(&self, _names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>> {
        unimplemented!()
    }

    /// The manifest of that name, as stored.
    pub fn raw(&self, _name: &Name) -> Result<RawManifest, SourceError> {
        unimplemented!()
    }

    /// Like [`Place::raw`], but for a tag the registry's own idea of the digest (its header) is not compared.
    pub fn raw_ignoring_header(&self, _name: &Name) -> Result<RawManifest, SourceError> {
        unimplemented!()
    }

    /// Deletes a tag, or a manifest with all its tags.
    pub fn delete(&self, _name: &Name) -> Result<(), SourceError> {
        unimplemented!()
    }
}

impl BlobSource for Place {
    fn open_unverified(&self, _blob: &Descriptor) -> Result<BlobReader, SourceError> {
        unimplemented!()
    }

    fn manifest(&self, _manifest: &Descriptor) -> Result<RawManifest, SourceError> {
        unimplemented!()
    }
}

impl ImageSource for Place {
    fn find(&self, _name: &Name) -> Result<Option<Descriptor>, SourceError> {
        unimplemented!()
    }

    fn get(&self, _name: &Name) -> Result<Artifact, SourceError> {
        unimplemented!()
    }
}

impl ImageSink for Place {
    fn put(&self, _artifact: &Artifact, _names: &[Name]) -> Result<Descriptor, SourceError> {
        unimplemented!()
    }
}
