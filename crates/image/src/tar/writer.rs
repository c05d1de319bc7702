//! Writing a tar stream: ustar, with a PAX header only in front of entries that need one.

use std::io::{self, Read, Write};

use super::header::{Block, sums};
use super::{BLOCK, Header, Kind, pax};

/// Writes a tar whose bytes depend on nothing but the headers and data given.
pub struct Writer<W> {
    out: W,
    /// What is left of the current entry's data, and the padding behind it.
    data_left: u64,
    padding: usize,
}

/// What the number fields of ustar hold at most.
const LARGEST_ID: u64 = 0o7_777_777;
const LARGEST_SIZE: u64 = 0o77_777_777_777;

impl<W: Write> Writer<W> {
    /// Writes to `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { out, data_left: 0, padding: 0 }
    }

    /// Begins an entry. Exactly `header.size` bytes must then be written to the writer itself.
    pub fn entry(&mut self, header: &Header) -> io::Result<()> {
        self.end_entry()?;
        self.out.write_all(&header_bytes(header)?)?;
        self.data_left = header.size;
        self.padding = padding(header.size);
        Ok(())
    }

    /// Writes an entry with its data, which must be as long as the header says.
    pub fn append(&mut self, header: &Header, data: impl Read) -> io::Result<()> {
        self.entry(header)?;
        let copied = io::copy(&mut data.take(header.size), self)?;
        if copied == header.size {
            return Ok(());
        }
        let name = String::from_utf8_lossy(&header.path);
        Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("{name} ends after {copied} of {} bytes", header.size),
        ))
    }

    /// Writes the end marker.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_entry()?;
        self.out.write_all(&[0; 2 * BLOCK])?;
        Ok(self.out)
    }

    fn end_entry(&mut self) -> io::Result<()> {
        if self.data_left != 0 {
            let text = format!("the entry before lacks {} bytes of data", self.data_left);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let padding = std::mem::take(&mut self.padding);
        self.pad(padding)
    }

    fn pad(&mut self, count: usize) -> io::Result<()> {
        self.out.write_all(&[0; BLOCK][..count])
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(bytes.len());
        if most == 0 && !bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more data than the entry's header says"));
        }
        let count = self.out.write(&bytes[..most])?;
        self.data_left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A header, with the extension that it needs in front of it.
pub(crate) fn header_bytes(header: &Header) -> io::Result<Vec<u8>> {
    let records = records(header)?;
    let mut bytes = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        let extension = Header::file(b"PaxHeaders.0/extension", records.len() as u64);
        bytes.extend_from_slice(&block(&extension, b'x'));
        bytes.extend_from_slice(&records);
        bytes.resize(bytes.len() + padding(records.len() as u64), 0);
    }
    bytes.extend_from_slice(&block(header, typeflag(header.kind)));
    Ok(bytes)
}

/// The zeros behind so many bytes of data.
pub(crate) fn padding(size: u64) -> usize {
    usize::try_from(size.wrapping_neg() % BLOCK as u64).unwrap_or_default()
}

/// The PAX records of what does not fit into the header, sorted by keyword.
fn records(header: &Header) -> io::Result<Vec<u8>> {
    let refuse = |what: &str| {
        let text = format!("{what} of {} cannot be written to a tar", String::from_utf8_lossy(&header.path));
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    };
    if header.path.is_empty() || header.path.contains(&0) {
        return refuse("the name");
    }
    if header.link.contains(&0) {
        return refuse("the link target");
    }
    if header.kind != Kind::File && header.size != 0 {
        return refuse("the data");
    }
    if header.device.0.max(header.device.1) > 0o7_777_777 {
        return refuse("the device number");
    }
    let mut out = Vec::new();
    let number = |out: &mut Vec<u8>, key: &[u8], value: u64, largest: u64| {
        if value > largest {
            pax::push(out, key, value.to_string().as_bytes());
        }
    };
    for (name, value) in &header.xattrs {
        if name.is_empty() || name.contains(&0) || name.contains(&b'=') {
            return refuse("the name of an extended attribute");
        }
        pax::push(&mut out, &[pax::XATTR, name].concat(), value);
    }
    number(&mut out, b"gid", header.gid, LARGEST_ID);
    if header.link.len() > 100 {
        pax::push(&mut out, b"linkpath", &header.link);
    }
    if header.mtime_nanos != 0 || !(0..=LARGEST_SIZE.cast_signed()).contains(&header.mtime) {
        pax::push(&mut out, b"mtime", time(header.mtime, header.mtime_nanos).as_bytes());
    }
    if split(&header.path).is_none() {
        pax::push(&mut out, b"path", &header.path);
    }
    number(&mut out, b"size", header.size, LARGEST_SIZE);
    number(&mut out, b"uid", header.uid, LARGEST_ID);
    Ok(out)
}

/// PAX's decimal form, without zeros at the end. The fraction counts up, also before 1970.
fn time(seconds: i64, nanos: u32) -> String {
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let (whole, fraction) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let sign = if total < 0 { "-" } else { "" };
    let text = format!("{sign}{whole}.{fraction:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn typeflag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::Hardlink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// How ustar keeps a path: up to 155 bytes, a slash, up to 100 bytes.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    let earliest = path.len() - 101;
    let slash = path.iter().enumerate().skip(earliest.max(1)).find(|(_, byte)| **byte == b'/')?.0;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (prefix.len() <= 155 && !name.is_empty()).then_some((prefix, name))
}

/// A ustar header; what does not fit is cut, because a PAX header in front of it says it in full.
fn block(header: &Header, typeflag: u8) -> Block {
    let mut block = [0; BLOCK];
    let (prefix, name) = split(&header.path).unwrap_or((b"", &header.path));
    put(&mut block[..100], name);
    octal(&mut block[100..108], u64::from(header.mode & 0o7777));
    octal(&mut block[108..116], header.uid.min(LARGEST_ID));
    octal(&mut block[116..124], header.gid.min(LARGEST_ID));
    octal(&mut block[124..136], header.size.min(LARGEST_SIZE));
    octal(&mut block[136..148], u64::try_from(header.mtime).unwrap_or_default().min(LARGEST_SIZE));
    block[156] = typeflag;
    put(&mut block[157..257], &header.link);
    put(&mut block[257..265], b"ustar\x0000");
    octal(&mut block[329..337], u64::from(header.device.0));
    octal(&mut block[337..345], u64::from(header.device.1));
    put(&mut block[345..500], prefix);
    let sum = sums(&block).0;
    octal(&mut block[148..155], sum);
    block[155] = b' ';
    block
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let count = bytes.len().min(field.len());
    field[..count].copy_from_slice(&bytes[..count]);
}

/// Octal digits filled up with zeros in front and one NUL behind.
fn octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    put(field, format!("{value:0width$o}").as_bytes());
}
