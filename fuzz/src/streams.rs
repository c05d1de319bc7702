//! Undoing compression.
//!
//! - However a stream arrives in pieces, the outcome is the same.
//! - Of gzip and zstd, what we accept is what flate2 and zstd make of the whole, and what they make of whole streams we accept.
//! - What is packed comes back.

use std::io::{self, Read, Write};

use skycap_image::Compression;
use skycap_image::compress::{LayerEncoder, decoder};

/// What is read of a stream.
const MOST: u64 = 1 << 20;

/// See the module. The first byte says whether the rest is a stream or is to be packed, the second how it arrives.
pub fn streams(input: &[u8]) {
    let [choice, split, bytes @ ..] = input else { return };
    match choice % 4 {
        0 => unpack(bytes, *split),
        1 => pack(bytes, Compression::Gzip, *split),
        2 => pack(bytes, Compression::Zstd, *split),
        _ => pack(bytes, Compression::None, *split),
    }
}

/// Gives the bytes in pieces.
struct Pieces<'b> {
    bytes: &'b [u8],
    first: usize,
    then: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let first = std::mem::take(&mut self.first);
        let most = if first > 0 { first } else { self.then };
        let count = most.min(buffer.len());
        self.bytes.read(&mut buffer[..count])
    }
}

fn read(pieces: Pieces<'_>) -> Result<(Compression, Vec<u8>), ()> {
    let (compression, reader) = decoder(pieces).map_err(drop)?;
    let mut out = Vec::new();
    reader.take(MOST).read_to_end(&mut out).map_err(drop)?;
    Ok((compression, out))
}

fn unpack(bytes: &[u8], split: u8) {
    let whole = read(Pieces { bytes, first: 0, then: usize::MAX });
    let splits: Vec<usize> = if bytes.len() <= 64 { (6..bytes.len()).collect() } else { vec![6 + usize::from(split)] };
    for first in splits {
        assert_eq!(read(Pieces { bytes, first, then: 1 + usize::from(split) }), whole, "cut at {first}");
    }
    let Some(theirs) = theirs(bytes) else { return };
    match (whole, theirs) {
        (Ok((_, ours)), Ok(theirs)) => assert!(ours == theirs),
        (Err(()), Ok(_)) => panic!("a whole stream is refused"),
        // What flate2 leaves unread behind the last member is for us to judge.
        (Ok(_), Err(())) => panic!("a stream is taken that the library refuses"),
        (Err(()), Err(())) => {}
    }
}

/// What the libraries make of a stream that they take whole, with nothing behind it. `None` where there is nothing to compare.
fn theirs(bytes: &[u8]) -> Option<Result<Vec<u8>, ()>> {
    let mut out = Vec::new();
    match bytes {
        [0x1f, 0x8b, ..] => {
            let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            // A member ends in its length, which may end in zeros: they are not padding.
            let taken = (end..=bytes.len()).find_map(|end| {
                out.clear();
                let reader = flate2::read::MultiGzDecoder::new(&bytes[..end]);
                reader.take(MOST).read_to_end(&mut out).ok().map(|_| out.clone())
            });
            Some(taken.ok_or(()))
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut reader = zstd::stream::read::Decoder::with_buffer(bytes).ok()?;
            reader.window_log_max(27).ok()?;
            Some(reader.take(MOST).read_to_end(&mut out).map(|_| out).map_err(drop))
        }
        _ => None,
    }
}

fn pack(bytes: &[u8], compression: Compression, split: u8) {
    let mut packed = Vec::new();
    let mut encoder = LayerEncoder::new(&mut packed, compression, false, 1).expect("memory does not fail");
    for piece in bytes.chunks(1 + usize::from(split) * 16) {
        encoder.write_all(piece).expect("memory does not fail");
    }
    let (described, _) = encoder.finish().expect("memory does not fail");
    assert_eq!(described.descriptor.size, packed.len() as u64);
    if compression == Compression::None {
        assert!(packed == bytes);
        return;
    }
    let pieces = Pieces { bytes: &packed, first: 0, then: 6 + usize::from(split) };
    assert_eq!(read(pieces), Ok((compression, bytes.to_vec())));
}
