//! The place of a takeover: a directory in `/` that holds what changes places with the container's own files
//! (`docs/decisions/0022-takeover-of-a-throw-away-container.md`).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};

use crate::error::Failure;
use crate::userns;

/// Every territory is called so, and then a number.
pub(crate) const PREFIX: &str = ".skycap-";
/// The container's own entries, while it is taken over.
pub(crate) const OWN: &str = "own";
/// What is put aside, and what is put in its place.
pub(crate) const ASIDE: &str = "aside";

/// What a takeover needs of root.
const NEEDED: [(CapabilitySet, &str); 6] = [
    (CapabilitySet::CHOWN, "CAP_CHOWN"),
    (CapabilitySet::DAC_OVERRIDE, "CAP_DAC_OVERRIDE"),
    (CapabilitySet::FOWNER, "CAP_FOWNER"),
    (CapabilitySet::SETGID, "CAP_SETGID"),
    (CapabilitySet::SETUID, "CAP_SETUID"),
    (CapabilitySet::SETPCAP, "CAP_SETPCAP"),
];

/// The directory, which goes when this does.
#[derive(Debug)]
pub(crate) struct Territory {
    path: PathBuf,
    turn: Mutex<()>,
    /// The directory itself, locked: others see that somebody lives here.
    _lock: OwnedFd,
}

impl Territory {
    /// Makes one, if this is a container that can be taken over, and hides this process's memory and descriptors.
    pub(crate) fn create() -> Result<Self, Failure> {
        check()?;
        // Also before anything is made: while roots are exchanged, it would become part of the other's image.
        check_alone(None)?;
        // Whoever lacks CAP_SYS_PTRACE reads nothing of ours in /proc.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::at("prctl"))?;
        let path = PathBuf::from(format!("/{PREFIX}{}", std::process::id()));
        let made = mkdir(&path).and_then(|()| mkdir(&path.join(OWN))).and_then(|()| mkdir(&path.join(ASIDE)));
        let hint = "the root file system must be writable";
        made.map_err(|errno| Failure::at(format!("mkdir {}", path.display()))(errno).hint(hint))?;
        let lock = open(&path).map_err(Failure::at(format!("open {}", path.display())))?;
        if !try_lock(&lock) {
            return Err(taken(&path));
        }
        let territory = Self { path, turn: Mutex::new(()), _lock: lock };
        // One that came at the same moment may have looked before this was locked.
        check_alone(Some(&territory.path)).map(|()| territory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Held while the roots are exchanged.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Territory {
    fn drop(&mut self) {
        // What a failed exchange has left in there is the container's own: it stays.
        let is_empty = std::fs::read_dir(self.path.join(OWN)).is_ok_and(|mut own| own.next().is_none());
        if is_empty {
            // The container is thrown away; nobody could be told.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn mkdir(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
        Err(Errno::EXIST) => {
            // Of a process of this number that was killed.
            let stat = rustix::fs::lstat(path)?;
            let is_ours = stat.st_uid == 0 && FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if is_ours { Ok(()) } else { Err(Errno::EXIST) }
        }
        other => other,
    }
}

/// Refuses to take over what another process has taken over: two would exchange the same root. A territory that nobody has
/// locked is that of a dead process.
pub(crate) fn check_alone(own: Option<&Path>) -> Result<(), Failure> {
    let entries = std::fs::read_dir("/").map_err(Failure::at("open /"))?.flatten();
    let others = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    let mut others = others.map(|entry| entry.path()).filter(|path| own != Some(path));
    match others.find(|path| open(path).is_ok_and(|directory| !try_lock(&directory))) {
        Some(other) => Err(taken(&other)),
        None => Ok(()),
    }
}

fn taken(territory: &Path) -> Failure {
    let what = format!("another build has taken this container over ({})", territory.display());
    Failure::new(what, 0)
        .hint("one build at a time in a container: start this one when the other has ended, or in a task of its own")
}

fn open(directory: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty())
}

/// False if somebody else holds it. Where there are no locks nobody is seen.
fn try_lock(directory: &OwnedFd) -> bool {
    !matches!(rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK))
}

/// Why this container cannot, or must not, be taken over.
pub(crate) fn check() -> Result<(), Failure> {
    let only = "a takeover is for root of a container that may make no namespace";
    if userns::own_ids().0 != 0 {
        return Err(Failure::new("we are not root", 0));
    }
    // A machine that is not a container has it always.
    match capability_is_in_bounding_set(CapabilitySet::SYS_ADMIN) {
        Ok(false) => {}
        _ => return Err(Failure::new("CAP_SYS_ADMIN can be had, so this may be no container", 0).hint(only)),
    }
    let capabilities = rustix::thread::capabilities(None).map_err(Failure::at("capget"))?.effective;
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(capability, _)| !capabilities.contains(*capability)).map(|(_, name)| *name).collect();
    if !missing.is_empty() {
        return Err(Failure::new(format!("{} is not held", missing.join(", ")), 0).hint(only));
    }
    let (uids, gids) = userns::own_maps().map_err(Failure::at("read /proc/self/uid_map"))?;
    if !(uids.has(1) && gids.has(1)) {
        return Err(Failure::new("only one id is mapped in this user namespace", 0).hint(only));
    }
    Ok(())
}

/// Whether everything says that this is a task's container on a Concourse worker, which is thrown away after the task; what
/// speaks against it otherwise. `directory` is where the task was started.
///
/// Conservative: each of these is so in every such container, and all of them together nowhere else.
pub fn container_is_disposable(directory: &Path) -> Result<(), &'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let filtered = status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]));
    let highest = userns::own_maps().is_ok_and(|(uids, gids)| uids.root_is_from(HIGHEST) && gids.root_is_from(HIGHEST));
    let is_mount = |path: &str| {
        let asked = StatxAttributes::MOUNT_ROOT;
        rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())
            .is_ok_and(|stat| stat.stx_attributes_mask.contains(asked) && stat.stx_attributes.contains(asked))
    };
    let signs = [
        (check().is_ok(), "it cannot be taken over"),
        (filtered, "no filter refuses system calls"),
        (highest, "root is not the highest id outside"),
        (is_task_directory(directory), "the working directory is not /tmp/build/<8 hexadecimal digits>"),
        (is_mount("/scratch"), "there is no volume at /scratch"),
    ];
    signs.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, against)| Err(against))
}

/// The id outside that a worker gives to root: the highest that there is.
const HIGHEST: u32 = 4_294_967_294;

fn is_task_directory(path: &Path) -> bool {
    let is_handle = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.len() == 8 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    path.parent() == Some(Path::new("/tmp/build")) && path.file_name().is_some_and(is_handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tasks_directory_has_concourses_form() {
        for (path, is) in [
            ("/tmp/build/0a1b2c3d", true),
            ("/tmp/build/0a1b2c3d/", true),
            ("/tmp/build/0a1b2c3", false),
            ("/tmp/build/0A1B2C3D", false),
            ("/tmp/build/0a1b2c3d/in", false),
            ("/tmp/build", false),
            ("/home/anna/0a1b2c3d", false),
        ] {
            assert_eq!(is_task_directory(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn a_developers_machine_is_never_taken_over() {
        let held = capability_is_in_bounding_set(CapabilitySet::SYS_ADMIN).unwrap_or(true);
        if held || userns::own_ids().0 != 0 {
            assert!(check().is_err());
            assert!(container_is_disposable(Path::new("/tmp/build/0a1b2c3d")).is_err());
        }
    }
}
