//! The stage: a tmpfs that only this mount namespace sees, on which the root file system and what is mounted into it are
//! put together. It disappears with the old root.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use super::inside::by_descriptor;
use super::overlay::{self, Directories};
use super::volumes::Restriction;
use crate::error::Failure;
use crate::spec::Root;
use crate::sys;

/// A mount namespace of our own, for a trial.
pub(super) fn new_mounts() -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWNS).map_err(Failure::at("unshare(CLONE_NEWNS)"))?;
    make_private()
}

/// Cuts the exchange of mounts with the namespace we came from.
pub(super) fn make_private() -> Result<(), Failure> {
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Failure::at("make the mounts private (mount MS_PRIVATE on /)"))
}

/// The path of the stage: the kernel steps up to what is mounted over the root directory.
pub(super) const ABOVE: &str = "/..";

#[derive(Debug)]
pub(super) struct Stage {
    floor: OwnedFd,
    rooms: usize,
    rules: Rules,
}

/// What holds for every mount.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Overlays use `trusted.` attributes.
    pub(super) trusted: bool,
    /// Device files cannot be opened: root of the machine can make some for its disks.
    pub(super) no_devices: bool,
}

impl Stage {
    /// Puts a stage over the root directory. Paths still begin below it, as our root does; the way up to it is `/..`.
    pub(super) fn new(rules: Rules) -> Result<Self, Failure> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", "/", "tmpfs", flags, c"mode=0755")
            .map_err(Failure::at("mount a tmpfs over /"))?;
        let floor = overlay::open_directory(Path::new(ABOVE))?;
        Ok(Self { floor, rooms: 0, rules })
    }

    pub(super) fn rules(&self) -> Rules {
        self.rules
    }

    /// A new directory.
    pub(super) fn room(&mut self) -> Result<OwnedFd, Failure> {
        let name = format!("room{}", self.rooms);
        self.rooms += 1;
        rustix::fs::mkdirat(&self.floor, &name, Mode::from_raw_mode(0o755)).map_err(Failure::at("mkdir"))?;
        rustix::fs::openat(&self.floor, &name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at("open"))
    }

    /// A new file with this content, as a place.
    pub(super) fn file(&mut self, content: &[u8], mode: u32) -> Result<OwnedFd, Failure> {
        let room = self.room()?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&room, "file", flags, Mode::from_raw_mode(mode)).map_err(Failure::at("create"))?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::write(&fd, rest).map_err(Failure::at("write a file in memory"))?;
            rest = rest.get(written..).unwrap_or_default();
        }
        rustix::fs::openat(&room, "file", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Failure::at("open"))
    }
}

/// The directories of a root file system, open.
#[derive(Debug)]
pub(super) enum OpenRoot {
    Overlay(Directories),
    Directory(OwnedFd),
}

impl OpenRoot {
    pub(super) fn open(root: &Root) -> Result<Self, Failure> {
        match root {
            Root::Overlay { lowers, upper, work } => Ok(Self::Overlay(Directories::open(lowers, Some((upper, work)))?)),
            Root::Directory(path) => Ok(Self::Directory(overlay::open_directory(path)?)),
            Root::TakenOver { .. } => Err(Failure::new("only a takeover exchanges roots", libc::EINVAL)),
        }
    }

    /// Mounts it on the stage.
    pub(super) fn mount(&self, stage: &mut Stage) -> Result<OwnedFd, Failure> {
        match self {
            Self::Overlay(directories) => overlay::mount(stage, directories, "the root file system"),
            Self::Directory(directory) => {
                let room = stage.room()?;
                let step = || "bind the root file system";
                let place = by_descriptor(&room);
                rustix::mount::mount_bind_recursive(by_descriptor(directory), place).map_err(Failure::at(step()))?;
                let root = stage.last_room()?;
                let restriction = Restriction { read_only: false, no_devices: stage.rules.no_devices };
                restriction.put_on(&root).map_err(Failure::at(step()))?;
                Ok(root)
            }
        }
    }
}

impl Stage {
    /// The last room again, with what has been mounted on it since.
    fn last_room(&self) -> Result<OwnedFd, Failure> {
        let name = format!("room{}", self.rooms.saturating_sub(1));
        rustix::fs::openat(&self.floor, &name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at("open"))
    }
}

/// Makes `root` our root, and lets go of the old one with everything on it.
pub(super) fn pivot(root: impl AsFd) -> Result<(), Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty()).map_err(Failure::at("open /"))?;
    rustix::process::fchdir(root).map_err(Failure::at("fchdir"))?;
    rustix::process::pivot_root(".", ".").map_err(Failure::at("pivot_root"))?;
    // The old root lies over the new one now, and the stage over the old one. Our root is the new one, so that only the
    // descriptor leads there, and `/..`. The kernel may take the topmost first.
    rustix::process::fchdir(&old).map_err(Failure::at("fchdir"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(Failure::at("unmount the old root"))?;
    while rustix::mount::unmount(".", UnmountFlags::DETACH).is_ok() {}
    rustix::process::chdir("/").map_err(Failure::at("chdir /"))?;
    nothing_is_above()
}

/// Makes sure that the old root has gone: a command must not reach it by `/..`.
fn nothing_is_above() -> Result<(), Failure> {
    let flags = StatxFlags::INO | StatxFlags::MNT_ID;
    let identity = |path: &str| {
        let stat = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), flags).map_err(Failure::at("statx"))?;
        Ok::<_, Failure>((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino, stat.stx_mnt_id))
    };
    if identity("/")? == identity(ABOVE)? {
        return Ok(());
    }
    Err(Failure::new("the old root is still there", libc::EBUSY))
}
