//! What is on disk at a name, as a layer would record it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::directory::attributes::is_of_the_host;
use crate::directory::handle::{READ, file_type, open_below, open_child};
use crate::{Device, Metadata, Time, TreePath};

/// A file on disk.
pub(crate) struct Scanned {
    pub(crate) metadata: Metadata,
    pub(crate) content: Content,
    /// Device and inode, of files that have several names.
    pub(crate) identity: Option<(u64, u64)>,
    /// Overlayfs copied it from a lower layer when it was first written to, so it was not made anew.
    pub(crate) is_copied_up: bool,
}

pub(crate) enum Content {
    /// With the marks that overlayfs left on it.
    Directory(Marks),
    /// Open at its beginning, and its length.
    File(File, u64),
    Symlink(Vec<u8>),
    Device(Device),
    Fifo,
}

/// Extended attributes of the file itself.
type Attributes = BTreeMap<Vec<u8>, Vec<u8>>;

/// What overlayfs says about a directory or file, by attribute name without its `trusted.` or `user.` prefix.
pub(crate) type Marks = BTreeMap<Vec<u8>, Vec<u8>>;

/// Opens a directory for listing, links not followed.
pub(crate) fn open_directory(root: impl AsFd, path: &TreePath) -> io::Result<OwnedFd> {
    open_below(root, path.as_bytes(), READ)
}

/// What is at a name. Nothing for sockets, which no archive can hold.
pub(crate) fn scan(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<Scanned>> {
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mut opened = None;
    let content = match file_type(&stat) {
        FileType::Socket => return Ok(None),
        FileType::Directory => {
            opened = Some(open_child(parent, name, READ)?);
            None
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            opened = Some(open_child(parent, name, flags)?);
            None
        }
        FileType::Symlink => Some(Content::Symlink(rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes())),
        FileType::Fifo => Some(Content::Fifo),
        kind @ (FileType::BlockDevice | FileType::CharacterDevice) => Some(Content::Device(Device {
            block: kind == FileType::BlockDevice,
            major: rustix::fs::major(stat.st_rdev),
            minor: rustix::fs::minor(stat.st_rdev),
        })),
        FileType::Unknown => return Err(io::Error::other("a file of an unknown type")),
    };
    let mut metadata = metadata(&stat);
    let (xattrs, marks) = if let Some(file) = &opened {
        xattrs(|buffer| rustix::fs::flistxattr(file, buffer), |name, buffer| rustix::fs::fgetxattr(file, name, buffer))?
    } else {
        let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        xattrs(
            |buffer| rustix::fs::llistxattr(&path, buffer),
            |name, buffer| rustix::fs::lgetxattr(&path, name, buffer),
        )?
    };
    metadata.xattrs = xattrs;
    let is_copied_up = marks.contains_key(&b"overlay.origin"[..]);
    let content = match (content, opened) {
        (Some(content), _) => content,
        (None, Some(file)) if file_type(&stat) == FileType::Directory => {
            drop(file);
            Content::Directory(marks)
        }
        (None, Some(file)) => {
            refuse_partial(&marks)?;
            let file = File::from(file);
            let size = file.metadata()?.len();
            Content::File(file, size)
        }
        (None, None) => return Ok(None),
    };
    let has_names = stat.st_nlink > 1 && file_type(&stat) != FileType::Directory;
    let identity = has_names.then_some((stat.st_dev, stat.st_ino));
    Ok(Some(Scanned { metadata, content, identity, is_copied_up }))
}

/// A file whose content overlayfs has left in a lower layer must not be taken for an empty one.
fn refuse_partial(marks: &Marks) -> io::Result<()> {
    if marks.contains_key(&b"overlay.metacopy"[..]) {
        let text = "only its metadata is here (overlay.metacopy); mount the overlay with metacopy=off";
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    Ok(())
}

fn metadata(stat: &Stat) -> Metadata {
    Metadata {
        mode: Mode::from_raw_mode(stat.st_mode).as_raw_mode() & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() },
        xattrs: BTreeMap::new(),
    }
}

/// The attributes of a file that belong to it, and the marks of overlayfs.
fn xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<(Attributes, Marks)> {
    let (mut attributes, mut marks) = (BTreeMap::new(), Marks::new());
    let names = match whole(list) {
        // Links and devices are reached through /proc, which may be out of reach; attributes on them are next to unheard of.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOENT | Errno::ACCESS) => return Ok((attributes, marks)),
        other => other?,
    };
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let value = match whole(|buffer| get(name, buffer)) {
            Err(Errno::NODATA) => continue,
            other => other?,
        };
        let mark = name.strip_prefix(b"trusted.").or_else(|| name.strip_prefix(b"user."));
        if let Some(mark) = mark.filter(|mark| mark.starts_with(b"overlay.")) {
            marks.insert(mark.to_vec(), value);
        } else if !is_of_the_host(name) {
            attributes.insert(name.to_vec(), value);
        }
    }
    Ok((attributes, marks))
}

/// Calls with a growing buffer until the answer fits.
fn whole(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    /// The kernel's own bound on a list and on a value.
    const LARGEST: usize = 64 * 1024;
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Err(Errno::RANGE) if buffer.len() < LARGEST => buffer.resize(LARGEST, 0),
            Err(error) => return Err(error),
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }
}
