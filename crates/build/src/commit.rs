//! From changes to a layer in the store, in one pass: tar, digest, compression, digest.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use skycap_image::compress::LayerEncoder;
use skycap_image::{Algorithm, Compression, Descriptor, Digest, Hasher, Layer};
use skycap_rootfs::{Change, Kind, Pack, TreePath};
use skycap_sandbox::Cancel;
use skycap_store::{BlobWriter, Store};

use crate::archive::Spool;
use crate::changes::{Changes, Content, Item, Place};
use crate::context::{Contexts, Read as WasRead};
use crate::error::{Fault, cancelled};
use crate::graph::From;
use crate::request::Request;

/// Where a layer's tar is written to.
pub(crate) type LayerPack<'c> = Pack<BufWriter<Watched<'c>>>;

const BUFFER: usize = 64 * 1024;

/// How layers are packed.
#[derive(Clone, Copy)]
pub(crate) struct Packing<'c> {
    /// With what.
    pub compression: Compression,
    /// By how many threads.
    pub threads: usize,
    /// Ends it early.
    pub cancel: &'c Cancel,
}

impl<'c> Packing<'c> {
    /// How the layers of images are packed.
    pub fn of(request: &'c Request) -> Self {
        Self { compression: request.compression, threads: request.threads.max(1), cancel: &request.cancel }
    }
}

/// Writes a layer into the store. `fill` says what is in it.
pub(crate) fn commit(
    store: &Store,
    packing: Packing<'_>,
    fill: impl FnOnce(&mut LayerPack<'_>) -> Result<(), Fault>,
) -> Result<(Descriptor, Digest), Fault> {
    let mut pack = Pack::new(BufWriter::with_capacity(BUFFER, Watched::begin(store, packing)?));
    let filled = fill(&mut pack);
    if packing.cancel.is_cancelled() {
        return Err(Fault::Cancelled);
    }
    filled?;
    let watched = pack.finish().map_err(unwritten)?.into_inner().map_err(|error| unwritten(error.into_error()))?;
    finish(watched.encoder)
}

/// A layer that is being written until the build is cancelled: large files take long.
pub(crate) struct Watched<'c> {
    encoder: LayerEncoder<BlobWriter>,
    cancel: &'c Cancel,
}

impl<'c> Watched<'c> {
    fn begin(store: &Store, packing: Packing<'c>) -> Result<Self, Fault> {
        let writer = store.writer().map_err(unwritten)?;
        let encoder = LayerEncoder::new(writer, packing.compression, false, packing.threads).map_err(unwritten)?;
        Ok(Self { encoder, cancel: packing.cancel })
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        self.encoder.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.encoder.flush()
    }
}

/// Packs a layer of the store in another way; its files stay the same.
pub(crate) fn repack(store: &Store, layer: &Layer, packing: Packing<'_>) -> Result<Descriptor, Fault> {
    let mut bytes = layer.open()?;
    let mut watched = Watched::begin(store, packing)?;
    let (_, mut tar) = skycap_image::compress::decoder(&mut bytes).map_err(unwritten)?;
    let copied = io::copy(&mut tar, &mut watched);
    if packing.cancel.is_cancelled() {
        return Err(Fault::Cancelled);
    }
    copied.map_err(unwritten)?;
    drop(tar);
    bytes.finish().map_err(unwritten)?;
    let (descriptor, diff_id) = finish(watched.encoder)?;
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
pub(crate) fn write(changes: &Changes<'_>, sources: &Sources<'_>, pack: &mut LayerPack<'_>) -> Result<(), Fault> {
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
pub(crate) fn write_plain(changes: &Changes<'_>, pack: &mut LayerPack<'_>) -> Result<(), Fault> {
    for (path, item, _) in changes.items() {
        pack.add(path, Change::Directory(&item.entry.metadata)).map_err(unwritten)?;
    }
    Ok(())
}

fn write_item(path: &TreePath, item: &Item, sources: &Sources<'_>, pack: &mut LayerPack<'_>) -> Result<(), Fault> {
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
    pack: &mut LayerPack<'_>,
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
    pack: &mut LayerPack<'_>,
) -> Result<(), Fault> {
    let From::Context(context) = source.tree else { return Err(Fault::new("a file to copy was not read")) };
    let changed = || Fault::new(format!("{} of the build context changed while it was being read", source.path));
    let inner = sources.contexts.get(context).file(&source.path)?;
    let mut content = Hashing::new(inner);
    let added = pack.add(path, Change::File(&item.entry.metadata, size, &mut content));
    // Of what was not read to its end, the digest tells nothing.
    let added = match added {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(unwritten(error)),
        added => added,
    };
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
pub(crate) fn spool<'c>(directory: &Path, cancel: &'c Cancel) -> Result<(File, Spool<'c, BufWriter<File>>), Fault> {
    let path = directory.join("spool");
    let file = File::options().create_new(true).read(true).write(true).open(&path);
    let file = file.map_err(|error| Fault::new(format!("cannot write {}: {error}", path.display())))?;
    let writer = BufWriter::with_capacity(BUFFER, file.try_clone().map_err(unwritten)?);
    Ok((file, Spool::new(writer, cancel)))
}

/// Ends writing to a spool.
pub(crate) fn end_spool<W: Write>(spool: Spool<'_, W>) -> Result<(), Fault> {
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
        let (spool, _) = spool(directory.path(), &Cancel::new())?;
        let sources = Sources { contexts: &contexts, read: &read, copied: &BTreeMap::new(), spool: &spool };
        let packing = Packing { compression: Compression::None, threads: 1, cancel: &Cancel::new() };
        commit(&store, packing, |pack| write(&changes, &sources, pack)).map(|(_, diff_id)| diff_id)
    }

    #[test]
    fn a_layer_of_a_cancelled_build_is_not_finished() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let cancel = Cancel::new();
        let packing = Packing { compression: Compression::None, threads: 1, cancel: &cancel };
        let path = TreePath::parse(b"a").unwrap();
        let result = commit(&store, packing, |pack| {
            cancel.cancel();
            let written = pack.add(&path, Change::File(&Metadata::default(), 1 << 40, &mut io::repeat(0)));
            written.map_err(unwritten)
        });
        assert!(matches!(result, Err(Fault::Cancelled)), "a terabyte was written");
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
