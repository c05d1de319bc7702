//! Making things at names, without following what may be there.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::attributes::Attributes;
use crate::{Device, Metadata};

/// What is said, once, when a device cannot be made.
pub(super) const NO_DEVICES: &str = "devices could not be made here; empty files stand in for them";

/// A new regular file, open for writing.
pub(super) fn file(parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Attributes::first_mode(metadata))
}

/// A device, or a pipe. Devices that cannot be made are not an error but `false`.
pub(super) fn special(
    parent: &OwnedFd,
    name: &[u8],
    metadata: &Metadata,
    device: Option<Device>,
) -> rustix::io::Result<bool> {
    let (kind, number) = match device {
        Some(Device { block, major, minor }) => {
            let kind = if block { FileType::BlockDevice } else { FileType::CharacterDevice };
            (kind, rustix::fs::makedev(major, minor))
        }
        None => (FileType::Fifo, 0),
    };
    let mode = Mode::from_raw_mode(metadata.mode & 0o777);
    match rustix::fs::mknodat(parent, name, kind, mode, number) {
        Err(Errno::PERM) if device.is_some() => Ok(false),
        other => other.map(|()| true),
    }
}

/// What stands in for a device.
pub(super) fn placeholder(metadata: &Metadata) -> Metadata {
    Metadata { mode: metadata.mode & 0o777, ..metadata.clone() }
}
