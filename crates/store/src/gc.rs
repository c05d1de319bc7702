//! Removing what is not used.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::layers::noted_size;
use crate::remove::remove;
use crate::{BLOBS, LOWERS, MOUNTS, RECORDS, Store, locks, session};

/// What a collection did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Collected {
    /// Entries removed.
    pub removed: u64,
    /// The bytes that they took.
    pub freed: u64,
    /// The bytes that stay.
    pub kept: u64,
}

/// Something that can be removed by itself.
struct Entry {
    /// Its path below the store's directory, as leases have it.
    name: String,
    path: PathBuf,
    size: u64,
    used: SystemTime,
}

impl Store {
    /// Removes what was not used for `age`, then what was not used for longest until at most `limit` bytes are left. What
    /// any living handle uses stays, even beyond the limit. Being killed in the middle leaves nothing half-removed.
    pub fn gc(&self, limit: u64, age: Duration) -> io::Result<Collected> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut collected = Collected { kept: entries.iter().map(|entry| entry.size).sum(), ..Collected::default() };
        let mut trash = Vec::new();
        {
            let _gate = locks::gate_exclusive(self.dir())?;
            let leased = session::leased(self.dir())?;
            let now = SystemTime::now();
            for entry in entries.iter().filter(|entry| !leased.contains(&entry.name)) {
                // A clock that went back makes things young, not old.
                let is_old = now.duration_since(entry.used).unwrap_or_default() >= age;
                if !is_old && collected.kept <= limit {
                    continue;
                }
                // Another collector may have been faster, and what somebody with more rights made is left to them.
                let to = self.0.session.temporary("trash");
                if fs::rename(&entry.path, &to).is_ok() {
                    trash.push(to);
                    collected.removed += 1;
                    collected.freed += entry.size;
                    collected.kept -= entry.size;
                }
            }
            trash.extend(self.0.session.take_over_dead(self.dir())?);
            locks::sweep(self.dir())?;
        }
        self.state().indexes.retain(|_, index| index.strong_count() > 0);
        let outcomes: Vec<_> = trash.iter().map(|path| remove(path)).collect();
        outcomes.into_iter().collect::<io::Result<()>>().map(|()| collected)
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for kind in [BLOBS, RECORDS] {
            for (directory, _) in children(&self.dir().join(kind))? {
                for (path, metadata) in children(&directory)? {
                    self.add(&mut entries, &path, metadata.len(), &metadata);
                }
            }
        }
        for (path, metadata) in children(&self.dir().join(LOWERS))? {
            let size = noted_size(&path).unwrap_or_else(|| walked_size(&path));
            self.add(&mut entries, &path, size, &metadata);
        }
        for (path, metadata) in children(&self.dir().join(MOUNTS))? {
            let size = walked_size(&path);
            self.add(&mut entries, &path, size, &metadata);
        }
        Ok(entries)
    }

    fn add(&self, entries: &mut Vec<Entry>, path: &Path, size: u64, metadata: &Metadata) {
        let Some(name) = path.strip_prefix(self.dir()).ok().and_then(Path::to_str) else { return };
        let used = metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH);
        entries.push(Entry { name: name.to_owned(), path: path.to_owned(), size, used });
    }
}

/// What is in a directory; what vanishes meanwhile is left out.
fn children(directory: &Path) -> io::Result<Vec<(PathBuf, Metadata)>> {
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
