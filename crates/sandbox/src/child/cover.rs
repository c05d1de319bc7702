//! Mounts where none can be made: what is at the target is put aside, and the source is renamed to its place. A source on
//! another file system is copied, and copied back if it may be written to. Nothing keeps a command from writing to what it
//! should only read, so that is always thrown away by the caller or copied.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::exchange::{copy, remove};
use super::inside::{Inside, Missing, Stub, modified};
use super::overlay::open_directory;
use crate::error::Failure;
use crate::spec::Mount;

/// Where files of the container's own devices are.
const DEVICES: &str = "/dev";

/// What stands in place of something else, first to last.
#[derive(Debug)]
pub(super) struct Covers {
    inside: Inside,
    /// Takes what is covered.
    aside: OwnedFd,
    /// Where the container's own files will be.
    own: PathBuf,
    list: Vec<Cover>,
}

#[derive(Debug)]
struct Cover {
    parent: OwnedFd,
    name: OsString,
    back: Back,
    /// Mount points that were made before.
    stubs: usize,
}

/// What becomes of a source afterwards.
#[derive(Debug)]
enum Back {
    Discard,
    /// Where it was.
    Return(OwnedFd, OsString),
    /// It is a copy of this.
    Copy(OwnedFd, OsString),
}

impl Covers {
    /// None yet, in the tree that `inside` walks.
    pub(super) fn new(inside: Inside, aside: OwnedFd, own: PathBuf) -> Self {
        Self { inside, aside, own, list: Vec::new() }
    }

    /// The tree.
    pub(super) fn inside(&mut self) -> &mut Inside {
        &mut self.inside
    }

    /// Puts a mount's source in its place.
    pub(super) fn mount(&mut self, mount: &Mount) -> Result<(), Failure> {
        match mount {
            Mount::Bind { source, within, target, read_only } => {
                self.bind(source, within.as_deref(), target, *read_only)
            }
            Mount::File { target, content, mode, uid, gid } => self.file(target, content, *mode, (*uid, *gid)),
            Mount::Tmpfs { target, size: None, mode } => self.directory(target, *mode),
            Mount::Tmpfs { target, size: Some(_), .. } => Err(Failure::new(
                format!("the size of a tmpfs on {} cannot be bounded where nothing can be mounted", target.display()),
                libc::EPERM,
            )),
            Mount::Overlay { target, .. } => Err(Failure::new(
                format!("an overlay on {} cannot be had where nothing can be mounted", target.display()),
                libc::EPERM,
            )),
        }
    }

    /// A file that only this run has.
    pub(super) fn file(
        &mut self,
        target: &Path,
        content: &[u8],
        mode: u32,
        (uid, gid): (u32, u32),
    ) -> Result<(), Failure> {
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Failure::new(format!("{} is no id of a user or group", u32::MAX), libc::EINVAL));
        }
        let step = || format!("write {}", target.display());
        if let Ok(below) = target.strip_prefix(DEVICES) {
            // The devices are those of the container; what is new there is removed in the end.
            return device_file(below, content, mode).map_err(Failure::at(step()));
        }
        let name = self.next();
        write_file(&self.aside, &name, content, mode, (uid, gid)).map_err(Failure::at(step()))?;
        self.put(target, Missing::MountPointFile, &name, Back::Discard)
    }

    fn directory(&mut self, target: &Path, mode: u32) -> Result<(), Failure> {
        if target.starts_with(DEVICES) && target.is_dir() {
            return Ok(());
        }
        let name = self.next();
        rustix::fs::mkdirat(&self.aside, &name, Mode::from_raw_mode(mode)).map_err(Failure::at("mkdir"))?;
        self.put(target, Missing::MountPoint, &name, Back::Discard)
    }

    fn bind(&mut self, source: &Path, within: Option<&Path>, target: &Path, read_only: bool) -> Result<(), Failure> {
        let step = || format!("open {}", source.display());
        let real;
        let (root, path) = if let Some(root) = within {
            (root, source)
        } else {
            real = std::fs::canonicalize(source).map_err(Failure::at(step()))?;
            (Path::new("/"), &*real)
        };
        let (parent, name) = Inside::new(open_directory(root)?).place(path, Missing::Error)?;
        let stat =
            rustix::fs::statat(&parent, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(Failure::at(step()))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        let missing = if kind == FileType::Directory { Missing::MountPoint } else { Missing::MountPointFile };
        let staged = self.next();
        let back = match rustix::fs::renameat(&parent, &name, &self.aside, &staged) {
            Ok(()) => Back::Return(parent, name),
            Err(Errno::XDEV | Errno::BUSY) if kind == FileType::Socket => {
                let there = self.own.join(source.strip_prefix("/").unwrap_or(source));
                rustix::fs::symlinkat(&there, &self.aside, &staged).map_err(Failure::at("symlink"))?;
                Back::Discard
            }
            Err(Errno::XDEV | Errno::BUSY) => {
                copy(&parent, &name, &self.aside, &staged)
                    .map_err(Failure::at(format!("copy {}", source.display())))?;
                if read_only { Back::Discard } else { Back::Copy(parent, name) }
            }
            Err(error) => return Err(Failure::at(step())(error)),
        };
        self.put(target, missing, &staged, back)
    }

    /// Makes what is called `staged` among the things aside appear at the target.
    fn put(&mut self, target: &Path, missing: Missing, staged: &OsStr, back: Back) -> Result<(), Failure> {
        let step = || format!("cover {}", target.display());
        let stubs = self.inside.stubs();
        let (parent, name) = self.inside.place(target, missing)?;
        let time = modified(&parent).map_err(Failure::at(step()))?;
        let cover = Cover { parent, name, back, stubs };
        let covered = covered(self.list.len());
        rustix::fs::renameat(&cover.parent, &cover.name, &self.aside, &covered)
            .and_then(|()| rustix::fs::renameat(&self.aside, staged, &cover.parent, &cover.name))
            .and_then(|()| set_modified(&cover.parent, time))
            .map_err(Failure::at(step()))?;
        self.list.push(cover);
        Ok(())
    }

    fn next(&self) -> OsString {
        format!("staged-{}", self.list.len()).into()
    }

    /// Takes everything away again, last to first. The first error is told, and the rest goes on.
    pub(super) fn lift(self) -> Result<(), Failure> {
        let mut result = Ok(());
        let mut stubs = self.inside.into_stubs();
        for (number, cover) in self.list.iter().enumerate().rev() {
            // Mount points in what covers go before it does.
            let own = stubs.split_off(cover.stubs.min(stubs.len()));
            let lifted = cover.lift(&self.aside, &covered(number));
            own.iter().rev().for_each(Stub::remove);
            result = result.and(lifted.map_err(Failure::at(format!("uncover {}", cover.name.display()))));
        }
        stubs.iter().rev().for_each(Stub::remove);
        result
    }
}

fn covered(number: usize) -> OsString {
    format!("covered-{number}").into()
}

impl Cover {
    fn lift(&self, aside: &OwnedFd, covered: &OsStr) -> rustix::io::Result<()> {
        let time = modified(&self.parent)?;
        let gone = |result: rustix::io::Result<()>| match result {
            // The command has removed it, or what it was in.
            Err(Errno::NOENT) => Ok(()),
            other => other,
        };
        match &self.back {
            Back::Discard => {}
            Back::Return(parent, name) => gone(rustix::fs::renameat(&self.parent, &self.name, parent, name))?,
            Back::Copy(parent, name) => gone(copy_back(&self.parent, &self.name, parent, name))?,
        }
        remove(&self.parent, &self.name)?;
        gone(rustix::fs::renameat(aside, covered, &self.parent, &self.name))?;
        set_modified(&self.parent, time)
    }
}

/// Replaces the original by the copy, in one step.
fn copy_back(from: &OwnedFd, name: &OsStr, to: &OwnedFd, original: &OsStr) -> rustix::io::Result<()> {
    let mut new = OsString::from(".new-");
    new.push(original);
    remove(to, &new)?;
    copy(from, name, to, &new)?;
    rustix::fs::renameat_with(to, &new, to, original, RenameFlags::EXCHANGE)?;
    remove(to, &new)
}

fn write_file(
    directory: &OwnedFd,
    name: &OsStr,
    content: &[u8],
    mode: u32,
    (uid, gid): (u32, u32),
) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))
}

/// Writes a file below the container's `/dev`, with the directories it needs.
fn device_file(below: &Path, content: &[u8], mode: u32) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut directory = rustix::fs::open(DEVICES, flags, Mode::empty())?;
    for name in below.parent().into_iter().flatten() {
        match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty())?;
    }
    write_file(&directory, below.file_name().ok_or(Errno::INVAL)?, content, mode, (0, 0))
}

fn set_modified(directory: &OwnedFd, time: Timespec) -> rustix::io::Result<()> {
    let last_access = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    rustix::fs::futimens(directory, &Timestamps { last_access, last_modification: time })
}
