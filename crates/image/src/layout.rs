//! OCI image layouts: a directory with `index.json` and `blobs/` (OCI image-spec, image-layout.md).
//!
//! A reader needs no lock: blobs appear under their digests when they are whole, and `index.json` is replaced as a
//! whole after them. Writers, also of several processes, take a lock on the directory itself, so that none loses what
//! another wrote and no lock file lies about.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::ioctl_ficlone;

use crate::direct::Direct;
use crate::document::{LARGEST_DOCUMENT, to_json};
use crate::image::DEEPEST_INDEX;
use crate::parallel::{copy_parts, copy_stream};
use crate::staged::{Staged, sweep, sync_directory};
use crate::{
    Artifact, BlobReader, BlobSource, Descriptor, Digest, ImageSink, ImageSource, IndexManifest, Kind, MediaType, Name,
    RawManifest, SourceError, Verified,
};

/// Where `index.json` keeps a name (OCI image-spec, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Where containerd, and with it BuildKit and `docker save`, keeps a full one.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The content of `oci-layout`, as go-containerregistry writes it.
const MARKER: &str = "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}";
const STAGED: &str = ".staged-";

/// An OCI image layout on disk. Clones are the same layout.
#[derive(Clone, Debug)]
pub struct Layout {
    dir: PathBuf,
    /// Whether writing waits for the disk.
    is_durable: bool,
}

impl Layout {
    /// Opens a directory that has an `index.json`. `oci-layout` is not asked for, as other tools do not either.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, SourceError> {
        let layout = Self { dir: dir.as_ref().to_owned(), is_durable: true };
        layout.index_bytes()?;
        Ok(layout)
    }

    /// Makes a new, empty layout in a directory that is made if it is missing and must not hold a layout yet.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::begin(Self::prepare(dir.as_ref(), true)?)
    }

    /// Makes a new layout whose `index.json` is the artifact: the very bytes of an index, or an index of one image. This
    /// is what registry-image's format `oci-layout` is. Blobs that are in the directory already are kept.
    pub fn create_as(dir: impl AsRef<Path>, artifact: &Artifact) -> Result<Self, SourceError> {
        Self::fill_as(Self::prepare(dir.as_ref(), true)?, artifact)
    }

    /// The same without waiting for the disk, for a directory that does not outlive the machine's next start, or that its
    /// owner makes durable as a whole. Each file still appears whole.
    pub fn create_unsynced_as(dir: impl AsRef<Path>, artifact: &Artifact) -> Result<Self, SourceError> {
        Self::fill_as(Self::prepare(dir.as_ref(), false)?, artifact)
    }

    /// Makes a new, empty layout without waiting for the disk, now or when it is written to.
    pub fn create_unsynced(dir: impl AsRef<Path>) -> Result<Self, SourceError> {
        Self::begin(Self::prepare(dir.as_ref(), false)?)
    }

    fn begin(layout: Self) -> Result<Self, SourceError> {
        layout.change_index(|index| if index.is_none() { Ok(empty_index()) } else { Err(layout.exists()) })?;
        Ok(layout)
    }

    fn fill_as(layout: Self, artifact: &Artifact) -> Result<Self, SourceError> {
        if layout.path("index.json").exists() {
            return Err(layout.exists());
        }
        let bytes = match artifact {
            Artifact::Index(index) => index.raw().bytes.clone(),
            Artifact::Image(image) => {
                let artifact_type = image.manifest().artifact_type.clone();
                let descriptor = Descriptor { artifact_type, ..bare(artifact.descriptor()) };
                to_json(&IndexManifest { manifests: vec![descriptor], ..empty_index() })?
            }
        };
        layout.copy(artifact, matches!(artifact, Artifact::Image(_)))?;
        let _lock = layout.lock()?;
        layout.replace("index.json", &bytes)?;
        Ok(layout)
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `index.json` lists, in its order.
    pub fn artifacts(&self) -> Result<Vec<(Option<Name>, Descriptor)>, SourceError> {
        let named = |descriptor: Descriptor| (name_of(&descriptor).map(|name| Name::Tag(name.to_owned())), descriptor);
        Ok(self.index()?.manifests.into_iter().map(named).collect())
    }

    /// Reads an artifact by its descriptor.
    pub fn artifact(&self, descriptor: &Descriptor) -> Result<Artifact, SourceError> {
        Artifact::open(self.manifest(descriptor)?, Arc::new(self.clone()))
    }

    /// The one artifact of a layout that lists one.
    pub fn only(&self) -> Result<Artifact, SourceError> {
        let manifests = self.index()?.manifests;
        match &manifests[..] {
            [one] => self.artifact(one),
            several => {
                let what = format!("{} lists {} images, not one", self.dir.display(), several.len());
                Err(SourceError::new(if several.is_empty() { Kind::NotFound } else { Kind::Other }, what))
            }
        }
    }

    /// `index.json` itself as an index, with its own bytes and digest: registry-image pushes layouts this way.
    pub fn as_index(&self) -> Result<Artifact, SourceError> {
        let bytes = self.index_bytes()?;
        let stated = parse_index(&bytes, &self.dir)?.media_type;
        let media_type = if stated.is_index() { stated } else { MediaType::OciIndex };
        Artifact::open(RawManifest::new(media_type, bytes), Arc::new(self.clone()))
    }

    fn prepare(dir: &Path, is_durable: bool) -> Result<Self, SourceError> {
        let layout = Self { dir: dir.to_owned(), is_durable };
        let made = fs::create_dir_all(layout.path("blobs/sha256"));
        made.map_err(|error| SourceError::io(format!("cannot create the layout {}", dir.display()), error))?;
        let _lock = layout.lock()?;
        sweep(&layout.dir, STAGED).map_err(|error| Self::failed("sweep", &layout.dir, error))?;
        layout.replace("oci-layout", MARKER.as_bytes())?;
        Ok(layout)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    fn index_bytes(&self) -> Result<Vec<u8>, SourceError> {
        let path = self.path("index.json");
        // A pipe would be waited for.
        if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
            return Err(SourceError::new(Kind::Corrupt, format!("{} is not a regular file", path.display())));
        }
        let read = File::open(&path).and_then(|file| {
            let mut bytes = Vec::new();
            file.take(LARGEST_DOCUMENT + 1).read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes = read.map_err(|error| {
            SourceError::io(format!("no OCI layout in {}: cannot read index.json", self.dir.display()), error)
        })?;
        if bytes.len() as u64 > LARGEST_DOCUMENT {
            let what = format!("{} is larger than {LARGEST_DOCUMENT} bytes", path.display());
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        Ok(bytes)
    }

    fn index(&self) -> Result<IndexManifest, SourceError> {
        parse_index(&self.index_bytes()?, &self.dir)
    }

    /// Waits for the lock that writers hold; it ends when the file is closed.
    fn lock(&self) -> Result<File, SourceError> {
        let locked = File::open(&self.dir).and_then(|directory| directory.lock().map(|()| directory));
        locked.map_err(|error| Self::failed("lock", &self.dir, error))
    }

    /// Reads, changes and replaces `index.json` while no other writer does. It is `None` before it is first written.
    fn change_index(
        &self,
        change: impl FnOnce(Option<IndexManifest>) -> Result<IndexManifest, SourceError>,
    ) -> Result<(), SourceError> {
        let _lock = self.lock()?;
        let before = if self.path("index.json").exists() { Some(self.index()?) } else { None };
        self.replace("index.json", &to_json(&change(before)?)?)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), SourceError> {
        let path = self.path(name);
        let written = Staged::create(&self.dir, STAGED).and_then(|mut staged| {
            staged.write_all(bytes)?;
            self.commit(staged, &path)?;
            self.sync(&self.dir)
        });
        written.map_err(|error| Self::failed("write", &path, error))
    }

    fn commit(&self, staged: Staged, path: &Path) -> io::Result<()> {
        if self.is_durable { staged.commit(path, 0o644) } else { staged.commit_unsynced(path, 0o644) }
    }

    fn sync(&self, directory: &Path) -> io::Result<()> {
        if self.is_durable { sync_directory(directory) } else { Ok(()) }
    }

    fn copy(&self, artifact: &Artifact, with_top: bool) -> Result<(), SourceError> {
        let top = artifact.descriptor().digest;
        let copy_blob = |from: &dyn BlobSource, blob: &Descriptor| {
            if self.is_whole(blob) { Ok(()) } else { self.copy_blob(from, blob) }
        };
        copy_parts(artifact, &copy_blob, &mut |document, bytes| {
            if (!with_top && document.digest == top) || self.is_whole(document) {
                return Ok(());
            }
            self.write_blob(document, |staged| Ok(staged.write_all(bytes)?))
        })?;
        let blobs = self.path("blobs/sha256");
        self.sync(&blobs).map_err(|error| Self::failed("write", &blobs, error))
    }

    fn is_whole(&self, blob: &Descriptor) -> bool {
        self.open(blob).is_ok_and(|reader| reader.finish().is_ok())
    }

    fn copy_blob(&self, from: &dyn BlobSource, blob: &Descriptor) -> Result<(), SourceError> {
        let file = from.file(blob).and_then(|path| File::open(path).ok());
        self.write_blob(blob, |staged| match file {
            // One set of blocks for both files, until one of them is changed: no file system does it quicker.
            Some(file) if ioctl_ficlone(staged.file(), &file).is_ok() => arrived(staged, blob),
            // The kernel copies, and what waits for no disk is at hand for the next reader.
            Some(file) if !self.is_durable => {
                io::copy(&mut (&file).take(blob.size.saturating_add(1)), &mut staged.file())?;
                arrived(staged, blob)
            }
            _ if self.is_durable => {
                let mut out = Direct::new(staged.file())?;
                copy_stream(from, blob, &mut out)?;
                Ok(out.finish()?)
            }
            _ => copy_stream(from, blob, staged),
        })
    }

    /// `write` checks what it writes, or it was checked before.
    fn write_blob(
        &self,
        blob: &Descriptor,
        write: impl FnOnce(&mut Staged) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let path = self.blob_path(&blob.digest);
        let failed = |error| Self::failed("write", &path, error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut staged = {
            // Nobody sweeps while the new file does not hold its own lock yet.
            let _lock = self.lock()?;
            Staged::create(&self.dir, STAGED).map_err(failed)?
        };
        write(&mut staged)
            .map_err(|error| SourceError::caused(error.kind, format!("cannot write {}", path.display()), error))?;
        self.commit(staged, &path).map_err(failed)
    }

    fn find_below(
        &self,
        digest: &Digest,
        manifests: Vec<Descriptor>,
        depth: usize,
    ) -> Result<Option<Descriptor>, SourceError> {
        let (found, others): (Vec<_>, Vec<_>) = manifests.into_iter().partition(|child| child.digest == *digest);
        if let Some(found) = found.into_iter().next() {
            return Ok(Some(found));
        }
        for child in others.iter().filter(|child| depth > 0 && child.media_type.is_index()) {
            let children = parse_index(&self.manifest(child)?.bytes, &self.dir)?.manifests;
            if let Some(found) = self.find_below(digest, children, depth - 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn exists(&self) -> SourceError {
        SourceError::new(Kind::Other, format!("{} holds an OCI layout already", self.dir.display()))
    }

    fn failed(doing: &str, path: &Path, error: io::Error) -> SourceError {
        SourceError::io(format!("cannot {doing} {}", path.display()), error)
    }
}

impl BlobSource for Layout {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        let path = self.blob_path(&blob.digest);
        // A blob may be a link, as Bazel makes them, but nothing that blocks or has no end.
        let opened = fs::metadata(&path).and_then(|metadata| {
            if metadata.is_file() { File::open(&path) } else { Err(io::Error::other("it is not a regular file")) }
        });
        match opened {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Self::failed("read", &path, error)),
        }
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        let path = self.blob_path(&blob.digest);
        fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == blob.size).then_some(path)
    }
}

impl ImageSource for Layout {
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        let manifests = self.index()?.manifests;
        match name {
            Name::Tag(tag) => Ok(find_named(&manifests, tag).cloned()),
            Name::Digest(digest) => self.find_below(digest, manifests, DEEPEST_INDEX),
        }
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        match self.find(name)? {
            Some(descriptor) => self.artifact(&descriptor),
            None => Err(SourceError::new(Kind::NotFound, format!("no image {name} in {}", self.dir.display()))),
        }
    }
}

impl ImageSink for Layout {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        {
            let _lock = self.lock()?;
            sweep(&self.dir, STAGED).map_err(|error| Self::failed("sweep", &self.dir, error))?;
        }
        self.copy(artifact, true)?;
        let descriptor = bare(artifact.descriptor());
        self.change_index(|index| {
            let mut index = index.unwrap_or_else(empty_index);
            list(&mut index.manifests, &descriptor, names);
            Ok(index)
        })?;
        Ok(artifact.descriptor().clone())
    }
}

/// Lists an artifact under its names; a name leads to one artifact. Without names it is listed once.
pub(crate) fn list(manifests: &mut Vec<Descriptor>, descriptor: &Descriptor, names: &[Name]) {
    let tags: Vec<&String> =
        names.iter().filter_map(|name| if let Name::Tag(tag) = name { Some(tag) } else { None }).collect();
    manifests.retain(|listed| name_of(listed).is_none_or(|name| !tags.iter().any(|tag| *tag == name)));
    for tag in &tags {
        let mut named = descriptor.clone();
        named.annotations.insert(REF_NAME.to_owned(), (*tag).clone());
        manifests.push(named);
    }
    if tags.is_empty() && !manifests.iter().any(|listed| listed.digest == descriptor.digest) {
        manifests.push(descriptor.clone());
    }
}

/// The first that is listed under a name, be it the short or containerd's full one.
pub(crate) fn find_named<'m>(manifests: &'m [Descriptor], name: &str) -> Option<&'m Descriptor> {
    let full = |listed: &&Descriptor| listed.annotations.get(CONTAINERD_NAME).is_some_and(|full| full == name);
    manifests.iter().find(|listed| name_of(listed) == Some(name)).or_else(|| manifests.iter().find(full))
}

/// What an artifact is, without what some index said about it.
fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type.clone(), descriptor.digest, descriptor.size)
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations.get(REF_NAME).map(String::as_str)
}

pub(crate) fn empty_index() -> IndexManifest {
    IndexManifest {
        schema_version: 2,
        media_type: MediaType::OciIndex,
        artifact_type: None,
        manifests: Vec::new(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    }
}

/// Checks what a staged file holds.
fn arrived(staged: &Staged, blob: &Descriptor) -> Result<(), SourceError> {
    let mut file = staged.file();
    file.seek(SeekFrom::Start(0))?;
    Ok(Verified::new(file, blob).finish()?)
}

pub(crate) fn parse_index(bytes: &[u8], place: &Path) -> Result<IndexManifest, SourceError> {
    serde_json::from_slice(bytes).map_err(|error| {
        SourceError::caused(Kind::Corrupt, format!("an index in {} does not parse", place.display()), error)
    })
}
