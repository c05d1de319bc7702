//! `dir:`, one image with a file for each part, as skopeo writes it: `manifest.json`, `version`, configs and layers under
//! the bare hex of their digests, and the images of an index as `HEX.manifest.json`. It has no names.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::document::LARGEST_DOCUMENT;
use crate::staged::{Staged, sweep, sync_directory};
use crate::walk::{Part, walk};
use crate::{
    Algorithm, Artifact, BlobReader, BlobSource, Descriptor, Digest, Kind, MediaType, Outline, RawManifest, SourceError,
};

const MANIFEST: &str = "manifest.json";
/// What the directory says about itself.
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";
const STAGED: &str = ".staged-";

/// A directory that holds one artifact.
#[derive(Clone, Debug)]
pub struct Directory {
    dir: PathBuf,
}

impl Directory {
    /// Opens a directory that has a `manifest.json`.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, SourceError> {
        let dir = dir.as_ref().to_owned();
        fs::metadata(dir.join(MANIFEST)).map_err(|error| {
            SourceError::io(format!("no image in {}: cannot read {MANIFEST}", dir.display()), error)
        })?;
        Ok(Self { dir })
    }

    /// What it holds.
    pub fn artifact(&self) -> Result<Artifact, SourceError> {
        let path = self.dir.join(MANIFEST);
        let failed = |error| SourceError::io(format!("cannot read {}", path.display()), error);
        let mut bytes = Vec::new();
        File::open(&path).and_then(|file| file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            let what = format!("{} is larger than {LARGEST_DOCUMENT} bytes", path.display());
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        let outline =
            Outline::read(&bytes).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        let media_type = match (outline.media_type, outline.lists_manifests) {
            (stated, _) if !stated.as_str().is_empty() => stated,
            (_, true) => MediaType::OciIndex,
            (_, false) => MediaType::OciManifest,
        };
        Artifact::open(RawManifest::new(media_type, bytes), Arc::new(self.clone()))
    }

    /// Writes an artifact in place of the one that is there. The manifest comes last: without it there is no image.
    pub fn write(dir: &Path, artifact: &Artifact) -> Result<(), SourceError> {
        let failed = |error| SourceError::io(format!("cannot write {}", dir.display()), error);
        fs::create_dir_all(dir).and_then(|()| sweep(dir, STAGED)).map_err(failed)?;
        remove_if_there(&dir.join(MANIFEST)).map_err(failed)?;
        let place = Self { dir: dir.to_owned() };
        place.put("version", &mut &VERSION[..])?;
        let root = artifact.descriptor().digest;
        walk(artifact, &mut |part| match part {
            Part::Blob(from, blob) => {
                let mut reader = from.open(blob)?;
                place.put(&name(&blob.digest)?, &mut reader)
            }
            Part::Document(descriptor, _) if descriptor.digest == root => Ok(()),
            Part::Document(descriptor, mut bytes) => {
                let is_manifest = descriptor.media_type.is_manifest() || descriptor.media_type.is_index();
                let hex = name(&descriptor.digest)?;
                place.put(&if is_manifest { format!("{hex}.{MANIFEST}") } else { hex }, &mut bytes)
            }
        })?;
        place.put(MANIFEST, &mut &artifact.raw().bytes[..])?;
        sync_directory(dir).map_err(failed)
    }

    fn put(&self, name: &str, content: &mut dyn Read) -> Result<(), SourceError> {
        let path = self.dir.join(name);
        let written = Staged::create(&self.dir, STAGED).and_then(|mut staged| {
            io::copy(content, &mut staged)?;
            staged.flush()?;
            staged.commit(&path, 0o644)
        });
        written.map_err(|error| SourceError::io(format!("cannot write {}", path.display()), error))
    }
}

/// The format has no room for another algorithm.
fn name(digest: &Digest) -> Result<String, SourceError> {
    if digest.algorithm() == Algorithm::Sha256 {
        return Ok(digest.hex());
    }
    Err(SourceError::new(Kind::Other, format!("dir: holds sha256 digests only, not {digest}")))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl BlobSource for Directory {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        let hex = name(&blob.digest)?;
        let plain = self.dir.join(&hex);
        let path = if plain.exists() { plain } else { self.dir.join(format!("{hex}.{MANIFEST}")) };
        let opened = fs::metadata(&path).and_then(|metadata| {
            if metadata.is_file() { File::open(&path) } else { Err(io::Error::other("it is not a regular file")) }
        });
        match opened {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(SourceError::io(format!("cannot read {}", path.display()), error)),
        }
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        let path = self.dir.join(name(&blob.digest).ok()?);
        fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.size).then_some(path)
    }
}
