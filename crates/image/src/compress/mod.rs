//! Compression of layers.
//!
//! Reading goes by content, because media types lie: BuildKit has labelled zstd as gzip, and go-containerregistry still
//! does. Writing ([`LayerEncoder`]) gives the same bytes for the same tar on every machine.

use std::io::{self, BufRead, BufReader, Read};

mod encode;
mod gzip;

pub use encode::{LayerEncoder, Packed};

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
