//! Reads a layer once.
//!
//! One thread reads the blob, checks it and decompresses it; the caller's thread hashes the bare tar, parses it and applies
//! it. A layer is good only if its blob has the promised size and digest, every header is valid, nothing is left over, and
//! the bare tar has the promised diff ID, all of it read to its very end: a reader that stopped at the archive's end
//! marker would never notice bytes behind it, or that the digests were never compared.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use skycap_image::{BlobReader, Digest, Hasher, Layer, Verified, compress, tar};

use crate::error::{Fault, OverLimit};
use crate::name::{Name, name};
use crate::{Change, Device, Limits, Metadata, Time, Tree, TreePath, UnpackError};

/// Decompressed bytes that are handed over at once, and how many such pieces may wait.
const PIECE: usize = 256 * 1024;
const WAITING: usize = 8;
/// The ratio is not judged before.
const FREE_OF_RATIO: u64 = 64 << 20;

/// Streams a layer into a tree: verified, decompressed by content, compared with its diff ID, read to its very end. After
/// an error the tree is worthless.
pub fn read_layer(layer: &Layer, tree: &mut dyn Tree, limits: &Limits) -> Result<(), UnpackError> {
    let blob = layer.blobs.open_unverified(&layer.descriptor);
    let blob = blob.map_err(|source| Fault::Source(source).of(layer))?;
    read_blob(layer, blob, limits, &mut |tar| apply_to(tar, tree, limits))
}

/// The same from a blob that is already open. `consume` need not read to the end.
pub(crate) fn read_blob(
    layer: &Layer,
    blob: BlobReader,
    limits: &Limits,
    consume: &mut dyn FnMut(&mut LayerTar<'_>) -> Result<(), Fault>,
) -> Result<(), UnpackError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(WAITING);
        let decoding = scope.spawn(move || decode(Verified::new(blob, &layer.descriptor), &sender));
        let mut bare = Bare::new(receiver, layer, limits);
        let consumed = consume_all(&mut bare, limits, consume);
        // What went wrong with the bytes explains why they make no sense. After any other fault the rest is not worth fetching.
        let drained = if matches!(consumed, Err(Fault::Read(_))) { bare.drain() } else { Ok(()) };
        let found = bare.finish();
        let decoded = decoding.join().unwrap_or_else(|_| Err(io::Error::other("the decoder panicked")));
        decoded.map_err(Fault::Read)?;
        consumed?;
        drained?;
        if found == layer.diff_id {
            return Ok(());
        }
        Err(Fault::DiffId { expected: Box::new(layer.diff_id), found: Box::new(found) })
    })
    .map_err(|fault: Fault| fault.of(layer))
}

fn consume_all(
    bare: &mut Bare,
    limits: &Limits,
    consume: &mut dyn FnMut(&mut LayerTar<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let tar_limits = tar::Limits { extension: limits.extension_bytes, ..tar::Limits::default() };
    let mut tar = tar::Reader::with_limits(bare, tar_limits);
    consume(&mut tar)?;
    // To the very end of the stream, behind the end of the archive.
    Ok(tar.finish()?)
}

/// The bare tar of a layer.
pub(crate) type LayerTar<'b> = tar::Reader<&'b mut Bare>;

/// Hands over decompressed pieces. The last word is whether the blob was what it should be.
fn decode(mut blob: Verified<BlobReader>, pieces: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<()> {
    match decompress(&mut blob, pieces) {
        Ok(Decompressed::Whole) => blob.finish(),
        // The layer is refused anyway; its rest need not be fetched.
        Ok(Decompressed::Unwanted) => Ok(()),
        Err(error) => {
            // If the blob has other bytes than promised, that is the cause.
            if let Err(mismatch) = blob.finish()
                && mismatch.kind() == io::ErrorKind::InvalidData
            {
                return Err(mismatch);
            }
            let _ = pieces.send(Err(error));
            Ok(())
        }
    }
}

enum Decompressed {
    Whole,
    Unwanted,
}

fn decompress(blob: &mut Verified<BlobReader>, pieces: &SyncSender<io::Result<Vec<u8>>>) -> io::Result<Decompressed> {
    let (_, mut bare) = compress::decoder(blob)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let count = (&mut bare).take(PIECE as u64).read_to_end(&mut piece)?;
        if count == 0 {
            return Ok(Decompressed::Whole);
        }
        if pieces.send(Ok(piece)).is_err() {
            return Ok(Decompressed::Unwanted);
        }
    }
}

/// The decompressed stream: counted and hashed.
pub(crate) struct Bare {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    used: usize,
    hasher: Hasher,
    seen: u64,
    packed: u64,
    limits: Limits,
}

impl Bare {
    fn new(pieces: Receiver<io::Result<Vec<u8>>>, layer: &Layer, limits: &Limits) -> Self {
        Self {
            pieces,
            piece: Vec::new(),
            used: 0,
            hasher: Hasher::new(layer.diff_id.algorithm()),
            seen: 0,
            packed: layer.descriptor.size,
            limits: *limits,
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.next_piece()? {}
        Ok(())
    }

    fn finish(self) -> Digest {
        self.hasher.finish()
    }

    fn next_piece(&mut self) -> io::Result<bool> {
        let Ok(piece) = self.pieces.recv() else { return Ok(false) };
        self.piece = piece?;
        self.used = 0;
        self.seen += self.piece.len() as u64;
        let Limits { unpacked_bytes, ratio, .. } = self.limits;
        if self.seen > unpacked_bytes {
            return Err(io::Error::other(OverLimit(unpacked_bytes, "bytes when unpacked", "unpacked_bytes")));
        }
        if self.seen > FREE_OF_RATIO && self.seen / ratio.max(1) > self.packed {
            return Err(io::Error::other(OverLimit(ratio, "times its packed size", "ratio")));
        }
        self.hasher.update(&self.piece);
        Ok(true)
    }
}

impl Read for Bare {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.used == self.piece.len() && !self.next_piece()? {
            return Ok(0);
        }
        let rest = self.piece.get(self.used..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.used += count;
        Ok(count)
    }
}

/// Hands every entry to the tree.
pub(crate) fn apply_to(tar: &mut LayerTar<'_>, tree: &mut dyn Tree, limits: &Limits) -> Result<(), Fault> {
    entries(tar, limits, &mut |_, path, change| tree.apply(path, change))?;
    tree.end_layer().map_err(|source| Fault::Apply { path: TreePath::root(), source })
}

/// Takes an entry: where its data begins in the bare tar, its path, what it does.
pub(crate) type Visit<'v> = dyn FnMut(u64, &TreePath, Change<'_>) -> io::Result<()> + 'v;

/// Visits every entry.
pub(crate) fn entries(tar: &mut LayerTar<'_>, limits: &Limits, visit: &mut Visit<'_>) -> Result<(), Fault> {
    let mut count = 0;
    while let Some(header) = tar.next()? {
        count += 1;
        if count > limits.entries {
            return Err(Fault::Limit { limit: limits.entries, what: "entries", name: "entries" });
        }
        entry(&header, tar, limits, visit)?;
    }
    Ok(())
}

fn entry(header: &tar::Header, tar: &mut LayerTar<'_>, limits: &Limits, visit: &mut Visit<'_>) -> Result<(), Fault> {
    if header.path.len().max(header.link.len()) > limits.path_bytes {
        return Err(Fault::Limit { limit: limits.path_bytes as u64, what: "bytes in a path", name: "path_bytes" });
    }
    let at = tar.data_offset();
    let mut visited =
        |path: TreePath, change: Change<'_>| visit(at, &path, change).map_err(|source| Fault::Apply { path, source });
    let path = match name(&header.path).map_err(|error| error.fault(&header.path))? {
        Name::Plain(path) => path,
        Name::Whiteout(path) => return visited(path, Change::Whiteout),
        Name::Opaque(path) => return visited(path, Change::Opaque),
        Name::Ignored => return Ok(()),
    };
    let metadata = metadata(header)
        .map_err(|what| Fault::Entry { path: header.path.escape_ascii().to_string(), what: what.to_owned() })?;
    let device = |block| Device { block, major: header.device.0, minor: header.device.1 };
    match header.kind {
        tar::Kind::Directory => visited(path, Change::Directory(&metadata)),
        tar::Kind::File => {
            // A fault of the stream, not of the tree, must not look like one of the tree.
            let mut data = Data { tar, failed: None };
            let result = visited(path, Change::File(&metadata, header.size, &mut data));
            data.failed.map_or(result, |error| Err(error.into()))
        }
        tar::Kind::Symlink => visited(path, Change::Symlink(&metadata, &header.link)),
        tar::Kind::Hardlink => {
            let target = TreePath::parse(&header.link).map_err(Fault::Name)?;
            visited(path, Change::Hardlink(&metadata, &target))
        }
        tar::Kind::CharacterDevice => visited(path, Change::Device(&metadata, device(false))),
        tar::Kind::BlockDevice => visited(path, Change::Device(&metadata, device(true))),
        tar::Kind::Fifo => visited(path, Change::Fifo(&metadata)),
    }
}

/// The data of the current entry; remembers what the stream failed with.
struct Data<'d, 'b> {
    tar: &'d mut LayerTar<'b>,
    failed: Option<io::Error>,
}

impl Read for Data<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.tar.read(buffer).map_err(|error| {
            let kind = error.kind();
            self.failed = Some(error);
            kind.into()
        })
    }
}

fn metadata(header: &tar::Header) -> Result<Metadata, &'static str> {
    // The number with all bits set means "leave it as it is" to the kernel.
    let id = |id: u64| u32::try_from(id).ok().filter(|&id| id != u32::MAX);
    Ok(Metadata {
        mode: header.mode & 0o7777,
        uid: id(header.uid).ok_or("its owner is not within 0 to 4294967294")?,
        gid: id(header.gid).ok_or("its group is not within 0 to 4294967294")?,
        mtime: Time { seconds: header.mtime, nanoseconds: header.mtime_nanos.min(999_999_999) },
        xattrs: header.xattrs.clone(),
    })
}
