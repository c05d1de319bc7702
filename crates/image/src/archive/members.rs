//! The members of an archive and where they lie.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::corrupt;
use crate::compress::{decoder, recognise};
use crate::document::LARGEST_DOCUMENT;
use crate::tar::{Header, Kind, Reader};
use crate::{BlobReader, Compression, Digest, SourceError};

/// No image comes near it: 1,000 layers of `docker save` are 4,000 members.
const MOST_MEMBERS: usize = 200_000;
/// As many as the kernel follows.
const MOST_LINKS: usize = 40;

/// The files of an archive by name.
pub(super) struct Members {
    file: Arc<File>,
    is_compressed: bool,
    by_name: BTreeMap<Vec<u8>, Member>,
}

enum Member {
    File(Span),
    /// The name that it leads to, from the top.
    Link(Vec<u8>),
}

/// The bytes of a member in the bare tar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub offset: u64,
    pub size: u64,
    /// Found while listing if the archive is compressed, because every look at a member costs reading up to it.
    seen: Option<(Compression, Digest)>,
}

/// As many first bytes as show how a stream is packed.
const MAGIC: u64 = 6;

impl Members {
    /// Lists an archive.
    pub fn list(path: &Path) -> Result<Self, SourceError> {
        let failed = |error| SourceError::io(format!("cannot read the archive {}", path.display()), error);
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(corrupt(format!("{} is not a regular file", path.display())));
        }
        let file = Arc::new(File::open(path).map_err(failed)?);
        let mut members = Self { file, is_compressed: false, by_name: BTreeMap::new() };
        let (compression, decoded) = decoder(members.whole_file(0)).map_err(failed)?;
        if compression == Compression::None {
            drop(decoded);
            let reader = Reader::seekable(SeekableFile { file: Arc::clone(&members.file), position: 0 });
            members.scan(reader, |_| Ok(None)).map_err(failed)?;
            members.check_spans(metadata.len())?;
        } else {
            members.is_compressed = true;
            members.scan(Reader::new(decoded), |reader| look_at(reader).map(Some)).map_err(failed)?;
        }
        Ok(members)
    }

    /// Whether there is a file or link of that name.
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name.as_bytes())
    }

    /// Where a file lies; links are followed.
    pub fn find(&self, name: &str) -> Result<Span, SourceError> {
        let mut current = clean(name.as_bytes());
        for _ in 0..MOST_LINKS {
            match self.by_name.get(&current) {
                Some(Member::File(span)) => return Ok(*span),
                Some(Member::Link(target)) => current.clone_from(target),
                None => {
                    let what = format!("file {name} not found in the archive");
                    return Err(SourceError::new(crate::Kind::NotFound, what));
                }
            }
        }
        Err(corrupt(format!("file {name} in the archive is behind more than {MOST_LINKS} links")))
    }

    /// Opens the bytes of a member.
    pub fn open(&self, span: Span) -> Result<BlobReader, SourceError> {
        if !self.is_compressed {
            let reader = SeekableFile { file: Arc::clone(&self.file), position: span.offset };
            return Ok(Box::new(reader.take(span.size)));
        }
        let (_, mut decoded) = decoder(self.whole_file(0))?;
        let skipped = io::copy(&mut decoded.by_ref().take(span.offset), &mut io::sink())?;
        if skipped != span.offset {
            return Err(corrupt("the archive has become shorter"));
        }
        Ok(Box::new(decoded.take(span.size)))
    }

    /// Reads a small file whole.
    pub fn document(&self, name: &str) -> Result<Vec<u8>, SourceError> {
        let span = self.find(name)?;
        if span.size > LARGEST_DOCUMENT {
            return Err(corrupt(format!(
                "{name} in the archive has {} bytes, more than {LARGEST_DOCUMENT}",
                span.size
            )));
        }
        let mut bytes = Vec::new();
        self.open(span)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// How a member is packed.
    pub fn compression(&self, span: Span) -> Result<Compression, SourceError> {
        if let Some((compression, _)) = span.seen {
            return Ok(compression);
        }
        let mut start = Vec::new();
        self.open(span)?.take(MAGIC).read_to_end(&mut start)?;
        Ok(recognise(&start))
    }

    /// The digest of a member.
    pub fn digest(&self, span: Span) -> Result<Digest, SourceError> {
        match span.seen {
            Some((_, digest)) => Ok(digest),
            None => Ok(Digest::sha256_of(self.open(span)?)?.0),
        }
    }

    fn whole_file(&self, position: u64) -> SeekableFile {
        SeekableFile { file: Arc::clone(&self.file), position }
    }

    fn scan<R: Read>(
        &mut self,
        mut reader: Reader<R>,
        look: impl Fn(&mut Reader<R>) -> io::Result<Option<(Compression, Digest)>>,
    ) -> io::Result<()> {
        while let Some(header) = reader.next()? {
            if reader.take_segments().is_some() {
                let name = String::from_utf8_lossy(&header.path);
                return Err(invalid(format!("{name} in it is a sparse file; repack it without --sparse")));
            }
            let span = Span { offset: reader.data_offset(), size: header.size, seen: look(&mut reader)? };
            let Some(member) = member(&header, span) else { continue };
            let name = clean(&header.path);
            if self.by_name.len() >= MOST_MEMBERS {
                return Err(invalid(format!("it has more than {MOST_MEMBERS} members")));
            }
            if self.by_name.insert(name, member).is_some() {
                return Err(invalid(format!("it has {} twice", String::from_utf8_lossy(&header.path))));
            }
        }
        Ok(())
    }

    /// Seeking over data does not notice that the file ends in it.
    fn check_spans(&self, length: u64) -> Result<(), SourceError> {
        let end = |member: &Member| match member {
            Member::File(span) => span.offset.saturating_add(span.size),
            Member::Link(_) => 0,
        };
        match self.by_name.iter().find(|(_, member)| end(member) > length) {
            None => Ok(()),
            Some((name, _)) => Err(corrupt(format!("the archive is cut off in {}", String::from_utf8_lossy(name)))),
        }
    }
}

/// Reads a member once for all there is to know about its bytes.
fn look_at(reader: &mut impl Read) -> io::Result<(Compression, Digest)> {
    let mut start = Vec::new();
    reader.by_ref().take(MAGIC).read_to_end(&mut start)?;
    let (digest, _) = Digest::sha256_of(start.as_slice().chain(reader))?;
    Ok((recognise(&start), digest))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn member(header: &Header, span: Span) -> Option<Member> {
    match header.kind {
        Kind::File => Some(Member::File(span)),
        Kind::Hardlink => Some(Member::Link(clean(&header.link))),
        Kind::Symlink => {
            let directory = header.path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            let start = if header.link.starts_with(b"/") { &[][..] } else { &header.path[..directory] };
            Some(Member::Link(clean(&[start, &header.link].concat())))
        }
        Kind::Directory | Kind::CharacterDevice | Kind::BlockDevice | Kind::Fifo => None,
    }
}

/// A name from the archive's top without `.`, `..` and empty parts. It only ever selects members.
fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// A file with a position of its own, so that many readers share one handle.
struct SeekableFile {
    file: Arc<File>,
    position: u64,
}

impl Read for SeekableFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SeekableFile {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(position) => Some(position),
            io::SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            io::SeekFrom::End(distance) => self.file.metadata()?.len().checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_select_members_whatever_their_spelling() {
        for (name, expected) in [("./a", "a"), ("/a//b/", "a/b"), ("x/../a", "a"), ("../../a", "a"), ("a/./b", "a/b")] {
            assert_eq!(clean(name.as_bytes()), expected.as_bytes());
        }
    }
}
