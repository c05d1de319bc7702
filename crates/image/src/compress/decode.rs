//! Undoing compression.

use std::io::{self, BufRead, BufReader, Read};

use lzma_rust2::XzReader;

use super::members::Members;
use super::ratio::{Counted, Judged};
use crate::Compression;

/// What zstd needs at most to decode what `zstd --ultra -22` and BuildKit write: 128 MiB.
const ZSTD_WINDOW_LOG: u32 = 27;
/// What `xz -9` needs is 65 MiB.
const XZ_MEMORY_KIB: u32 = 128 * 1024;
const BUFFER: usize = 128 * 1024;

/// How far a packed stream may expand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// How many times larger than what was read, judged once 64 MiB have come out. gzip cannot pass 1,032 and is not judged.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ratio: 1200 }
    }
}

/// [`decoder_with`] with the default limits.
pub fn decoder<'r>(reader: impl Read + Send + 'r) -> io::Result<(Compression, Box<dyn Read + Send + 'r>)> {
    decoder_with(reader, Limits::default())
}

/// Recognises by its first bytes how a stream is packed and undoes it, whatever its media type or name says. An empty
/// stream is an empty tar. The bytes must be whole: a stream that is cut off, has a wrong checksum or something behind its
/// end gives an error before its end.
pub fn decoder_with<'r>(
    reader: impl Read + Send + 'r,
    limits: Limits,
) -> io::Result<(Compression, Box<dyn Read + Send + 'r>)> {
    let (counted, packed) = Counted::new(reader);
    let mut reader = BufReader::with_capacity(BUFFER, counted);
    let compression = recognise(reader.fill_buf()?);
    let judged = |inner: Box<dyn Read + Send + 'r>| Judged { inner, packed, unpacked: 0, most: limits.ratio };
    let decoded: Box<dyn Read + Send + 'r> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(Members::gzip(reader)),
        Compression::Bzip2 => Box::new(judged(Box::new(Members::bzip2(reader)))),
        Compression::Xz => Box::new(judged(Box::new(XzReader::new_mem_limit(reader, true, XZ_MEMORY_KIB)))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(judged(Box::new(decoder)))
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

    /// `bzip2 -9` of `TEXT`.
    const BZIP2: &[u8] = &[
        66, 90, 104, 57, 49, 65, 89, 38, 83, 89, 111, 79, 16, 243, 0, 0, 5, 209, 0, 0, 16, 64, 0, 2, 68, 160, 0, 48,
        192, 2, 168, 52, 113, 13, 173, 135, 15, 23, 114, 69, 56, 80, 144, 111, 79, 16, 243,
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
            ("xz, padding between two streams", [XZ, &[0; 8], XZ].concat(), &twice),
            ("bzip2", BZIP2.to_vec(), TEXT),
            ("bzip2, two streams", [BZIP2, BZIP2].concat(), &twice),
            ("bzip2, zeros behind", [BZIP2, &[0; 1000]].concat(), TEXT),
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
            ("bzip2, wrong checksum", wrong(BZIP2.to_vec(), BZIP2.len() - 10)),
            ("bzip2, garbage behind", [BZIP2, b"garbage!"].concat()),
        ];
        for (name, whole) in
            [("gzip", gzip(TEXT)), ("zstd", zstd(TEXT)), ("xz", XZ.to_vec()), ("bzip2", BZIP2.to_vec())]
        {
            checks.extend((6..whole.len()).map(|length| (name, whole[..length].to_vec())));
        }
        for (name, bytes) in checks {
            assert!(read(&bytes).is_err(), "{name}, {} bytes", bytes.len());
        }
    }

    /// R43: wrong CRC, truncated, several members, trailing zeros, trailing garbage.
    #[test]
    fn r43_gzip_streams_that_are_not_whole_or_not_alone() {
        let crc = {
            let mut bytes = gzip(TEXT);
            let at = bytes.len() - 8;
            bytes[at] ^= 1;
            bytes
        };
        assert!(read(&crc).is_err());
        assert!(read(&gzip(TEXT)[..20]).is_err());
        assert_eq!(read(&[gzip(TEXT), gzip(TEXT)].concat()).unwrap(), TEXT.repeat(2));
        assert_eq!(read(&[gzip(TEXT), vec![0; 1000]].concat()).unwrap(), TEXT);
        let error = read(&[gzip(TEXT), b"garbage".to_vec()].concat()).unwrap_err();
        assert!(error.to_string().contains("garbage behind the gzip stream"), "{error}");
    }

    /// R44: frame cut, skippable frames, several frames, a window of 2 GiB, a dictionary id, a wrong checksum.
    #[test]
    fn r44_zstd_frames_of_every_kind() {
        let skippable = |length: u8| [&[0x5f, 0x2a, 0x4d, 0x18, length, 0, 0, 0][..], &[7; 3]].concat();
        for (name, bytes) in [
            ("skippable in front", [skippable(3), zstd(TEXT)].concat()),
            ("skippable behind", [zstd(TEXT), skippable(3)].concat()),
            ("skippable alone in front and behind", [skippable(3), skippable(3), zstd(TEXT), skippable(3)].concat()),
        ] {
            assert_eq!(read(&bytes).unwrap_or_else(|error| panic!("{name}: {error}")), TEXT, "{name}");
        }
        assert_eq!(read(&[zstd(TEXT), skippable(3), zstd(TEXT)].concat()).unwrap(), TEXT.repeat(2));
        let wrong_checksum = {
            let mut bytes = zstd(TEXT);
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        };
        for (name, text, bytes) in [
            ("cut", "incomplete frame", zstd(TEXT)[..20].to_vec()),
            ("skippable, cut", "incomplete frame", [zstd(TEXT), skippable(9)].concat()),
            ("window", "too much memory", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0xa8, 0x0d, 0, 0, b'a']),
            // A frame with the dictionary id 7, and one stored byte.
            ("dictionary", "Dictionary mismatch", vec![0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 1, 9, 0, 0, b'a']),
            ("checksum", "checksum", wrong_checksum),
        ] {
            let error = read(&bytes).err().unwrap_or_else(|| panic!("{name}: accepted"));
            assert!(error.to_string().contains(text), "{name}: {error}");
        }
    }

    /// M22: what expands beyond any use is refused by name, in every format that can do it.
    #[test]
    fn m22_bombs_are_refused_by_the_ratio() {
        let count = |packed: &[u8], limits| {
            decoder_with(packed, limits).and_then(|(_, mut reader)| io::copy(&mut reader, &mut io::sink()))
        };
        let bomb = |size: u64| zstd::stream::encode_all(io::repeat(0).take(size), 3).unwrap();
        assert_eq!(count(&bomb(64 << 20), Limits::default()).unwrap(), 64 << 20);
        let large = bomb(200 << 20);
        assert!(large.len() < 20_000);
        let error = count(&large, Limits::default()).unwrap_err();
        assert!(error.to_string().contains("more than 1200 times its packed size"), "{error}");
        assert_eq!(count(&large, Limits { ratio: 1_000_000 }).unwrap(), 200 << 20);
    }

    #[test]
    fn no_damage_makes_a_decoder_panic() {
        for whole in [gzip(TEXT), zstd(TEXT), XZ.to_vec(), BZIP2.to_vec()] {
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
