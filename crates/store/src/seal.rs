//! What a blob's file looked like when its bytes were last found right, kept beside the blobs so that the next process need
//! not read them again.
//!
//! A clock tick is long enough to write into a file twice. So every blob has one and the same modification time, far in
//! the past: whoever writes into it, in whatever tick, changes that. Whoever sets it back changes the time of the last
//! status change, and whoever replaces the file its inode.
//!
//! A seal's own modification time is when its blob was last used. The blob's access time would not do: setting it is a
//! change of status.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use skycap_image::Digest;

use crate::records::{opened, sealed};
use crate::{SEALS, Store, boot, set_used};

/// The modification time of all blobs, in seconds since 1970.
const SETTLED: u64 = 1_000_000_000;
/// A seal is a line of six numbers, and of a boot's name where it speaks for one boot only, under a checksum.
const LARGEST: u64 = 4096;

/// What tells whether somebody touched a file. The same stamp means the same bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Stamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Stamp {
    /// Whether it is of the same file with as many bytes, whatever happened to its times.
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.inode, self.size) == (other.inode, other.size)
    }

    /// Whether a write in the same tick of the clock would show.
    fn is_settled(&self) -> bool {
        self.modified == (SETTLED.cast_signed(), 0)
    }

    fn encode(&self) -> String {
        let Self { inode, size, modified, changed } = self;
        format!("{inode} {size} {} {} {} {}", modified.0, modified.1, changed.0, changed.1)
    }

    fn decode<'w>(words: &mut impl Iterator<Item = &'w str>) -> Option<Self> {
        let mut next = || words.next()?.parse::<i64>().ok();
        Some(Self {
            inode: next()?.try_into().ok()?,
            size: next()?.try_into().ok()?,
            modified: (next()?, next()?),
            changed: (next()?, next()?),
        })
    }
}

/// For how long the bytes of a file are certainly there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lasts {
    /// They are on the disk.
    Forever,
    /// They may be lost when the machine stops.
    ThisBoot,
}

fn encode(stamp: &Stamp, lasts: Lasts) -> String {
    let boot = if lasts == Lasts::ThisBoot { boot::id().unwrap_or_default() } else { String::new() };
    format!("{} {boot}\n", stamp.encode())
}

/// The stamp that a seal speaks of, if it still does.
fn decode(bytes: &[u8]) -> Option<Stamp> {
    let mut words = std::str::from_utf8(bytes).ok()?.split_ascii_whitespace();
    let stamp = Stamp::decode(&mut words)?;
    let holds = words.next().is_none_or(|name| boot::id().is_some_and(|id| id == name));
    holds.then_some(stamp)
}

/// Gives a blob's file the time that all of them have.
pub(crate) fn settle(file: &File) -> io::Result<()> {
    if Stamp::from(&file.metadata()?).is_settled() {
        return Ok(());
    }
    file.set_times(FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(SETTLED)))
}

impl Store {
    /// Notes that the file with this stamp holds what its digest says. Best effort: without a seal it is read again.
    pub(crate) fn seal(&self, digest: &Digest, stamp: &Stamp, lasts: Lasts) {
        self.state().whole.insert(*digest, *stamp);
        if stamp.is_settled() {
            let staged = self.0.session.temporary("seal");
            let bytes = sealed(&digest.to_string(), encode(stamp, lasts).as_bytes());
            if fs::write(&staged, bytes).and_then(|()| fs::rename(&staged, self.seal_path(digest))).is_err() {
                let _ = fs::remove_file(&staged);
            }
        }
    }

    /// Whether a file that looks like this was found right before, by whatever process.
    pub(crate) fn is_sealed(&self, digest: &Digest, stamp: &Stamp) -> bool {
        if self.state().whole.get(digest) == Some(stamp) {
            return true;
        }
        let path = self.seal_path(digest);
        let is_small = fs::symlink_metadata(&path).is_ok_and(|seal| seal.is_file() && seal.len() < LARGEST);
        let read = || decode(opened(&fs::read(&path).ok()?, &digest.to_string())?);
        let is_sealed = is_small && stamp.is_settled() && read().as_ref() == Some(stamp);
        if is_sealed {
            self.state().whole.insert(*digest, *stamp);
        }
        is_sealed
    }

    pub(crate) fn unseal(&self, digest: &Digest) {
        self.state().whole.remove(digest);
        let _ = fs::remove_file(self.seal_path(digest));
    }

    /// Notes that a blob is used now. A missing seal has no time to set.
    pub(crate) fn note_use_of_blob(&self, digest: &Digest) {
        let _ = File::options().append(true).open(self.seal_path(digest)).and_then(|seal| set_used(&seal));
    }

    pub(crate) fn seal_path(&self, digest: &Digest) -> PathBuf {
        self.dir().join(SEALS).join(format!("{}-{}", digest.algorithm().name(), digest.hex()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_encoding() {
        let stamp = Stamp { inode: 7, size: 1 << 40, modified: (-3, 5), changed: (i64::MAX, 999_999_999) };
        for lasts in [Lasts::Forever, Lasts::ThisBoot] {
            assert_eq!(decode(encode(&stamp, lasts).as_bytes()), Some(stamp));
        }
        for text in ["", "1 2 3 4 5", "x 2 3 4 5 6", "-1 2 3 4 5 6", "1 2 3 4 5 6 another-boot"] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }
}
