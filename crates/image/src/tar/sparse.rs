//! Sparse files: where in a file its stored data belongs.
//!
//! Four notations have the same meaning. Old GNU headers (type `S`) hold the map themselves and in blocks behind them; PAX
//! headers list it as records (version 0.0), in one record (0.1) or at the front of the data (1.0). A map must ascend,
//! stay within the file and account for every stored byte, in every notation; GNU tar, Go and bsdtar take nothing else
//! alike.

use super::header::{Block, number};

/// A stretch of a sparse file whose bytes are stored. What lies between two stretches is zeros.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where in the file it begins.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
}

/// A map that was checked, and how far its file has been read.
#[derive(Debug)]
pub(super) struct Map {
    segments: Vec<Segment>,
    size: u64,
    position: u64,
    /// The first segment that does not end before the position.
    current: usize,
}

/// What comes next in a sparse file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stretch {
    Hole(u64),
    Data(u64),
    End,
}

impl Map {
    /// Checks a map of a file that has `size` bytes, of which `stored` are in the archive.
    pub fn new(listed: &[Segment], size: u64, stored: u64) -> Result<Self, String> {
        let (mut end, mut sum) = (0, 0);
        for segment in listed {
            if segment.offset < end {
                return Err("the map of a sparse file does not ascend".to_owned());
            }
            let next = segment.offset.checked_add(segment.length).filter(|&next| next <= size);
            end = next.ok_or("the map of a sparse file goes beyond its end")?;
            sum += segment.length;
        }
        if sum != stored {
            return Err(format!("the map of a sparse file covers {sum} bytes, but {stored} are stored"));
        }
        let segments = listed.iter().copied().filter(|segment| segment.length > 0).collect();
        Ok(Self { segments, size, position: 0, current: 0 })
    }

    pub fn into_segments(self) -> Vec<Segment> {
        self.segments
    }

    /// What the next bytes of the file are.
    pub fn next(&self) -> Stretch {
        match self.segments.get(self.current) {
            Some(segment) if self.position < segment.offset => Stretch::Hole(segment.offset - self.position),
            Some(segment) => Stretch::Data(segment.offset + segment.length - self.position),
            None if self.position < self.size => Stretch::Hole(self.size - self.position),
            None => Stretch::End,
        }
    }

    /// Notes that some of [`Map::next`] was read.
    pub fn advance(&mut self, count: u64) {
        self.position += count;
        let is_over = |segment: &Segment| segment.offset + segment.length <= self.position;
        if self.segments.get(self.current).is_some_and(is_over) {
            self.current += 1;
        }
    }
}

/// The map in an old GNU header and in the blocks behind it.
pub(super) struct OldGnu {
    pub segments: Vec<Segment>,
    /// The size of the file with its holes.
    pub size: u64,
    /// Whether another block of the map follows.
    pub continues: bool,
    limit: usize,
}

impl OldGnu {
    /// Reads a header of type `S`: four segments, whether there are more, the real size.
    pub fn new(header: &Block, limit: usize) -> Result<Self, String> {
        let mut map = Self { segments: Vec::new(), size: unsigned(&header[483..495])?, continues: true, limit };
        map.add(&header[386..482], header[482] != 0)?;
        Ok(map)
    }

    /// Reads a block of 21 further segments.
    pub fn extend(&mut self, block: &Block) -> Result<(), String> {
        self.add(&block[..504], block[504] != 0)
    }

    fn add(&mut self, fields: &[u8], continues: bool) -> Result<(), String> {
        let mut is_full = true;
        for field in fields.chunks_exact(24) {
            let (offset, length) = field.split_at(12);
            match (offset[0], length[0]) {
                (0, 0) => is_full = false,
                // GNU tar looks at one of the two, Go and bsdtar at the other.
                (0, _) | (_, 0) => return Err("the map of a sparse file has half an entry".to_owned()),
                _ if !is_full => return Err("the map of a sparse file has a gap".to_owned()),
                _ => self.segments.push(Segment { offset: unsigned(offset)?, length: unsigned(length)? }),
            }
        }
        check_count(self.segments.len(), self.limit)?;
        self.continues = continues;
        // GNU tar stops at the first free entry, others read on.
        if continues && !is_full { Err("the map of a sparse file goes on behind its end".to_owned()) } else { Ok(()) }
    }
}

fn unsigned(field: &[u8]) -> Result<u64, String> {
    let value = number(field, "map of a sparse file")?;
    u64::try_from(value).map_err(|_| "the map of a sparse file is negative".to_owned())
}

fn check_count(count: usize, limit: usize) -> Result<(), String> {
    if count <= limit { Ok(()) } else { Err(format!("a sparse file has more than {limit} segments")) }
}

/// The `GNU.sparse.` records of a PAX header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Records {
    /// The file's name; the one in the header is made up for programs that know no sparse files.
    pub name: Option<Vec<u8>>,
    version: (Option<u64>, Option<u64>),
    /// The size with holes, as versions 0.0 and 0.1 call it.
    size: Option<u64>,
    /// And as version 1.0 does.
    real_size: Option<u64>,
    blocks: Option<u64>,
    /// Offsets and lengths in turn.
    listed: Vec<u64>,
    map: Option<Vec<u64>>,
}

/// Where a PAX header says that the map is.
pub(super) enum Notation {
    /// In the records: versions 0.0 and 0.1.
    Listed(Vec<Segment>),
    /// In front of the data: version 1.0.
    InFront,
}

impl Records {
    /// Takes a record, its keyword without `GNU.sparse.`.
    pub fn apply(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let shown = key.escape_ascii();
        let number = || super::pax::decimal(value).ok_or_else(|| format!("PAX GNU.sparse.{shown} is no number"));
        let is_new = match key {
            b"major" => self.version.0.replace(number()?).is_none(),
            b"minor" => self.version.1.replace(number()?).is_none(),
            b"size" => self.size.replace(number()?).is_none(),
            b"realsize" => self.real_size.replace(number()?).is_none(),
            b"numblocks" => self.blocks.replace(number()?).is_none(),
            b"name" => {
                let name = super::pax::name(value).ok_or("PAX GNU.sparse.name is empty or holds NUL")?;
                self.name.replace(name).is_none()
            }
            b"map" => self.map.replace(numbers(value)?).is_none(),
            b"offset" => self.list(0, number()?),
            b"numbytes" => self.list(1, number()?),
            _ => return Err(format!("PAX GNU.sparse.{shown} is unknown")),
        };
        if is_new { Ok(()) } else { Err(format!("PAX GNU.sparse.{shown} is repeated or out of turn")) }
    }

    /// Offsets and lengths take turns.
    fn list(&mut self, turn: usize, value: u64) -> bool {
        let is_its_turn = self.listed.len() % 2 == turn;
        self.listed.push(value);
        is_its_turn
    }

    /// The size with holes and where the map is.
    pub fn settle(self, limit: usize) -> Result<(u64, Notation), String> {
        let incomplete = || "the PAX records of a sparse file do not fit together".to_owned();
        let Self { version, size, real_size, blocks, listed, map, .. } = self;
        match version {
            (Some(1), Some(0)) => {
                let is_alone = size.is_none() && blocks.is_none() && listed.is_empty() && map.is_none();
                let size = real_size.filter(|_| is_alone).ok_or_else(incomplete)?;
                Ok((size, Notation::InFront))
            }
            (None, None) | (Some(0), Some(0 | 1)) => {
                let pairs = match map {
                    Some(map) if listed.is_empty() => map,
                    Some(_) => return Err(incomplete()),
                    None => listed,
                };
                check_count(pairs.len() / 2, limit)?;
                let is_whole = real_size.is_none() && blocks.is_some_and(|blocks| blocks * 2 == pairs.len() as u64);
                let size = size.filter(|_| is_whole).ok_or_else(incomplete)?;
                Ok((size, Notation::Listed(segments(&pairs))))
            }
            _ => Err("a sparse file is of an unknown version".to_owned()),
        }
    }
}

fn segments(pairs: &[u64]) -> Vec<Segment> {
    pairs.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect()
}

fn numbers(value: &[u8]) -> Result<Vec<u64>, String> {
    if value.is_empty() {
        return Ok(Vec::new());
    }
    let parsed = value.split(|&byte| byte == b',').map(super::pax::decimal).collect::<Option<Vec<_>>>();
    parsed.ok_or_else(|| "PAX GNU.sparse.map is no list of numbers".to_owned())
}

/// Reads the map in front of the data: the number of segments, then offset and length of each, every number on a line
/// of its own; the last block is filled up.
#[derive(Default)]
pub(super) struct InFront {
    line: Vec<u8>,
    numbers: Vec<u64>,
    wanted: Option<usize>,
}

impl InFront {
    /// Takes a block; gives the map when it is whole.
    pub fn take(&mut self, block: &Block, limit: usize) -> Result<Option<Vec<Segment>>, String> {
        for &byte in block {
            if byte != b'\n' {
                self.line.push(byte);
                if self.line.len() > 20 {
                    return Err("the map of a sparse file is no list of numbers".to_owned());
                }
                continue;
            }
            let value = super::pax::decimal(&self.line).ok_or("the map of a sparse file is no list of numbers")?;
            self.line.clear();
            if self.wanted.is_some() {
                self.numbers.push(value);
            } else {
                let count = usize::try_from(value).unwrap_or(usize::MAX);
                check_count(count, limit)?;
                self.wanted = Some(2 * count);
            }
            if self.wanted == Some(self.numbers.len()) {
                return Ok(Some(segments(&self.numbers)));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[u64], size: u64, stored: u64) -> Result<Map, String> {
        Map::new(&segments(pairs), size, stored)
    }

    #[test]
    fn m19_only_maps_that_ascend_and_add_up_are_taken() {
        for (pairs, size, stored) in
            [(&[][..], 0, 0), (&[], 9, 0), (&[0, 9], 9, 9), (&[1, 2, 3, 4], 9, 6), (&[1, 2, 9, 0], 9, 2)]
        {
            assert!(map(pairs, size, stored).is_ok(), "{pairs:?} of {size}");
        }
        for (pairs, size, stored) in [
            (&[0, 9][..], 8, 9),
            (&[0, 9], 9, 8),
            (&[0, 8], 9, 9),
            (&[0, 4, 3, 2], 9, 6),
            (&[5, 1, 0, 1], 9, 2),
            (&[u64::MAX, 1], u64::MAX, 1),
            (&[1, u64::MAX], u64::MAX, u64::MAX),
            (&[10, 0], 9, 0),
        ] {
            assert!(map(pairs, size, stored).is_err(), "{pairs:?} of {size}");
        }
    }

    #[test]
    fn a_map_says_what_comes_next() {
        let mut map = map(&[2, 3, 5, 1, 8, 1], 10, 5).unwrap();
        for stretch in [
            Stretch::Hole(2),
            Stretch::Data(3),
            Stretch::Data(1),
            Stretch::Hole(2),
            Stretch::Data(1),
            Stretch::Hole(1),
            Stretch::End,
        ] {
            assert_eq!(map.next(), stretch);
            if let Stretch::Hole(count) | Stretch::Data(count) = stretch {
                map.advance(count);
            }
        }
    }
}
