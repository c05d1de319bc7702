//! The body of an upload: one thread reads the blob, the network threads send it.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// Bytes read at once; so many pieces wait between the reader and the socket.
const PIECE: usize = 256 * 1024;
const PIECES: usize = 4;

/// A request body of known length, fed by a thread.
pub(super) struct Feed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    sent: Arc<AtomicU64>,
}

/// The other end of a [`Feed`].
pub(super) struct Pump {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    length: u64,
}

/// The two ends for a body of that length; `sent` counts what has left.
pub(super) fn feed(length: u64, sent: Arc<AtomicU64>) -> (Pump, Feed) {
    let (pieces, feed) = mpsc::channel(PIECES);
    (Pump { pieces, length }, Feed { pieces: feed, left: length, sent })
}

impl Pump {
    /// Moves the bytes from a reader to the socket's side; stops when that side has closed. `at_end` says that the reader
    /// must end with the body: a reader that checks what it read does so only then. `hand` waits until the other side has
    /// room, and says whether it took the piece.
    pub fn run(
        self,
        reader: &mut dyn Read,
        at_end: bool,
        hand: &dyn Fn(Handing<'_>) -> bool,
        moved: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let mut left = self.length;
        while left > 0 || at_end {
            let most = if at_end { PIECE } else { PIECE.min(usize::try_from(left).unwrap_or(PIECE)) };
            let piece = match full(reader, most) {
                Ok(piece) => piece,
                Err(error) => {
                    hand(Box::pin(self.give(Err(io::Error::other("the blob cannot be read")))));
                    return Err(error);
                }
            };
            if piece.is_empty() {
                return Ok(());
            }
            let length = piece.len() as u64;
            left = left.saturating_sub(length);
            if !hand(Box::pin(self.give(Ok(piece.into())))) {
                return Ok(());
            }
            moved(length);
        }
        Ok(())
    }

    async fn give(&self, piece: io::Result<Bytes>) -> bool {
        self.pieces.send(piece).await.is_ok()
    }
}

/// A piece on its way to the other side; whether it got there.
pub(super) type Handing<'p> = Pin<Box<dyn Future<Output = bool> + Send + 'p>>;

/// Fills a piece as far as the reader goes: few large pieces wake the other side less often than many small ones.
fn full(reader: &mut dyn Read, most: usize) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(most);
    reader.take(most as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

impl Body for Feed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match ready!(self.pieces.poll_recv(context)) {
            Some(piece) => piece?,
            None if self.left == 0 => return Poll::Ready(None),
            None => return Poll::Ready(Some(Err(io::Error::other("the blob is shorter than its descriptor says")))),
        };
        let length = piece.len() as u64;
        self.left = match self.left.checked_sub(length) {
            Some(left) => left,
            None => return Poll::Ready(Some(Err(io::Error::other("the blob is longer than its descriptor says")))),
        };
        self.sent.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(bytes: &[u8], length: u64, at_end: bool) -> (u64, Vec<usize>) {
        let (pump, mut feed) = feed(length, Arc::default());
        let mut moved = 0;
        let mut reader = bytes;
        std::thread::scope(|scope| {
            let pieces = scope.spawn(move || {
                let mut pieces = Vec::new();
                while let Some(Ok(piece)) = feed.pieces.blocking_recv() {
                    pieces.push(piece.len());
                }
                pieces
            });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let hand = |piece: Handing<'_>| runtime.block_on(piece);
            pump.run(&mut reader, at_end, &hand, &mut |count| moved += count).unwrap();
            (moved, pieces.join().unwrap())
        })
    }

    #[test]
    fn a_part_of_a_reader_is_sent_and_the_rest_left_alone() {
        assert_eq!(collected(&vec![1; 600_000], 300_000, false), (300_000, vec![PIECE, 300_000 - PIECE]));
        assert_eq!(collected(&vec![1; 600_000], 600_000, true).0, 600_000);
        assert_eq!(collected(&[], 0, true), (0, vec![]));
    }
}
