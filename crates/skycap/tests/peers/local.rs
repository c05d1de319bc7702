//! Memory, layouts, archives and directories.

#![allow(clippy::unnecessary_wraps, reason = "other peers may not be there")]

use std::path::{Path, PathBuf};

use skycap_image::directory::Directory;
use skycap_image::layout::Layout;
use skycap_image::transport::Transport;
use skycap_image::{Artifact, Descriptor, ImageSink, ImageSource, Kind, Memory, Name, SourceError, archive};

use crate::process::scratch;
use crate::rooms::{Access, Peer, Room};

fn peer(name: &'static str, keeps_manifests: bool, open: fn(&Path) -> Box<dyn Room>) -> Peer {
    Peer { name, keeps_manifests, access: Access::Local(open), dir: scratch() }
}

pub fn memory() -> Result<Peer, String> {
    Ok(peer("memory", true, |_| Box::new(Memory::default())))
}

pub fn layout() -> Result<Peer, String> {
    Ok(peer("layout", true, |dir| Box::new(Layout::create(dir.join("layout")).unwrap())))
}

pub fn oci_archive() -> Result<Peer, String> {
    Ok(peer("oci archive", true, |dir| Box::new(OciArchive(dir.join("image.tar")))))
}

pub fn docker_archive() -> Result<Peer, String> {
    Ok(peer("docker archive", false, |dir| Box::new(DockerArchive(dir.join("image.tar")))))
}

pub fn directory() -> Result<Peer, String> {
    Ok(peer("directory", true, |dir| Box::new(InDirectory(dir.join("image")))))
}

impl Room for Memory {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        ImageSink::put(self, artifact, names)
    }

    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        ImageSource::find(self, name)
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        ImageSource::get(self, name)
    }
}

impl Room for Layout {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        ImageSink::put(self, artifact, names)
    }

    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        ImageSource::find(self, name)
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        ImageSource::get(self, name)
    }
}

/// The first name, as archives have one.
fn first(names: &[Name]) -> Option<Name> {
    names.first().cloned()
}

struct OciArchive(PathBuf);

impl Room for OciArchive {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        Transport::OciArchive { file: self.0.clone(), name: first(names) }.write(artifact)?;
        Ok(artifact.descriptor().clone())
    }

    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        archive::open(&self.0)?.find(name)
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        archive::open(&self.0)?.get(name)
    }
}

struct DockerArchive(PathBuf);

impl Room for DockerArchive {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        let name = first(names).map(|name| format!("example.org/app:{name}"));
        Transport::DockerArchive { file: self.0.clone(), name }.write(artifact)?;
        Ok(artifact.descriptor().clone())
    }

    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        archive::open(&self.0)?.find(name)
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        archive::open(&self.0)?.get(name)
    }
}

/// One image without a name.
struct InDirectory(PathBuf);

impl Room for InDirectory {
    fn put(&self, artifact: &Artifact, _: &[Name]) -> Result<Descriptor, SourceError> {
        Directory::write(&self.0, artifact)?;
        Ok(artifact.descriptor().clone())
    }

    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        match self.get(name) {
            Ok(artifact) => Ok(Some(artifact.descriptor().clone())),
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Any tag will do but one: a directory knows none. `absent` stands for what is not there.
    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        let artifact = Directory::open(&self.0)?.artifact()?;
        match name {
            Name::Tag(tag) if tag == "absent" => Err(SourceError::new(Kind::NotFound, "no such image")),
            Name::Digest(digest) if artifact.descriptor().digest != *digest => {
                Err(SourceError::new(Kind::NotFound, "no such image"))
            }
            _ => Ok(artifact),
        }
    }
}
