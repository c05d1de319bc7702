//! Small documents under a kind and a key: what a build step led to, what a layer lists. A record whose checksum is
//! wrong was never written to its end or was damaged since: it is absent. So nothing needs to be synced.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use skycap_image::{Algorithm, Hasher};

use crate::blobs::open_file;
use crate::remove::remove;
use crate::{RECORDS, Store, hashed, note_use};

const MAGIC: &[u8] = b"skycap record 1\n";
const CHECKSUM: usize = 32;
/// Listings of the largest layers stay below it.
const LARGEST: u64 = 1 << 30;

impl Store {
    /// The record of that kind and key; `None` if there is none or it is damaged.
    pub fn record(&self, kind: &str, key: &str) -> Option<Vec<u8>> {
        let path = self.record_path(kind, key).ok()?;
        let mut bytes = read(&path).ok()?;
        let start = content_start(&bytes, key)?;
        note_use(&path);
        Some(bytes.split_off(start))
    }

    /// Keeps a record in place of an older one. `kind` is made of lower-case letters, digits and hyphens.
    pub fn set_record(&self, kind: &str, key: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.record_path(kind, key)?;
        let staged = self.0.session.temporary("record");
        let placed = fs::write(&staged, sealed(key, bytes)).and_then(|()| put_in_place(&staged, &path));
        if placed.is_err() {
            let _ = fs::remove_file(&staged);
        }
        placed
    }

    fn record_path(&self, kind: &str, key: &str) -> io::Result<PathBuf> {
        let is_sound = !kind.is_empty() && kind.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_sound {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{kind:?} is no kind of record")));
        }
        Ok(self.dir().join(RECORDS).join(kind).join(hashed(key)))
    }
}

/// Renames a file to where it belongs. What is in the way, and is not what belongs there, goes.
fn put_in_place(staged: &Path, path: &Path) -> io::Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    if fs::symlink_metadata(parent).is_ok_and(|found| !found.is_dir()) {
        remove(parent)?;
    }
    fs::create_dir_all(parent)?;
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        remove(path)?;
    }
    fs::rename(staged, path)
}

/// All of a record's file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open_file(path)?;
    if file.metadata()?.len() > LARGEST {
        return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Content with its key and a checksum over both.
pub(crate) fn sealed(key: &str, content: &[u8]) -> Vec<u8> {
    let length = (key.len() as u64).to_le_bytes();
    [MAGIC, &checksum(key, content), &length, key.as_bytes(), content].concat()
}

/// The content of what [`sealed`] made for this key; `None` if anything of it is damaged.
pub(crate) fn opened<'b>(bytes: &'b [u8], key: &str) -> Option<&'b [u8]> {
    bytes.get(content_start(bytes, key)?..)
}

/// The key that a record claims to be of. Nothing is checked.
pub(crate) fn claimed_key(bytes: &[u8]) -> Option<&str> {
    let (_, rest) = bytes.strip_prefix(MAGIC)?.split_at_checked(CHECKSUM)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    std::str::from_utf8(rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?).ok()
}

/// Where a record's content begins, if all of it is right.
fn content_start(bytes: &[u8], key: &str) -> Option<usize> {
    let (stated, rest) = bytes.strip_prefix(MAGIC)?.split_at_checked(CHECKSUM)?;
    let (length, rest) = rest.split_first_chunk::<8>()?;
    let (stored, content) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let is_right = stored == key.as_bytes() && stated == checksum(key, content);
    is_right.then(|| bytes.len() - content.len())
}

fn checksum(key: &str, content: &[u8]) -> Vec<u8> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(content);
    hasher.finish().as_bytes().to_vec()
}
