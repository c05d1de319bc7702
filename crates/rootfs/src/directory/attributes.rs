//! Owner, mode, times and extended attributes: always through a descriptor or without following, and in the one order that
//! works. The owner comes first because changing it drops setuid bits and capabilities; attributes come before the mode
//! because they cannot be set on a file that its owner may not write.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use skycap_image::{Event, Progress};

use crate::{Metadata, Owners, Time};

/// Used by several threads at once.
pub(crate) struct Attributes<'p> {
    owners: Owners,
    progress: &'p dyn Progress,
    warned: Mutex<BTreeSet<String>>,
}

impl<'p> Attributes<'p> {
    pub(crate) fn new(owners: Owners, progress: &'p dyn Progress) -> Self {
        Self { owners, progress, warned: Mutex::default() }
    }

    /// Says something once, however many files it is true of.
    pub(crate) fn warn(&self, about: &str, text: &str) {
        let is_new = self.warned.lock().unwrap_or_else(PoisonError::into_inner).insert(about.to_owned());
        if is_new {
            self.progress.event(Event::Warning(text));
        }
    }

    /// A regular file that has its content. What it has already is not set again: a look costs a tenth of a change.
    pub(super) fn file(&self, file: impl AsFd, metadata: &Metadata) -> io::Result<()> {
        let file = file.as_fd();
        let now = rustix::fs::fstat(file)?;
        let is_owned = (now.st_uid, now.st_gid) == (metadata.uid, metadata.gid);
        if !is_owned {
            self.own(metadata, |uid, gid| rustix::fs::fchown(file, uid, gid))?;
        }
        self.attributes(metadata, |name, value| rustix::fs::fsetxattr(file, name, value, XattrFlags::empty()))?;
        // An attribute may be an access list, which changes the mode.
        if now.st_mode & 0o7777 != metadata.mode & 0o7777 || !metadata.xattrs.is_empty() {
            rustix::fs::fchmod(file, mode(metadata))?;
        }
        Ok(rustix::fs::futimens(file, &times(metadata.mtime))?)
    }

    /// The mode to make a file with: the final one, or one that lets attributes be set first.
    pub(super) fn first_mode(metadata: &Metadata) -> Mode {
        if metadata.xattrs.is_empty() { Mode::from_raw_mode(metadata.mode & 0o777) } else { Mode::RUSR | Mode::WUSR }
    }

    /// A directory, as far as it can be described before it is full. `stale` attributes are taken away.
    pub(super) fn directory(&self, directory: &OwnedFd, metadata: &Metadata, stale: &[&[u8]]) -> io::Result<()> {
        self.own(metadata, |uid, gid| rustix::fs::fchown(directory, uid, gid))?;
        for name in stale {
            match rustix::fs::fremovexattr(directory, *name) {
                // What could not be set need not be taken away.
                Ok(()) | Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.attributes(metadata, |name, value| rustix::fs::fsetxattr(directory, name, value, XattrFlags::empty()))
    }

    /// A symbolic link. It has no mode.
    pub(super) fn symlink(&self, parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> io::Result<()> {
        self.unopenable(parent, name, metadata)?;
        touch(parent, name, metadata)
    }

    /// A device or pipe, which must not be opened.
    pub(super) fn special(&self, parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> io::Result<()> {
        self.unopenable(parent, name, metadata)?;
        let node = rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        if rustix::fs::fstat(&node)?.st_mode & 0o7777 != metadata.mode & 0o7777 {
            // The kernel has no fchmod for such descriptors before 6.6; this is the descriptor's inode, nothing else.
            rustix::fs::chmod(format!("/proc/self/fd/{}", node.as_raw_fd()), mode(metadata))?;
        }
        touch(parent, name, metadata)
    }

    fn unopenable(&self, parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> io::Result<()> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        self.own(metadata, |uid, gid| rustix::fs::chownat(parent, name, uid, gid, nofollow))?;
        if metadata.xattrs.is_empty() {
            return Ok(());
        }
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        self.attributes(metadata, |name, value| rustix::fs::lsetxattr(&path, name, value, XattrFlags::empty()))
    }

    fn own(
        &self,
        metadata: &Metadata,
        set: impl FnOnce(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        if self.owners == Owners::Squash {
            return Ok(());
        }
        let Metadata { uid, gid, .. } = *metadata;
        set(Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|error| match error {
            Errno::PERM | Errno::INVAL => {
                let why = match error {
                    Errno::INVAL => mapped(),
                    _ => "this process may not give files away".to_owned(),
                };
                let text = format!("its owner {uid}:{gid} cannot be set: {why}");
                io::Error::new(io::Error::from(error).kind(), text)
            }
            _ => error.into(),
        })
    }

    fn attributes(&self, metadata: &Metadata, set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>) -> io::Result<()> {
        for (name, value) in &metadata.xattrs {
            let shown = name.escape_ascii();
            if is_of_the_host(name) {
                self.warn(&shown.to_string(), &format!("extended attributes {shown} are left out"));
                continue;
            }
            match set(name, value) {
                Ok(()) => {}
                Err(error @ (Errno::PERM | Errno::OPNOTSUPP | Errno::ACCESS)) => {
                    self.warn(&shown.to_string(), &format!("extended attributes {shown} could not be set: {error}"));
                }
                Err(error) => {
                    return Err(io::Error::new(
                        io::Error::from(error).kind(),
                        format!("its extended attribute {shown} cannot be set: {error}"),
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Which ids there are in this user namespace.
fn mapped() -> String {
    let ranges = |file: &str| -> String {
        let map = std::fs::read_to_string(file).unwrap_or_default();
        let range = |line: &str| {
            let mut numbers = line.split_whitespace().map(|number| number.parse::<u64>().unwrap_or_default());
            let (first, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(if count == 1 { first.to_string() } else { format!("{first} to {}", first + count.saturating_sub(1)) })
        };
        map.lines().filter_map(range).collect::<Vec<_>>().join(", ")
    };
    let (users, groups) = (ranges("/proc/self/uid_map"), ranges("/proc/self/gid_map"));
    format!("this user namespace has the users {users} and the groups {groups}")
}

/// Attributes that mean something to the host's kernel and not to the image: marks of overlayfs, which could make a file
/// of one image hide or redirect another's, and labels of the host's security modules.
pub(crate) fn is_of_the_host(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.")
        || name.starts_with(b"user.overlay.")
        || matches!(name, b"security.selinux" | b"security.ima" | b"security.evm")
}

fn touch(parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> io::Result<()> {
    Ok(rustix::fs::utimensat(parent, name, &times(metadata.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

pub(super) fn mode(metadata: &Metadata) -> Mode {
    Mode::from_raw_mode(metadata.mode & 0o7777)
}

/// Access times are not recorded; giving them the same value keeps trees equal.
pub(super) fn times(mtime: Time) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
