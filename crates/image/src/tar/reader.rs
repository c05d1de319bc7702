//! Reading a tar stream.

use std::io::{self, BufReader, Read, Seek};

use super::header::{self, Block, Raw};
use super::pax::{self, Overrides};
use super::{BLOCK, Header, Kind, Limits, Malformed};

const BUFFER: usize = 128 * 1024;

/// Reads a tar, entry by entry: [`Reader::next`] gives a header, and reading from the reader itself then gives that
/// entry's data. What is left of the data is skipped by the next call.
pub struct Reader<R> {
    inner: BufReader<R>,
    limits: Limits,
    skip: fn(&mut BufReader<R>, u64) -> io::Result<()>,
    /// The next byte of the stream.
    position: u64,
    /// Where the header stands that is being read, for errors.
    header_at: u64,
    /// What is left of the current entry's data, and the padding behind it.
    data_left: u64,
    padding: u64,
    ended: bool,
}

/// Extensions seen in front of an entry.
#[derive(Default)]
struct Pending {
    pax: Option<Overrides>,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// Reads a stream with the default limits.
    pub fn new(inner: R) -> Self {
        Self::with_limits(inner, Limits::default())
    }

    /// Reads a stream.
    pub fn with_limits(inner: R, limits: Limits) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, inner),
            limits,
            skip: skip_by_reading,
            position: 0,
            header_at: 0,
            data_left: 0,
            padding: 0,
            ended: false,
        }
    }

    /// The next entry, or `None` at the end of the archive. A stream that stops between two entries without an end
    /// marker has ended, too.
    #[allow(clippy::should_implement_trait, reason = "an iterator could not give its errors with `?`")]
    pub fn next(&mut self) -> io::Result<Option<Header>> {
        let mut pending = Pending::default();
        loop {
            self.leave_entry()?;
            self.header_at = self.position;
            let Some(block) = self.header_block()? else {
                return if pending.is_empty() { Ok(None) } else { Err(self.malformed("it ends after an extension")) };
            };
            let raw = header::parse(&block).map_err(|what| self.malformed(what))?;
            match raw.typeflag {
                b'x' | b'g' | b'L' | b'K' => self.extension(&raw, &mut pending)?,
                _ => return self.entry(raw, pending).map(Some),
            }
        }
    }

    /// Where in the stream the current entry's data begins, until some of it is read.
    pub fn data_offset(&self) -> u64 {
        self.position
    }

    /// Reads what follows the archive's end up to the end of the stream, so that a checksum over all of it can be
    /// compared, and checks that nothing was cut off.
    pub fn finish(mut self) -> io::Result<()> {
        while self.next()?.is_some() {}
        io::copy(&mut self.inner, &mut io::sink()).map(drop)
    }

    fn entry(&mut self, raw: Raw, pending: Pending) -> io::Result<Header> {
        let pax = pending.pax.unwrap_or_default();
        let header = Header {
            path: pax.path.or(pending.long_path).unwrap_or(raw.path),
            kind: header::kind(raw.typeflag).ok_or_else(|| self.unknown(raw.typeflag))?,
            link: pax.link.or(pending.long_link).unwrap_or(raw.link),
            mode: raw.mode,
            uid: pax.uid.unwrap_or(raw.uid),
            gid: pax.gid.unwrap_or(raw.gid),
            size: pax.size.unwrap_or(raw.size),
            mtime: pax.mtime.map_or(raw.mtime, |(seconds, _)| seconds),
            mtime_nanos: pax.mtime.map_or(0, |(_, nanos)| nanos),
            device: raw.device,
            xattrs: pax.xattrs,
        };
        let header = settle(header, raw.typeflag).map_err(|what| self.malformed(what))?;
        self.enter(header.size)?;
        Ok(header)
    }

    fn extension(&mut self, raw: &Raw, pending: &mut Pending) -> io::Result<()> {
        if raw.size > self.limits.extension {
            let what = format!("an extension of {} bytes is over the limit of {}", raw.size, self.limits.extension);
            return Err(self.malformed(what));
        }
        self.enter(raw.size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        pending.add(raw.typeflag, &bytes, self.limits.records).map_err(|what| self.malformed(what))
    }

    /// A header, or nothing at the end: of the stream, or two blocks of zeros.
    fn header_block(&mut self) -> io::Result<Option<Block>> {
        if self.ended {
            return Ok(None);
        }
        let Some(block) = self.block()? else {
            self.ended = true;
            return Ok(None);
        };
        if block.iter().any(|&byte| byte != 0) {
            return Ok(Some(block));
        }
        if self.block()?.is_some_and(|next| next.iter().any(|&byte| byte != 0)) {
            return Err(self.malformed("a header follows a lone block of zeros"));
        }
        self.ended = true;
        Ok(None)
    }

    fn block(&mut self) -> io::Result<Option<Block>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.malformed("it is cut off within a header")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.position += BLOCK as u64;
        Ok(Some(block))
    }

    fn enter(&mut self, size: u64) -> io::Result<()> {
        self.data_left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        let end = self.position.checked_add(size).and_then(|end| end.checked_add(self.padding));
        end.filter(|&end| end <= i64::MAX.cast_unsigned()).map(drop).ok_or_else(|| self.malformed("its size overflows"))
    }

    fn leave_entry(&mut self) -> io::Result<()> {
        let count = self.data_left + self.padding;
        (self.skip)(&mut self.inner, count).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed("it is cut off within an entry's data"),
            _ => error,
        })?;
        self.position += count;
        (self.data_left, self.padding) = (0, 0);
        Ok(())
    }

    fn unknown(&self, typeflag: u8) -> io::Error {
        self.malformed(match typeflag {
            b'S' => "sparse files are not supported; repack the archive without --sparse".to_owned(),
            _ => format!("entries of type {:?} are not supported", char::from(typeflag)),
        })
    }

    fn malformed(&self, what: impl Into<String>) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, Malformed { offset: self.header_at, what: what.into() })
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Reads a file, skipping data by seeking. A file that is cut off within data is not noticed: compare
    /// [`Reader::data_offset`] and sizes with the file's length.
    pub fn seekable(inner: R) -> Self {
        Self { skip: skip_by_seeking, ..Self::new(inner) }
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.data_left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(self.malformed("it is cut off within an entry's data"));
        }
        self.data_left -= count as u64;
        self.position += count as u64;
        Ok(count)
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.long_path.is_none() && self.long_link.is_none()
    }

    fn add(&mut self, typeflag: u8, bytes: &[u8], records: usize) -> Result<(), String> {
        match typeflag {
            b'g' if self.is_empty() => pax::check_global(bytes, records),
            b'x' if self.is_empty() => {
                self.pax = Some(pax::parse(bytes, records)?);
                Ok(())
            }
            b'L' if self.pax.is_none() && self.long_path.is_none() => {
                self.long_path = Some(long_name(bytes)?);
                Ok(())
            }
            b'K' if self.pax.is_none() && self.long_link.is_none() => {
                self.long_link = Some(long_name(bytes)?);
                Ok(())
            }
            _ => Err("extensions are repeated or of two kinds in front of one entry".to_owned()),
        }
    }
}

/// A GNU long name ends at its first NUL.
fn long_name(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let name = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
    if name.is_empty() { Err("a GNU long name is empty".to_owned()) } else { Ok(name.to_vec()) }
}

/// The rules that depend on several fields.
fn settle(mut header: Header, typeflag: u8) -> Result<Header, String> {
    if header.path.is_empty() {
        return Err("an entry has no name".to_owned());
    }
    if header.kind == Kind::File && header.path.ends_with(b"/") {
        // Before ustar had a type for directories, a slash said so.
        if typeflag != 0 {
            return Err("a regular file's name ends in a slash".to_owned());
        }
        header.kind = Kind::Directory;
    }
    let is_link = matches!(header.kind, Kind::Hardlink | Kind::Symlink);
    if is_link && header.link.is_empty() {
        return Err("a link has no target".to_owned());
    }
    if !is_link {
        header.link.clear();
    }
    match header.kind {
        Kind::File => {}
        // GNU tar, Go and Python take a hard link's size for that of the file it names: no data follows.
        Kind::Hardlink => header.size = 0,
        _ if header.size != 0 => return Err(format!("an entry that is no file has {} bytes of data", header.size)),
        _ => {}
    }
    Ok(header)
}

fn skip_by_reading<R: Read>(inner: &mut BufReader<R>, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut inner.take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn skip_by_seeking<R: Read + Seek>(inner: &mut BufReader<R>, count: u64) -> io::Result<()> {
    // `enter` keeps every position within i64.
    inner.seek_relative(i64::try_from(count).map_err(io::Error::other)?)
}
