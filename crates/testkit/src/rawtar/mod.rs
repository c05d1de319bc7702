//! Tars from text, byte by byte: also those that no honest program writes.
//!
//! The listing language ([`crate::listing`]) writes archives that are right, with the product's own writer. This one has a
//! writer of its own and can state anything: sizes that lie, checksums that are wrong, extensions that are cut, left over or
//! of two kinds. It is the language of `crates/rootfs/testdata/cases` and of `crates/image/testdata/tar`.
//!
//! One entry a line; [`layers`] begins a new tar at a line `##`; a line that begins with `#` and a space is a comment.
//!
//! ```text
//! dir   etc 0755 10:20 @5.25                    mode, owner, time in seconds since 1970: each may be left out
//! file  etc/motd 0644 "hello\n"                 content: \n \0 \t \" \\ \xff
//! file  big zeros=1000000                       also noise=N: N bytes that hardly compress
//! file  etc/x user.note=hi                      a word with = and a dot in its key is an extended attribute
//! link  bin -> usr/bin
//! hard  a => b
//! char  dev/null 1 3
//! block dev/sda 8 0
//! fifo  pipe
//! ```
//!
//! In words `%xx` stands for a byte and `{text*N}` for N times the text. Names and targets of more than 100 bytes, owners
//! of more than 21 bits, and times that are negative or have a fraction get PAX records, as every writer does it.
//!
//! What is odd follows the same way, on the entry's line:
//!
//! ```text
//! size=5            the header's size, whatever the content is
//! type=X            the header's type flag; %00 is the NUL type
//! magic=gnu         or v7 (none), star, ustar (which is the default), or eight bytes
//! prefix=a/b        ustar's prefix field
//! sum=bad           a wrong checksum; sum=signed adds signed bytes, as old programs did
//! !mtime=junk       the bytes of a field as they are: name mode uid gid size mtime sum link magic
//!                   uname gname major minor prefix
//! pax:path=../x     a record in a PAX header in front of this entry
//! paxbytes=5%20a=%0a  the same, but these bytes as they are
//! long:path=a/b     a GNU long name (long:link: long link) in front of this entry
//! {                 the content is the tar of the lines up to a line that is only }
//! ```
//!
//! or on lines of its own, as something that stands between entries:
//!
//! ```text
//! pax path=a size=5          a PAX header alone; also global (a global PAX header)
//! paxbytes "5 a=\n"          with these bytes; also globalbytes
//! longpath "name\0"          a GNU long name with these bytes; also longlink
//! blocks 2                   blocks of zeros
//! bytes "anything"           as it is
//! repeat 1000 file d/{n} ""  a line a thousand times, {n} counting from 0
//! noend                      no end marker
//! cut 100                    the finished tar loses this many bytes at its end
//! ```
//!
//! Text that is wrong panics with its line: it is a part of a test.

mod header;
mod words;

use header::Header;
use words::{Word, words};

/// The tars of a text that holds several, separated by lines `##`.
///
/// # Panics
///
/// Panics if the text is wrong.
pub fn layers(text: &str) -> Vec<Vec<u8>> {
    let mut texts = vec![String::new()];
    for line in text.lines() {
        if line.trim() == "##" {
            texts.push(String::new());
        } else if let Some(last) = texts.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    texts.iter().map(|text| tar(text)).collect()
}

/// One tar.
///
/// # Panics
///
/// Panics if the text is wrong.
pub fn tar(text: &str) -> Vec<u8> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let (bytes, used) = archive(&lines, false);
    assert!(used == lines.len(), "a line }} without a {{: {text}");
    bytes
}

/// The archive of lines up to the end, or to the line `}` of an inner one, and how many lines it took.
fn archive(lines: &[&str], is_inner: bool) -> (Vec<u8>, usize) {
    let (mut out, mut has_end, mut cut) = (Vec::new(), true, 0);
    let mut at = 0;
    while let Some(&line) = lines.get(at) {
        at += 1;
        if line.is_empty() || line == "#" || line.starts_with("# ") {
            continue;
        }
        if line == "}" && is_inner {
            break;
        }
        if let Some(rest) = line.strip_prefix("repeat ") {
            let (count, rest) = rest.split_once(' ').unwrap_or_else(|| wrong(line, "repeat COUNT LINE"));
            let count: usize = count.parse().unwrap_or_else(|_| wrong(line, "no number"));
            for number in 0..count {
                add(&mut out, &rest.replace("{n}", &number.to_string()), None);
            }
        } else if line == "noend" {
            has_end = false;
        } else if let Some(count) = line.strip_prefix("cut ") {
            cut = count.parse().unwrap_or_else(|_| wrong(line, "no number"));
        } else if let Some(line) = line.strip_suffix(" {") {
            let (inner, used) = archive(&lines[at..], true);
            at += used;
            add(&mut out, line, Some(inner));
        } else {
            add(&mut out, line, None);
        }
    }
    if has_end {
        out.extend_from_slice(&[0; 1024]);
    }
    assert!(cut <= out.len(), "cut {cut}: there are only {} bytes", out.len());
    out.truncate(out.len() - cut);
    (out, at)
}

/// Adds what one line says.
fn add(out: &mut Vec<u8>, line: &str, inner: Option<Vec<u8>>) {
    let words = words(line);
    let rest = &words[1..];
    match words[0].text(line).as_str() {
        "pax" => extension(out, b'x', &records(line, rest)),
        "global" => extension(out, b'g', &records(line, rest)),
        "paxbytes" => extension(out, b'x', only(line, rest)),
        "globalbytes" => extension(out, b'g', only(line, rest)),
        "longpath" => extension(out, b'L', only(line, rest)),
        "longlink" => extension(out, b'K', only(line, rest)),
        "bytes" => out.extend_from_slice(only(line, rest)),
        "blocks" => {
            let count: usize = words[1].text(line).parse().unwrap_or_else(|_| wrong(line, "no number"));
            out.resize(out.len() + 512 * count, 0);
        }
        kind => entry(out, line, kind, rest, inner),
    }
}

fn only<'w>(line: &str, words: &'w [Word]) -> &'w [u8] {
    match words {
        [word] => &word.bytes,
        _ => wrong(line, "one word is wanted"),
    }
}

fn records(line: &str, words: &[Word]) -> Vec<u8> {
    let record = |word: &Word| {
        let (key, value) = word.pair().unwrap_or_else(|| wrong(line, "key=value is wanted"));
        header::record(key, value)
    };
    words.iter().flat_map(record).collect()
}

fn extension(out: &mut Vec<u8>, typeflag: u8, bytes: &[u8]) {
    let name = if matches!(typeflag, b'L' | b'K') { &b"././@LongLink"[..] } else { b"PaxHeaders.0/extension" };
    let header = Header { name: name.to_vec(), typeflag, size: bytes.len() as u64, ..Header::default() };
    out.extend_from_slice(&header.block());
    padded(out, bytes);
}

fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// What stands in front of an entry.
#[derive(Default)]
struct Front {
    records: Vec<u8>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// The name or link is stated elsewhere.
    has_path: bool,
    has_link: bool,
}

fn entry(out: &mut Vec<u8>, line: &str, kind: &str, words: &[Word], inner: Option<Vec<u8>>) {
    let Some((name, mut rest)) = words.split_first() else { wrong(line, "no name") };
    let mut header = Header { name: name.bytes.clone(), ..Header::of(kind).unwrap_or_else(|| wrong(line, "unknown")) };
    match kind {
        "link" | "hard" => {
            let [_, target, others @ ..] = rest else { wrong(line, "no target") };
            header.link.clone_from(&target.bytes);
            rest = others;
        }
        "char" | "block" => {
            let [major, minor, others @ ..] = rest else { wrong(line, "no device number") };
            let number = |word: &Word| word.text(line).parse().unwrap_or_else(|_| wrong(line, "no number"));
            header.device = Some((number(major), number(minor)));
            rest = others;
        }
        _ => {}
    }
    let (mut content, mut size, mut front) = (inner.unwrap_or_default(), None, Front::default());
    for word in rest {
        if word.is_quoted {
            content.clone_from(&word.bytes);
        } else if !plain(&mut header, word) && !odd(&mut header, word, line, &mut front, &mut size, &mut content) {
            wrong(line, &format!("unknown word {}", word.bytes.escape_ascii()));
        }
    }
    header.size = size.unwrap_or(content.len() as u64);
    let records = [header.records(front.has_path, front.has_link), front.records].concat();
    if !records.is_empty() {
        extension(out, b'x', &records);
    }
    for (typeflag, long) in [(b'K', front.long_link), (b'L', front.long_path)] {
        if let Some(long) = long {
            extension(out, typeflag, &[&long[..], b"\0"].concat());
        }
    }
    out.extend_from_slice(&header.block());
    padded(out, &content);
}

/// Mode, owner, time.
fn plain(header: &mut Header, word: &Word) -> bool {
    let Ok(text) = std::str::from_utf8(&word.bytes) else { return false };
    if text.bytes().all(|byte| matches!(byte, b'0'..=b'7')) {
        header.mode = u32::from_str_radix(text, 8).unwrap_or_default();
        return true;
    }
    if let Some(time) = text.strip_prefix('@') {
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        time.clone_into(&mut header.time);
        header.seconds = seconds.parse().ok();
        return header.seconds.is_some() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    }
    let owner = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    owner.map(|owner| header.owner = owner).is_some()
}

/// The rest.
fn odd(
    header: &mut Header,
    word: &Word,
    line: &str,
    front: &mut Front,
    size: &mut Option<u64>,
    content: &mut Vec<u8>,
) -> bool {
    let Some((key, value)) = word.pair() else { return false };
    let number = || {
        let text = std::str::from_utf8(value).ok();
        text.and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(|| wrong(line, "no number"))
    };
    match key {
        b"size" => *size = Some(number()),
        b"zeros" => *content = vec![0; usize::try_from(number()).unwrap_or_default()],
        b"noise" => *content = noise(usize::try_from(number()).unwrap_or_default()),
        b"type" => header.typeflag = value.first().copied().unwrap_or_else(|| wrong(line, "one byte")),
        b"prefix" => {
            front.has_path = true;
            header.fields.push((*b"prefix", value.to_vec()));
        }
        b"magic" => header.magic = header::magic(value).unwrap_or_else(|| wrong(line, "eight bytes")),
        b"sum" => header.sum = header::sum(value).unwrap_or_else(|| wrong(line, "bad or signed")),
        b"paxbytes" => front.records.extend_from_slice(value),
        b"long:path" => (front.has_path, front.long_path) = (true, Some(value.to_vec())),
        b"long:link" => (front.has_link, front.long_link) = (true, Some(value.to_vec())),
        _ => match (key.strip_prefix(b"pax:"), key.strip_prefix(b"!")) {
            (Some(key), _) => {
                front.has_path |= key == b"path";
                front.has_link |= key == b"linkpath";
                front.records.extend(header::record(key, value));
            }
            (_, Some(field)) => {
                front.has_path |= field == b"name";
                front.has_link |= field == b"link";
                header.fields.push((header::field(field).unwrap_or_else(|| wrong(line, "no field")), value.to_vec()));
            }
            _ if key.contains(&b'.') => {
                front.records.extend(header::record(&[b"SCHILY.xattr.", key].concat(), value));
            }
            _ => return false,
        },
    }
    true
}

fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(count.div_ceil(8)).flatten().collect();
    bytes.truncate(count);
    bytes
}

fn wrong(line: &str, what: &str) -> ! {
    panic!("raw tar: {what}: {line}")
}

#[cfg(test)]
mod tests;
