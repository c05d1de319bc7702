//! Reading and writing the places that are files.

use std::path::Path;

use super::Transport;
use crate::archive::{self, Archive, Format};
use crate::direct::Direct;
use crate::directory::Directory;
use crate::layout::Layout;
use crate::staged::{Placed, parent};
use crate::{Artifact, Descriptor, Image, ImageSink, ImageSource, Kind, Name, SourceError};

/// What a place holds: names, and what each stands for.
pub type Listed = Vec<(Vec<String>, Descriptor)>;

impl Transport {
    /// Opens the artifact in a layout, an archive or a directory. Without a name there must be exactly one.
    pub fn open(&self) -> Result<Artifact, SourceError> {
        match self {
            Self::Registry(_) => Err(self.elsewhere()),
            Self::Layout { dir, name } => {
                let layout = Layout::open(dir)?;
                name.as_ref().map_or_else(|| layout.only(), |name| layout.get(name))
            }
            Self::OciArchive { file, name } => {
                let archive = archive::open_as(file, Format::Oci)?;
                name.as_ref().map_or_else(|| archive.only(), |name| archive.get(name))
            }
            Self::DockerArchive { file, name } => {
                let archive = archive::open_as(file, Format::Docker)?;
                name.as_ref().map_or_else(|| archive.only(), |name| find_repository_tag(&archive, name))
            }
            Self::Directory(dir) => Directory::open(dir)?.artifact(),
        }
    }

    /// What a layout or archive holds, with its names.
    pub fn list(&self) -> Result<Listed, SourceError> {
        match self {
            Self::Registry(_) => Err(self.elsewhere()),
            Self::Layout { dir, .. } => {
                let named = |(name, listed): (Option<Name>, Descriptor)| {
                    (name.iter().map(ToString::to_string).collect(), listed)
                };
                Ok(Layout::open(dir)?.artifacts()?.into_iter().map(named).collect())
            }
            Self::OciArchive { file, .. } => Ok(archive::open_as(file, Format::Oci)?.artifacts()),
            Self::DockerArchive { file, .. } => Ok(archive::open_as(file, Format::Docker)?.artifacts()),
            Self::Directory(dir) => Ok(vec![(Vec::new(), Directory::open(dir)?.artifact()?.descriptor().clone())]),
        }
    }

    /// Says before any work what would stop the writing after it.
    pub fn check_writable(&self) -> Result<(), SourceError> {
        let refuse = |what: String| Err(SourceError::new(Kind::Other, what));
        let path = match self {
            Self::Registry(_) => return Ok(()),
            Self::Layout { name: Some(Name::Digest(_)), .. } | Self::OciArchive { name: Some(Name::Digest(_)), .. } => {
                return refuse(format!("cannot write to {self}: a digest is no name to write under"));
            }
            Self::Layout { dir, .. } => {
                let other = dir.is_dir() && !dir.join("index.json").exists() && !is_begun(dir, &is_of_layout);
                if other {
                    return refuse(format!("{} holds something else than an OCI layout", dir.display()));
                }
                dir
            }
            Self::Directory(dir) => {
                if dir.exists() && !is_begun(dir, &is_of_directory) && !dir.join("manifest.json").exists() {
                    return refuse(format!("{} holds something else than an image", dir.display()));
                }
                dir
            }
            Self::OciArchive { file, .. } | Self::DockerArchive { file, .. } => {
                if file.is_dir() {
                    return refuse(format!("cannot write {}: it is a directory", file.display()));
                }
                file
            }
        };
        let parent = parent(path);
        if parent.is_dir() {
            return Ok(());
        }
        refuse(format!("cannot write {}: {} is not a directory", path.display(), parent.display()))
    }

    /// Writes an artifact. A layout keeps what it holds otherwise; an archive or directory is replaced. Each appears whole.
    pub fn write(&self, artifact: &Artifact) -> Result<(), SourceError> {
        self.write_named(artifact, &[])
    }

    /// The same under further names, in a place that has names.
    pub fn write_named(&self, artifact: &Artifact, more: &[String]) -> Result<(), SourceError> {
        self.check_writable()?;
        match self {
            Self::Registry(_) => Err(self.elsewhere()),
            Self::Layout { dir, name } => {
                let layout = if dir.join("index.json").exists() { Layout::open(dir) } else { Layout::create(dir) }?;
                let more = more.iter().cloned().map(Name::Tag);
                let names: Vec<Name> = name.iter().cloned().chain(more).collect();
                layout.put(artifact, &names).map(drop)
            }
            Self::OciArchive { file, name } => {
                let names: Vec<String> = name.iter().map(ToString::to_string).chain(more.iter().cloned()).collect();
                whole(file, |out| archive::write_oci(artifact, &names, out))
            }
            Self::DockerArchive { file, name } => {
                let image = self.single(artifact)?;
                let names: Vec<String> = name.iter().chain(more).cloned().collect();
                whole(file, |out| archive::write_docker(image, &names, out))
            }
            Self::Directory(dir) => Directory::write(dir, artifact),
        }
    }

    fn single<'a>(&self, artifact: &'a Artifact) -> Result<&'a Image, SourceError> {
        match artifact {
            Artifact::Image(image) if image.layers().len() != image.manifest().layers.len() => {
                let (digest, kind) = (image.descriptor().digest, &image.manifest().config.media_type);
                let what =
                    format!("{self} holds images, and {digest} is none: its config is a {kind}; oci-archive: takes it");
                Err(SourceError::new(Kind::Other, what))
            }
            Artifact::Image(image) => Ok(image),
            Artifact::Index(index) => {
                let what = format!("{self} holds images, and {} is an index of several", index.raw().descriptor.digest);
                Err(SourceError::new(Kind::Other, what))
            }
        }
    }

    fn elsewhere(&self) -> SourceError {
        SourceError::new(Kind::Other, format!("{self} is in a registry, not in a file"))
    }
}

/// `name` is what was asked for with a tag; archives have names as Docker shows them or in full.
fn find_repository_tag(archive: &Archive, name: &str) -> Result<Artifact, SourceError> {
    let wanted: Option<crate::Reference> = name.parse().ok();
    let same = |listed: &String| listed == name || (wanted.is_some() && listed.parse().ok() == wanted);
    match archive.artifacts().into_iter().find(|(names, _)| names.iter().any(same)) {
        Some((_, descriptor)) => archive.artifact(&descriptor),
        None => archive.get(&Name::Tag(name.to_owned())),
    }
}

/// Writes a file that appears whole.
fn whole(path: &Path, write: impl FnOnce(Direct) -> Result<Direct, SourceError>) -> Result<(), SourceError> {
    let failed = |error| SourceError::io(format!("cannot write {}", path.display()), error);
    let placed = Placed::open(path).map_err(failed)?;
    write(Direct::new(placed.file()).map_err(failed)?)?.finish().map_err(failed)?;
    placed.commit(0o644).map_err(failed)
}

/// Whether a directory is empty, or holds only what a writer that was interrupted leaves.
fn is_begun(dir: &Path, is_ours: &dyn Fn(&str) -> bool) -> bool {
    let ours =
        |name: std::ffi::OsString| name.to_str().is_some_and(|name| name.starts_with(".staged-") || is_ours(name));
    dir.read_dir().is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|entry| ours(entry.file_name()))))
}

fn is_of_layout(name: &str) -> bool {
    matches!(name, "blobs" | "oci-layout")
}

fn is_of_directory(name: &str) -> bool {
    name == "version" || format!("sha256:{name}").parse::<crate::Digest>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a layer of several pieces on their way to the disk, and an odd end.
    #[test]
    fn an_archive_in_a_file_is_the_one_in_a_stream_and_a_layout_holds_the_same_blobs() {
        let memory = crate::Memory::default();
        let bytes: Vec<u8> = (0..(5_u32 << 20) / 2 + 77).map(|at| (at / 3 % 251) as u8).collect();
        let layer = memory.add(crate::MediaType::OciLayer, bytes.clone());
        let rootfs = crate::RootFs { diff_ids: vec![layer.digest], ..Default::default() };
        let config =
            crate::ImageConfig { architecture: "amd64".into(), os: "linux".into(), rootfs, ..Default::default() };
        let image = Image::assemble(&config, vec![layer.clone()], false, std::sync::Arc::new(memory)).unwrap();
        let artifact = Artifact::Image(image.clone());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image.tar");
        Transport::DockerArchive { file: file.clone(), name: None }.write(&artifact).unwrap();
        assert!(std::fs::read(&file).unwrap() == archive::write_docker(&image, &[], Vec::new()).unwrap());
        let from_file = archive::open_as(&file, Format::Docker).unwrap().only().unwrap();
        for (name, artifact) in [("of-memory", &artifact), ("of-an-archive", &from_file)] {
            let layout = dir.path().join(name);
            Transport::Layout { dir: layout.clone(), name: None }.write(artifact).unwrap();
            assert!(std::fs::read(layout.join("blobs/sha256").join(layer.digest.hex())).unwrap() == bytes, "{name}");
        }
        // From a layout, the blob is a file of its own.
        let from_layout = Transport::Layout { dir: dir.path().join("of-memory"), name: None }.open().unwrap();
        Transport::Layout { dir: dir.path().join("of-a-layout"), name: None }.write(&from_layout).unwrap();
        let unsynced = Layout::create_unsynced(dir.path().join("unsynced")).unwrap();
        unsynced.put(&from_layout, &[]).unwrap();
        for name in ["of-a-layout", "unsynced"] {
            let blob = dir.path().join(name).join("blobs/sha256").join(layer.digest.hex());
            assert!(std::fs::read(blob).unwrap() == bytes, "{name}");
        }
        let damaged = dir.path().join("of-memory/blobs/sha256").join(layer.digest.hex());
        std::fs::write(damaged, &bytes[..bytes.len() - 1]).unwrap();
        let target = dir.path().join("never");
        assert!(Transport::Layout { dir: target.clone(), name: None }.write(&from_layout).is_err());
        assert!(
            Transport::DockerArchive { file: dir.path().join("never.tar"), name: None }.write(&from_layout).is_err()
        );
        assert!(
            !target.join("blobs/sha256").join(layer.digest.hex()).exists() && !dir.path().join("never.tar").exists()
        );
        let left: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
    }

    /// K02: an interrupted writer must not stand in the way of the next; somebody else's files must.
    #[test]
    fn what_was_begun_can_be_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let hex = "a".repeat(64);
        let begun = |is_ours| is_begun(dir.path(), is_ours);
        assert!(begun(&is_of_layout) && begun(&is_of_directory));
        std::fs::write(dir.path().join(".staged-1-0"), "").unwrap();
        std::fs::create_dir(dir.path().join("blobs")).unwrap();
        assert!(begun(&is_of_layout) && !begun(&is_of_directory));
        std::fs::remove_dir(dir.path().join("blobs")).unwrap();
        std::fs::write(dir.path().join(hex), "").unwrap();
        assert!(!begun(&is_of_layout) && begun(&is_of_directory));
        std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(!begun(&is_of_layout) && !begun(&is_of_directory));
    }
}
