//! Entries of a tar, by hand: nothing between the test and the bytes.

use crate::stream::Piece;

/// A header of the ustar format. Names longer than it holds need [`pax`] before.
pub fn header(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut block = vec![0; 512];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name[..name.len().min(100)]);
    put(100, if kind == b'5' { b"0000755\0" } else { b"0000644\0" });
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    if size < 1 << 33 {
        put(124, format!("{size:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &size.to_be_bytes());
    }
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A header with records for the next entry.
pub fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest..rest + 20).find(|length| rest + length.to_string().len() == *length).unwrap();
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    let mut bytes = header(b"PaxHeaders/x", b'x', body.len() as u64, b"");
    bytes.extend_from_slice(&body);
    pad(&mut bytes);
    bytes
}

/// A small file.
pub fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = named(name, b'0', content.len() as u64, b"");
    bytes.extend_from_slice(content);
    pad(&mut bytes);
    bytes
}

/// An entry without content, with as long a name and link as need be.
pub fn named(name: &[u8], kind: u8, size: u64, link: &[u8]) -> Vec<u8> {
    let mut records: Vec<(&str, &[u8])> = Vec::new();
    if name.len() > 100 {
        records.push(("path", name));
    }
    if link.len() > 100 {
        records.push(("linkpath", link));
    }
    let mut bytes = if records.is_empty() { Vec::new() } else { pax(&records) };
    bytes.extend_from_slice(&header(name, kind, size, link));
    bytes
}

/// A file of content that is made when it is read.
pub fn content(name: &[u8], seed: u64, size: u64) -> [Piece; 3] {
    let padding = vec![0; usize::try_from(size.next_multiple_of(512) - size).unwrap()];
    [Piece::Bytes(named(name, b'0', size, b"")), Piece::Content { seed, size }, Piece::Bytes(padding)]
}

/// What ends a tar.
pub fn end() -> Piece {
    Piece::Bytes(vec![0; 1024])
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}
