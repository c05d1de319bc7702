//! Paths inside the root file system, before it is our root: walked component by component, by descriptor, so that no
//! link in an image leads out of it; and the mount points that had to be made there.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::Failure;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// What a missing path becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Missing {
    /// An error.
    Error,
    /// A directory to mount on, removed afterwards.
    MountPoint,
    /// An empty file to mount on, removed afterwards.
    MountPointFile,
    /// A directory that stays, mode 0777 less the usual umask.
    Keep,
}

/// The path by which the kernel finds an open file again, for calls that take no descriptor.
pub(super) fn by_descriptor(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// A directory that plays `/`.
#[derive(Debug)]
pub(super) struct Inside {
    root: OwnedFd,
    stubs: Vec<Stub>,
}

impl Inside {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, stubs: Vec::new() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// How many mount points were made.
    pub(super) fn stubs(&self) -> usize {
        self.stubs.len()
    }

    /// The mount points that were made, in that order.
    pub(super) fn into_stubs(self) -> Vec<Stub> {
        self.stubs
    }

    /// The file that `path` means inside, opened as a place only. Links are followed, and end inside.
    pub(super) fn find(&mut self, path: &Path, missing: Missing) -> Result<OwnedFd, Failure> {
        let found = self.walk(path, missing).map(|(found, _)| found);
        found.map_err(Failure::at(format!("find {} in the root file system", path.display())))
    }

    /// The directory and the name of what `path` means inside; what is missing on the way and there becomes a mount point.
    pub(super) fn place(&mut self, path: &Path, missing: Missing) -> Result<(OwnedFd, OsString), Failure> {
        let step = || format!("find {} in the root file system", path.display());
        let (_, mut parents) = self.walk(path, missing).map_err(Failure::at(step()))?;
        // It is there now, so the walk's last name is that of an entry of the last parent.
        let (parent, name) = parents.pop().ok_or_else(|| Failure::new(step(), libc::EBUSY))?;
        let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(&parent, ".", readable, Mode::empty()).map_err(Failure::at(step()))?;
        Ok((parent, name))
    }

    /// What `path` means, and the directories and names that lead there.
    fn walk(&mut self, path: &Path, missing: Missing) -> rustix::io::Result<(OwnedFd, Vec<(OwnedFd, OsString)>)> {
        let mut parents: Vec<(OwnedFd, OsString)> = Vec::new();
        let mut current = open_place(self.root.as_fd(), OsStr::new("."))?;
        let mut names = components(path.as_os_str());
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                if let Some((parent, _)) = parents.pop() {
                    current = parent;
                }
                continue;
            }
            let next = match open_place(current.as_fd(), &name) {
                Err(Errno::NOENT) if missing != Missing::Error => {
                    self.make(current.as_fd(), &name, missing, names.is_empty())?
                }
                other => other?,
            };
            if FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode) == FileType::Symlink {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = OsString::from_vec(rustix::fs::readlinkat(&next, "", Vec::new())?.into_bytes());
                if target.as_bytes().first() == Some(&b'/') {
                    parents.clear();
                    current = open_place(self.root.as_fd(), OsStr::new("."))?;
                }
                let mut followed = components(&target);
                followed.append(&mut names);
                names = followed;
            } else {
                parents.push((std::mem::replace(&mut current, next), name));
            }
        }
        Ok((current, parents))
    }

    fn make(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &OsStr,
        missing: Missing,
        last: bool,
    ) -> rustix::io::Result<OwnedFd> {
        if missing == Missing::Keep {
            rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
        } else {
            self.stubs.push(Stub::make(parent, name, missing == Missing::MountPointFile && last)?);
        }
        open_place(parent, name)
    }
}

fn open_place(parent: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn components(path: &OsStr) -> VecDeque<OsString> {
    path.as_bytes()
        .split(|byte| *byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
        .map(|name| OsString::from_vec(name.to_vec()))
        .collect()
}

/// A mount point that was made, and how its directory looked before and after.
#[derive(Debug)]
pub(super) struct Stub {
    parent: OwnedFd,
    name: OsString,
    before: Timespec,
    after: Timespec,
}

impl Stub {
    fn make(parent: BorrowedFd<'_>, name: &OsStr, file: bool) -> rustix::io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(parent, ".", flags, Mode::empty())?;
        let before = modified(&parent)?;
        if file {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644))?;
        } else {
            rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
        }
        let after = modified(&parent)?;
        Ok(Self { parent, name: name.to_owned(), before, after })
    }

    /// Removes it if it is still empty, and gives its directory the time of modification that it would have without it.
    ///
    /// Everything goes through the descriptor of the directory: whatever the command did to the paths, nothing else is
    /// touched. A mount point that is not ours to remove any more stays.
    pub(super) fn remove(&self) {
        if rustix::process::fchdir(&self.parent).is_err() {
            return;
        }
        while rustix::mount::unmount(&*self.name, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        let Ok(stat) = rustix::fs::statat(&self.parent, &*self.name, AtFlags::SYMLINK_NOFOLLOW) else { return };
        let Ok(now) = modified(&self.parent) else { return };
        let removed = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => rustix::fs::unlinkat(&self.parent, &*self.name, AtFlags::REMOVEDIR),
            FileType::RegularFile if stat.st_size == 0 => {
                rustix::fs::unlinkat(&self.parent, &*self.name, AtFlags::empty())
            }
            _ => return,
        };
        if removed.is_ok() {
            let modification = if now == self.after { self.before } else { now };
            let access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
            // A directory that has gone itself needs no time.
            let _ = rustix::fs::futimens(
                &self.parent,
                &Timestamps { last_access: access, last_modification: modification },
            );
        }
    }
}

pub(super) fn modified(directory: &OwnedFd) -> rustix::io::Result<Timespec> {
    let time = rustix::fs::statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MTIME)?.stx_mtime;
    Ok(Timespec { tv_sec: time.tv_sec, tv_nsec: time.tv_nsec.into() })
}
