//! Opening an archive.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::docker::{self, Described};
use super::members::{Members, Span};
use super::{Format, corrupt};
use crate::layout::{find_named, parse_index};
use crate::{
    Artifact, BlobReader, BlobSource, Descriptor, Digest, ImageSource, IndexManifest, Kind, Name, RawManifest,
    SourceError,
};

const INDEX: &str = "index.json";

/// An archive that is read in place. Clones are the same archive.
#[derive(Clone)]
pub struct Archive(Arc<Contents>);

struct Contents {
    path: PathBuf,
    members: Members,
    listed: Listed,
}

enum Listed {
    Docker {
        images: Vec<(Vec<String>, RawManifest)>,
        documents: BTreeMap<Digest, Vec<u8>>,
        layers: BTreeMap<Digest, Span>,
    },
    Oci(Box<IndexManifest>),
}

/// Opens an archive, plain or compressed. One with a `manifest.json` is read as Docker's, as Docker's own tools do; the
/// manifests of its images are made up then, because it has none.
pub fn open(path: impl AsRef<Path>) -> Result<Archive, SourceError> {
    let path = path.as_ref();
    let members = Members::list(path)?;
    let format = if members.has(docker::MANIFEST) {
        Format::Docker
    } else if members.has(INDEX) {
        Format::Oci
    } else {
        let what = format!("{} is not an image archive: it has neither manifest.json nor index.json", path.display());
        return Err(corrupt(what));
    };
    read(path, members, format)
}

/// Opens an archive as one of the two formats, even if it is both.
pub fn open_as(path: impl AsRef<Path>, format: Format) -> Result<Archive, SourceError> {
    let path = path.as_ref();
    read(path, Members::list(path)?, format)
}

fn read(path: &Path, members: Members, format: Format) -> Result<Archive, SourceError> {
    let listed = match format {
        Format::Docker => read_docker(&members),
        Format::Oci => members.document(INDEX).and_then(|bytes| Ok(Listed::Oci(Box::new(parse_index(&bytes, path)?)))),
    };
    let listed = listed.map_err(|error| {
        SourceError::caused(error.kind, format!("cannot read the archive {}", path.display()), error)
    })?;
    Ok(Archive(Arc::new(Contents { path: path.to_owned(), members, listed })))
}

fn read_docker(members: &Members) -> Result<Listed, SourceError> {
    let (mut images, mut documents, mut spans) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut hashed = BTreeMap::new();
    for entry in docker::entries(members)? {
        let Described { names, manifest, config, layers } = docker::describe(members, entry, &mut hashed)?;
        documents.insert(config.0, config.1);
        documents.insert(manifest.descriptor.digest, manifest.bytes.clone());
        spans.extend(layers);
        images.push((names, manifest));
    }
    Ok(Listed::Docker { images, documents, layers: spans })
}

impl Archive {
    /// What it is read as.
    pub fn format(&self) -> Format {
        match self.0.listed {
            Listed::Docker { .. } => Format::Docker,
            Listed::Oci(_) => Format::Oci,
        }
    }

    /// Every image or index that it lists with the names it has there: `repository:tag` for Docker, reference names
    /// for OCI.
    pub fn artifacts(&self) -> Vec<(Vec<String>, Descriptor)> {
        match &self.0.listed {
            Listed::Docker { images, .. } => {
                images.iter().map(|(names, manifest)| (names.clone(), manifest.descriptor.clone())).collect()
            }
            Listed::Oci(index) => {
                let names = |listed: &Descriptor| listed.annotations.get(crate::layout::REF_NAME).cloned();
                index.manifests.iter().map(|listed| (names(listed).into_iter().collect(), listed.clone())).collect()
            }
        }
    }

    /// The one artifact of an archive that lists one.
    pub fn only(&self) -> Result<Artifact, SourceError> {
        match &self.artifacts()[..] {
            [(_, one)] => self.artifact(one),
            several => Err(corrupt(format!("{} lists {} images, not one", self.0.path.display(), several.len()))),
        }
    }

    /// Reads an artifact by its descriptor.
    pub fn artifact(&self, descriptor: &Descriptor) -> Result<Artifact, SourceError> {
        Artifact::open(self.manifest(descriptor)?, Arc::new(self.clone()))
    }
}

impl BlobSource for Archive {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        let members = &self.0.members;
        let missing = || {
            let what = format!("no blob {} in the archive {}", blob.digest, self.0.path.display());
            SourceError::new(Kind::NotFound, what)
        };
        match &self.0.listed {
            Listed::Docker { documents, layers, .. } => match documents.get(&blob.digest) {
                Some(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
                None => members.open(*layers.get(&blob.digest).ok_or_else(missing)?),
            },
            Listed::Oci(_) => {
                let name = format!("blobs/{}/{}", blob.digest.algorithm().name(), blob.digest.hex());
                if members.has(&name) { members.open(members.find(&name)?) } else { Err(missing()) }
            }
        }
    }
}

impl ImageSource for Archive {
    /// A name is a full one of the archive, or in Docker's format a tag alone.
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        Ok(match (&self.0.listed, name) {
            (Listed::Oci(index), Name::Tag(tag)) => find_named(&index.manifests, tag).cloned(),
            (Listed::Docker { images, .. }, Name::Tag(tag)) => {
                let full = |(names, _): &&(Vec<String>, _)| names.contains(tag);
                let short = |(names, _): &&(Vec<String>, _)| {
                    names.iter().any(|name| name.rsplit_once(':').is_some_and(|(_, end)| end == tag))
                };
                let found = images.iter().find(full).or_else(|| images.iter().find(short));
                found.map(|(_, manifest)| manifest.descriptor.clone())
            }
            (_, Name::Digest(digest)) => {
                self.artifacts().into_iter().map(|(_, listed)| listed).find(|listed| listed.digest == *digest)
            }
        })
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        let found = self.find(name)?;
        let missing = || format!("no image {name} in the archive {}", self.0.path.display());
        self.artifact(&found.ok_or_else(|| SourceError::new(Kind::NotFound, missing()))?)
    }
}
