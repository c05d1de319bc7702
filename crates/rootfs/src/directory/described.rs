//! What directories get in the end.
//!
//! Owner and attributes are set at once, modes and times in the last step, deepest first: until then all directories are
//! `0700`, so that unreadable ones work without root, and so that making a file does not spoil its directory's time.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;

use super::attributes::{Attributes, times};
use super::handle::{READ, below, list_directories, open_below};
use crate::{Metadata, Time};

pub(super) struct Described<'t> {
    attributes: &'t Attributes<'t>,
    /// By inode number.
    directories: HashMap<u64, Last>,
    /// The names of the attributes that a directory was given, if any.
    given: HashMap<u64, Vec<Vec<u8>>>,
}

/// What waits for the end; small, because there may be a million of them.
#[derive(Clone, Copy)]
struct Last {
    mode: u16,
    nanoseconds: u32,
    seconds: i64,
}

impl Last {
    fn of(metadata: &Metadata) -> Self {
        let Time { seconds, nanoseconds } = metadata.mtime;
        Self { mode: (metadata.mode & 0o7777) as u16, nanoseconds, seconds }
    }
}

impl<'t> Described<'t> {
    pub(super) fn new(attributes: &'t Attributes<'t>) -> Self {
        Self { attributes, directories: HashMap::new(), given: HashMap::new() }
    }

    /// Sets owner and attributes of a directory; mode and time wait. What it was given before is taken away.
    pub(super) fn describe(&mut self, directory: &OwnedFd, metadata: &Metadata) -> io::Result<()> {
        let inode = rustix::fs::fstat(directory)?.st_ino;
        let before = self.given.remove(&inode).unwrap_or_default();
        let stale: Vec<&[u8]> =
            before.iter().filter(|name| !metadata.xattrs.contains_key(*name)).map(Vec::as_slice).collect();
        self.attributes.directory(directory, metadata, &stale)?;
        if !metadata.xattrs.is_empty() {
            self.given.insert(inode, metadata.xattrs.keys().cloned().collect());
        }
        self.directories.insert(inode, Last::of(metadata));
        Ok(())
    }

    /// This inode number belongs to a new directory.
    pub(super) fn forget(&mut self, inode: u64) {
        self.directories.remove(&inode);
        self.given.remove(&inode);
    }

    /// Gives all directories of a tree their modes and times.
    pub(super) fn finish(&self, root: &OwnedFd) -> io::Result<()> {
        let settle = |path: &[u8]| -> io::Result<()> {
            let directory = open_below(root, path, READ)?;
            let inode = rustix::fs::fstat(&directory)?.st_ino;
            let last = self.directories.get(&inode).copied().unwrap_or_else(|| Last::of(&Metadata::implied()));
            rustix::fs::fchmod(&directory, Mode::from_raw_mode(last.mode.into()))?;
            let time = Time { seconds: last.seconds, nanoseconds: last.nanoseconds };
            Ok(rustix::fs::futimens(&directory, &times(time))?)
        };
        // Walked with a list instead of recursion, and without keeping directories open: trees may be very deep.
        let mut pending = vec![(Vec::new(), false)];
        while let Some((path, is_listed)) = pending.pop() {
            if is_listed {
                settle(&path)?;
                continue;
            }
            let children = list_directories(open_below(root, &path, READ)?)?;
            let parent = path.clone();
            pending.push((path, true));
            pending.extend(children.iter().map(|name| (below(&parent, name), false)));
        }
        Ok(())
    }
}
