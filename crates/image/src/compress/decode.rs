//! Undoing compression.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use crate::Compression;

/// What zstd needs at most to decode what `zstd --ultra -22` and BuildKit write.
const ZSTD_WINDOW_LOG: u32 = 27;
/// What `xz -9` needs is 65 MiB.
const XZ_MEMORY_KIB: u32 = 128 * 1024;
const BUFFER: usize = 128 * 1024;

/// Recognises how a stream is packed and undoes it. An empty stream is an empty tar. The bytes must be whole: a stream
/// that is cut off, has a wrong checksum or something behind its end gives an error before its end.
pub fn decoder<'r>(reader: impl Read + Send + 'r) -> io::Result<(Compression, Box<dyn Read + Send + 'r>)> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let compression = recognise(reader.fill_buf()?);
    let decoded: Box<dyn Read + Send + 'r> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(Gunzip { member: Some(GzDecoder::new(reader)) }),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Xz => Box::new(XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB)),
        Compression::Bzip2 => {
            let text = "bzip2 cannot be read; repack it with gzip, zstd or xz";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
    };
    Ok((compression, decoded))
}

/// Tells how a stream is packed by its first bytes; six are enough.
pub(crate) fn recognise(start: &[u8]) -> Compression {
    match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        // A skippable frame may come before the first real one (zstd:chunked, pzstd).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', ..] => Compression::Bzip2,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        _ => Compression::None,
    }
}

/// One gzip member after the other, as eStargz and bgzip write them. Zeros behind the last are padding, as for gzip(1);
/// anything else there is an error.
struct Gunzip<R: BufRead> {
    /// Gone after the end.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = member.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.member = match self.member.take() {
                Some(member) => next_member(member.into_inner())?,
                None => None,
            };
        }
        Ok(0)
    }
}

fn next_member<R: BufRead>(mut reader: R) -> io::Result<Option<GzDecoder<R>>> {
    match reader.fill_buf()?.first() {
        None => Ok(None),
        Some(0x1f) => Ok(Some(GzDecoder::new(reader))),
        Some(_) => loop {
            let padding = reader.fill_buf()?;
            if padding.iter().any(|&byte| byte != 0) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "there is garbage behind the gzip stream"));
            }
            let length = padding.len();
            if length == 0 {
                return Ok(None);
            }
            reader.consume(length);
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// `xz -9 -T1` of `TEXT`, and likewise the others, made with the usual programs.
    const TEXT: &[u8] = b"hello hello hello hello\n";
    const XZ: &[u8] = &[
        253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2, 0, 33, 1, 28, 0, 0, 0, 16, 207, 88, 204, 224, 0, 23, 0,
        12, 93, 0, 52, 25, 73, 238, 141, 233, 86, 10, 193, 33, 176, 0, 0, 108, 20, 237, 27, 59, 104, 187, 145, 0, 1,
        40, 24, 215, 131, 183, 110, 31, 182, 243, 125, 1, 0, 0, 0, 0, 4, 89, 90,
    ];

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
        encoder.include_checksum(true).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        decoder(bytes)?.1.read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn whole_streams_are_read_whatever_they_are_made_of() {
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd(TEXT)].concat();
        let twice = TEXT.repeat(2);
        for (name, bytes, expected) in [
            ("bare", TEXT.to_vec(), TEXT),
            ("empty", Vec::new(), b""),
            ("gzip", gzip(TEXT), TEXT),
            ("gzip of nothing", gzip(b""), b""),
            ("gzip, two members", [gzip(TEXT), gzip(TEXT)].concat(), &twice),
            ("gzip, an empty member between", [gzip(TEXT), gzip(b""), gzip(TEXT)].concat(), &twice),
            ("gzip, zeros behind", [gzip(TEXT), vec![0; 300_000]].concat(), TEXT),
            ("zstd", zstd(TEXT), TEXT),
            ("zstd, a skippable frame in front", skippable, TEXT),
            ("zstd, two frames", [zstd(TEXT), zstd(TEXT)].concat(), &twice),
            ("xz", XZ.to_vec(), TEXT),
            ("xz, two streams", [XZ, XZ].concat(), &twice),
        ] {
            assert_eq!(read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_whole_is_an_error() {
        let wrong = |mut bytes: Vec<u8>, from_end: usize| {
            let position = bytes.len() - from_end;
            bytes[position] ^= 1;
            bytes
        };
        let mut checks = vec![
            ("gzip, wrong checksum", wrong(gzip(TEXT), 8)),
            ("gzip, wrong length", wrong(gzip(TEXT), 2)),
            ("gzip, garbage behind", [gzip(TEXT), b"garbage".to_vec()].concat()),
            ("gzip, garbage behind zeros", [gzip(TEXT), vec![0; 200_000], vec![1]].concat()),
            ("gzip, half a member behind", [gzip(TEXT), gzip(TEXT)[..15].to_vec()].concat()),
            ("zstd, wrong checksum", wrong(zstd(TEXT), 1)),
            ("zstd, garbage behind", [zstd(TEXT), b"garbage".to_vec()].concat()),
            // A frame that wants a window of 2 GiB.
            ("zstd, huge window", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 0x0d, 0, 0, b'a']),
            ("xz, wrong checksum", wrong(XZ.to_vec(), 40)),
            ("xz, garbage behind", [XZ, b"garbage!"].concat()),
            ("bzip2", b"BZh91AY&SY".to_vec()),
        ];
        for (name, whole) in [("gzip", gzip(TEXT)), ("zstd", zstd(TEXT)), ("xz", XZ.to_vec())] {
            checks.extend((6..whole.len()).map(|length| (name, whole[..length].to_vec())));
        }
        for (name, bytes) in checks {
            assert!(read(&bytes).is_err(), "{name}, {} bytes", bytes.len());
        }
    }

    #[test]
    fn no_damage_makes_a_decoder_panic() {
        for whole in [gzip(TEXT), zstd(TEXT), XZ.to_vec()] {
            for position in 0..whole.len() {
                for bit in 0..8 {
                    let mut bytes = whole.clone();
                    bytes[position] ^= 1 << bit;
                    let mut out = Vec::new();
                    let _ = decoder(&bytes[..]).map(|(_, reader)| reader.take(1 << 20).read_to_end(&mut out));
                }
            }
        }
    }
}
