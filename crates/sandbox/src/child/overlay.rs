//! Mounting overlays.
//!
//! The kernel takes the list of lower directories as one string of at most a page. Each overlay therefore gets a directory
//! on the stage's tmpfs in which `0`, `1`, … are links to the open lower directories: 127 layers then take a few hundred
//! bytes, and no character of a path needs escaping.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::inside::by_descriptor;
use super::stage::{Rules, Stage};
use crate::error::{Attempt, Failure};

/// The directories of an overlay, open.
#[derive(Debug)]
pub(super) struct Directories {
    /// Topmost first.
    pub(super) lowers: Vec<OwnedFd>,
    pub(super) upper: Option<(OwnedFd, OwnedFd)>,
}

impl Directories {
    pub(super) fn open<P: AsRef<Path>>(lowers: &[P], upper: Option<(&Path, &Path)>) -> Result<Self, Failure> {
        Ok(Self {
            lowers: lowers.iter().map(|path| open_directory(path.as_ref())).collect::<Result<_, _>>()?,
            upper: upper
                .map(|(upper, work)| Ok::<_, Failure>((open_directory(upper)?, open_directory(work)?)))
                .transpose()?,
        })
    }
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, Failure> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at(format!("open the directory {}", path.display())))
}

/// Mounts an overlay on the stage; its root. `what` names it in errors.
pub(super) fn mount(stage: &mut Stage, from: &Directories, what: &str) -> Result<OwnedFd, Failure> {
    let Rules { trusted, no_devices } = stage.rules();
    let room = stage.room()?;
    rustix::process::fchdir(&room).map_err(Failure::at("fchdir"))?;
    for name in ["on", "empty"] {
        rustix::fs::mkdirat(&room, name, Mode::from_raw_mode(0o755)).map_err(Failure::at("mkdir"))?;
    }
    let link = |fd: &OwnedFd, name: &str| {
        rustix::fs::symlinkat(by_descriptor(fd), &room, name).map_err(Failure::at("symlink"))
    };
    let mut names = Vec::with_capacity(from.lowers.len() + 1);
    for (number, lower) in from.lowers.iter().enumerate() {
        let name = number.to_string();
        link(lower, &name)?;
        names.push(name);
    }
    // The kernel wants a lower directory, and two if nothing is above them.
    if names.is_empty() || (names.len() == 1 && from.upper.is_none()) {
        names.push("empty".to_owned());
    }
    let mut options = format!("lowerdir={}", names.join(":"));
    if let Some((upper, work)) = &from.upper {
        link(upper, "upper")?;
        link(work, "work")?;
        forget_volatile(work);
        options.push_str(",upperdir=upper,workdir=work");
    }
    // Redirects and metadata-only copies would put references to other layers into this one.
    options.push_str(if trusted { ",redirect_dir=nofollow,metacopy=off,index=off" } else { ",userxattr,index=off" });
    let mut flags = if from.upper.is_some() { MountFlags::empty() } else { MountFlags::RDONLY };
    flags.set(MountFlags::NODEV, no_devices);
    let attempt = |options: &str| {
        let options = CString::new(options).map_err(|_| Errno::INVAL)?;
        rustix::mount::mount("overlay", "on", "overlay", flags, &*options)
    };
    // Nothing is synced while the command runs; what is kept of the result is synced by whoever keeps it.
    let mut mounted = if from.upper.is_some() { attempt(&format!("{options},volatile")) } else { attempt(&options) };
    if mounted == Err(Errno::INVAL) && from.upper.is_some() {
        mounted = attempt(&options);
    }
    mounted.map_err(|errno| refused(errno, from, what))?;
    rustix::fs::openat(&room, "on", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at(format!("open {what}")))
}

/// Removes the marker of an earlier volatile mount, which would refuse this one.
fn forget_volatile(work: &OwnedFd) {
    // Mostly it does not exist.
    let _ = rustix::fs::unlinkat(work, "work/incompat/volatile/dirty", AtFlags::empty());
    let _ = rustix::fs::unlinkat(work, "work/incompat/volatile", AtFlags::REMOVEDIR);
    let _ = rustix::fs::unlinkat(work, "work/incompat", AtFlags::REMOVEDIR);
}

fn refused(errno: Errno, from: &Directories, what: &str) -> Failure {
    let failure: Failure = Failure::at(format!("mount an overlay as {what}"))(errno);
    let on_overlay = from.upper.as_ref().is_some_and(|(upper, _)| is_overlay(upper));
    match errno {
        Errno::INVAL if on_overlay => failure.hint(
            "the directory for writes lies on an overlay file system itself, which the kernel refuses: choose one on another \
             file system (in Concourse /scratch, an output or a cache), or a tmpfs",
        ),
        Errno::PERM => failure.hint("overlays in a user namespace need Linux 5.11"),
        Errno::NODEV => failure.hint("this kernel has no overlay file system (module `overlay`)"),
        _ => failure,
    }
}

fn is_overlay(directory: &OwnedFd) -> bool {
    const OVERLAYFS_SUPER_MAGIC: i128 = 0x794c_7630;
    rustix::fs::fstatfs(directory).is_ok_and(|stat| i128::from(stat.f_type) == OVERLAYFS_SUPER_MAGIC)
}

/// Tries an overlay with its upper directory in `directory`, which is empty and private to us, and lets it replace a lower
/// directory, for which the file system needs extended attributes. This process is spoilt afterwards.
pub(super) fn try_upper(directory: &Path, trusted: bool) -> Result<(), Attempt> {
    let attempt = || -> Result<(), Failure> {
        super::stage::new_mounts()?;
        let make = |name: &str| {
            let path = directory.join(name);
            std::fs::create_dir_all(&path).map_err(Failure::at(format!("mkdir {}", path.display())))?;
            Ok::<_, Failure>(path)
        };
        let (lower, upper, work) = (make("lower")?, make("upper")?, make("work")?);
        make("lower/replaced")?;
        let from = Directories::open(&[lower], Some((&upper, &work)))?;
        let mut stage = Stage::new(Rules { trusted, no_devices: false })?;
        let root = mount(&mut stage, &from, "a trial")?;
        rustix::fs::unlinkat(&root, "replaced", AtFlags::REMOVEDIR)
            .and_then(|()| rustix::fs::mkdirat(&root, "replaced", Mode::from_raw_mode(0o755)))
            .map_err(Failure::at("replace a directory of an overlay"))?;
        // Without extended attributes this directory would show the old one's content.
        let name = if trusted { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
        let path = from.upper.as_ref().map(|(upper, _)| by_descriptor(upper)).unwrap_or_default() + "/replaced";
        rustix::fs::getxattr(path, name, &mut [0_u8; 1][..])
            .map(drop)
            .map_err(Failure::at("an overlay here cannot mark directories as opaque: getxattr"))
    };
    attempt().map_err(|failure| Attempt { call: failure.step, errno: failure.errno, hint: failure.hint })
}
