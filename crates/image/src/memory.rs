//! Images in memory: for tests, and for the small documents that a build makes.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use crate::walk::{Part, walk};
use crate::{
    Artifact, BlobReader, BlobSource, Descriptor, Digest, ImageSink, ImageSource, Kind, MediaType, Name, RawManifest,
    SourceError,
};

/// A place in memory. Clones share their content.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    blobs: BTreeMap<Digest, Arc<[u8]>>,
    names: BTreeMap<Name, Descriptor>,
}

impl Memory {
    /// Keeps bytes and returns what to ask for them with.
    pub fn add(&self, media_type: MediaType, bytes: impl Into<Arc<[u8]>>) -> Descriptor {
        let bytes = bytes.into();
        let descriptor = Descriptor::of(media_type, &bytes);
        self.lock().blobs.insert(descriptor.digest, bytes);
        descriptor
    }

    /// Every name and what it stands for.
    pub fn names(&self) -> Vec<(Name, Descriptor)> {
        self.lock().names.iter().map(|(name, descriptor)| (name.clone(), descriptor.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, blob: &Descriptor) -> bool {
        self.lock().blobs.contains_key(&blob.digest)
    }

    fn copy_blob(&self, from: &dyn BlobSource, blob: &Descriptor) -> Result<(), SourceError> {
        if self.holds(blob) {
            return Ok(());
        }
        let mut bytes = Vec::new();
        let mut reader = from.open(blob)?;
        std::io::copy(&mut reader, &mut bytes)?;
        reader.finish()?;
        self.lock().blobs.insert(blob.digest, bytes.into());
        Ok(())
    }

    fn copy(&self, artifact: &Artifact) -> Result<(), SourceError> {
        walk(artifact, &mut |part| match part {
            Part::Blob(from, blob) => self.copy_blob(&**from, blob),
            Part::Document(descriptor, bytes) => {
                self.lock().blobs.insert(descriptor.digest, bytes.into());
                Ok(())
            }
        })
    }
}

impl BlobSource for Memory {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        let found = self.lock().blobs.get(&blob.digest).cloned();
        let bytes =
            found.ok_or_else(|| SourceError::new(Kind::NotFound, format!("no blob {} in memory", blob.digest)))?;
        Ok(Box::new(Cursor::new(bytes)))
    }
}

impl ImageSource for Memory {
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        let contents = self.lock();
        Ok(match name {
            Name::Digest(digest) => contents.names.values().find(|d| d.digest == *digest).cloned(),
            Name::Tag(_) => contents.names.get(name).cloned(),
        })
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        let found = self.find(name)?;
        let descriptor = found.ok_or_else(|| SourceError::new(Kind::NotFound, format!("no image {name} in memory")))?;
        let raw: RawManifest = self.manifest(&descriptor)?;
        Artifact::open(raw, Arc::new(self.clone()))
    }
}

impl ImageSink for Memory {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        self.copy(artifact)?;
        let descriptor = artifact.descriptor().clone();
        let mut contents = self.lock();
        contents.names.insert(Name::Digest(descriptor.digest), descriptor.clone());
        for name in names {
            contents.names.insert(name.clone(), descriptor.clone());
        }
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Image, ImageConfig, Index, Platform};

    fn image(architecture: &str) -> (Memory, Image) {
        let memory = Memory::default();
        let layer = memory.add(MediaType::OciLayer, architecture.as_bytes());
        let config = ImageConfig {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            rootfs: crate::RootFs { diff_ids: vec![layer.digest], ..Default::default() },
            ..Default::default()
        };
        let image = Image::assemble(&config, vec![layer], false, Arc::new(memory.clone())).unwrap();
        (memory, image)
    }

    #[test]
    fn an_image_put_under_a_name_is_found_by_name_and_digest() {
        let (_, image) = image("amd64");
        let place = Memory::default();
        let put = place.put(&Artifact::Image(image.clone()), &[Name::Tag("1".into())]).unwrap();
        assert_eq!(place.find(&Name::Tag("1".into())).unwrap().unwrap(), put);
        let Artifact::Image(read) = place.get(&Name::Digest(put.digest)).unwrap() else { panic!("an image") };
        assert_eq!((read.manifest(), read.config()), (image.manifest(), image.config()));
        assert!(place.find(&Name::Tag("2".into())).unwrap().is_none());
    }

    #[test]
    fn an_index_gives_the_image_of_a_platform() {
        let place = Memory::default();
        let children = ["amd64", "arm64"].map(|architecture| {
            let (_, image) = image(architecture);
            place.put(&Artifact::Image(image), &[]).unwrap().with_platform(Platform::new("linux", architecture))
        });
        let index = Index::assemble(children.to_vec(), false, Arc::new(place.clone())).unwrap();
        let artifact = Artifact::Index(index);
        assert_eq!(artifact.for_platform(&Platform::new("linux", "arm64")).unwrap().config().architecture, "arm64");
        let Err(error) = artifact.for_platform(&Platform::new("linux", "riscv64")) else { panic!("no such child") };
        assert!(error.to_string().contains("it offers linux/amd64, linux/arm64"), "{error}");
    }

    #[test]
    fn a_tampered_blob_is_refused() {
        let (memory, image) = image("amd64");
        let layer = &image.layers()[0];
        memory.lock().blobs.insert(layer.descriptor.digest, b"amd65"[..].into());
        assert!(layer.open().unwrap().finish().is_err());
    }
}
