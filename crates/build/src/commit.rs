//! From changes to a layer in the store, in one pass: tar, digest, compression, digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;

use skycap_image::compress::LayerEncoder;
use skycap_image::{Algorithm, Compression, Descriptor, Digest, Hasher, Layer};
use skycap_rootfs::{Change, Kind, Pack, TreePath};
use skycap_store::{BlobWriter, Store};

use crate::changes::{Changes, Content, Item, Place};
use crate::context::{Contexts, Read as WasRead};
use crate::error::Fault;
use crate::graph::From;
use crate::request::Request;

/// Where a layer's tar is written to.
pub(crate) type LayerPack = Pack<BufWriter<LayerEncoder<BlobWriter>>>;

const BUFFER: usize = 64 * 1024;

/// How layers are packed.
#[derive(Clone, Copy)]
pub(crate) struct Packing {
    /// With what.
    pub compression: Compression,
    /// By how many threads.
    pub threads: usize,
}

impl Packing {
    /// How the layers of images are packed.
    pub fn of(request: &Request) -> Self {
        Self { compression: request.compression, threads: request.threads.max(1) }
    }
}

/// Writes a layer into the store. `fill` says what is in it.
pub(crate) fn commit(
    store: &Store,
    packing: Packing,
    fill: impl FnOnce(&mut LayerPack) -> Result<(), Fault>,
) -> Result<(Descriptor, Digest), Fault> {
    let encoder = LayerEncoder::new(store.writer().map_err(unwritten)?, packing.compression, false, packing.threads);
    let mut pack = Pack::new(BufWriter::with_capacity(BUFFER, encoder.map_err(unwritten)?));
    fill(&mut pack)?;
    let encoder = pack.finish().map_err(unwritten)?.into_inner().map_err(|error| unwritten(error.into_error()))?;
    finish(encoder)
}

/// Packs a layer of the store in another way; its files stay the same.
pub(crate) fn repack(store: &Store, layer: &Layer, packing: Packing) -> Result<Descriptor, Fault> {
    let mut bytes = layer.open()?;
    let mut encoder =
        LayerEncoder::new(store.writer().map_err(unwritten)?, packing.compression, false, packing.threads)
            .map_err(unwritten)?;
    let (_, mut tar) = skycap_image::compress::decoder(&mut bytes).map_err(unwritten)?;
    io::copy(&mut tar, &mut encoder).map_err(unwritten)?;
    drop(tar);
    bytes.finish().map_err(unwritten)?;
    let (descriptor, diff_id) = finish(encoder)?;
    if diff_id == layer.diff_id {
        Ok(descriptor)
    } else {
        Err(Fault::new(format!("layer {} unpacks to {diff_id}, not to {}", layer.descriptor.digest, layer.diff_id)))
    }
}

fn finish(encoder: LayerEncoder<BlobWriter>) -> Result<(Descriptor, Digest), Fault> {
    let (packed, writer) = encoder.finish().map_err(unwritten)?;
    let written = writer.commit(packed.descriptor.media_type.clone()).map_err(unwritten)?;
    Ok((written, packed.diff_id))
}

#[allow(clippy::needless_pass_by_value, reason = "stands in map_err")]
fn unwritten(error: io::Error) -> Fault {
    Fault::new(format!("the layer cannot be written to the store: {error}"))
}

/// Where the bytes of changed files are read.
pub(crate) struct Sources<'a> {
    /// The directories outside.
    pub contexts: &'a Contexts,
    /// What their files held when the step's key was made.
    pub read: &'a BTreeMap<Place, WasRead>,
    /// Files of other file systems: where in the spool.
    pub copied: &'a BTreeMap<Place, u64>,
    /// Bytes set aside.
    pub spool: &'a File,
}

/// Writes changes as a layer, sorted.
pub(crate) fn write(changes: &Changes<'_>, sources: &Sources<'_>, pack: &mut LayerPack) -> Result<(), Fault> {
    let mut links: BTreeMap<Inode, (&TreePath, Option<&Place>)> = BTreeMap::new();
    for (path, item, is_opaque) in changes.items() {
        if let Some((file, source)) = file_of(item, sources) {
            match links.get(&file) {
                // One file of the source that was copied to two places is two files.
                Some((_, first_source)) if source.is_some() && *first_source == source => {}
                Some((first, _)) => {
                    pack.add(path, Change::Hardlink(&item.entry.metadata, first)).map_err(unwritten)?;
                    continue;
                }
                None => {
                    links.insert(file, (path, source));
                }
            }
        }
        write_item(path, item, sources, pack)?;
        if is_opaque {
            pack.opaque(path).map_err(unwritten)?;
        }
    }
    Ok(())
}

/// What makes two names one file.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Inode {
    /// The same part of the spool.
    Spooled(u64),
    /// The same file of a directory outside.
    Outside(u64, u64),
}

/// Which file an item is, if it may have further names, and which file of the source.
fn file_of<'i>(item: &'i Item, sources: &Sources<'_>) -> Option<(Inode, Option<&'i Place>)> {
    match &item.content {
        Content::Spooled { offset } => Some((Inode::Spooled(*offset), None)),
        Content::Source(source) => {
            let spooled = sources.copied.get(source).map(|offset| Inode::Spooled(*offset));
            let outside = || sources.read.get(source)?.inode.map(|(device, number)| Inode::Outside(device, number));
            Some((spooled.or_else(outside)?, Some(source)))
        }
        Content::Bytes(_) | Content::None => None,
    }
}

/// Writes changes that have no files with content.
pub(crate) fn write_plain(changes: &Changes<'_>, pack: &mut LayerPack) -> Result<(), Fault> {
    for (path, item, _) in changes.items() {
        pack.add(path, Change::Directory(&item.entry.metadata)).map_err(unwritten)?;
    }
    Ok(())
}

fn write_item(path: &TreePath, item: &Item, sources: &Sources<'_>, pack: &mut LayerPack) -> Result<(), Fault> {
    let metadata = &item.entry.metadata;
    let size = match &item.entry.kind {
        Kind::File { size } => *size,
        Kind::Directory => return pack.add(path, Change::Directory(metadata)).map_err(unwritten),
        Kind::Symlink(target) => return pack.add(path, Change::Symlink(metadata, target)).map_err(unwritten),
        Kind::Device(device) => return pack.add(path, Change::Device(metadata, *device)).map_err(unwritten),
        Kind::Fifo => return pack.add(path, Change::Fifo(metadata)).map_err(unwritten),
    };
    match &item.content {
        Content::Source(source) => match sources.copied.get(source) {
            Some(offset) => add_spooled(path, item, *offset, size, sources, pack),
            None => add_from_outside(path, item, source, size, sources, pack),
        },
        Content::Spooled { offset } => add_spooled(path, item, *offset, size, sources, pack),
        Content::Bytes(bytes) => pack.add(path, Change::File(metadata, size, &mut &**bytes)).map_err(unwritten),
        Content::None => pack.add(path, Change::File(metadata, size, &mut io::empty())).map_err(unwritten),
    }
}

fn add_spooled(
    path: &TreePath,
    item: &Item,
    offset: u64,
    size: u64,
    sources: &Sources<'_>,
    pack: &mut LayerPack,
) -> Result<(), Fault> {
    let mut part = Part { file: sources.spool, offset, left: size };
    pack.add(path, Change::File(&item.entry.metadata, size, &mut part)).map_err(unwritten)
}

/// A file that changed after it was looked at would be kept under a key that is not its own.
fn add_from_outside(
    path: &TreePath,
    item: &Item,
    source: &Place,
    size: u64,
    sources: &Sources<'_>,
    pack: &mut LayerPack,
) -> Result<(), Fault> {
    let From::Context(context) = source.tree else { return Err(Fault::new("a file to copy was not read")) };
    let changed = || Fault::new(format!("{} of the build context changed while it was being read", source.path));
    let inner = sources.contexts.get(context).file(&source.path)?;
    let mut content = Hashing::new(inner);
    let added = pack.add(path, Change::File(&item.entry.metadata, size, &mut content));
    let grew = content.read(&mut [0; 1]).map_err(unwritten)? != 0;
    if sources.read.get(source).map(|read| read.digest) != Some(content.finish()) || grew {
        return Err(changed());
    }
    added.map_err(unwritten)
}

/// A file that is read once, and what it held.
pub(crate) struct Hashing {
    /// The file.
    pub inner: File,
    hasher: Hasher,
}

impl Hashing {
    /// From the place where the file is.
    pub fn new(inner: File) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256) }
    }

    /// The digest of what was read.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

struct Part<'f> {
    file: &'f File,
    offset: u64,
    left: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A spool to write to.
pub(crate) fn spool(directory: &std::path::Path) -> Result<(File, crate::archive::Spool<BufWriter<File>>), Fault> {
    let path = directory.join("spool");
    let file = File::options().create_new(true).read(true).write(true).open(&path);
    let file = file.map_err(|error| Fault::new(format!("cannot write {}: {error}", path.display())))?;
    let writer = BufWriter::with_capacity(BUFFER, file.try_clone().map_err(unwritten)?);
    Ok((file, crate::archive::Spool::new(writer)))
}

/// Ends writing to a spool.
pub(crate) fn end_spool<W: Write>(spool: crate::archive::Spool<W>) -> Result<(), Fault> {
    spool.finish().map_err(unwritten)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::FIXED_TIME;
    use crate::context::Context;
    use crate::graph::ContextId;
    use crate::ignore::Ignore;
    use skycap_rootfs::{Entry, Metadata, View};

    /// Commits one file of a context that held `first` when the key was made, and holds `later` now.
    fn commit_file(first: &str, later: &str) -> Result<Digest, Fault> {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        std::fs::write(directory.path().join("a"), later).unwrap();
        let context = Context::open(directory.path(), Ignore::default()).unwrap();
        let contexts = Contexts::new(vec![context]);
        let path = TreePath::parse(b"a").unwrap();
        let place = Place { tree: From::Context(ContextId::MAIN), path: path.clone() };
        let view = View::default();
        let mut changes = Changes::to(&view);
        let kind = Kind::File { size: first.len() as u64 };
        let entry = Entry { kind, metadata: Metadata { mtime: FIXED_TIME, ..Metadata::default() } };
        changes.put(&path, Item { entry, content: Content::Source(place.clone()) });
        let read = BTreeMap::from([(place, WasRead { digest: Digest::sha256(first.as_bytes()), inode: None })]);
        let (spool, _) = spool(directory.path())?;
        let sources = Sources { contexts: &contexts, read: &read, copied: &BTreeMap::new(), spool: &spool };
        let packing = Packing { compression: Compression::None, threads: 1 };
        commit(&store, packing, |pack| write(&changes, &sources, pack)).map(|(_, diff_id)| diff_id)
    }

    #[test]
    fn a_file_that_changes_meanwhile_is_not_kept_under_a_key_that_is_not_its_own() {
        assert!(commit_file("same", "same").is_ok());
        for later in ["SAME", "longer than it was", "s", ""] {
            let Err(Fault::Failed { what, .. }) = commit_file("same", later) else { panic!("{later} was taken") };
            assert_eq!(what, "a of the build context changed while it was being read");
        }
    }
}
