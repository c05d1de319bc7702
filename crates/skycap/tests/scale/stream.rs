//! Bytes that are made when they are read, from any place on: an image of 20 GB takes no room.

use std::io::{self, Read};
use std::sync::Arc;

use skycap_image::Digest;

/// Content is made of blocks of this size, of which a quarter does not compress.
const BLOCK: usize = 1 << 20;

/// A part of a stream.
#[derive(Clone)]
pub enum Piece {
    Bytes(Vec<u8>),
    /// So many bytes of content, different for each seed.
    Content {
        seed: u64,
        size: u64,
    },
    /// So many pieces of the same length each.
    Repeat {
        count: u64,
        each: u64,
        make: Arc<dyn Fn(u64) -> Vec<u8> + Send + Sync>,
    },
}

impl Piece {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Content { size, .. } => *size,
            Self::Repeat { count, each, .. } => count * each,
        }
    }
}

/// A sequence of pieces.
#[derive(Clone)]
pub struct Stream {
    pieces: Arc<[Piece]>,
    pub size: u64,
}

impl Stream {
    pub fn new(pieces: Vec<Piece>) -> Self {
        let pieces: Vec<Piece> = pieces.into_iter().filter(|piece| piece.size() > 0).collect();
        let size = pieces.iter().map(Piece::size).sum();
        Self { pieces: pieces.into(), size }
    }

    /// Hashes all of it.
    pub fn digest(&self) -> Digest {
        Digest::sha256_of(self.from(0)).unwrap().0
    }

    /// A reader that begins at a place.
    pub fn from(&self, start: u64) -> Reader {
        let (mut at, mut offset) = (0, start);
        while let Some(piece) = self.pieces.get(at).filter(|piece| offset >= piece.size()) {
            offset -= piece.size();
            at += 1;
        }
        Reader { stream: self.clone(), at, offset, block: None, pattern: pattern() }
    }
}

pub struct Reader {
    stream: Stream,
    at: usize,
    offset: u64,
    /// The block that is being read, by its number.
    block: Option<(usize, u64, Vec<u8>)>,
    pattern: Vec<u8>,
}

fn pattern() -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let noise = std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut block: Vec<u8> = noise.take(BLOCK / 32).flatten().collect();
    block.resize(BLOCK, 0);
    block
}

impl Reader {
    /// The block that holds the next byte, and where that byte is in it.
    fn fill(&mut self) -> Option<(&[u8], usize)> {
        let piece = self.stream.pieces.get(self.at)?;
        let each = match piece {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Content { .. } => BLOCK as u64,
            Piece::Repeat { each, .. } => *each,
        };
        let number = self.offset / each;
        if self.block.as_ref().is_none_or(|(at, block, _)| (*at, *block) != (self.at, number)) {
            let mut buffer = self.block.take().map(|(_, _, buffer)| buffer).unwrap_or_default();
            match piece {
                Piece::Bytes(bytes) => buffer.clone_from(bytes),
                Piece::Content { seed, size } => {
                    buffer.clone_from(&self.pattern);
                    buffer[..8].copy_from_slice(&number.to_le_bytes());
                    buffer[8..16].copy_from_slice(&seed.to_le_bytes());
                    buffer.truncate(usize::try_from(size - number * each).map_or(BLOCK, |rest| rest.min(BLOCK)));
                }
                Piece::Repeat { make, .. } => {
                    buffer = make(number);
                    assert_eq!(buffer.len() as u64, each);
                }
            }
            self.block = Some((self.at, number, buffer));
        }
        let start = usize::try_from(self.offset - number * each).unwrap();
        self.block.as_ref().map(|(_, _, buffer)| (buffer.as_slice(), start))
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((block, start)) = self.fill() else { return Ok(0) };
        let count = buffer.len().min(block.len() - start);
        buffer[..count].copy_from_slice(&block[start..start + count]);
        self.offset += count as u64;
        if self.offset == self.stream.pieces[self.at].size() {
            (self.at, self.offset) = (self.at + 1, 0);
        }
        Ok(count)
    }
}

#[test]
fn a_stream_reads_the_same_from_any_place() {
    let make = Arc::new(|number: u64| number.to_string().repeat(3).into_bytes()[..3].to_vec());
    let stream = Stream::new(vec![
        Piece::Bytes(b"head".to_vec()),
        Piece::Bytes(Vec::new()),
        Piece::Content { seed: 7, size: 3 * BLOCK as u64 + 11 },
        Piece::Repeat { count: 10, each: 3, make },
    ]);
    let mut all = Vec::new();
    stream.from(0).read_to_end(&mut all).unwrap();
    assert_eq!(all.len() as u64, stream.size);
    for start in [0, 1, 4, 5, BLOCK, BLOCK + 4, 3 * BLOCK + 14, 3 * BLOCK + 15, all.len() - 4, all.len()] {
        let mut rest = Vec::new();
        stream.from(start as u64).read_to_end(&mut rest).unwrap();
        assert!(rest == all[start..], "{start}");
    }
}
