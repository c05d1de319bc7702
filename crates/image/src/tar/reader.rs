//! Reading a tar stream.

use std::io::{self, BufReader, Read, Seek};

use super::header::{self, Block, Raw};
use super::pax::{self, Overrides};
use super::sparse::{InFront, Map, Notation, OldGnu, Records, Stretch};
use super::{BLOCK, Header, Kind, Limits, Malformed, Segment};

const BUFFER: usize = 128 * 1024;

/// Reads a tar, entry by entry: [`Reader::next`] gives a header, and reading from the reader itself then gives that
/// entry's data, with zeros for the holes of a sparse file. What is left of the data is skipped by the next call.
pub struct Reader<R> {
    inner: BufReader<R>,
    limits: Limits,
    /// Says how much it skipped: less than it was told at the end of the stream.
    skip: fn(&mut BufReader<R>, u64) -> io::Result<u64>,
    /// The next byte of the stream.
    position: u64,
    /// Where the header stands that is being read, for errors.
    header_at: u64,
    /// What is left of the current entry's stored data, and the padding behind it.
    data_left: u64,
    padding: u64,
    /// Where the stored data belongs, if the current entry is sparse.
    map: Option<Map>,
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
        Self::over(BufReader::with_capacity(BUFFER, inner), limits)
    }

    /// Reads a stream that lies in memory already: nothing is taken from it before it is needed, so
    /// [`Reader::take_stored`] works.
    pub fn unbuffered(inner: R, limits: Limits) -> Self {
        Self::over(BufReader::with_capacity(0, inner), limits)
    }

    fn over(inner: BufReader<R>, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            skip: skip_by_reading,
            position: 0,
            header_at: 0,
            data_left: 0,
            padding: 0,
            map: None,
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
                b'S' => return self.old_sparse(&raw, &block, pending).map(Some),
                _ => return self.entry(raw, pending).map(Some),
            }
        }
    }

    /// If the current entry is a sparse file: where its data belongs, ascending, without overlaps and empty segments. From
    /// then on reading gives only the stored data, one segment behind the other, and no zeros for the holes.
    pub fn take_segments(&mut self) -> Option<Vec<Segment>> {
        self.map.take().map(Map::into_segments)
    }

    /// Lets `take` have what is left of the current entry's stored data straight from the stream of an
    /// [unbuffered](Self::unbuffered) reader: exactly as many bytes as it is told.
    pub fn take_stored<T>(&mut self, take: impl FnOnce(&mut R, u64) -> io::Result<T>) -> io::Result<T> {
        debug_assert!(self.inner.buffer().is_empty(), "some of the data has been read ahead");
        let count = self.data_left;
        let taken = take(self.inner.get_mut(), count).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.malformed("it is cut off within an entry's data"),
            _ => error,
        })?;
        self.position += count;
        (self.data_left, self.map) = (0, None);
        Ok(taken)
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
        let is_pax = pending.pax.is_some();
        let mut pax = pending.pax.unwrap_or_default();
        let sparse = pax.sparse.take();
        let real_name = sparse.as_ref().and_then(|records| records.name.clone());
        let header = Header {
            path: real_name.or(pax.path).or(pending.long_path).unwrap_or(raw.path),
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
        let header = settle(header, raw.typeflag, is_pax).map_err(|what| self.malformed(what))?;
        self.enter(header.size)?;
        match sparse {
            Some(records) => self.pax_sparse(records, header),
            None => Ok(header),
        }
    }

    /// A sparse file as PAX has it. The header's size is that of what is stored.
    fn pax_sparse(&mut self, records: Records, header: Header) -> io::Result<Header> {
        if header.kind != Kind::File {
            return Err(self.malformed("an entry that is no file is sparse"));
        }
        let (size, notation) = records.settle(self.limits.segments).map_err(|what| self.malformed(what))?;
        let segments = match notation {
            Notation::Listed(segments) => segments,
            Notation::InFront => self.map_in_front()?,
        };
        self.expand(&segments, size)?;
        Ok(Header { size, ..header })
    }

    fn map_in_front(&mut self) -> io::Result<Vec<Segment>> {
        let mut map = InFront::default();
        loop {
            if self.data_left < BLOCK as u64 {
                return Err(self.malformed("the map of a sparse file does not end"));
            }
            let mut block = [0; BLOCK];
            self.read_exact(&mut block)?;
            let whole = map.take(&block, self.limits.segments).map_err(|what| self.malformed(what))?;
            if let Some(segments) = whole {
                return Ok(segments);
            }
        }
    }

    /// A sparse file as GNU tar had it before PAX. The map goes on in blocks between header and data.
    fn old_sparse(&mut self, raw: &Raw, block: &Block, pending: Pending) -> io::Result<Header> {
        if !raw.is_gnu || pending.pax.is_some() {
            return Err(self.malformed("a GNU sparse file has a header of another kind"));
        }
        let mut map = OldGnu::new(block, self.limits.segments).map_err(|what| self.malformed(what))?;
        while map.continues {
            let block = self.block()?.ok_or_else(|| self.malformed("it is cut off within a header"))?;
            map.extend(&block).map_err(|what| self.malformed(what))?;
        }
        let header = self.entry(Raw { typeflag: b'0', ..raw.clone() }, pending)?;
        self.expand(&map.segments, map.size)?;
        Ok(Header { size: map.size, ..header })
    }

    /// The stored data that is left is that of a file with holes.
    fn expand(&mut self, segments: &[Segment], size: u64) -> io::Result<()> {
        if size > self.limits.expanded {
            let what = format!("a sparse file of {size} bytes is over the limit of {}", self.limits.expanded);
            return Err(self.malformed(what));
        }
        self.map = Some(Map::new(segments, size, self.data_left).map_err(|what| self.malformed(what))?);
        Ok(())
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
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

    /// A stream may end right behind the data of its last entry, without padding: `umoci insert` makes such layers.
    fn leave_entry(&mut self) -> io::Result<()> {
        let count = self.data_left + self.padding;
        let skipped = (self.skip)(&mut self.inner, count)?;
        if skipped < count {
            if skipped != self.data_left {
                return Err(self.malformed("it is cut off within an entry's data"));
            }
            self.ended = true;
        }
        self.position += skipped;
        (self.data_left, self.padding, self.map) = (0, 0, None);
        Ok(())
    }

    fn unknown(&self, typeflag: u8) -> io::Error {
        self.malformed(format!("entries of type {:?} are not supported", char::from(typeflag)))
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
        let stretch = match &self.map {
            None => return self.read_stored(buffer),
            Some(map) => map.next(),
        };
        let most = |length: u64| usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let count = match stretch {
            Stretch::End => 0,
            Stretch::Hole(length) => {
                let count = most(length);
                buffer[..count].fill(0);
                count
            }
            Stretch::Data(length) => {
                let count = most(length);
                self.read_stored(&mut buffer[..count])?
            }
        };
        if let Some(map) = &mut self.map {
            map.advance(count as u64);
        }
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
fn settle(mut header: Header, typeflag: u8, is_pax: bool) -> Result<Header, String> {
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
        // GNU tar and Go take a hard link's size for that of the file it names: no data follows. Behind a PAX header
        // bsdtar expects the data.
        Kind::Hardlink if !is_pax => header.size = 0,
        _ if header.size != 0 => return Err(format!("an entry that is no file has {} bytes of data", header.size)),
        _ => {}
    }
    Ok(header)
}

fn skip_by_reading<R: Read>(inner: &mut BufReader<R>, count: u64) -> io::Result<u64> {
    io::copy(&mut inner.take(count), &mut io::sink())
}

fn skip_by_seeking<R: Read + Seek>(inner: &mut BufReader<R>, count: u64) -> io::Result<u64> {
    // `enter` keeps every position within i64.
    inner.seek_relative(i64::try_from(count).map_err(io::Error::other)?)?;
    Ok(count)
}
