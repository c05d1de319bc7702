//! The language of `testdata/tar`; its README is the manual.

use std::path::Path;

use skycap_image::tar::Kind;

/// An archive and what is expected of its reader.
pub struct Case {
    pub name: String,
    pub archive: Vec<u8>,
    pub expected: Expected,
    /// Tools that give another answer.
    pub differ: Vec<String>,
}

pub enum Expected {
    Entries(Vec<Entry>),
    /// An error with this text.
    Refused(String),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub path: Vec<u8>,
    pub size: u64,
    pub link: Vec<u8>,
    /// `None` if the case does not say.
    pub content: Option<Vec<u8>>,
}

/// Every case of `testdata/tar`.
pub fn cases() -> Vec<Case> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tar");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "cases"));
    files.sort();
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    texts.flat_map(|text| text.split("\n\n").map(parse).collect::<Vec<_>>()).collect()
}

fn parse(text: &str) -> Case {
    let mut lines = text.trim().lines();
    let name = lines.next().unwrap().strip_prefix("case ").unwrap_or_else(|| panic!("{text}")).to_owned();
    let mut archive = Vec::new();
    let (mut entries, mut refused, mut differ) = (Vec::new(), None, Vec::new());
    for line in lines {
        let words = words(line);
        let (verb, rest) = words.split_first().unwrap();
        match &verb[..] {
            b"=" if rest[0] == b"nothing" => {}
            b"=" => entries.push(entry(rest)),
            b"!" => refused = line.strip_prefix("! ").map(str::to_owned),
            b"differ" => differ.push(String::from_utf8(rest[0].clone()).unwrap()),
            _ => add(&mut archive, verb, rest),
        }
    }
    Case { name, archive, expected: refused.map_or(Expected::Entries(entries), Expected::Refused), differ }
}

fn entry(words: &[Vec<u8>]) -> Entry {
    let kind = match &words[0][..] {
        b"file" => Kind::File,
        b"hardlink" => Kind::Hardlink,
        b"symlink" => Kind::Symlink,
        b"directory" => Kind::Directory,
        other => panic!("{}", other.escape_ascii()),
    };
    let (link, content) = match &words[3..] {
        [arrow, link] if arrow == b"->" => (link.clone(), None),
        [content] => (Vec::new(), Some(content.clone())),
        _ => (Vec::new(), None),
    };
    Entry { kind, path: words[1].clone(), size: number(&words[2]), link, content }
}

fn number(word: &[u8]) -> u64 {
    std::str::from_utf8(word).unwrap().parse().unwrap()
}

/// Splits a line at spaces outside quotes and undoes the escapes.
fn words(line: &str) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut is_quoted = false;
    let mut bytes = line.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                is_quoted = !is_quoted;
                word.get_or_insert_default();
            }
            b' ' if !is_quoted => words.extend(word.take()),
            b'\\' => word.get_or_insert_default().push(match bytes.next().unwrap() {
                b'n' => b'\n',
                b'0' => 0,
                b'x' => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            }),
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    words
}

fn add(archive: &mut Vec<u8>, verb: &[u8], rest: &[Vec<u8>]) {
    match verb {
        b"header" => archive.extend(header(rest)),
        b"pax" => extension(archive, b'x', &records(rest)),
        b"pax-raw" => extension(archive, b'x', &rest[0]),
        b"global" => extension(archive, b'g', &records(rest)),
        b"global-raw" => extension(archive, b'g', &rest[0]),
        b"long-name" => extension(archive, b'L', &rest[0]),
        b"long-link" => extension(archive, b'K', &rest[0]),
        b"data" => padded(archive, &rest[0]),
        b"fill" => padded(archive, &vec![b'x'; usize::try_from(number(&rest[0])).unwrap()]),
        b"bytes" => archive.extend(&rest[0]),
        b"zeros" => archive.resize(archive.len() + 512 * usize::try_from(number(&rest[0])).unwrap(), 0),
        b"end" => archive.resize(archive.len() + 1024, 0),
        b"cut" => archive.truncate(archive.len() - usize::try_from(number(&rest[0])).unwrap()),
        other => panic!("{}", other.escape_ascii()),
    }
}

fn padded(archive: &mut Vec<u8>, bytes: &[u8]) {
    let end = archive.len() + bytes.len().next_multiple_of(512);
    archive.extend(bytes);
    archive.resize(end, 0);
}

fn extension(archive: &mut Vec<u8>, typeflag: u8, bytes: &[u8]) {
    let size = format!("size={}", bytes.len()).into_bytes();
    let magic: &[u8] = if matches!(typeflag, b'L' | b'K') { b"magic=gnu" } else { b"magic=ustar" };
    archive.extend(header(&[b"extension".to_vec(), [b"type=", &[typeflag][..]].concat(), size, magic.to_vec()]));
    padded(archive, bytes);
}

fn records(words: &[Vec<u8>]) -> Vec<u8> {
    let record = |word: &Vec<u8>| {
        let length = (1..10_000).find(|length: &usize| length.to_string().len() + word.len() + 2 == *length).unwrap();
        [length.to_string().as_bytes(), b" ", word, b"\n"].concat()
    };
    words.iter().flat_map(record).collect()
}

fn header(words: &[Vec<u8>]) -> Vec<u8> {
    let mut block = vec![0; 512];
    let (name, fields) = words.split_first().unwrap();
    put(&mut block, 0, name);
    for (offset, text) in [(100, "0000644\0"), (108, "0000000\0"), (116, "0000000\0"), (136, "00000000000\0")] {
        put(&mut block, offset, text.as_bytes());
    }
    put(&mut block, 124, b"00000000000\0");
    put(&mut block, 156, b"0");
    put(&mut block, 257, b"ustar\x0000");
    let mut is_summed: Option<&[u8]> = Some(b"");
    for field in fields {
        let equals = field.iter().position(|&byte| byte == b'=').unwrap();
        let value = &field[equals + 1..];
        match &field[..equals] {
            b"type" => put(&mut block, 156, value),
            b"size" => put(&mut block, 124, format!("{:011o}\0", number(value)).as_bytes()),
            b"link" => put(&mut block, 157, value),
            b"magic" => magic(&mut block, value),
            b"sum" => is_summed = Some(value),
            b"148" => {
                put(&mut block, 148, value);
                is_summed = None;
            }
            offset => put(&mut block, usize::try_from(number(offset)).unwrap(), value),
        }
    }
    if let Some(kind) = is_summed {
        sum(&mut block, kind);
    }
    block
}

fn magic(block: &mut [u8], value: &[u8]) {
    match value {
        b"ustar" => {}
        b"v7" => put(block, 257, &[0; 8]),
        b"gnu" => put(block, 257, b"ustar  \0"),
        b"star" => put(block, 508, b"tar\0"),
        b"odd" => put(block, 257, b"ustar\0\0\0"),
        other => panic!("{}", other.escape_ascii()),
    }
}

fn sum(block: &mut [u8], kind: &[u8]) {
    put(block, 148, b"        ");
    let signed = |byte: &u8| i64::from(byte.cast_signed());
    let unsigned = |byte: &u8| i64::from(*byte);
    let sum: i64 = match kind {
        b"signed" => block.iter().map(signed).sum(),
        b"wrong" => block.iter().map(unsigned).sum::<i64>() + 1,
        _ => block.iter().map(unsigned).sum(),
    };
    put(block, 148, format!("{sum:06o}\0 ").as_bytes());
}

fn put(block: &mut [u8], offset: usize, bytes: &[u8]) {
    block[offset..offset + bytes.len()].copy_from_slice(bytes);
}
