//! Where caches of builds live besides the store: in a registry, in a directory, in an image.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Descriptor, ImageSink, ImageSource, Kind, Name, SourceError};

/// Where to look for what earlier builds made, on whatever machine.
#[derive(Clone)]
pub struct CacheSource {
    /// What messages call it: `registry.example/app:cache`, a path.
    pub label: String,
    /// Where it is. An image that was built with an inline cache is a cache, too.
    pub place: Arc<dyn ImageSource + Send + Sync>,
    /// What it is called there.
    pub name: Name,
}

/// Where to put what this build made.
#[derive(Clone)]
pub enum CacheTarget {
    /// Into the configuration of the images that are built: what made their own layers.
    Inline,
    /// An image of its own.
    Image(CacheImage),
}

/// A cache that is an image of its own.
#[derive(Clone)]
pub struct CacheImage {
    /// What messages call it.
    pub label: String,
    /// Where it goes.
    pub place: Arc<dyn ImageSink + Send + Sync>,
    /// What it is called there.
    pub name: Name,
    /// How much it holds.
    pub mode: CacheMode,
    /// Whether a build goes on if it cannot be written.
    pub ignore_error: bool,
}

/// How much of a build is put into a cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CacheMode {
    /// The layers of the images.
    #[default]
    Min,
    /// Those of all stages that they are made from, too.
    Max,
}

/// A directory with a cache, which may be missing until something is put there.
#[derive(Clone, Debug)]
pub struct CacheDirectory(PathBuf);

impl CacheDirectory {
    /// The cache in a directory. Nothing is looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The layout to write to. An index that cannot be read leads nowhere: it is begun again, and blobs that are there stay.
    fn layout(&self, name: &Name) -> Result<Layout, SourceError> {
        self.clear_the_way()?;
        let readable = Layout::open(&self.0).and_then(|layout| layout.find(name).map(|_| layout));
        // Another build may have begun it a moment ago.
        let begun = || Layout::create(&self.0).or_else(|error| Layout::open(&self.0).map_err(|_| error));
        match readable {
            Err(error) if error.kind == Kind::NotFound => begun(),
            Err(error) if error.kind == Kind::Corrupt => {
                let index = self.0.join("index.json");
                let removed = match fs::remove_file(&index) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    removed => removed,
                };
                removed.map_err(|error| SourceError::io(format!("cannot replace {}", index.display()), error))?;
                begun()
            }
            opened => opened,
        }
    }
}

impl CacheDirectory {
    /// Removes directories, pipes and whatever else stands where a layout has files, and files where it has directories.
    fn clear_the_way(&self) -> Result<(), SourceError> {
        let blobs = self.0.join("blobs/sha256");
        let directories = [self.0.join("blobs"), blobs.clone()].into_iter();
        let no_directories = directories.filter(|path| fs::metadata(path).is_ok_and(|found| !found.is_dir()));
        let mut in_the_way: Vec<PathBuf> = no_directories.collect();
        let entries = fs::read_dir(blobs).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = entries.chain(["index.json", "oci-layout"].map(|name| self.0.join(name)));
        in_the_way.extend(files.filter(|path| {
            let is_file_or_link = |found: fs::Metadata| found.is_file() || found.is_symlink();
            fs::symlink_metadata(path).is_ok_and(|found| !is_file_or_link(found))
        }));
        for path in in_the_way {
            let is_directory = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SourceError::io(format!("cannot replace {}", path.display()), error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl ImageSource for CacheDirectory {
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        match Layout::open(&self.0) {
            Err(error) if error.kind == Kind::NotFound => Ok(None),
            opened => opened?.find(name),
        }
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        Layout::open(&self.0)?.get(name)
    }
}

impl ImageSink for CacheDirectory {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        let tag = Name::Tag("latest".to_owned());
        self.layout(names.first().unwrap_or(&tag))?.put(artifact, names)
    }
}

impl CacheSource {
    /// The cache in a directory.
    pub fn directory(path: impl Into<PathBuf>, name: Name) -> Self {
        let directory = CacheDirectory::new(path);
        Self { label: directory.path().display().to_string(), place: Arc::new(directory), name }
    }
}

impl CacheTarget {
    /// A cache in a directory.
    pub fn directory(path: impl Into<PathBuf>, name: Name, mode: CacheMode, ignore_error: bool) -> Self {
        let directory = CacheDirectory::new(path);
        let label = directory.path().display().to_string();
        Self::Image(CacheImage { label, place: Arc::new(directory), name, mode, ignore_error })
    }
}

impl fmt::Debug for CacheSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheSource({} {})", self.label, self.name)
    }
}
