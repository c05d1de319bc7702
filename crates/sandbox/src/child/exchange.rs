//! Two directories change places, entry by entry. Mount points stay where they are: they cannot be renamed. Directories
//! with mount points in them take these along.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, StatxFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// For reading a directory, never through a link.
const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A file, whatever its name: its mount and inode.
type Identity = (u64, u64);

/// The names in a directory.
pub(super) fn names(directory: impl AsFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// What becomes of a mounted directory in a directory that cannot be renamed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounted {
    /// An error: a command that empties the directory would empty what is mounted there.
    Refused,
    /// It stays where it is.
    Left,
}

/// Moves every entry of `from` to `to`, but for the file `except`. What stays because `to` has a mount point of that name is
/// returned.
pub(super) fn shift(
    from: &OwnedFd,
    to: &OwnedFd,
    except: Option<Identity>,
    mounted: Mounted,
) -> rustix::io::Result<Vec<OsString>> {
    let (mount_from, mount_to) = (identity(from, OsStr::new(""))?.0, identity(to, OsStr::new(""))?.0);
    let mut stuck = Vec::new();
    for name in names(from)? {
        let own = identity(from, &name)?;
        if own.0 != mount_from || Some(own) == except {
            continue;
        }
        match identity(to, &name) {
            Ok(there) if there.0 != mount_to => stuck.push(name),
            _ => move_entry(from, to, &name, mounted)?,
        }
    }
    Ok(stuck)
}

fn move_entry(from: &OwnedFd, to: &OwnedFd, name: &OsStr, mounted: Mounted) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(from, name, to, name, RenameFlags::NOREPLACE) {
        // Directories of the lower layers of an overlay; those that mount points have held back.
        Err(error @ (Errno::XDEV | Errno::EXIST | Errno::BUSY)) => {
            let source = rustix::fs::openat(from, name, READ, Mode::empty()).map_err(|_| error)?;
            merge(&source, to, name, mounted)?;
            match rustix::fs::unlinkat(from, name, AtFlags::REMOVEDIR) {
                // A mount point is in it.
                Err(Errno::NOTEMPTY | Errno::BUSY | Errno::EXIST) => Ok(()),
                other => other,
            }
        }
        other => other,
    }
}

/// Moves what is in a directory to one of this name, which looks the same afterwards.
fn merge(source: &OwnedFd, to: &OwnedFd, name: &OsStr, mounted: Mounted) -> rustix::io::Result<()> {
    if mounted == Mounted::Refused && has_mounted_directory(source)? {
        return Err(Errno::XDEV);
    }
    let stat = rustix::fs::fstat(source)?;
    match rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let target = rustix::fs::openat(to, name, READ, Mode::empty())?;
    let shifted = shift(source, &target, None, mounted);
    // Also if that failed: it is undone from here.
    rustix::fs::fchown(&target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&target, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    rustix::fs::futimens(&target, &times(&stat))?;
    shifted.map(drop)
}

/// Whether a mount point leaves `from` together with a directory that it is in. Such a directory goes to `to` and comes back,
/// nothing else is touched.
pub(super) fn is_carried(from: &OwnedFd, to: &OwnedFd, mount_point: &Path) -> rustix::io::Result<bool> {
    let mut parent = from.try_clone().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let above = mount_point.strip_prefix("/").unwrap_or(mount_point).parent();
    for name in above.into_iter().flatten() {
        let time = times(&rustix::fs::fstat(&parent)?);
        match rustix::fs::renameat_with(&parent, name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) => {
                rustix::fs::renameat_with(to, name, &parent, name, RenameFlags::NOREPLACE)?;
                rustix::fs::futimens(&parent, &time)?;
                return Ok(true);
            }
            Err(Errno::XDEV) => parent = rustix::fs::openat(&parent, name, READ, Mode::empty())?,
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn has_mounted_directory(directory: &OwnedFd) -> rustix::io::Result<bool> {
    let mount = identity(directory, OsStr::new(""))?.0;
    for name in names(directory)? {
        let stat = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_directory && identity(directory, &name)?.0 != mount {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Which file a name is; the empty one is the directory itself.
pub(super) fn identity(directory: impl AsFd, name: &OsStr) -> rustix::io::Result<Identity> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statx(directory, name, flags, StatxFlags::INO | StatxFlags::MNT_ID)?;
    Ok((stat.stx_mnt_id, stat.stx_ino))
}

/// Removes whatever is at a name, but nothing on another mount; what is not there needs no removal.
pub(super) fn remove(parent: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let directory = rustix::fs::openat(parent, name, READ, Mode::empty())?;
    if identity(&directory, OsStr::new(""))?.0 != identity(parent, OsStr::new(""))?.0 {
        return Err(Errno::BUSY);
    }
    for name in names(&directory)? {
        remove(&directory, &name)?;
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Copies what is at a name to another place, with owners, modes, times and attributes of its own kind; sockets and
/// devices are left out.
pub(super) fn copy(from: &OwnedFd, name: &OsStr, to: &OwnedFd, as_name: &OsStr) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, as_name, Mode::from_raw_mode(0o700))?;
            let source = rustix::fs::openat(from, name, READ, Mode::empty())?;
            let target = rustix::fs::openat(to, as_name, READ, Mode::empty())?;
            for name in names(&source)? {
                copy(&source, &name, &target, &name)?;
            }
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut source = std::fs::File::from(rustix::fs::openat(from, name, flags, Mode::empty())?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mut target = std::fs::File::from(rustix::fs::openat(to, as_name, flags, Mode::from_raw_mode(0o600))?);
            std::io::copy(&mut source, &mut target)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(OsStr::from_bytes(target.as_bytes()), to, as_name)?;
        }
        FileType::Fifo => rustix::fs::mknodat(to, as_name, FileType::Fifo, Mode::from_raw_mode(0o600), 0)?,
        _ => return Ok(()),
    }
    look_like(&stat, to, as_name)
}

/// Gives a copy the owner, the mode and the times of what it is a copy of.
fn look_like(stat: &rustix::fs::Stat, directory: &OwnedFd, name: &OsStr) -> rustix::io::Result<()> {
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(
        directory,
        name,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
        no_follow,
    )?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    rustix::fs::utimensat(directory, name, &times(stat), no_follow)
}

#[expect(clippy::useless_conversion, reason = "the width differs between architectures")]
fn times(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: i64::from(seconds),
        tv_nsec: rustix::fs::Nsecs::try_from(nanoseconds).unwrap_or_default(),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    /// What stopped halfway and is undone looks as before.
    #[test]
    fn a_directory_of_which_half_was_moved_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["from/d/e/b", "to/d/e"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        for number in 0..20 {
            std::fs::write(path(&format!("from/d/{number}")), "").unwrap();
        }
        std::fs::write(path("to/d/e/b"), "in the way").unwrap();
        std::fs::set_permissions(path("from/d"), PermissionsExt::from_mode(0o1751)).unwrap();
        let look = || {
            let found = std::fs::metadata(path("from/d")).unwrap();
            (found.mode(), found.mtime(), found.mtime_nsec(), std::fs::read_dir(path("from/d")).unwrap().count())
        };
        let open = |name: &str| rustix::fs::open(path(name), READ, Mode::empty()).unwrap();
        let (from, to, before) = (open("from"), open("to"), look());
        assert!(shift(&from, &to, None, Mounted::Refused).is_err());
        std::fs::remove_file(path("to/d/e/b")).unwrap();
        assert_eq!(shift(&to, &from, None, Mounted::Left), Ok(Vec::new()));
        assert_eq!(look(), before);
    }
}
