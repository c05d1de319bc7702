//! Repositories on disk. Each is an OCI image layout of its own, so any tool that reads layouts can read it:
//!
//! ```text
//! DIR/registry-v1/<repository>/_layout/oci-layout
//!                                      index.json            every manifest; tags as org.opencontainers.image.ref.name
//!                                      blobs/sha256/<hex>    layers, configs and manifests
//!                                      lock                  held while index.json changes
//! DIR/registry-v1/_uploads/<id>                              blobs on their way in
//! ```
//!
//! Nothing is visible before it is whole: bytes are staged, checked, synced and renamed, and `index.json`, which decides what
//! exists, is replaced last. A process that dies leaves files below `_uploads` and nothing else. A blob belongs to the
//! repository that it was pushed to; mounting makes a hard link, so knowing a digest is not enough to read another
//! repository's bytes.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use skycap_image::{Descriptor, Digest, IndexManifest, MediaType};

use super::route::RepositoryName;
use crate::client::lock;

/// The name of a tag in `index.json`.
pub(super) const TAG: &str = "org.opencontainers.image.ref.name";
/// When it was pushed, RFC 3339.
pub(super) const PUSHED: &str = "com.skycap.registry.pushed";
/// The manifest that this one refers to.
pub(super) const SUBJECT: &str = "com.skycap.registry.subject";
/// What a process that died left behind is removed after this time.
const LEFT_OVER: Duration = Duration::from_hours(24);
/// Indexes kept parsed in memory.
const CACHED: usize = 256;

/// All repositories below one directory.
pub(super) struct Storage {
    root: PathBuf,
    cache: Mutex<Vec<(PathBuf, Stamp, Arc<Contents>)>>,
}

/// What tells one version of a file from another: every version is a file of its own.
type Stamp = (u64, i64, i64, u64);

/// What a repository's `index.json` says.
#[derive(Clone, Default)]
pub(super) struct Contents {
    entries: Vec<Descriptor>,
    by_tag: HashMap<String, usize>,
    by_digest: HashMap<Digest, usize>,
}

impl Contents {
    fn new(entries: Vec<Descriptor>) -> Self {
        let tags = entries.iter().enumerate().filter_map(|(at, entry)| Some((tag_of(entry)?.to_owned(), at)));
        let by_tag = tags.collect();
        let by_digest = entries.iter().enumerate().map(|(at, entry)| (entry.digest, at)).collect();
        Self { entries, by_tag, by_digest }
    }

    /// All manifests, once for each tag, in the order in which they were pushed.
    pub fn entries(&self) -> &[Descriptor] {
        &self.entries
    }

    /// The manifest of a tag.
    pub fn tag(&self, tag: &str) -> Option<&Descriptor> {
        self.entries.get(*self.by_tag.get(tag)?)
    }

    /// The manifest with a digest.
    pub fn manifest(&self, digest: Digest) -> Option<&Descriptor> {
        self.entries.get(*self.by_digest.get(&digest)?)
    }

    /// The tags in order of their names.
    pub fn tags(&self) -> Vec<&str> {
        let mut tags: Vec<&str> = self.by_tag.keys().map(String::as_str).collect();
        tags.sort_unstable();
        tags
    }

    /// Takes a manifest in. One that loses its tag stays, without a name, until it is deleted.
    pub fn add(&mut self, entry: Descriptor) {
        match tag_of(&entry).map(str::to_owned) {
            Some(tag) => drop(self.remove_tag(&tag)),
            None if self.manifest(entry.digest).is_some() => return,
            None => {}
        }
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|other| other.digest != entry.digest || tag_of(other).is_some());
        entries.push(entry);
        *self = Self::new(entries);
    }

    /// Takes a tag away from its manifest; `false` if there is no such tag.
    pub fn remove_tag(&mut self, tag: &str) -> bool {
        let mut entries = std::mem::take(&mut self.entries);
        let found = entries.iter().position(|entry| tag_of(entry) == Some(tag));
        if let Some(at) = found {
            let mut entry = entries.remove(at);
            if entries.iter().all(|other| other.digest != entry.digest) {
                entry.annotations.remove(TAG);
                entries.push(entry);
            }
        }
        *self = Self::new(entries);
        found.is_some()
    }

    /// Removes a manifest with all its tags; `false` if there is no such manifest.
    pub fn remove_manifest(&mut self, digest: Digest) -> bool {
        let mut entries = std::mem::take(&mut self.entries);
        let before = entries.len();
        entries.retain(|entry| entry.digest != digest);
        let removed = entries.len() < before;
        *self = Self::new(entries);
        removed
    }
}

pub(super) fn tag_of(entry: &Descriptor) -> Option<&str> {
    entry.annotations.get(TAG).map(String::as_str)
}

impl Storage {
    /// Makes the directories and removes what dead processes left behind.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let storage = Self { root: dir.join("registry-v1"), cache: Mutex::default() };
        fs::create_dir_all(storage.uploads())?;
        for entry in fs::read_dir(storage.uploads())?.flatten() {
            let old = entry.metadata().and_then(|metadata| metadata.modified());
            if old.is_ok_and(|time| SystemTime::now().duration_since(time).is_ok_and(|age| age > LEFT_OVER)) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(storage)
    }

    /// Where bytes are staged.
    pub fn uploads(&self) -> PathBuf {
        self.root.join("_uploads")
    }

    fn layout(&self, name: &RepositoryName) -> PathBuf {
        self.root.join(name.as_str()).join("_layout")
    }

    /// The file of a blob, whether it is there or not.
    pub fn blob(&self, name: &RepositoryName, digest: Digest) -> PathBuf {
        self.layout(name).join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// What is in a repository; `None` if there is no such repository.
    pub fn contents(&self, name: &RepositoryName) -> io::Result<Option<Arc<Contents>>> {
        let path = self.layout(name).join("index.json");
        // Opened before its stamp is taken: both are of one file, whatever is renamed meanwhile.
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        let mut cache = lock(&self.cache);
        if let Some((_, _, contents)) = cache.iter().find(|(cached, of, _)| *cached == path && *of == stamp) {
            return Ok(Some(Arc::clone(contents)));
        }
        let index: IndexManifest = serde_json::from_reader(io::BufReader::new(file))
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        let contents = Arc::new(Contents::new(index.manifests));
        cache.retain(|(cached, _, _)| *cached != path);
        if cache.len() >= CACHED {
            cache.remove(0);
        }
        cache.push((path, stamp, Arc::clone(&contents)));
        Ok(Some(contents))
    }

    /// Changes what is in a repository, as one step that other processes see whole or not at all. The change is dropped if
    /// `change` gives an error. A manifest that is taken out loses its file before anybody can put it in again.
    pub fn change<T, E: From<io::Error>>(
        &self,
        name: &RepositoryName,
        change: impl FnOnce(&mut Contents) -> Result<T, E>,
    ) -> Result<T, E> {
        let layout = self.create(name)?;
        let guard = File::options().create(true).truncate(false).write(true).open(layout.join("lock"))?;
        guard.lock()?;
        let before = self.contents(name)?.unwrap_or_default();
        let mut contents = (*before).clone();
        let value = change(&mut contents)?;
        let removed =
            before.entries.iter().map(|entry| entry.digest).filter(|digest| contents.manifest(*digest).is_none());
        let removed: HashSet<Digest> = removed.collect();
        let index = IndexManifest {
            schema_version: 2,
            media_type: MediaType::OciIndex,
            artifact_type: None,
            manifests: contents.entries,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let bytes = serde_json::to_vec(&index).map_err(io::Error::other)?;
        self.replace(&layout.join("index.json"), &bytes)?;
        for digest in removed {
            // The name is gone already; a file that stays is only space.
            let _ = fs::remove_file(self.blob(name, digest));
        }
        Ok(value)
    }

    /// Makes the directories of a repository and the file that marks a layout.
    fn create(&self, name: &RepositoryName) -> io::Result<PathBuf> {
        let layout = self.layout(name);
        let marker = layout.join("oci-layout");
        if !marker.exists() {
            fs::create_dir_all(layout.join("blobs/sha256"))?;
            self.replace(&marker, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            for directory in layout.ancestors().take_while(|directory| directory.starts_with(&self.root)) {
                sync_directory(directory)?;
            }
        }
        Ok(layout)
    }

    /// Writes a small file whole.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut staged = tempfile::Builder::new().prefix("staged-").tempfile_in(self.uploads())?;
        staged.write_all(bytes)?;
        settle(staged.into_temp_path(), path)
    }

    /// Takes checked bytes in as a blob.
    pub fn keep_blob(&self, name: &RepositoryName, digest: Digest, staged: tempfile::TempPath) -> io::Result<()> {
        self.create(name)?;
        let path = self.blob(name, digest);
        if path.exists() {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        settle(staged, &path)
    }

    /// Takes bytes in memory in as a blob.
    pub fn keep_bytes(&self, name: &RepositoryName, digest: Digest, bytes: &[u8]) -> io::Result<()> {
        let mut staged = tempfile::Builder::new().prefix("staged-").tempfile_in(self.uploads())?;
        staged.write_all(bytes)?;
        self.keep_blob(name, digest, staged.into_temp_path())
    }

    /// Links a blob from another repository; `false` if it is not there.
    pub fn mount(&self, from: &RepositoryName, into: &RepositoryName, digest: Digest) -> io::Result<bool> {
        let (source, target) = (self.blob(from, digest), self.blob(into, digest));
        if !source.is_file() {
            return Ok(false);
        }
        self.create(into)?;
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
            match fs::hard_link(&source, &target) {
                Ok(()) => sync_directory(parent)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                // No link (too many of them, or a file system without): the client uploads the bytes.
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The names of all repositories, in order.
    pub fn repositories(&self) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        let mut waiting = vec![(self.root.clone(), String::new())];
        while let Some((directory, name)) = waiting.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let component = entry.file_name().to_string_lossy().into_owned();
                if component == "_layout" && entry.path().join("index.json").is_file() {
                    found.push(name.clone());
                } else if !component.starts_with('_') && entry.file_type()?.is_dir() {
                    let below = if name.is_empty() { component } else { format!("{name}/{component}") };
                    waiting.push((entry.path(), below));
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

/// Moves a staged file to its place for good.
fn settle(staged: tempfile::TempPath, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let file = File::open(&staged)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    path.parent().map_or(Ok(()), sync_directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &str, tag: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::of(MediaType::OciManifest, content.as_bytes());
        entry.annotations.extend(tag.map(|tag| (TAG.to_owned(), tag.to_owned())));
        entry
    }

    #[test]
    fn a_manifest_that_loses_its_tag_stays() {
        let mut contents = Contents::default();
        contents.add(entry("one", Some("latest")));
        contents.add(entry("two", Some("latest")));
        contents.add(entry("two", Some("2")));
        contents.add(entry("two", None));
        assert_eq!(contents.tags(), ["2", "latest"]);
        assert!(contents.manifest(Digest::sha256(b"one")).is_some_and(|entry| tag_of(entry).is_none()));
        assert_eq!(contents.entries.len(), 3);
        assert!(contents.remove_tag("2") && !contents.remove_tag("2"));
        assert!(contents.remove_manifest(Digest::sha256(b"two")) && contents.tags().is_empty());
    }

    #[test]
    fn a_change_that_fails_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path()).unwrap();
        let name = RepositoryName::parse("a/b").unwrap();
        storage
            .change(&name, |contents| {
                contents.add(entry("one", Some("1")));
                io::Result::Ok(())
            })
            .unwrap();
        let failed: io::Result<()> = storage.change(&name, |contents| {
            *contents = Contents::default();
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(storage.contents(&name).unwrap().unwrap().tags(), ["1"]);
        assert_eq!(storage.repositories().unwrap(), ["a/b"]);
        assert_eq!(fs::read_dir(storage.uploads()).unwrap().count(), 0);
    }

    #[test]
    fn a_manifest_that_is_taken_out_is_gone_before_the_next_change() {
        let dir = tempfile::tempdir().unwrap();
        let storages = [Storage::open(dir.path()).unwrap(), Storage::open(dir.path()).unwrap()];
        let name = RepositoryName::parse("a").unwrap();
        let digest = Digest::sha256(b"one");
        let put = |storage: &Storage| {
            storage.change(&name, |contents| {
                let was_there = storage.blob(&name, digest).exists();
                storage.keep_bytes(&name, digest, b"one")?;
                contents.add(entry("one", None));
                io::Result::Ok(was_there)
            })
        };
        put(&storages[0]).unwrap();
        std::thread::scope(|scope| {
            let removed = storages[1].change(&name, |contents| {
                let next = scope.spawn(|| put(&storages[0]));
                // The next change waits for this one meanwhile.
                std::thread::sleep(Duration::from_millis(50));
                assert!(contents.remove_manifest(digest) && !next.is_finished());
                io::Result::Ok(next)
            });
            assert!(!removed.unwrap().join().unwrap().unwrap(), "the file outlived the change");
        });
        assert!(storages[0].contents(&name).unwrap().unwrap().manifest(digest).is_some());
        assert!(storages[0].blob(&name, digest).is_file());
    }

    #[test]
    fn two_processes_see_each_others_changes() {
        let dir = tempfile::tempdir().unwrap();
        let storages = [Storage::open(dir.path()).unwrap(), Storage::open(dir.path()).unwrap()];
        let name = RepositoryName::parse("a").unwrap();
        std::thread::scope(|scope| {
            for (at, storage) in storages.iter().enumerate() {
                let name = &name;
                scope.spawn(move || {
                    for number in 0..20 {
                        let tag = format!("{at}-{number}");
                        storage
                            .change(name, |contents| {
                                contents.add(entry(&tag, Some(&tag)));
                                io::Result::Ok(())
                            })
                            .unwrap();
                    }
                });
            }
        });
        for storage in storages {
            assert_eq!(storage.contents(&name).unwrap().unwrap().tags().len(), 40);
        }
    }
}
