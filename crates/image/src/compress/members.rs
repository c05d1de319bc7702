//! Gzip and bzip2: formats whose files may be several streams one behind the other.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;

/// One stream.
enum Member<R: BufRead> {
    Gzip(Box<GzDecoder<R>>),
    Bzip2(BzDecoder<R>),
}

/// Reads one member after the other, as eStargz, bgzip and pbzip2 write them. Zeros behind the last are padding, as for
/// gzip(1); anything else there is an error.
pub(super) struct Members<R: BufRead> {
    /// Gone after the end.
    member: Option<Member<R>>,
}

impl<R: BufRead> Members<R> {
    pub fn gzip(reader: R) -> Self {
        Self { member: Some(Member::Gzip(Box::new(GzDecoder::new(reader)))) }
    }

    pub fn bzip2(reader: R) -> Self {
        Self { member: Some(Member::Bzip2(BzDecoder::new(reader))) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let count = match member {
                Member::Gzip(decoder) => decoder.read(buffer)?,
                Member::Bzip2(decoder) => decoder.read(buffer)?,
            };
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.member = match self.member.take() {
                None => None,
                Some(Member::Gzip(decoder)) => next(decoder.into_inner(), 0x1f, "gzip")?
                    .map(|reader| Member::Gzip(Box::new(GzDecoder::new(reader)))),
                Some(Member::Bzip2(decoder)) => {
                    next(decoder.into_inner(), b'B', "bzip2")?.map(|reader| Member::Bzip2(BzDecoder::new(reader)))
                }
            };
        }
        Ok(0)
    }
}

/// The reader in front of the next member, or nothing at the end.
fn next<R: BufRead>(mut reader: R, first_byte: u8, format: &str) -> io::Result<Option<R>> {
    match reader.fill_buf()?.first() {
        None => Ok(None),
        Some(&first) if first == first_byte => Ok(Some(reader)),
        Some(_) => loop {
            let padding = reader.fill_buf()?;
            if padding.iter().any(|&byte| byte != 0) {
                let text = format!("there is garbage behind the {format} stream");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            let length = padding.len();
            if length == 0 {
                return Ok(None);
            }
            reader.consume(length);
        },
    }
}
