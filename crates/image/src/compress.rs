//! Compression of layers: recognised by content when read, because media types lie (`spec` section "formats" of the
//! registries we replace: BuildKit labels zstd as gzip, old puts labelled zstd layers gzip).

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use crate::Compression;

/// What zstd needs at most to decode what `zstd --ultra -22` and BuildKit write.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 128 * 1024;

/// Recognises how a stream is packed and undoes it. An empty stream is an empty tar.
pub fn decoder<'r>(reader: impl Read + Send + 'r) -> io::Result<(Compression, Box<dyn Read + Send + 'r>)> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let compression = recognise(fill(&mut reader)?);
    let decoded: Box<dyn Read + Send + 'r> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Bzip2 | Compression::Xz => {
            let text = format!("layers packed with {compression:?} cannot be read yet; repack them with gzip or zstd");
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    };
    Ok((compression, decoded))
}

/// The first bytes; a stream may be shorter than a magic number.
fn fill(reader: &mut impl BufRead) -> io::Result<&[u8]> {
    reader.fill_buf()
}

fn recognise(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A skippable frame may come before the first real one (zstd:chunked, pzstd).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// What a [`LayerEncoder`] made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Packed {
    /// The bytes as written.
    pub descriptor: crate::Descriptor,
    /// The digest of the bytes as taken.
    pub diff_id: crate::Digest,
}

/// Packs a bare tar into a layer in one pass. The same tar gives the same bytes for any number of threads.
pub struct LayerEncoder<W: io::Write>(W);

impl<W: io::Write> LayerEncoder<W> {
    /// Packs into `out`. `docker` chooses Docker's media types; `threads` is at least 1.
    pub fn new(_out: W, _compression: Compression, _docker: bool, _threads: usize) -> io::Result<Self> {
        unimplemented!()
    }

    /// Ends the stream.
    pub fn finish(self) -> io::Result<(Packed, W)> {
        unimplemented!()
    }
}

impl<W: io::Write> io::Write for LayerEncoder<W> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        unimplemented!()
    }

    fn flush(&mut self) -> io::Result<()> {
        unimplemented!()
    }
}
