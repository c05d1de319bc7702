//! Opening directories beneath a descriptor, without ever trusting a name.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// For looking up names in a directory, not for reading it.
pub(super) const LOOK_UP: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// For reading a directory, and for setting its metadata.
pub(crate) const READ: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Paths longer than this are opened piece by piece; the kernel takes 4,095 bytes.
pub(super) const LONGEST_PIECE: usize = 3500;

/// Opens one name in a directory, never a link's target.
pub(crate) fn open_child(parent: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, name, flags | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Opens a directory below `base` by a path of plain names, none of which may be a link. The empty path is `base` itself.
pub(crate) fn open_below(base: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let base = base.as_fd();
    if path.is_empty() {
        return open_child(base, b".", flags);
    }
    if path.len() > LONGEST_PIECE {
        let slash = path[..LONGEST_PIECE].iter().rposition(|&byte| byte == b'/');
        let slash = slash.ok_or(Errno::NAMETOOLONG)?;
        let middle = open_below(base, &path[..slash], LOOK_UP)?;
        return open_below(&middle, &path[slash + 1..], flags);
    }
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match again(|| rustix::fs::openat2(base, path, flags, Mode::empty(), how)) {
        Err(Errno::NOSYS | Errno::PERM) => walk_below(base, path, flags),
        other => Ok(other?),
    }
}

/// The same without `openat2`, which old kernels lack and old seccomp profiles refuse.
fn walk_below(base: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let (parents, last) = match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&b""[..], path),
    };
    let mut at: Option<OwnedFd> = None;
    for name in parents.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        at = Some(open_child(at.as_ref().map_or(base, AsFd::as_fd), name, LOOK_UP)?);
    }
    open_child(at.as_ref().map_or(base, AsFd::as_fd), last, flags)
}

/// `openat2` answers `EAGAIN` when a rename elsewhere could have misled it.
pub(super) fn again<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    const TRIES: usize = 64;
    for _ in 1..TRIES {
        match call() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    call()
}

/// What is at a name, links not followed; nothing if there is nothing.
pub(crate) fn look(parent: impl AsFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(parent, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The type of what `stat` describes.
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A name in a directory.
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) is_directory: bool,
}

/// All names in a directory that was opened with [`READ`], in the order the file system gives.
pub(crate) fn list(directory: impl AsFd) -> io::Result<Vec<Listed>> {
    list_some(directory, usize::MAX)
}

/// The first names of a directory, at most `most`.
pub(super) fn list_some(directory: impl AsFd, most: usize) -> io::Result<Vec<Listed>> {
    let mut names = Vec::new();
    walk(directory.as_fd(), &mut |name, is_directory| {
        names.push(Listed { name: name.to_vec(), is_directory });
        names.len() < most
    })?;
    Ok(names)
}

/// The names of the directories in a directory.
pub(super) fn list_directories(directory: impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    walk(directory.as_fd(), &mut |name, is_directory| {
        if is_directory {
            names.push(name.to_vec());
        }
        true
    })?;
    Ok(names)
}

/// Visits names until `visit` says that it has enough.
fn walk(directory: BorrowedFd<'_>, visit: &mut dyn FnMut(&[u8], bool) -> bool) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Directory => true,
            // Some file systems do not say.
            FileType::Unknown => look(directory, name)?.is_some_and(|stat| file_type(&stat) == FileType::Directory),
            _ => false,
        };
        if !visit(name, is_directory) {
            break;
        }
    }
    Ok(())
}

/// `path` and one more name.
pub(super) fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_opening_agree_and_refuse_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        let base = std::fs::File::open(root.path()).unwrap();
        for (path, good) in [("a/b", true), ("a", true), ("link", false), ("link/b", false), ("a/none", false)] {
            assert_eq!(open_below(&base, path.as_bytes(), READ).is_ok(), good, "{path}");
            assert_eq!(walk_below(base.as_fd(), path.as_bytes(), READ).is_ok(), good, "{path}");
        }
    }
}
