//! The caller's mounts, and the three files of the network.

use std::ffi::{CString, OsStr};
use std::fmt::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use super::inside::{Inside, Missing, by_descriptor};
use super::overlay::{self, Directories};
use super::stage::{self, Stage};
use crate::error::Failure;
use crate::spec::{Mount, Network, NetworkFiles, RunSpec};
use crate::sys;

/// A mount whose outer side is open, so that what is wrong with it is told before anything is mounted.
#[derive(Debug)]
pub(super) enum OpenMount<'a> {
    Bind { source: OwnedFd, target: &'a Path, read_only: bool },
    Overlay { directories: Directories, source: &'a Path, target: &'a Path },
    Tmpfs { target: &'a Path, size: Option<u64>, mode: u32 },
    File { target: &'a Path, content: &'a [u8], mode: u32, uid: u32, gid: u32 },
}

/// Opens the outer side of a mount.
pub(super) fn open(mount: &Mount) -> Result<OpenMount<'_>, Failure> {
    Ok(match mount {
        Mount::Bind { source, within, target, read_only } => {
            OpenMount::Bind { source: open_source(source, within.as_deref())?, target, read_only: *read_only }
        }
        Mount::Overlay { lowers, upper, source, target } => {
            let upper = upper.as_ref().map(|upper| (&*upper.upper, &*upper.work));
            OpenMount::Overlay { directories: Directories::open(lowers, upper)?, source, target }
        }
        Mount::Tmpfs { target, size, mode } => OpenMount::Tmpfs { target, size: *size, mode: *mode },
        Mount::File { target, content, mode, uid, gid } => {
            OpenMount::File { target, content, mode: *mode, uid: *uid, gid: *gid }
        }
    })
}

pub(super) fn open_source(source: &Path, within: Option<&Path>) -> Result<OwnedFd, Failure> {
    match within {
        Some(root) => Inside::new(overlay::open_directory(root)?).find(source, Missing::Error),
        None => rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Failure::at(format!("open {}", source.display()))),
    }
}

impl OpenMount<'_> {
    /// Mounts it inside.
    pub(super) fn mount(&self, inside: &mut Inside, stage: &mut Stage) -> Result<(), Failure> {
        let no_devices = stage.rules().no_devices;
        match self {
            Self::Bind { source, target, read_only } => {
                bind(inside, source, target, Restriction { read_only: *read_only, no_devices })
            }
            Self::Overlay { directories, source, target } => {
                let what = target.display().to_string();
                let root = overlay::mount(stage, directories, &what)?;
                let source = Inside::new(root).find(source, Missing::Error)?;
                bind(inside, &source, target, Restriction { read_only: directories.upper.is_none(), no_devices })
            }
            Self::Tmpfs { target, size, mode } => tmpfs(inside, target, *size, *mode),
            Self::File { target, content, mode, uid, gid } => {
                if *uid == u32::MAX || *gid == u32::MAX {
                    return Err(Failure::new(format!("{} is no id of a user or group", u32::MAX), libc::EINVAL));
                }
                let source = stage.file(content, *mode)?;
                rustix::fs::chownat(
                    &source,
                    "",
                    Some(rustix::fs::Uid::from_raw(*uid)),
                    Some(rustix::fs::Gid::from_raw(*gid)),
                    rustix::fs::AtFlags::EMPTY_PATH,
                )
                .map_err(Failure::at(format!("give {} to {uid}:{gid}", target.display())))?;
                bind(inside, &source, target, READ_ONLY)
            }
        }
    }
}

/// Binds an open file or directory, with all that is mounted below it.
fn bind(inside: &mut Inside, source: &impl AsFd, target: &Path, restriction: Restriction) -> Result<(), Failure> {
    let step = || format!("bind on {}", target.display());
    let stat = rustix::fs::fstat(source).map_err(Failure::at(step()))?;
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let place = inside.find(target, if directory { Missing::MountPoint } else { Missing::MountPointFile })?;
    mount_bind_recursive(by_descriptor(source), by_descriptor(&place)).map_err(Failure::at(step()))?;
    let mounted = inside.find(target, Missing::Error)?;
    restriction.put_on(&mounted).map_err(Failure::at(format!("restrict the mount on {}", target.display())))
}

fn tmpfs(inside: &mut Inside, target: &Path, size: Option<u64>, mode: u32) -> Result<(), Failure> {
    let place = inside.find(target, Missing::MountPoint)?;
    let size = size.map_or_else(String::new, |size| format!(",size={size}"));
    let options = CString::new(format!("mode={mode:o}{size}")).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", by_descriptor(&place), "tmpfs", flags, &*options)
        .map_err(Failure::at(format!("mount a tmpfs on {}", target.display())))
}

/// What a mount, and all mounts below it, are not good for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restriction {
    pub(super) read_only: bool,
    /// Device files cannot be opened.
    pub(super) no_devices: bool,
}

/// Cannot be written to.
pub(super) const READ_ONLY: Restriction = Restriction { read_only: true, no_devices: false };

impl Restriction {
    /// Restricts the mount whose root is `mounted`. No restriction is lifted.
    pub(super) fn put_on(self, mounted: impl AsFd) -> rustix::io::Result<()> {
        let mounted = mounted.as_fd();
        let nothing = !self.read_only && !self.no_devices;
        if nothing || sys::mount_restrict(mounted, self.read_only, self.no_devices).is_ok() {
            return Ok(());
        }
        // Linux before 5.12, or a filter that does not know the call: one by one, and keeping the flags that are locked.
        let mut restriction = MountFlags::BIND;
        restriction.set(MountFlags::RDONLY, self.read_only);
        restriction.set(MountFlags::NODEV, self.no_devices);
        let top = rustix::fs::readlink(by_descriptor(&mounted), Vec::new())?;
        let top = PathBuf::from(std::ffi::OsString::from_vec(top.into_bytes()));
        let info = std::fs::read("/proc/self/mountinfo").map_err(|_| rustix::io::Errno::IO)?;
        for point in mount_points(&info).filter(|point| point.starts_with(&top)) {
            // The names of what is on the stage begin at the stage.
            let point = [Path::new(stage::ABOVE).as_os_str(), point.as_os_str()].join(OsStr::new(""));
            let stat = rustix::fs::statvfs(&point)?;
            rustix::mount::mount_remount(&point, restriction | kept(stat.f_flag), c"")?;
        }
        Ok(())
    }
}

/// The mount flags that a remount must repeat.
fn kept(flags: StatVfsMountFlags) -> MountFlags {
    let pairs = [
        (StatVfsMountFlags::RDONLY, MountFlags::RDONLY),
        (StatVfsMountFlags::NOSUID, MountFlags::NOSUID),
        (StatVfsMountFlags::NODEV, MountFlags::NODEV),
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    pairs.into_iter().filter(|(has, _)| flags.contains(*has)).fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}

/// The mount points in the text of `/proc/self/mountinfo`.
fn mount_points(info: &[u8]) -> impl Iterator<Item = PathBuf> {
    info.split(|byte| *byte == b'\n').filter_map(mount_point)
}

/// The mount point in a line of that text: the fifth field, in which odd characters are octal.
pub(super) fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(value) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            path.push(value);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            path.push(byte);
            rest = tail;
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Provides `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` from memory.
pub(super) fn network_files(inside: &mut Inside, stage: &mut Stage, spec: &RunSpec) -> Result<(), Failure> {
    if spec.network_files == NetworkFiles::Absent {
        return Ok(());
    }
    let files = network_texts(spec);
    for (path, content) in files {
        let source = stage.file(&content, 0o644)?;
        let place = inside.find(Path::new(path), Missing::MountPointFile)?;
        mount_bind(by_descriptor(&source), by_descriptor(&place)).map_err(Failure::at(format!("bind on {path}")))?;
        if spec.network_files == NetworkFiles::ReadOnly {
            let mounted = inside.find(Path::new(path), Missing::Error)?;
            READ_ONLY.put_on(&mounted).map_err(Failure::at(format!("make {path} read-only")))?;
        }
    }
    Ok(())
}

/// The three files and what is in them.
pub(super) fn network_texts(spec: &RunSpec) -> [(&'static str, Vec<u8>); 3] {
    let resolver = match spec.network {
        // A machine without the file has no name servers to tell.
        Network::Host => std::fs::read("/etc/resolv.conf").unwrap_or_default(),
        Network::None => Vec::new(),
    };
    [
        ("/etc/hosts", hosts(spec).into_bytes()),
        ("/etc/hostname", format!("{}\n", spec.hostname).into_bytes()),
        ("/etc/resolv.conf", resolver),
    ]
}

/// Tells `apt` not to change to a user of its own, which it verifies: there is one id only, and the change is pretended.
pub(super) fn one_id_for_apt(inside: &mut Inside, stage: &mut Stage) -> Result<(), Failure> {
    let directory = Path::new("/etc/apt/apt.conf.d");
    if inside.find(directory, Missing::Error).is_err() {
        return Ok(());
    }
    let source = stage.file(b"APT::Sandbox::User \"root\";\n", 0o644)?;
    bind(inside, &source, &directory.join("zz-one-id"), READ_ONLY)
}

fn hosts(spec: &RunSpec) -> String {
    let mut text = format!("127.0.0.1\tlocalhost {}\n::1\tlocalhost ip6-localhost ip6-loopback\n", spec.hostname);
    for (name, address) in &spec.hosts {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_odd_characters() {
        let info =
            b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:5 / /a\\040b\\134c rw shared:1 - tmpfs tmpfs rw\nshort\n";
        let points: Vec<_> = mount_points(info).collect();
        assert_eq!(points, [PathBuf::from("/"), PathBuf::from("/a b\\c")]);
    }
}
