//! Layers flow: bytes arrive, are checked, decompressed, hashed and parsed, all at the same time.
//!
//! ```text
//! source -> [check the blob, inflate] -> pieces -+-> [hash the bare tar] -> compared with the diff ID
//!                                                +-> [parse] -> entries
//! ```
//!
//! Pieces are buffers of a [`pool::Pool`], so what is under way is bounded; nothing is copied between inflating and writing.
//! Inflating the next layer begins while the entries of this one are still being made. A layer is good only if its blob
//! has the promised size and digest, every header is valid, nothing is left over, and the bare tar has the promised diff
//! ID, all of it read to its very end: a reader that stopped at the archive's end marker would never notice bytes behind
//! it, or that the digests were never compared.

use std::io;
use std::sync::mpsc::channel;

use skycap_image::{BlobReader, Layer, tar};

use crate::error::Fault;
use crate::{Limits, UnpackError};

mod bare;
mod decode;
pub(crate) mod pool;

pub(crate) use bare::Bare;
use bare::Checked;
use decode::{Decoder, hash};
use pool::Pool;

/// Decompressed bytes that are handed over at once, and how many such pieces there are.
const PIECE: usize = 512 * 1024;
const PIECES: usize = 24;
/// After a fault that is not the stream's, the rest of a layer is worth reading if it is so small: its blob may be corrupt.
const SMALL: u64 = 256 * 1024;

/// The bare tar of a layer.
pub(crate) type LayerTar<'b> = tar::Reader<&'b mut Bare>;

/// Takes a layer (by its position among those that are read) and its blob.
pub(crate) type Each<'e> = dyn FnMut(usize, BlobReader) -> Result<(), UnpackError> + 'e;

/// Takes a layer's position and its entries. It need not read to the end.
pub(crate) type Consume<'c> = dyn FnMut(usize, &mut LayerTar<'_>) -> Result<(), Fault> + 'c;

/// Reads one layer.
pub(crate) fn read_layer_tar(
    layer: &Layer,
    limits: &Limits,
    consume: &mut dyn FnMut(&mut LayerTar<'_>) -> Result<(), Fault>,
) -> Result<(), UnpackError> {
    let source = |each: &mut Each<'_>| {
        let blob = layer.blobs.open_unverified(&layer.descriptor);
        each(0, blob.map_err(|source| Fault::Source(source).of(layer))?)
    };
    read_layers(&[layer], limits, source, &|| {}, &mut |_, tar| consume(tar))
}

/// Reads layers one after the other. `source` runs on a thread of its own and hands over their blobs in this order; it
/// is told by `abandon` that nobody wants more.
pub(crate) fn read_layers(
    layers: &[&Layer],
    limits: &Limits,
    source: impl FnOnce(&mut Each<'_>) -> Result<(), UnpackError> + Send,
    abandon: &dyn Fn(),
    consume: &mut Consume<'_>,
) -> Result<(), UnpackError> {
    for layer in layers {
        layer.check_is_tar().map_err(|source| Fault::Source(source).of(layer))?;
    }
    let pool = Pool::new(PIECES, PIECE);
    std::thread::scope(|scope| {
        let (pieces, incoming) = channel();
        let (to_hash, unhashed) = channel();
        let (hashed, digests) = channel();
        scope.spawn(move || hash(&unhashed, &hashed));
        let decoder = Decoder { pool: std::sync::Arc::clone(&pool), pieces, to_hash };
        let decoding = scope.spawn(move || {
            source(&mut |number, blob| {
                if let Some(layer) = layers.get(number) {
                    decoder.layer(layer, blob);
                }
                Ok(())
            })
        });
        // Whatever happens, also a panic below, the decoder stops.
        let close = CloseOnDrop(&pool, abandon);
        let mut bare = Bare::new(incoming, digests, *limits);
        for (number, layer) in layers.iter().enumerate() {
            bare.begin(layer);
            let read = read(&mut bare, layer, limits, &mut |tar| consume(number, tar));
            if let Err(end) = read {
                drop(bare);
                drop(close);
                let decoded = decoding.join();
                return Err(match end {
                    End::Fault(fault) => fault.of(layer),
                    // The source says why nothing came.
                    End::Missing => match decoded {
                        Ok(Err(error)) => error,
                        _ => Fault::Read(io::Error::other("the decoder panicked")).of(layer),
                    },
                });
            }
        }
        Ok(())
    })
}

enum End {
    Fault(Fault),
    Missing,
}

fn read(
    bare: &mut Bare,
    layer: &Layer,
    limits: &Limits,
    consume: &mut dyn FnMut(&mut LayerTar<'_>) -> Result<(), Fault>,
) -> Result<(), End> {
    let consumed = consume_all(bare, limits, consume);
    // What went wrong with the bytes explains why they make no sense. After any other fault the rest is not worth fetching.
    let is_worth_draining = matches!(consumed, Err(Fault::Read(_))) || layer.descriptor.size <= SMALL;
    let drained = if is_worth_draining { bare.drain() } else { Ok(()) };
    match bare.checked() {
        Checked::Mismatch(error) => return Err(End::Fault(Fault::Read(error))),
        Checked::Missing => return Err(End::Missing),
        Checked::NotYet | Checked::Good => {}
    }
    drained.map_err(|error| End::Fault(error.into()))?;
    consumed.map_err(End::Fault)?;
    let found = bare.digest().ok_or(End::Missing)?;
    if found == layer.diff_id {
        return Ok(());
    }
    Err(End::Fault(Fault::DiffId { expected: Box::new(layer.diff_id), found: Box::new(found) }))
}

fn consume_all(
    bare: &mut Bare,
    limits: &Limits,
    consume: &mut dyn FnMut(&mut LayerTar<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let tar_limits = tar::Limits {
        extension: limits.extension_bytes,
        expanded: limits.unpacked_bytes.max(tar::Limits::default().expanded),
        ..tar::Limits::default()
    };
    let mut tar = tar::Reader::unbuffered(&mut *bare, tar_limits);
    consume(&mut tar)?;
    // To the very end of the stream, behind the end of the archive.
    tar.finish()?;
    Ok(bare.drain()?)
}

struct CloseOnDrop<'p>(&'p Pool, &'p dyn Fn());

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.1();
        self.0.close();
    }
}
