//! What is in a layer, without its content.
//!
//! A layer that is seen for the first time is streamed once and listed; from then on questions about an image's files are
//! answered from the listings ([`crate::View`]). The entries are kept in the order of the archive, because that order
//! decides what an image's files are: a link that is replaced by a directory half-way sends what is between to elsewhere.

use std::collections::{BTreeMap, HashSet};
use std::io;

use skycap_image::{Digest, Layer};

use crate::encoding::{Decoder, Encoder};
use crate::read::visit;
use crate::stream::read_layer_tar;
use crate::{Change, Entry, Kind, Limits, TreePath, UnpackError};

/// One entry of a layer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A file of any type, and where its content begins in the bare tar (zero if it has none).
    Entry(Entry, u64),
    /// Another name of this file.
    Hardlink(TreePath),
    /// Hides this path of lower layers.
    Whiteout,
    /// Hides the content that lower layers have in this directory.
    Opaque,
}

/// The listing of a layer, in the order of the archive: later entries win.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LayerIndex {
    records: Vec<(TreePath, Record)>,
    /// Content that is asked for again and again, by its place in the bare tar.
    kept: BTreeMap<u64, Box<[u8]>>,
}

/// In front of the encoded listing; another version gets another name.
const MAGIC: &[u8] = b"skycap layer index 2\n";

/// Files whose content a listing keeps, so that the name of a user costs no second pass over the layer.
const KEPT: [&[u8]; 2] = [b"etc/passwd", b"etc/group"];
/// Unless they are longer.
const LONGEST_KEPT: u64 = 64 * 1024;

impl LayerIndex {
    /// Streams a layer once, checked to its very end, and lists it.
    pub fn of(layer: &Layer, limits: &Limits) -> Result<Self, UnpackError> {
        let mut index = Self::default();
        read_layer_tar(layer, limits, &mut |tar| {
            visit(tar, limits, &mut |at, path, change| index.add(at, path, change))
        })?;
        Ok(index)
    }

    fn add(&mut self, at: u64, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        self.records.push((path.clone(), record(&change, at)));
        if let Change::File(_, size, data) = change
            && size <= LONGEST_KEPT
            && KEPT.contains(&path.as_bytes())
        {
            let mut content = Vec::new();
            data.read_to_end(&mut content)?;
            self.kept.insert(at, content.into());
        }
        Ok(())
    }

    /// The content at a place in the bare tar, if it is kept here.
    pub(crate) fn content(&self, at: u64) -> Option<&[u8]> {
        self.kept.get(&at).map(|content| &**content)
    }

    /// The entries in the order of the archive.
    pub fn records(&self) -> &[(TreePath, Record)] {
        &self.records
    }

    /// Whether unpacking the layer alone, for overlayfs, needs to know what is below it: some parent directory is not
    /// described before it is used, a hard link leads to a file of a lower layer, or the root is opaque, which overlayfs
    /// cannot be told in one mark. Without a need, one directory serves every image.
    pub fn needs_below(&self) -> bool {
        let mut directories = HashSet::new();
        let mut others = HashSet::new();
        self.records.iter().any(|(path, record)| {
            let is_described = |directory: &TreePath| directory.is_root() || directories.contains(directory);
            if !path.parent().is_none_or(|parent| is_described(&parent)) {
                return true;
            }
            match record {
                Record::Opaque => path.is_root() || !directories.contains(path),
                Record::Whiteout => false,
                Record::Entry(entry, _) if entry.is_directory() => {
                    directories.insert(path);
                    false
                }
                Record::Hardlink(target) if !others.contains(target) => true,
                Record::Entry(..) | Record::Hardlink(_) => {
                    others.insert(path);
                    // What was below the directory may now be looked for elsewhere.
                    directories.contains(path)
                }
            }
        })
    }

    /// The bytes to keep: versioned and checked, read by [`LayerIndex::decode`].
    pub fn encode(&self) -> Vec<u8> {
        let mut encoder = Encoder::new(MAGIC);
        encoder.number(self.records.len() as u64);
        for (path, record) in &self.records {
            encoder.path(path.as_bytes());
            encoder.record(record);
        }
        encoder.number(self.kept.len() as u64);
        for (at, content) in &self.kept {
            encoder.number(*at);
            encoder.bytes(content);
        }
        let mut bytes = encoder.finish();
        let digest = Digest::sha256(&bytes);
        bytes.extend_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads what [`LayerIndex::encode`] made; `None` if it is damaged or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (bytes, stated) = bytes.split_at_checked(bytes.len().checked_sub(32)?)?;
        if Digest::sha256(bytes).as_bytes() != stated {
            return None;
        }
        let mut decoder = Decoder::new(bytes.strip_prefix(MAGIC)?);
        let count = decoder.number()?;
        let records = (0..count).map(|_| Some((decoder.path()?, decoder.record()?))).collect::<Option<Vec<_>>>()?;
        let count = decoder.number()?;
        let kept = (0..count).map(|_| Some((decoder.number()?, decoder.bytes()?.into()))).collect::<Option<_>>()?;
        decoder.is_at_end().then_some(Self { records, kept })
    }
}

fn record(change: &Change<'_>, at: u64) -> Record {
    let entry = |kind, metadata: &crate::Metadata| Entry { kind, metadata: metadata.clone() };
    match change {
        Change::Directory(metadata) => Record::Entry(entry(Kind::Directory, metadata), 0),
        Change::File(metadata, size, _) => Record::Entry(entry(Kind::File { size: *size }, metadata), at),
        Change::Symlink(metadata, target) => Record::Entry(entry(Kind::Symlink((*target).into()), metadata), 0),
        Change::Device(metadata, device) => Record::Entry(entry(Kind::Device(*device), metadata), 0),
        Change::Fifo(metadata) => Record::Entry(entry(Kind::Fifo, metadata), 0),
        Change::Hardlink(_, target) => Record::Hardlink((*target).clone()),
        Change::Whiteout => Record::Whiteout,
        Change::Opaque => Record::Opaque,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Metadata, Time};

    fn path(name: &str) -> TreePath {
        TreePath::parse(name.as_bytes()).unwrap()
    }

    fn sample() -> LayerIndex {
        let metadata = Metadata {
            mode: 0o4755,
            uid: 70_000,
            gid: u32::MAX - 1,
            mtime: Time { seconds: -5, nanoseconds: 999_999_999 },
            xattrs: [(b"user.a".to_vec(), vec![0, 255]), (b"user.b".to_vec(), vec![])].into(),
        };
        let entry = |kind| Record::Entry(Entry { kind, metadata: metadata.clone() }, 0);
        let records = vec![
            (TreePath::root(), entry(Kind::Directory)),
            (path("etc"), entry(Kind::Directory)),
            (
                path("etc/a"),
                Record::Entry(Entry { kind: Kind::File { size: u64::MAX }, metadata: metadata.clone() }, 1 << 60),
            ),
            (path("etc/b"), Record::Hardlink(path("etc/a"))),
            (path("etc/link"), entry(Kind::Symlink((*b"../\xff").into()))),
            (path("etc/dev"), entry(Kind::Device(Device { block: true, major: 8, minor: 1 << 20 }))),
            (path("etc/fifo"), entry(Kind::Fifo)),
            (path("etc/gone"), Record::Whiteout),
            (path("etc"), Record::Opaque),
        ];
        LayerIndex { records, kept: [(7, (*b"root").into())].into() }
    }

    #[test]
    fn a_listing_survives_its_encoding() {
        let index = sample();
        assert_eq!(LayerIndex::decode(&index.encode()), Some(index));
        assert_eq!(LayerIndex::decode(&LayerIndex::default().encode()), Some(LayerIndex::default()));
    }

    #[test]
    fn a_damaged_listing_is_absent() {
        let bytes = sample().encode();
        for index in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1;
            assert_eq!(LayerIndex::decode(&damaged), None, "byte {index}");
            assert_eq!(LayerIndex::decode(&bytes[..index]), None, "cut at {index}");
        }
    }

    #[test]
    fn a_listing_with_a_good_checksum_but_bad_content_is_absent() {
        let good = sample().encode();
        let body = &good[..good.len() - 32];
        for index in MAGIC.len()..body.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut bytes = body.to_vec();
                bytes[index] = byte;
                let digest = Digest::sha256(&bytes);
                bytes.extend_from_slice(digest.as_bytes());
                // It may happen to make sense; it must not panic or allocate without bound.
                let _ = LayerIndex::decode(&bytes);
            }
        }
    }

    #[test]
    fn a_layer_stands_alone_if_it_describes_its_parents() {
        let directory =
            |name| (path(name), Record::Entry(Entry { kind: Kind::Directory, metadata: Metadata::implied() }, 0));
        let file = |name| {
            (path(name), Record::Entry(Entry { kind: Kind::File { size: 0 }, metadata: Metadata::default() }, 0))
        };
        let link = |name, target| (path(name), Record::Hardlink(path(target)));
        for (records, expected) in [
            (vec![], false),
            (vec![file("a")], false),
            (vec![file("a/b")], true),
            (vec![directory("a"), file("a/b")], false),
            (vec![file("a/b"), directory("a")], true),
            (vec![directory("a"), file("a")], true),
            (vec![file("a"), directory("a"), file("a/b")], false),
            (vec![directory("a/b"), file("a/b/c")], true),
            (vec![file("a"), file("a/b")], true),
            (vec![(path("gone"), Record::Whiteout)], false),
            (vec![(path("a/gone"), Record::Whiteout)], true),
            (vec![(path("a"), Record::Opaque)], true),
            (vec![directory("a"), (path("a"), Record::Opaque)], false),
            (vec![link("a", "b"), file("b")], true),
            (vec![file("b"), link("a", "b")], false),
            (vec![(TreePath::root(), Record::Opaque)], true),
            (vec![link("a", "b")], true),
        ] {
            let index = LayerIndex { records, ..LayerIndex::default() };
            assert_eq!(index.needs_below(), expected, "{index:?}");
        }
    }
}
