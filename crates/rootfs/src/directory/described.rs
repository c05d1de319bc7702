//! What directories get in the end.
//!
//! Owner and attributes are set at once, modes and times in the last step, deepest first: until then all directories are
//! `0700`, so that unreadable ones work without root, and so that making a file does not spoil its directory's time.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::Mode;

use super::attributes::{Attributes, times};
use super::handle::{READ, list_directories, open_child};
use crate::scan::{Scanned, scan};
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
        let inode = inode(directory)?;
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

    /// What no layer describes stays as it is now.
    pub(super) fn remember(&mut self, root: &OwnedFd) -> io::Result<()> {
        each(root, &mut |directory| {
            let Some(Scanned { metadata, .. }) = scan(directory, b".")? else { return Ok(()) };
            let inode = inode(directory)?;
            self.directories.insert(inode, Last::of(&metadata));
            if !metadata.xattrs.is_empty() {
                self.given.insert(inode, metadata.xattrs.into_keys().collect());
            }
            Ok(())
        })
    }

    /// Gives all directories of a tree their modes and times.
    pub(super) fn finish(&self, root: &OwnedFd) -> io::Result<()> {
        each(root, &mut |directory| self.settle(directory))
    }

    fn settle(&self, directory: &OwnedFd) -> io::Result<()> {
        let last = self.directories.get(&inode(directory)?).copied();
        let last = last.unwrap_or_else(|| Last::of(&Metadata::implied()));
        rustix::fs::fchmod(directory, Mode::from_raw_mode(last.mode.into()))?;
        let time = Time { seconds: last.seconds, nanoseconds: last.nanoseconds };
        Ok(rustix::fs::futimens(directory, &times(time))?)
    }
}

/// Visits all directories of a tree, deepest first. However deep it is, one or two are open at a time, and each is opened
/// from its parent or its child.
fn each(root: &OwnedFd, visit: &mut dyn FnMut(&OwnedFd) -> io::Result<()>) -> io::Result<()> {
    let mut at = open_child(root, b".", READ)?;
    let mut above = vec![(inode(&at)?, list_directories(&at)?)];
    while let Some((_, names)) = above.last_mut() {
        if let Some(name) = names.pop() {
            at = open_child(&at, &name, READ)?;
            above.push((inode(&at)?, list_directories(&at)?));
            continue;
        }
        above.pop();
        let Some(&(parent, _)) = above.last() else { break };
        // First, because a finished directory may let nobody through.
        let up = open_child(&at, b"..", READ)?;
        if inode(&up)? != parent {
            return Err(io::Error::other("somebody else has moved its directories"));
        }
        visit(&at)?;
        at = up;
    }
    visit(&at)
}

fn inode(directory: &OwnedFd) -> io::Result<u64> {
    Ok(rustix::fs::fstat(directory)?.st_ino)
}
