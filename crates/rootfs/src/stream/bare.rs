//! The bare tar of a layer, as a reader that can also give its bytes away without copying them.

use std::io::{self, Read};
use std::sync::mpsc::Receiver;

use skycap_image::{Digest, Layer};

use super::pool::Slice;
use crate::Limits;
use crate::error::OverLimit;

/// The ratio is not judged before.
const FREE_OF_RATIO: u64 = 64 << 20;

/// What comes from the decoder.
pub(super) enum Message {
    Piece(Slice),
    /// The layer is whole, and its blob is what it should be.
    End,
    /// The blob has other bytes than promised.
    Mismatch(io::Error),
    /// It cannot be read or decompressed.
    Broken(io::Error),
}

/// Whether the blob of the current layer is what it should be.
pub(super) enum Checked {
    NotYet,
    Good,
    Mismatch(io::Error),
    /// The decoder went away without a word.
    Missing,
}

/// The decompressed stream, counted.
pub(crate) struct Bare {
    incoming: Receiver<Message>,
    digests: Receiver<Digest>,
    piece: Option<Slice>,
    checked: Checked,
    seen: u64,
    packed: u64,
    limits: Limits,
}

impl Bare {
    pub(super) fn new(incoming: Receiver<Message>, digests: Receiver<Digest>, limits: Limits) -> Self {
        Self { incoming, digests, piece: None, checked: Checked::NotYet, seen: 0, packed: 0, limits }
    }

    /// The next layer comes.
    pub(super) fn begin(&mut self, layer: &Layer) {
        (self.piece, self.checked, self.seen, self.packed) = (None, Checked::NotYet, 0, layer.descriptor.size);
    }

    pub(super) fn drain(&mut self) -> io::Result<()> {
        self.piece = None;
        while self.next_piece()? {
            self.piece = None;
        }
        Ok(())
    }

    /// What is known about the blob so far; asked once.
    pub(super) fn checked(&mut self) -> Checked {
        std::mem::replace(&mut self.checked, Checked::NotYet)
    }

    /// The digest of the whole layer.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digests.recv().ok()
    }

    /// The next bytes of the stream, at most `most` and at least one.
    pub(crate) fn slice(&mut self, most: u64) -> io::Result<Slice> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if !self.has_bytes()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let slice = self.piece.as_mut().map(|piece| piece.split_off(most));
        slice.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    fn has_bytes(&mut self) -> io::Result<bool> {
        match &self.piece {
            Some(piece) if !piece.is_empty() => Ok(true),
            _ => self.next_piece(),
        }
    }

    fn next_piece(&mut self) -> io::Result<bool> {
        // Its buffer is wanted by whoever fills the next one.
        self.piece = None;
        if !matches!(self.checked, Checked::NotYet) {
            return Ok(false);
        }
        match self.incoming.recv() {
            Ok(Message::Piece(piece)) => {
                self.seen += piece.len() as u64;
                self.piece = Some(piece);
                self.check_limits().map(|()| true)
            }
            Ok(Message::End) => {
                self.checked = Checked::Good;
                Ok(false)
            }
            Ok(Message::Mismatch(error)) => {
                self.checked = Checked::Mismatch(error);
                Ok(false)
            }
            Ok(Message::Broken(error)) => {
                self.checked = Checked::Good;
                Err(error)
            }
            Err(_) => {
                self.checked = Checked::Missing;
                Ok(false)
            }
        }
    }

    fn check_limits(&self) -> io::Result<()> {
        let Limits { unpacked_bytes, ratio, .. } = self.limits;
        if self.seen > unpacked_bytes {
            return Err(io::Error::other(OverLimit(unpacked_bytes, "bytes when unpacked", "unpacked_bytes")));
        }
        if self.seen > FREE_OF_RATIO && self.seen / ratio.max(1) > self.packed {
            return Err(io::Error::other(OverLimit(ratio, "times its packed size", "ratio")));
        }
        Ok(())
    }
}

impl Read for Bare {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.has_bytes()? {
            return Ok(0);
        }
        let Some(piece) = &mut self.piece else { return Ok(0) };
        let count = piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&piece.bytes()[..count]);
        piece.advance(count);
        Ok(count)
    }
}
