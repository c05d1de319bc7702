//! What the reader takes and refuses, and that the writer's output reads back.

use std::io::{Cursor, Read, Write};

use super::header::sums;
use super::*;

fn write(entries: &[(Header, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in entries {
        writer.append(header, *data).unwrap();
    }
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> std::io::Result<Vec<(Header, Vec<u8>)>> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(header) = reader.next()? {
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        entries.push((header, data));
    }
    reader.finish()?;
    Ok(entries)
}

fn refusal(bytes: &[u8]) -> String {
    match read(bytes) {
        Ok(entries) => panic!("accepted: {entries:?}"),
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
            error.to_string()
        }
    }
}

/// A raw header block with a right checksum, changed by `edit`.
fn block(path: &[u8], typeflag: u8, size: u64, edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = write(&[(Header::file(path, 0), b"")])[..BLOCK].to_vec();
    bytes[156] = typeflag;
    bytes[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    edit(&mut bytes);
    seal(&mut bytes);
    bytes
}

fn seal(block: &mut [u8]) {
    let sum = sums(block[..BLOCK].try_into().unwrap()).0;
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(BLOCK), 0);
    data
}

fn pax(records: &str) -> Vec<u8> {
    [block(b"pax", b'x', records.len() as u64, |_| ()), padded(records.as_bytes())].concat()
}

fn gnu(typeflag: u8, name: &[u8]) -> Vec<u8> {
    [block(b"././@LongLink", typeflag, name.len() as u64, |_| ()), padded(name)].concat()
}

fn end() -> Vec<u8> {
    vec![0; 2 * BLOCK]
}

#[test]
fn every_kind_of_entry_reads_back_as_it_was_written() {
    let long = b"d/".repeat(300);
    let entries: Vec<(Header, &[u8])> = vec![
        (Header::directory(*b"./"), b""),
        (Header { mode: 0o4755, uid: 1000, gid: 50, mtime: 1_700_000_000, ..Header::file(*b"a", 3) }, b"abc"),
        (Header::file([&long[..], b"x"].concat(), 0), b""),
        (Header::file([b"p/".repeat(60), b"y".to_vec()].concat(), 513), &[7; 513]),
        (Header::symlink(*b"s", b"../".repeat(80)), b""),
        (Header::hardlink(*b"h", *b"a"), b""),
        (Header { kind: Kind::Fifo, ..Header::file(*b"f", 0) }, b""),
        (Header { kind: Kind::CharacterDevice, device: (1, 3), ..Header::file(*b"c", 0) }, b""),
        (Header { kind: Kind::BlockDevice, device: (259, 65_536), ..Header::file(*b"b", 0) }, b""),
        (Header { uid: 4_000_000_000, gid: 3_000_000, ..Header::file(*b"ids", 0) }, b""),
        (Header { mtime: -2, mtime_nanos: 500_000_000, ..Header::file(*b"old", 0) }, b""),
        (Header { xattrs: [(b"user.a".to_vec(), b"\0=\n".to_vec())].into(), ..Header::file(*b"\xff\n", 0) }, b""),
    ];
    let read = read(&write(&entries)).unwrap();
    let expected: Vec<_> = entries.into_iter().map(|(header, data)| (header, data.to_vec())).collect();
    assert_eq!(read, expected);
}

#[test]
fn plain_entries_need_no_extension() {
    assert_eq!(write(&[(Header::file([b"p/".repeat(60), b"y".to_vec()].concat(), 0), b"")]).len(), 3 * BLOCK);
}

#[test]
fn data_that_is_not_read_is_skipped_also_by_seeking() {
    let bytes = write(&[(Header::file(*b"a", 1000), &[1; 1000]), (Header::file(*b"b", 1), b"x")]);
    let mut reader = Reader::seekable(Cursor::new(&bytes));
    reader.next().unwrap().unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    assert_eq!(reader.next().unwrap().unwrap().path, b"b");
    assert_eq!(bytes[usize::try_from(reader.data_offset()).unwrap()], b'x');
}

#[test]
fn old_and_unusual_archives_are_accepted() {
    let v7 = |bytes: &mut [u8]| bytes[257..500].fill(0);
    for (name, bytes, path, kind) in [
        ("a v7 file", block(b"a", 0, 0, v7), &b"a"[..], Kind::File),
        ("a v7 directory", block(b"a/", 0, 0, v7), b"a/", Kind::Directory),
        ("a contiguous file", block(b"a", b'7', 0, |_| ()), b"a", Kind::File),
        ("a name without NUL", block(&[b'n'; 100], b'0', 0, |_| ()), &[b'n'; 100], Kind::File),
        (
            "a GNU long name with bytes behind NUL",
            [gnu(b'L', b"long\0evil"), block(b"s", b'0', 0, |_| ())].concat(),
            b"long",
            Kind::File,
        ),
        (
            "a global header",
            [block(b"g", b'g', 13, |_| ()), padded(b"13 comment=x\n"), block(b"a", b'0', 0, |_| ())].concat(),
            b"a",
            Kind::File,
        ),
        ("a hard link with a size", block(b"h", b'1', 512, |b| b[157] = b'a'), b"h", Kind::Hardlink),
        (
            "base-256 numbers",
            block(b"a", b'0', 0, |b| b[108..116].copy_from_slice(b"\x80\0\0\0\xee\x6b\x28\0")),
            b"a",
            Kind::File,
        ),
    ] {
        for ended in [bytes.clone(), [&bytes[..], &end()].concat(), [&bytes[..], &[0; BLOCK]].concat()] {
            let entries = read(&ended).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((&entries[0].0.path[..], entries[0].0.kind, entries.len()), (path, kind, 1), "{name}");
        }
    }
    assert!(read(&[]).unwrap().is_empty());
    assert!(read(&end()).unwrap().is_empty());
}

#[test]
fn cve_2025_62518_a_pax_size_wins_so_nothing_is_smuggled() {
    let inner = write(&[(Header::file(*b"smuggled", 0), b"")]);
    let header = block(b"outer", b'0', 0, |_| ());
    let bytes = [pax(&format!("13 size={}\n", inner.len())), header, inner.clone(), end()].concat();
    let entries = read(&bytes).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].1, inner);
}

/// As `umoci insert` ends its layers.
#[test]
fn the_padding_of_the_last_entry_may_be_missing() {
    let whole = [block(b"a", b'0', 10, |_| ()), b"0123456789".to_vec()].concat();
    assert_eq!(read(&whole).unwrap()[0].1, b"0123456789");
    let padded_in_part = [&whole[..], &[0; 100]].concat();
    for cut in [&whole[..whole.len() - 1], &padded_in_part] {
        assert!(read(cut).unwrap_err().to_string().contains("cut off within an entry's data"));
    }
}

#[test]
fn headers_that_readers_disagree_about_are_refused() {
    let file = || block(b"a", b'0', 0, |_| ());
    let wrong_sum = {
        let mut bytes = file();
        bytes[0] = b'b';
        bytes
    };
    for (text, bytes) in [
        ("checksum", wrong_sum),
        ("cut off within a header", file()[..300].to_vec()),
        ("cut off within an entry's data", block(b"a", b'0', 10, |_| ())),
        ("no name", block(b"a", b'0', 0, |b| b[0] = 0)),
        ("ends in a slash", block(b"a/", b'0', 0, |_| ())),
        ("no target", block(b"a", b'2', 0, |_| ())),
        ("no file has 5 bytes", block(b"a", b'5', 5, |_| ())),
        ("another kind", block(b"a", b'S', 0, |_| ())),
        ("type 'V'", block(b"a", b'V', 0, |_| ())),
        ("type 'M'", block(b"a", b'M', 0, |_| ())),
        ("unknown ustar version", block(b"a", b'0', 0, |b| b[263] = 0)),
        ("uid is negative", block(b"a", b'0', 0, |b| b[108..116].fill(0xff))),
        ("is not octal", block(b"a", b'0', 0, |b| b[100] = b'9')),
        (
            "size is out of range",
            block(b"a", b'0', 0, |b| b[124..136].copy_from_slice(b"\x80\0\0\xff\0\0\0\0\0\0\0\0")),
        ),
        ("after an extension", [pax("9 path=b\n"), end()].concat()),
        ("after an extension", pax("9 path=b\n")),
        ("repeated or of two kinds", [pax("9 path=b\n"), pax("9 path=c\n"), file()].concat()),
        ("repeated or of two kinds", [pax("9 path=b\n"), gnu(b'L', b"c"), file()].concat()),
        ("repeated or of two kinds", [gnu(b'L', b"c"), pax("9 path=b\n"), file()].concat()),
        ("repeated or of two kinds", [gnu(b'L', b"c"), gnu(b'L', b"d"), file()].concat()),
        ("long name is empty", [gnu(b'L', b"\0c"), file()].concat()),
        ("length", [pax("11 path=b\n"), file()].concat()),
        ("lone block of zeros", [vec![0; BLOCK], file(), end()].concat()),
        ("over the limit", block(b"x", b'x', 2 * 1024 * 1024, |_| ())),
        ("unknown version", [pax("22 GNU.sparse.major=1\n"), file()].concat()),
    ] {
        let refused = refusal(&bytes);
        assert!(refused.contains(text), "{text}: {refused}");
    }
}

#[test]
fn an_extension_never_crosses_the_end_marker() {
    let bytes = [pax("9 path=b\n"), end(), block(b"a", b'0', 0, |_| ())].concat();
    assert!(refusal(&bytes).contains("after an extension"));
}

#[test]
fn the_writer_refuses_what_it_cannot_say() {
    let mut writer = Writer::new(Vec::new());
    assert!(writer.entry(&Header::file(*b"", 0)).is_err());
    assert!(writer.entry(&Header::file(*b"a\0b", 0)).is_err());
    assert!(writer.entry(&Header { size: 1, ..Header::directory(*b"d") }).is_err());
    writer.entry(&Header::file(*b"a", 2)).unwrap();
    assert!(writer.write_all(b"abc").is_err());
    let mut writer = Writer::new(Vec::new());
    writer.entry(&Header::file(*b"a", 2)).unwrap();
    assert!(writer.entry(&Header::file(*b"b", 0)).is_err());
    assert!(Writer::new(Vec::new()).append(&Header::file(*b"a", 3), &b"ab"[..]).is_err());
}

#[test]
fn no_damage_makes_the_reader_panic_or_invent_entries() {
    let entries = [
        (Header::file([b"d/".repeat(100), b"x".to_vec()].concat(), 3), &b"abc"[..]),
        (Header::symlink(*b"s", *b"t"), b""),
    ];
    let bytes = write(&entries);
    for position in 0..bytes.len() {
        for value in [0, b'0', b'9', b'x', 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] = value;
            if let Ok(read) = read(&damaged) {
                assert!(read.len() <= entries.len());
            }
        }
    }
    for length in 0..bytes.len() {
        let _ = read(&bytes[..length]);
    }
}
