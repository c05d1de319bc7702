//! File times that do not tell when a build ran.
//!
//! With `SOURCE_DATE_EPOCH`, files of new layers that are newer than it get it as their time, as with BuildKit's
//! `rewrite-timestamp`. So does what a program of the build wrote, though a commit may be newer than a result in the cache:
//! such files are not older than the program's start, which is remembered with the layer. Times that came with the inputs
//! (archives, packages) stay. Layers of a base are never touched.
//!
//! The rule is applied when an image is put together, and is in no key: another epoch runs nothing again.

use std::io::{self, Write};

use skycap_image::{Descriptor, Digest, Layer};
use skycap_rootfs::{Change, Limits, Metadata, Pack, Record, Time, Tree, TreePath, read_layer};
use skycap_store::Store;

use crate::commit::{self, Packing};
use crate::error::Fault;

/// Which times change, and to what.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// The time that newer files get, in seconds since 1970.
    pub epoch: i64,
    /// Files that are not older than this were written by programs of the build.
    pub since: Option<i64>,
}

impl Rule {
    /// Whether a layer has a file whose time changes.
    pub fn changes(self, store: &Store, layer: &Layer) -> Result<bool, Fault> {
        let index = store.layer_index(layer)?;
        Ok(index.records().iter().any(|(_, record)| match record {
            Record::Entry(entry, _) => self.settled(entry.metadata.mtime) != entry.metadata.mtime,
            Record::Hardlink(_) | Record::Whiteout | Record::Opaque => false,
        }))
    }

    /// Writes the layer anew.
    pub fn apply(self, store: &Store, layer: &Layer, packing: Packing<'_>) -> Result<(Descriptor, Digest), Fault> {
        commit::commit(store, packing, |pack| {
            let read = read_layer(layer, &mut Settling { rule: self, pack }, &Limits::default());
            read.map_err(|error| Fault::caused("the file times of a layer cannot be set", error))
        })
    }

    fn settled(self, time: Time) -> Time {
        let is_new = time > Time { seconds: self.epoch, nanoseconds: 0 };
        let is_written = self.since.is_some_and(|since| time.seconds >= since);
        if is_new || is_written { Time { seconds: self.epoch, nanoseconds: 0 } } else { time }
    }
}

/// Packs what it is given, with other times.
struct Settling<'p, W: Write> {
    rule: Rule,
    pack: &'p mut Pack<W>,
}

impl<W: Write> Tree for Settling<'_, W> {
    fn apply(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        let settled = |metadata: &Metadata| Metadata { mtime: self.rule.settled(metadata.mtime), ..metadata.clone() };
        match change {
            Change::Directory(metadata) => self.pack.add(path, Change::Directory(&settled(metadata))),
            Change::File(metadata, size, data) => self.pack.add(path, Change::File(&settled(metadata), size, data)),
            Change::Symlink(metadata, target) => self.pack.add(path, Change::Symlink(&settled(metadata), target)),
            Change::Hardlink(metadata, target) => self.pack.add(path, Change::Hardlink(&settled(metadata), target)),
            Change::Device(metadata, device) => self.pack.add(path, Change::Device(&settled(metadata), device)),
            Change::Fifo(metadata) => self.pack.add(path, Change::Fifo(&settled(metadata))),
            Change::Whiteout | Change::Opaque => self.pack.add(path, change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_or_written_by_the_build_gets_the_epoch() {
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        for (epoch, since, given, settled) in [
            (100, None, time(99, 5), time(99, 5)),
            (100, None, time(100, 0), time(100, 0)),
            (100, None, time(100, 1), time(100, 0)),
            (100, None, time(500, 0), time(100, 0)),
            // A result of the cache is older than the commit.
            (100, Some(50), time(49, 9), time(49, 9)),
            (100, Some(50), time(50, 0), time(100, 0)),
            (100, Some(500), time(400, 0), time(100, 0)),
        ] {
            assert_eq!(Rule { epoch, since }.settled(given), settled, "{epoch} {since:?} {given:?}");
        }
    }
}
