//! The tar reader.
//!
//! - What is accepted has the headers that a plain walk over the blocks finds: no entry more, none less, none elsewhere.
//! - Reading byte by byte, with seeking and without buffer changes nothing.
//! - What was read, written by our writer and read again is the same.

use std::io::{self, Cursor, Read};

use skycap_image::tar::{Header, Kind, Limits, Reader, Writer};

const BLOCK: usize = 512;
/// What is read of one file. Sparse files may be huge.
const MOST: u64 = 1 << 20;
/// Small enough that limits are reached.
const LIMITS: Limits = Limits { extension: 64 * 1024, records: 1000, segments: 1000, expanded: 1 << 30 };

/// An entry as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    header: Header,
    /// Where its stored data begins.
    at: u64,
    /// At most [`MOST`] bytes.
    data: Vec<u8>,
    is_sparse: bool,
}

/// See the module. The first byte says whether checksums are put right first: few inputs would get beyond them.
pub fn tar(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 {
        seal(&mut bytes);
    }
    let read = entries(Reader::with_limits(&bytes[..], LIMITS));
    let byte_by_byte = entries(Reader::with_limits(OneByOne(&bytes), LIMITS));
    assert_eq!(read.is_ok(), byte_by_byte.is_ok());
    let Ok(read) = read else { return };
    assert_eq!(read, byte_by_byte.unwrap_or_default());
    assert_eq!(read, entries(Reader::unbuffered(&bytes[..], LIMITS)).expect("no buffer, no error"));
    assert!(read.len() <= bytes.len() / BLOCK);
    walk(&bytes, &read);
    seeking(&bytes, &read);
    write_again(&read);
}

/// Puts right the checksum of every block that looks like a header.
pub(crate) fn seal(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn entries<R: Read>(mut reader: Reader<R>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    while let Some(header) = reader.next()? {
        let at = reader.data_offset();
        let mut data = Vec::new();
        reader.by_ref().take(MOST).read_to_end(&mut data)?;
        assert_eq!(data.len() as u64, header.size.min(MOST));
        assert!(!header.path.is_empty() && !header.path.contains(&0) && !header.link.contains(&0));
        assert!(header.kind == Kind::File || header.size == 0);
        assert!(header.mode <= 0o7777 && header.mtime_nanos < 1_000_000_000);
        entries.push(Entry { header, at, data, is_sparse: reader.take_segments().is_some() });
    }
    reader.finish()?;
    Ok(entries)
}

/// One byte a time, as a slow connection gives them.
struct OneByOne<'b>(&'b [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(1);
        self.0.read(&mut buffer[..most])
    }
}

/// Steps over the blocks with nothing but type and size, and compares.
fn walk(bytes: &[u8], read: &[Entry]) {
    let mut expected = read.iter();
    let (mut at, mut pax_size) = (0, None);
    while let Some(block) = bytes.get(at..at + BLOCK).filter(|block| block.iter().any(|&byte| byte != 0)) {
        at += BLOCK;
        let stated = number(&block[124..136]);
        match block[156] {
            b'x' => {
                let data = &bytes[at..at + stated];
                pax_size = last_size(data);
                at += stated.next_multiple_of(BLOCK);
            }
            b'g' | b'L' | b'K' => at += stated.next_multiple_of(BLOCK),
            typeflag => {
                let entry = expected.next().expect("no entry that was not read");
                if typeflag == b'S' {
                    let mut more = block[482] != 0;
                    while more {
                        more = bytes[at + 504] != 0;
                        at += BLOCK;
                    }
                }
                let size = pax_size.take().unwrap_or(stated);
                let stored = if typeflag == b'1' { 0 } else { size };
                let map = usize::try_from(entry.at).unwrap() - at;
                assert!(map == 0 || entry.is_sparse, "data where the header ends");
                assert!(entry.is_sparse || entry.header.size == stored as u64, "the size that counts");
                at += stored.next_multiple_of(BLOCK);
            }
        }
    }
    assert!(expected.next().is_none(), "no entry that is not there");
}

/// The reader checked the field already.
fn number(field: &[u8]) -> usize {
    if field[0] & 0x80 != 0 {
        return field[4..].iter().fold(0, |value, &byte| value << 8 | usize::from(byte));
    }
    field.iter().filter(|byte| byte.is_ascii_digit()).fold(0, |value, digit| value * 8 + usize::from(digit - b'0'))
}

/// The last `size` record.
fn last_size(mut records: &[u8]) -> Option<usize> {
    let mut size = None;
    while !records.is_empty() {
        let space = records.iter().position(|&byte| byte == b' ').unwrap();
        let length: usize = std::str::from_utf8(&records[..space]).unwrap().parse().unwrap();
        if let Some(value) = records[space + 1..length - 1].strip_prefix(b"size=") {
            size = Some(std::str::from_utf8(value).unwrap().parse().unwrap());
        }
        records = &records[length..];
    }
    size
}

/// Skipping by seeking finds the same headers.
fn seeking(bytes: &[u8], read: &[Entry]) {
    let mut reader = Reader::seekable(Cursor::new(bytes));
    for entry in read {
        let header = reader.next().expect("the same archive").expect("the same entries");
        assert_eq!((&header, reader.data_offset()), (&entry.header, entry.at));
    }
    assert!(reader.next().expect("the same archive").is_none());
}

fn write_again(read: &[Entry]) {
    if read.iter().any(|entry| entry.header.size > MOST) {
        return;
    }
    let mut writer = Writer::new(Vec::new());
    for entry in read {
        // Some things can be read that a ustar header has no room for.
        if writer.append(&entry.header, &entry.data[..]).is_err() {
            return;
        }
    }
    let written = writer.finish().expect("memory does not fail");
    let again = entries(Reader::new(&written[..])).expect("what we write can be read");
    assert_eq!(again.len(), read.len());
    for (again, entry) in again.iter().zip(read) {
        assert_eq!((&again.header, &again.data), (&entry.header, &entry.data));
    }
}
