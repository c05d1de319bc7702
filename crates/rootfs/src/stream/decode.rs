//! A blob becomes pieces of the bare tar, on one thread; another one hashes them.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use skycap_image::{BlobReader, Digest, Hasher, Layer, Verified, compress};

use super::bare::Message;
use super::pool::{Piece, Pool, Slice};

/// What the hashing thread is told.
pub(super) enum Hash {
    Begin(Box<Digest>),
    Piece(Arc<Piece>),
    End,
}

/// Hashes layer after layer.
pub(super) fn hash(incoming: &Receiver<Hash>, digests: &Sender<Digest>) {
    let mut hasher = None;
    for message in incoming {
        match (message, &mut hasher) {
            (Hash::Begin(like), _) => hasher = Some(Hasher::new(like.algorithm())),
            (Hash::Piece(piece), Some(hasher)) => hasher.update(piece.bytes()),
            (Hash::End, _) => {
                let Some(hasher) = hasher.take() else { return };
                if digests.send(hasher.finish()).is_err() {
                    return;
                }
            }
            (Hash::Piece(_), None) => return,
        }
    }
}

/// The decompressing side.
pub(super) struct Decoder {
    pub(super) pool: Arc<Pool>,
    pub(super) pieces: Sender<Message>,
    pub(super) to_hash: Sender<Hash>,
}

/// Nobody wants the rest.
struct Unwanted;

impl Decoder {
    /// Hands over all pieces of a layer, and whether its blob was what it should be. Failures travel to the reader.
    pub(super) fn layer(&self, layer: &Layer, blob: BlobReader) {
        let mut blob = Verified::new(blob, &layer.descriptor);
        let _ = self.to_hash.send(Hash::Begin(Box::new(layer.diff_id)));
        let end = match self.decompress(&mut blob) {
            Ok(Ok(())) => match blob.finish() {
                Ok(()) => Message::End,
                Err(error) => Message::Mismatch(error),
            },
            // The layer is refused anyway; its rest need not be fetched.
            Ok(Err(Unwanted)) => return,
            // If the blob has other bytes than promised, that is the cause.
            Err(error) => match blob.finish() {
                Err(mismatch) if mismatch.kind() == io::ErrorKind::InvalidData => Message::Mismatch(mismatch),
                _ => Message::Broken(error),
            },
        };
        let _ = self.to_hash.send(Hash::End);
        let _ = self.pieces.send(end);
    }

    fn decompress(&self, blob: &mut Verified<BlobReader>) -> io::Result<Result<(), Unwanted>> {
        let (_, mut bare) = compress::decoder(blob)?;
        loop {
            let Some(mut piece) = self.pool.take() else { return Ok(Err(Unwanted)) };
            let ended = fill(&mut piece, &mut bare);
            if !piece.is_empty() {
                let piece = Arc::new(piece);
                let _ = self.to_hash.send(Hash::Piece(Arc::clone(&piece)));
                if self.pieces.send(Message::Piece(Slice::whole(piece))).is_err() {
                    return Ok(Err(Unwanted));
                }
            }
            if ended? {
                return Ok(Ok(()));
            }
        }
    }
}

/// Fills a piece; says whether the stream has ended.
fn fill(piece: &mut Piece, reader: &mut impl Read) -> io::Result<bool> {
    while !piece.room().is_empty() {
        match reader.read(piece.room()) {
            Ok(0) => return Ok(true),
            Ok(count) => piece.filled(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}
