//! Directories of artifacts: reading below one without leaving it, and copying one so that nobody shares its writes.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags, ioctl_ficlone, lgetxattr,
    llistxattr, lsetxattr, mknodat, openat2, utimensat,
};
use rustix::io::Errno;

/// Opens a file below a directory as if the directory were `/`: links in an artifact lead nowhere else.
pub(crate) fn open_in(root: &Path, path: &str) -> io::Result<File> {
    let directory = File::open(root)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = File::from(openat2(&directory, path, flags, Mode::empty(), resolve)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

/// Reads a file below a directory, up to a limit in bytes.
pub(crate) fn read_in(root: &Path, path: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_in(root, path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// Copies a tree: kinds, modes, owners as far as we may, times, links, extended attributes. `to` may exist as a directory.
/// Where the file system can, files share their blocks until one of them is written to.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    Copy { linked: HashMap::new(), share: false }.entry(from, to)
}

/// As [`copy`], but files are the same files where the file system allows it. For readers only.
pub(crate) fn share(from: &Path, to: &Path) -> io::Result<()> {
    Copy { linked: HashMap::new(), share: true }.entry(from, to)
}

/// Gives a directory the attributes of another.
pub(crate) fn like(from: &Path, to: &Path) -> io::Result<()> {
    attributes(from, &fs::symlink_metadata(from)?, to)
}

struct Copy {
    /// Where the first name of a file with several went.
    linked: HashMap<(u64, u64), PathBuf>,
    share: bool,
}

impl Copy {
    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(from)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            match fs::create_dir(to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result?,
            }
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                self.entry(&entry.path(), &to.join(entry.file_name()))?;
            }
        } else {
            if self.share && kind.is_file() && fs::hard_link(from, to).is_ok() {
                return Ok(());
            }
            if metadata.nlink() > 1 {
                if let Some(first) = self.linked.get(&(metadata.dev(), metadata.ino())) {
                    return fs::hard_link(first, to);
                }
                self.linked.insert((metadata.dev(), metadata.ino()), to.to_owned());
            }
            if kind.is_symlink() {
                symlink(fs::read_link(from)?, to)?;
            } else if kind.is_file() {
                contents(from, to)?;
            } else {
                special(&metadata, to)?;
            }
        }
        attributes(from, &metadata, to)
    }
}

fn contents(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::options().write(true).create_new(true).open(to)?;
    if ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target)?;
    }
    Ok(())
}

/// Fifos, and devices where we may make them. A socket belongs to a process that is gone.
fn special(metadata: &Metadata, to: &Path) -> io::Result<()> {
    let kind = FileType::from_raw_mode(metadata.mode());
    if kind == FileType::Socket {
        return File::options().write(true).create_new(true).open(to).map(drop);
    }
    mknodat(CWD, to, kind, Mode::from_raw_mode(metadata.mode()), metadata.rdev()).map_err(io::Error::from)
}

fn attributes(from: &Path, metadata: &Metadata, to: &Path) -> io::Result<()> {
    own(to, metadata.uid(), metadata.gid())?;
    // After the owner, because changing that removes capabilities; before the mode, which may forbid it.
    extended(from, to)?;
    if !metadata.file_type().is_symlink() {
        fs::set_permissions(to, metadata.permissions())?;
    }
    let time = |secs, nanos| Timespec { tv_sec: secs, tv_nsec: nanos };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(io::Error::from)
}

/// Copies what extended attributes can be copied: some belong to the kernel, and some file systems have none.
fn extended(from: &Path, to: &Path) -> io::Result<()> {
    let Some(names) = unless_refused(whole(|buffer| llistxattr(from, buffer)))? else { return Ok(()) };
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let Some(value) = unless_refused(whole(|buffer| lgetxattr(from, name, buffer)))? else { continue };
        // The file is as good without attributes that are not ours to set as without root.
        unless_refused(lsetxattr(to, name, &value, XattrFlags::empty()))?;
    }
    Ok(())
}

/// Everything of something that says when the room for it is too small.
fn whole(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; 4096];
    loop {
        match read(&mut bytes) {
            Err(Errno::RANGE) => bytes.resize(bytes.len() * 2, 0),
            Err(error) => return Err(error),
            Ok(length) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
        }
    }
}

/// Nothing where an attribute is not there, not possible here, or not ours; `EINVAL` is an access list that names ids
/// which we do not have.
fn unless_refused<T>(result: Result<T, Errno>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Gives a tree to a user, links themselves and not what they lead to.
pub(crate) fn give(root: &Path, uid: u32, gid: u32) -> io::Result<()> {
    own(root, uid, gid)?;
    if fs::symlink_metadata(root)?.is_dir() {
        for entry in fs::read_dir(root)? {
            give(&entry?.path(), uid, gid)?;
        }
    }
    Ok(())
}

/// Where one id is all we have, every owner is that one.
fn own(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    match lchown(path, Some(uid), Some(gid)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn links_in_an_artifact_do_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        let root = dir.path().join("artifact");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "inside").unwrap();
        symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
        symlink("../secret", root.join("climbing")).unwrap();
        symlink("/file", root.join("rooted")).unwrap();
        assert_eq!(read_in(&root, "file", 100).unwrap(), b"inside");
        assert_eq!(read_in(&root, "rooted", 100).unwrap(), b"inside");
        assert_eq!(read_in(&root, "./../file", 100).unwrap(), b"inside");
        assert!(read_in(&root, "absolute", 100).is_err());
        assert!(read_in(&root, "climbing", 100).is_err());
        assert!(read_in(&root, "file", 3).is_err());
        assert!(read_in(&root, ".", 3).is_err());
    }

    #[test]
    fn a_copy_is_the_same_and_shares_no_writes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::hard_link(from.join("sub/file"), from.join("again")).unwrap();
        symlink("nowhere", from.join("link")).unwrap();
        fs::create_dir(&to).unwrap();
        copy(&from, &to).unwrap();
        let (old, new) = (fs::metadata(from.join("sub/file")).unwrap(), fs::metadata(to.join("sub/file")).unwrap());
        assert_eq!((old.mode(), old.mtime_nsec()), (new.mode(), new.mtime_nsec()));
        assert_eq!(new.ino(), fs::metadata(to.join("again")).unwrap().ino());
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        fs::write(to.join("sub/file"), "changed").unwrap();
        assert_eq!(fs::read_to_string(from.join("sub/file")).unwrap(), "text");
    }

    #[test]
    fn attributes_are_copied_however_many_there_are() {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "").unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o444)).unwrap();
        let names: Vec<String> = (0..30).map(|number| format!("user.{number:0>240}")).collect();
        for name in &names {
            if lsetxattr(&from, name.as_str(), name.as_bytes(), XattrFlags::empty()).is_err() {
                skycap_testkit::skipped!(
                    "attributes_are_copied_however_many_there_are: no such attributes in /dev/shm"
                );
                return;
            }
        }
        copy(&from, &to).unwrap();
        for name in &names {
            assert_eq!(whole(|buffer| lgetxattr(&to, name.as_str(), buffer)).unwrap(), name.as_bytes());
        }
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o444);
    }
}
