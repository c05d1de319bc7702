//! What is in a store.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use skycap_image::{Algorithm, Digest};

use crate::blobs::open_file;
use crate::layers::{ID, INDEX};
use crate::records::claimed_key;
use crate::{BLOBS, LOWERS, MOUNTS, RECORDS, SESSIONS, Store, session};

/// How much of a record is read for its key.
const HEAD: u64 = 4096;

/// What an item is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Sort {
    /// Bytes under their digest: layers as they are moved, configs, manifests.
    Blob,
    /// The listing of a layer's files.
    LayerIndex,
    /// A layer's files, as overlayfs takes them.
    Lower,
    /// Another small document: what a build step led to.
    Record,
    /// A directory of `RUN --mount=type=cache`.
    CacheMount,
    /// What a process works with at the moment. It goes with the process.
    Scratch,
}

/// Something in a store that can be there or not by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// What it is.
    pub sort: Sort,
    /// Its path below the store's directory.
    pub name: String,
    /// What people call it: a digest, a diff ID, `step <key>`, the id of a cache mount, a process.
    pub label: String,
    /// Bytes.
    pub size: u64,
    /// When it was last used.
    pub used: SystemTime,
    /// The processes that use it, by the numbers they have in their own namespace.
    pub holders: Vec<u32>,
}

impl Sort {
    /// One or two words for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::LayerIndex => "layer index",
            Self::Lower => "lower directory",
            Self::Record => "record",
            Self::CacheMount => "cache mount",
            Self::Scratch => "scratch",
        }
    }
}

impl Item {
    /// Where it is.
    pub fn path(&self, store: &Store) -> PathBuf {
        store.dir().join(&self.name)
    }
}

impl Store {
    /// Everything in the store, by sort and name. What vanishes meanwhile is left out; what does not belong to the store is
    /// not looked at.
    pub fn inventory(&self) -> io::Result<Vec<Item>> {
        let holders = session::holders(self.dir())?;
        let mut items = Vec::new();
        self.list_blobs(&mut items)?;
        self.list_records(&mut items)?;
        self.list_directories(&mut items)?;
        self.list_scratch(&mut items)?;
        for item in &mut items {
            item.holders.extend(holders.get(&item.name).into_iter().flatten());
        }
        items.sort_by(|a, b| (a.sort, &a.name).cmp(&(b.sort, &b.name)));
        Ok(items)
    }

    fn list_blobs(&self, items: &mut Vec<Item>) -> io::Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for (path, metadata) in children(&self.dir().join(BLOBS).join(algorithm.name()))? {
                let Some(digest) = digest_of(algorithm, &path) else { continue };
                let seal = fs::symlink_metadata(self.seal_path(&digest));
                let used = seal.and_then(|seal| seal.modified()).unwrap_or_else(|_| changed(&metadata));
                self.add(items, Sort::Blob, &path, digest.to_string(), metadata.len(), used);
            }
        }
        Ok(())
    }

    fn list_records(&self, items: &mut Vec<Item>) -> io::Result<()> {
        for (directory, _) in children(&self.dir().join(RECORDS))? {
            let kind = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for (path, metadata) in children(&directory)? {
                let key = key_of(&path).unwrap_or_else(|| "damaged".to_owned());
                let (sort, label) =
                    if kind == INDEX { (Sort::LayerIndex, key) } else { (Sort::Record, format!("{kind} {key}")) };
                self.add(items, sort, &path, label, metadata.len(), modified(&metadata));
            }
        }
        Ok(())
    }

    fn list_directories(&self, items: &mut Vec<Item>) -> io::Result<()> {
        for (path, metadata) in children(&self.dir().join(LOWERS))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let seal = self.seal_of(&format!("{LOWERS}/{name}"));
            let size = seal.as_ref().map_or_else(|| walked_size(&path), |seal| seal.size);
            let label = seal.map_or(name, |seal| seal.diff_id.to_string());
            self.add(items, Sort::Lower, &path, label, size, modified(&metadata));
        }
        for (path, metadata) in children(&self.dir().join(MOUNTS))? {
            let label = name_of_mount(&path.join(ID)).unwrap_or_else(|| "unnamed".to_owned());
            self.add(items, Sort::CacheMount, &path, label, walked_size(&path), modified(&metadata));
        }
        Ok(())
    }

    fn list_scratch(&self, items: &mut Vec<Item>) -> io::Result<()> {
        for (path, metadata) in children(&self.dir().join(SESSIONS))? {
            if !metadata.is_dir() {
                continue;
            }
            let pid = path.file_name().and_then(|name| session::pid(name.as_ref()));
            let label = pid.map_or_else(|| "unknown".to_owned(), |pid| format!("process {pid}"));
            self.add(items, Sort::Scratch, &path, label, walked_size(&path), modified(&metadata));
            if let Some(item) = items.last_mut() {
                item.holders.extend(pid.filter(|_| session::is_alive(&path)));
            }
        }
        Ok(())
    }

    fn add(&self, items: &mut Vec<Item>, sort: Sort, path: &Path, label: String, size: u64, used: SystemTime) {
        let Some(name) = path.strip_prefix(self.dir()).ok().and_then(Path::to_str) else { return };
        items.push(Item { sort, name: name.to_owned(), label, size, used, holders: Vec::new() });
    }
}

/// The holders of every leased entry.
pub(crate) type Holders = HashMap<String, Vec<u32>>;

/// The digest that a blob's file name states.
pub(crate) fn digest_of(algorithm: Algorithm, path: &Path) -> Option<Digest> {
    format!("{}:{}", algorithm.name(), path.file_name()?.to_str()?).parse().ok()
}

fn name_of_mount(path: &Path) -> Option<String> {
    let mut name = String::new();
    open_file(path).ok()?.take(HEAD).read_to_string(&mut name).ok()?;
    Some(name)
}

fn key_of(path: &Path) -> Option<String> {
    let mut head = Vec::new();
    open_file(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    claimed_key(&head).map(|key| key.chars().filter(|c| !c.is_control()).collect())
}

fn modified(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

fn changed(metadata: &Metadata) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(metadata.ctime().try_into().unwrap_or(0))
}

/// What is in a directory; what vanishes meanwhile is left out.
pub(crate) fn children(directory: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let mut children = Vec::new();
    let listed = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(children);
        }
        listed => listed?,
    };
    for entry in listed {
        let path = entry?.path();
        if let Ok(metadata) = fs::symlink_metadata(&path) {
            children.push((path, metadata));
        }
    }
    Ok(children)
}

/// The bytes of all files in a tree. A directory that cannot be read counts nothing: others may close theirs.
fn walked_size(path: &Path) -> u64 {
    let mut total = 0_u64;
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        let Ok(children) = children(&directory) else { continue };
        for (path, metadata) in children {
            if metadata.is_dir() {
                left.push(path);
            } else {
                total = total.saturating_add(metadata.len());
            }
        }
    }
    total
}
