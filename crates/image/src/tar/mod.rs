//! Tar streams, read strictly and written deterministically: layers and image archives.
//!
//! Where the usual readers (GNU tar, Go, bsdtar) agree on a header, this one gives their answer. Where they do not, a
//! crafted file could show one content to one tool and another to the next, so it is an error.

use std::collections::BTreeMap;

mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::Reader;
pub use sparse::Segment;
pub use writer::Writer;
pub(crate) use writer::{header_bytes, padding};

/// The size of a block; everything in a tar is padded to it.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// Another name of an earlier entry, which [`Header::link`] names.
    Hardlink,
    /// A symbolic link to [`Header::link`].
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// The header of an entry, with the extensions in front of it applied. Names are bytes as they were stored: not cleaned,
/// and not checked beyond being non-empty and free of NUL.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Where the entry goes.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a hard or symbolic link; else empty.
    pub link: Vec<u8>,
    /// The permission bits, `0o7777` at most.
    pub mode: u32,
    /// The owner's number.
    pub uid: u64,
    /// The group's number.
    pub gid: u64,
    /// The bytes of data; 0 for everything but files. For a sparse file its size with the holes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds on top of them.
    pub mtime_nanos: u32,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Header {
    /// A regular file of mode 0644, owner 0:0 and time 0.
    pub fn file(path: impl Into<Vec<u8>>, size: u64) -> Self {
        Self { path: path.into(), size, mode: 0o644, ..Self::default() }
    }

    /// A directory of mode 0755, owner 0:0 and time 0.
    pub fn directory(path: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), kind: Kind::Directory, mode: 0o755, ..Self::default() }
    }

    /// A symbolic link.
    pub fn symlink(path: impl Into<Vec<u8>>, link: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), kind: Kind::Symlink, link: link.into(), mode: 0o777, ..Self::default() }
    }

    /// Another name of an earlier entry.
    pub fn hardlink(path: impl Into<Vec<u8>>, link: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), kind: Kind::Hardlink, link: link.into(), mode: 0o644, ..Self::default() }
    }
}

/// How much a stream may make us keep in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The bytes of one extension (a PAX header or a GNU long name).
    pub extension: u64,
    /// The records of one PAX header.
    pub records: usize,
    /// The segments of one sparse file.
    pub segments: usize,
    /// The bytes of one sparse file with its holes.
    pub expanded: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { extension: 1024 * 1024, records: 100_000, segments: 100_000, expanded: 1 << 40 }
    }
}

/// A tar that breaks the rules. It travels inside an [`std::io::Error`] of kind `InvalidData`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed tar at byte {offset}: {what}")]
pub struct Malformed {
    /// Where the header stands that breaks them.
    pub offset: u64,
    /// Which.
    pub what: String,
}
