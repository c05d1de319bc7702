//! `/proc`, `/dev` and `/sys`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use super::inside::{Inside, Missing, by_descriptor};
use super::volumes;
use crate::error::Failure;
use crate::spec::{Capabilities, Filter, Network, RunSpec};

/// Nothing on it gains rights, runs or is a device.
const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC).union(MountFlags::NODEV);

/// Files that every container runtime hides from root, where root is that of the machine.
const HIDDEN_FILES: [&str; 6] = ["kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug"];
/// Directories that it hides.
const HIDDEN_DIRECTORIES: [&str; 3] = ["acpi", "asound", "scsi"];
/// What it lets root read only.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// Directories that root cannot list, though it is root: they are those of the first process, which nobody may look into, and
/// one of the machine's root. With Docker there is none, and `find /` of root ends well.
const UNLISTED: [&str; 3] = ["1/fdinfo", "1/task/1/fdinfo", "tty/driver"];

/// Mounts `/proc`. Where a part of the outer one is hidden, the kernel refuses a new one; then the outer one is bound: the
/// numbers in it are those of the outer pid namespace, but `/proc/self` is right. Whether it shows processes of others.
pub(super) fn proc(inside: &mut Inside, spec: &RunSpec, guard: bool) -> Result<bool, Failure> {
    let target = inside.find(Path::new("/proc"), Missing::MountPoint)?;
    let place = by_descriptor(&target);
    let own = mount("proc", &*place, "proc", PLAIN, None);
    if let Err(refused) = own {
        mount_bind_recursive("/proc", &*place)
            .map_err(|_| refused)
            .map_err(Failure::at("mount /proc in the root file system"))?;
    }
    // What may make namespaces could mount no `/proc` of its own if a part of this one were covered.
    let nests = spec.filter == Filter::None || spec.capabilities == Capabilities::All;
    if own.is_ok() && !nests {
        let proc = inside.find(Path::new("/proc"), Missing::Error)?;
        rustix::process::fchdir(&proc).map_err(Failure::at("fchdir"))?;
        // Where that cannot be done they are just not listed.
        let _ = UNLISTED.iter().try_for_each(|name| mount("tmpfs", *name, "tmpfs", PLAIN | MountFlags::RDONLY, None));
    }
    if guard {
        let proc = inside.find(Path::new("/proc"), Missing::Error)?;
        hide(&proc, &HIDDEN_FILES, &HIDDEN_DIRECTORIES, &READ_ONLY).map_err(Failure::at("hide parts of /proc"))?;
    }
    Ok(own.is_err())
}

/// Mounts `/sys`, read-only unless everything is permitted. In a user namespace that does not own its network the kernel
/// refuses a new one; then the outer one is bound.
pub(super) fn sys(
    inside: &mut Inside,
    capabilities: Capabilities,
    network: Network,
    guard: bool,
) -> Result<(), Failure> {
    let read_only = capabilities == Capabilities::Default14;
    let target = inside.find(Path::new("/sys"), Missing::MountPoint)?;
    let place = by_descriptor(&target);
    let flags = if read_only { PLAIN | MountFlags::RDONLY } else { PLAIN };
    if mount("sysfs", &*place, "sysfs", flags, None).is_ok() {
        let sys = inside.find(Path::new("/sys"), Missing::Error)?;
        if guard {
            hide(&sys, &[], &["firmware"], &[]).map_err(Failure::at("hide parts of /sys"))?;
        }
        // Programs read the limits of their control group there; a machine without any has nothing to show.
        if let Ok(cgroup) = inside.find(Path::new("/sys/fs/cgroup"), Missing::Error)
            && mount_bind_recursive("/sys/fs/cgroup", by_descriptor(&cgroup)).is_ok()
            && read_only
        {
            let cgroup = inside.find(Path::new("/sys/fs/cgroup"), Missing::Error)?;
            volumes::READ_ONLY.put_on(&cgroup).map_err(Failure::at("make /sys/fs/cgroup read-only"))?;
        }
        return Ok(());
    }
    // The outer one would show the interfaces that the command must not see.
    if network == Network::None || mount_bind_recursive("/sys", &*place).is_err() {
        return Ok(());
    }
    if read_only {
        let sys = inside.find(Path::new("/sys"), Missing::Error)?;
        volumes::READ_ONLY.put_on(&sys).map_err(Failure::at("make /sys read-only"))?;
    }
    Ok(())
}

/// Covers files and directories of a mounted `/proc` or `/sys`; what does not exist needs no cover.
fn hide(base: &OwnedFd, files: &[&str], directories: &[&str], read_only: &[&str]) -> rustix::io::Result<()> {
    rustix::process::fchdir(base)?;
    let there = |result: rustix::io::Result<()>| match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    };
    for name in files {
        there(mount_bind("/dev/null", *name))?;
    }
    for name in directories {
        there(mount("tmpfs", *name, "tmpfs", PLAIN | MountFlags::RDONLY, None))?;
    }
    for name in read_only {
        match mount_bind_recursive(*name, *name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let covered = rustix::fs::openat(base, *name, flags, Mode::empty())?;
        volumes::READ_ONLY.put_on(&covered)?;
        rustix::process::fchdir(base)?;
    }
    Ok(())
}

/// The device files that every container has, and their numbers.
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts `/dev`: a tmpfs with the outer devices bound into it. The directory itself is returned for the terminal.
pub(super) fn dev(
    inside: &mut Inside,
    capabilities: Capabilities,
    tty_group: bool,
    guard: bool,
) -> Result<OwnedFd, Failure> {
    let target = inside.find(Path::new("/dev"), Missing::MountPoint)?;
    // The devices are mounts of their own; what the command makes beside them need not work.
    let flags = if guard { MountFlags::NOSUID | MountFlags::NODEV } else { MountFlags::NOSUID };
    mount("tmpfs", by_descriptor(&target), "tmpfs", flags, c"mode=0755,size=65536k")
        .map_err(Failure::at("mount a tmpfs on /dev"))?;
    let dev = inside.find(Path::new("/dev"), Missing::Error)?;
    rustix::process::fchdir(&dev).map_err(Failure::at("fchdir"))?;
    for (name, major, minor) in NODES {
        node(&dev, name, major, minor).map_err(Failure::at(format!("bind /dev/{name}")))?;
    }
    if capabilities == Capabilities::All {
        match node(&dev, "fuse", 10, 229) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(Failure::at("bind /dev/fuse")(errno)),
        }
    }
    for (name, to) in LINKS {
        rustix::fs::symlinkat(to, &dev, name).map_err(Failure::at(format!("symlink /dev/{name}")))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        rustix::fs::mkdirat(&dev, name, Mode::from_raw_mode(0o755))
            .map_err(Failure::at(format!("mkdir /dev/{name}")))?;
    }
    let options =
        if tty_group { c"newinstance,ptmxmode=0666,mode=0620,gid=5" } else { c"newinstance,ptmxmode=0666,mode=0620" };
    mount("devpts", "pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
        .map_err(Failure::at("mount devpts on /dev/pts"))?;
    mount("tmpfs", "shm", "tmpfs", PLAIN, c"mode=1777").map_err(Failure::at("mount a tmpfs on /dev/shm"))?;
    if mount("mqueue", "mqueue", "mqueue", PLAIN, None).is_err() {
        // A kernel without message queues needs no place for them.
        let _ = rustix::fs::unlinkat(&dev, "mqueue", AtFlags::REMOVEDIR);
    }
    Ok(dev)
}

/// Binds a device of the outside, if it is the device it should be.
fn node(dev: &OwnedFd, name: &str, major: u32, minor: u32) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::open(format!("/dev/{name}"), flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&source)?;
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    #[expect(clippy::useless_conversion, reason = "the width differs between architectures")]
    if !device || rustix::fs::makedev(major, minor) != u64::from(stat.st_rdev) {
        return Err(Errno::NODEV);
    }
    bind_file(dev, name, &source)
}

/// Makes an empty file in `dev` and binds `source` over it. The working directory must be `dev`.
pub(super) fn bind_file(dev: impl AsFd, name: &str, source: &impl AsFd) -> rustix::io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o666))?;
    mount_bind(by_descriptor(source), name)
}
