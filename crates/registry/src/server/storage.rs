//! Repositories on disk:
//!
//! ```text
//! DIR/registry-v2/<repository>/_repository/blobs/sha256/<hex>               layers and configs
//!                                          manifests/sha256/<hex>           a line that describes it, then its bytes
//!                                          tags/<tag>                       the line of the manifest that it stands for
//!                                          referrers/<hex>/<hex>            subject, then who refers to it: a descriptor
//!                                          turn, lock                       who may change, who may remove
//! DIR/registry-v2/_uploads/                                                 bytes on their way in
//! ```
//!
//! A push costs the same however many tags there are: it writes one file for the manifest and one for the tag. Nothing is
//! visible before it is whole: bytes are staged, checked, synced and renamed, parts before the whole and the tag last. What is
//! taken away goes in the other order, so a tag never stands for nothing. There is no state elsewhere: several processes may
//! serve one directory, and a process that dies leaves files below `_uploads` and nothing else.
//!
//! A blob belongs to the repository that it was pushed to; mounting makes a hard link, so knowing a digest is not enough to
//! read another repository's bytes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::names::{Page, Smallest, Windows};
use super::repository::Repository;
use super::route::RepositoryName;

/// When a manifest or tag was pushed, RFC 3339.
pub(super) const PUSHED: &str = "com.skycap.registry.pushed";
/// The manifest that this one refers to.
pub(super) const SUBJECT: &str = "com.skycap.registry.subject";
/// The directory in a repository's that holds what it consists of. No component of a repository's name begins so.
const INSIDE: &str = "_repository";
/// The format on disk.
const FORMAT: &str = "registry-v2";
/// What came before it. Nothing reads that any more.
const FORMER: &str = "registry-v1";

/// All repositories below one directory.
pub(super) struct Storage {
    root: PathBuf,
    windows: Windows,
}

impl Storage {
    /// Makes the directories. A directory that holds only what an older version wrote is refused: it would look empty.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let root = dir.join(FORMAT);
        let former = dir.join(FORMER);
        if former.exists() && !root.exists() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("{} was written by an older version and cannot be read; move it away", former.display()),
            ));
        }
        let storage = Self { root, windows: Windows::default() };
        fs::create_dir_all(storage.staging())?;
        Ok(storage)
    }

    /// Where bytes are staged.
    pub fn staging(&self) -> PathBuf {
        self.root.join("_uploads")
    }

    /// A repository, whether it is there or not.
    pub fn repository(&self, name: &RepositoryName) -> Repository {
        Repository::new(self.root.clone(), self.root.join(name.as_str()).join(INSIDE), self.staging())
    }

    /// The next tags of a repository in order of their names.
    pub fn tags(&self, repository: &Repository, after: &str, count: usize) -> io::Result<Page> {
        self.names(&repository.tags_directory(), after, count)
    }

    /// The next names in a directory.
    pub fn names(&self, directory: &Path, after: &str, count: usize) -> io::Result<Page> {
        self.windows.page(directory, after, count)
    }

    /// The next repositories that have manifests, in order of their names.
    pub fn repositories(&self, after: &str, count: usize) -> io::Result<Page> {
        let mut found = Smallest::new(count);
        self.visit(&mut |name| {
            if name > after {
                found.add(name.to_owned());
            }
            Ok(())
        })?;
        Ok(found.into())
    }

    /// Shows the name of every repository that has manifests, in no order.
    pub fn visit(&self, show: &mut dyn FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        let mut waiting = vec![(self.root.clone(), String::new())];
        while let Some((directory, name)) = waiting.pop() {
            for entry in fs::read_dir(directory)? {
                let entry = entry?;
                let component = entry.file_name().to_string_lossy().into_owned();
                if component == INSIDE && entry.path().join("manifests").is_dir() {
                    show(&name)?;
                } else if !component.starts_with('_') && entry.file_type()?.is_dir() {
                    let below = if name.is_empty() { component } else { format!("{name}/{component}") };
                    waiting.push((entry.path(), below));
                }
            }
        }
        Ok(())
    }
}
