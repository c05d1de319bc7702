//! The one place where bytes are checked.

use std::io::{self, Read};

use crate::{Descriptor, Digest, Hasher, Kind, SourceError};

/// A reader that compares size and digest with a descriptor. The last `read` fails if they differ, and so does
/// [`Verified::finish`], which first drains what the caller left: a reader that stops early cannot skip the check.
///
/// It never hands out more bytes than the descriptor promises.
#[must_use = "call finish() when done, or bytes that were not read go unchecked"]
pub struct Verified<R> {
    inner: R,
    hasher: Option<Hasher>,
    digest: Digest,
    size: u64,
    seen: u64,
}

impl<R: Read> Verified<R> {
    /// Reads `inner` as the blob that `descriptor` names.
    pub fn new(inner: R, descriptor: &Descriptor) -> Self {
        Self {
            inner,
            hasher: Some(Hasher::new(descriptor.digest.algorithm())),
            digest: descriptor.digest,
            size: descriptor.size,
            seen: 0,
        }
    }

    /// Drains what is left and compares.
    pub fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }

    fn check_end(&mut self) -> io::Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        if self.seen != self.size {
            return Err(self.mismatch(&format!("it ends after {} of {} bytes", self.seen, self.size)));
        }
        let digest = hasher.finish();
        if digest == self.digest { Ok(()) } else { Err(self.mismatch(&format!("its content hashes to {digest}"))) }
    }

    fn mismatch(&self, what: &str) -> io::Error {
        SourceError::new(Kind::Corrupt, format!("blob {} is corrupt: {what}", self.digest)).into()
    }
}

impl<R: Read> Read for Verified<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.read(buffer)?;
        if count == 0 {
            return self.check_end().map(|()| 0);
        }
        self.seen += count as u64;
        if self.seen > self.size {
            self.hasher = None;
            return Err(self.mismatch(&format!("it is longer than {} bytes", self.size)));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MediaType;

    fn read(bytes: &[u8], promised: &[u8]) -> io::Result<Vec<u8>> {
        let descriptor = Descriptor::of(MediaType::OciLayer, promised);
        let mut out = Vec::new();
        Verified::new(bytes, &descriptor).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn good_bytes_pass() {
        assert_eq!(read(b"hello", b"hello").unwrap(), b"hello");
        assert_eq!(read(b"", b"").unwrap(), b"");
    }

    #[test]
    fn tampered_short_and_long_bytes_fail() {
        for (bytes, text) in
            [(&b"jello"[..], "hashes to"), (b"hell", "ends after 4 of 5"), (b"hello!", "longer than 5")]
        {
            let error = read(bytes, b"hello").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[test]
    fn finish_checks_what_was_not_read() {
        let descriptor = Descriptor::of(MediaType::OciLayer, b"hello");
        let mut reader = Verified::new(&b"hellp"[..], &descriptor);
        let mut first = [0; 2];
        reader.read_exact(&mut first).unwrap();
        assert!(reader.finish().is_err());
    }
}
