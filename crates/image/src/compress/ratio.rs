//! Bombs: streams that become absurdly larger by unpacking.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The ratio is not judged before: small streams of zeros are no bombs.
const FREE: u64 = 64 << 20;

/// Counts what is read of a packed stream.
pub(super) struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// The reader, and the count for whoever unpacks.
    pub fn new(inner: R) -> (Self, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        (Self { inner, count: Arc::clone(&count) }, count)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Fails when more than `most` times as much has come out as went in.
pub(super) struct Judged<R> {
    pub inner: R,
    pub packed: Arc<AtomicU64>,
    pub unpacked: u64,
    pub most: u64,
}

impl<R: Read> Read for Judged<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.unpacked += count as u64;
        let packed = self.packed.load(Ordering::Relaxed);
        if self.unpacked > FREE && self.unpacked / self.most.max(1) > packed {
            let most = self.most;
            let text = format!("the stream is more than {most} times its packed size, the limit called ratio");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(count)
    }
}
