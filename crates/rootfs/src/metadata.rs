//! What is known of a file besides its content.

use std::collections::BTreeMap;

/// A point in time as archives and file systems keep it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Time {
    /// Seconds since 1970, negative before.
    pub seconds: i64,
    /// Nanoseconds on top of that, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// Everything about a file but its type and content.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Metadata {
    /// Permission, setuid, setgid and sticky bits: `0o7777` at most.
    pub mode: u32,
    /// The numeric owner.
    pub uid: u32,
    /// The numeric group.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: Time,
    /// Extended attributes by full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Of a directory that no layer describes, but that something in one needs as its parent.
    pub fn implied() -> Self {
        Self { mode: 0o755, ..Self::default() }
    }
}

/// A device number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Device {
    /// A block device; a character device otherwise.
    pub block: bool,
    /// The driver.
    pub major: u32,
    /// The driver's unit.
    pub minor: u32,
}

/// The type of a file, and what belongs to the type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file and its length in bytes.
    File {
        /// Length in bytes.
        size: u64,
    },
    /// A symbolic link and its target, as stored.
    Symlink(Box<[u8]>),
    /// A device node.
    Device(Device),
    /// A named pipe.
    Fifo,
}

/// A file of a tree without its content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its type.
    pub kind: Kind,
    /// The rest.
    pub metadata: Metadata,
}

impl Entry {
    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        matches!(self.kind, Kind::File { .. })
    }
}
