//! How the files of a tree looked, so that later it can be told which of them changed, without reading them all.
//!
//! A file that was not touched has the inode, size, times, mode and owner that it had. The time of the last change of
//! status shows everything that a program does to a file, also if it sets the other times back; but it changes as well when
//! a file is renamed or gets or loses another name. Files to which that may happen without a program's doing have a digest,
//! too: those in the root directory, which a takeover renames, those that the caller names, and those with several names.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, OFlags, Stat};
use skycap_image::Digest;

use crate::TreePath;
use crate::directory::handle::{file_type, list, open_child};
use crate::scan::open_directory;

/// How the files of a tree looked at one moment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Everything but directories.
    files: HashMap<TreePath, Look>,
    /// Every directory; the time of modification does not count.
    directories: HashMap<TreePath, (u64, Moment)>,
}

/// A time with nanoseconds.
type Moment = (i64, u32);

/// How a file looked.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    plain: Plain,
    changed: Moment,
    /// How many names it had.
    names: u64,
    /// Of its content, if it had to be read.
    digest: Option<Digest>,
}

/// What no renaming changes.
#[derive(Debug, PartialEq, Eq)]
struct Plain {
    device: u64,
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    size: i64,
    modified: Moment,
}

impl Recorded {
    /// Looks at everything in a directory. `covered` names files that may be renamed without being changed.
    pub fn of(tree: &Path, covered: &[TreePath]) -> io::Result<Self> {
        let may_move = |path: &TreePath, stat: &Stat| {
            path.components().count() == 1 || stat.st_nlink > 1 || covered.contains(path)
        };
        Self::look(tree, &may_move)
    }

    /// The same for a tree in which nobody renames anything: no file is read.
    pub fn at_rest(tree: &Path) -> io::Result<Self> {
        Self::look(tree, &|_, _| false)
    }

    fn look(tree: &Path, may_move: &dyn Fn(&TreePath, &Stat) -> bool) -> io::Result<Self> {
        let mut digests = Digests::default();
        let root = crate::directory::open_root(tree)?;
        let mut recorded = Self::default();
        let mut open = vec![TreePath::root()];
        while let Some(path) = open.pop() {
            let directory = open_directory(&root, &path)?;
            for child in list(&directory)? {
                let path = path.join(&child.name).map_err(io::Error::other)?;
                let stat = rustix::fs::statat(&directory, &*child.name, AtFlags::SYMLINK_NOFOLLOW)?;
                if file_type(&stat) == FileType::Directory {
                    recorded.directories.insert(path.clone(), (stat.st_ino, changed(&stat)));
                    open.push(path);
                    continue;
                }
                let digest = may_move(&path, &stat).then(|| digests.of(&directory, &child.name, &stat)).transpose()?;
                let look =
                    Look { plain: Plain::of(&stat), changed: changed(&stat), names: wide(stat.st_nlink), digest };
                recorded.files.insert(path, look);
            }
        }
        Ok(recorded)
    }

    /// Whether the file of this name, which looks like `stat` now, is what it was.
    pub(crate) fn has(
        &self,
        parent: &OwnedFd,
        path: &TreePath,
        stat: &Stat,
        digests: &mut Digests,
    ) -> io::Result<bool> {
        let Some(look) = self.files.get(path).filter(|look| look.plain == Plain::of(stat)) else { return Ok(false) };
        if look.changed == changed(stat) {
            return Ok(true);
        }
        // What gets a further name is written to an overlay's upper directory, too, so that the layer has both.
        if wide(stat.st_nlink) > look.names {
            return Ok(false);
        }
        let name = path.split().map(|(_, name)| name).unwrap_or_default();
        match &look.digest {
            Some(before) => Ok(digests.of(parent, name, stat)? == *before),
            None => Ok(false),
        }
    }

    /// The files of the tree that something was done to, sorted; not those that are gone.
    pub(crate) fn touched(&self, tree: &OwnedFd) -> io::Result<Vec<TreePath>> {
        let mut touched = Vec::new();
        let mut paths: Vec<&TreePath> = self.files.keys().collect();
        paths.sort_unstable();
        let mut open: Option<(TreePath, Option<OwnedFd>)> = None;
        for path in paths {
            let (parent, name) = path.split().unwrap_or_default();
            let parent = TreePath::parse(parent).map_err(io::Error::other)?;
            if open.as_ref().is_none_or(|(path, _)| *path != parent) {
                // It may be gone, or something else.
                let directory = open_directory(tree, &parent).ok();
                open = Some((parent, directory));
            }
            let Some((_, Some(directory))) = &open else { continue };
            let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_same = self
                .files
                .get(path)
                .is_some_and(|look| look.plain.inode == stat.st_ino && look.changed == changed(&stat));
            if !is_same {
                touched.push(path.clone());
            }
        }
        Ok(touched)
    }

    /// Whether nothing was done to the directory of this name, not even to the names in it.
    pub(crate) fn has_directory(&self, path: &TreePath, stat: &Stat) -> bool {
        self.directories.get(path) == Some(&(stat.st_ino, changed(stat)))
    }
}

impl Plain {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            owner: (stat.st_uid, stat.st_gid),
            size: stat.st_size,
            modified: (stat.st_mtime, nanoseconds(stat.st_mtime_nsec)),
        }
    }
}

/// Below a milliard, whatever the type that an architecture gives them.
fn nanoseconds<N: TryInto<u32>>(number: N) -> u32 {
    number.try_into().unwrap_or_default()
}

/// An architecture may give it fewer bits.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

fn changed(stat: &Stat) -> Moment {
    (stat.st_ctime, nanoseconds(stat.st_ctime_nsec))
}

/// What files hold, by device and inode: each is read once.
#[derive(Default)]
pub(crate) struct Digests(HashMap<(u64, u64), Digest>);

impl Digests {
    /// Of what a file holds or a link says; others hold nothing.
    fn of(&mut self, parent: &OwnedFd, name: &[u8], stat: &Stat) -> io::Result<Digest> {
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(known) = self.0.get(&identity) {
            return Ok(*known);
        }
        let digest = match file_type(stat) {
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                Digest::sha256_of(File::from(open_child(parent, name, flags)?))?.0
            }
            FileType::Symlink => Digest::sha256(rustix::fs::readlinkat(parent, name, Vec::new())?.as_bytes()),
            _ => Digest::sha256(b""),
        };
        self.0.insert(identity, digest);
        Ok(digest)
    }
}
