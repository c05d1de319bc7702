//! Moving this process into a user namespace.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use crate::error::{Attempt, Failure};
use crate::ids::IdMap;
use crate::sys::{self, Fork};

/// The ids of a user namespace to be made, and who tells the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct NewIds {
    pub(crate) uids: IdMap,
    pub(crate) gids: IdMap,
    pub(crate) writer: Writer,
}

/// Who writes the maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Writer {
    /// The process inside: allowed for one id, and without `setgroups`.
    Inside,
    /// A process outside that holds `CAP_SETUID` and `CAP_SETGID`.
    Outside,
    /// The setuid programs `newuidmap` and `newgidmap`.
    Programs,
}

/// Moves this single-threaded process into a new user namespace with these ids; it holds all capabilities there.
pub(crate) fn move_into(ids: &NewIds) -> Result<(), Failure> {
    let own = open_own()?;
    match ids.writer {
        Writer::Inside => {
            unshare_user()?;
            write(&own, "setgroups", "deny")?;
            write(&own, "uid_map", &ids.uids.lines())?;
            write(&own, "gid_map", &ids.gids.lines())
        }
        Writer::Outside | Writer::Programs => with_helper(ids, &own),
    }
}

fn unshare_user() -> Result<(), Failure> {
    sys::unshare(UnshareFlags::NEWUSER).map_err(Failure::at("unshare(CLONE_NEWUSER)"))
}

/// `/proc/self`, opened now, stays this process also when a copy of it looks.
fn open_own() -> Result<OwnedFd, Failure> {
    rustix::fs::open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::at("open /proc/self"))
}

fn write(own: &OwnedFd, file: &str, text: &str) -> Result<(), Failure> {
    let step = || format!("write /proc/self/{file}");
    let open = rustix::fs::openat(own, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    let fd = open.map_err(Failure::at(step()))?;
    // The kernel takes a map in one write or not at all.
    rustix::io::write(&fd, text.as_bytes()).map_err(Failure::at(step()))?;
    Ok(())
}

/// A copy of this process stays outside, where it still has its rights, and writes the maps from there.
fn with_helper(ids: &NewIds, own: &OwnedFd) -> Result<(), Failure> {
    let (ours, theirs) = crate::channel::Channel::pair().map_err(Failure::at("socketpair"))?;
    let theirs = crate::channel::Channel::from_fd(theirs);
    let pid = rustix::fs::readlink("/proc/self", Vec::new()).map_err(Failure::at("readlink /proc/self"))?;
    let helper = match sys::fork().map_err(Failure::at("fork"))? {
        Fork::Child => {
            drop(ours);
            // Nothing is answered if we are asked nothing: the other side has failed.
            if let Ok(Some(((), _))) = theirs.receive::<()>() {
                let answer = write_from_outside(ids, own, &pid.to_string_lossy());
                let _ = theirs.send(&answer.err(), &[]);
            }
            sys::exit_now(0);
        }
        Fork::Parent(pid) => pid,
    };
    drop(theirs);
    let moved = unshare_user();
    let written = moved.and_then(|()| {
        ours.send(&(), &[]).map_err(Failure::at("send to the helper"))?;
        let answer = ours.receive::<Option<Failure>>().map_err(Failure::at("receive from the helper"))?;
        match answer {
            Some((None, _)) => Ok(()),
            Some((Some(failure), _)) => Err(failure),
            None => Err(Failure::new("the helper that writes /proc/PID/uid_map died", 0)),
        }
    });
    drop(ours);
    // Its end is all that is awaited; what it had to say has been said.
    let _ = waitpid(Some(helper), WaitOptions::empty());
    written
}

fn write_from_outside(ids: &NewIds, own: &OwnedFd, pid: &str) -> Result<(), Failure> {
    if ids.writer == Writer::Outside {
        write(own, "gid_map", &ids.gids.lines())?;
        return write(own, "uid_map", &ids.uids.lines());
    }
    for (program, map) in [("newuidmap", &ids.uids), ("newgidmap", &ids.gids)] {
        let lines = map.lines();
        let mut command = Command::new(program);
        // They read nothing; without this, /dev/null would have to exist.
        command.arg(pid).args(lines.split_ascii_whitespace()).stdin(Stdio::inherit());
        let output = command.output();
        let output = output.map_err(Failure::at(format!("run {program}")))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(Failure::new(format!("{program} failed: {}", said.trim()), 0));
        }
    }
    Ok(())
}

/// The first id that is ours by right, as user and as group.
pub(crate) fn own_ids() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Our maps of user and group ids.
pub(crate) fn own_maps() -> io::Result<(IdMap, IdMap)> {
    let read = |path| std::fs::read_to_string(path).map(|text| IdMap::parse(&text));
    Ok((read("/proc/self/uid_map")?, read("/proc/self/gid_map")?))
}

/// Tries what a sandbox needs: the user namespace, the other namespaces, a mount. This process is spoilt afterwards.
pub(crate) fn try_out(ids: Option<&NewIds>) -> Result<(), Attempt> {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    let attempt = |failure: Failure| Attempt { call: failure.step, errno: failure.errno, hint: failure.hint };
    if let Some(ids) = ids {
        move_into(ids).map_err(attempt)?;
    }
    sys::unshare(UnshareFlags::NEWNS).map_err(Failure::at("unshare(CLONE_NEWNS)")).map_err(attempt)?;
    let others = UnshareFlags::NEWPID | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    sys::unshare(others).map_err(Failure::at("unshare(CLONE_NEWPID|CLONE_NEWIPC|CLONE_NEWUTS)")).map_err(attempt)?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(Failure::at("mount(MS_PRIVATE)"))
        .map_err(attempt)?;
    rustix::mount::mount("tmpfs", "/", "tmpfs", MountFlags::empty(), None)
        .map_err(Failure::at("mount(tmpfs)"))
        .map_err(attempt)
}

/// Whether root of our user namespace owns the kernel's settings, for which it needs no capability. If nobody can tell, it does.
pub(crate) fn owns_settings() -> bool {
    rustix::fs::stat("/proc/sys/kernel").map_or(true, |stat| stat.st_uid == 0)
}

/// Whether something lies over a part of `/proc`, so that the kernel gives a user namespace no new one. What hides nothing, such as
/// the place of `binfmt_misc`, is no such part; at others this may be wrong, and then costs a little time.
pub(crate) fn proc_is_masked() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    points.any(|point| point.starts_with("/proc/") && point != "/proc/sys/fs/binfmt_misc")
}

/// Whether this process is root of the whole machine: only such may set `trusted.` attributes, anywhere.
pub(crate) fn is_real_root() -> bool {
    let Ok(file) = rustix::fs::memfd_create("probe", rustix::fs::MemfdFlags::CLOEXEC) else { return false };
    let set = rustix::fs::fsetxattr(file.as_fd(), "trusted.probe", b"", rustix::fs::XattrFlags::empty());
    set != Err(rustix::io::Errno::PERM)
}
