//! An archive before it is written: which bytes stand where is known before any blob is read, because descriptors say
//! how long blobs are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::parallel::{copy_all, copy_stream};
use crate::tar::{self, Header};
use crate::{BlobSource, Descriptor, SourceError};

/// An archive that is ready to be written.
pub struct Plan {
    pieces: Vec<Piece>,
}

enum Piece {
    /// Headers, documents and padding.
    Bytes(Vec<u8>),
    Blob(Arc<dyn BlobSource>, Box<Descriptor>),
}

impl Plan {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// Adds a header, or a document with its header.
    pub(super) fn add(&mut self, header: &Header, bytes: &[u8]) -> Result<(), SourceError> {
        let mut piece = tar::header_bytes(header)?;
        piece.extend_from_slice(bytes);
        piece.resize(piece.len() + tar::padding(bytes.len() as u64), 0);
        self.push(piece);
        Ok(())
    }

    /// Adds a blob under a name.
    pub(super) fn add_blob(
        &mut self,
        header: &Header,
        from: &Arc<dyn BlobSource>,
        blob: &Descriptor,
    ) -> Result<(), SourceError> {
        self.push(tar::header_bytes(header)?);
        self.pieces.push(Piece::Blob(Arc::clone(from), Box::new(blob.clone())));
        self.push(vec![0; tar::padding(blob.size)]);
        Ok(())
    }

    /// Adds the end marker.
    pub(super) fn end(mut self) -> Self {
        self.push(vec![0; 2 * tar::BLOCK]);
        self
    }

    fn push(&mut self, mut bytes: Vec<u8>) {
        match self.pieces.last_mut() {
            Some(Piece::Bytes(last)) => last.append(&mut bytes),
            _ => self.pieces.push(Piece::Bytes(bytes)),
        }
    }

    /// Writes it as a stream, one blob after the other. Returns `out`.
    pub fn write<W: Write>(&self, mut out: W) -> Result<W, SourceError> {
        let failed = |error| SourceError::io("cannot write an archive", error);
        for piece in &self.pieces {
            match piece {
                Piece::Bytes(bytes) => out.write_all(bytes).map_err(failed)?,
                Piece::Blob(from, blob) => {
                    copy_stream(&**from, blob, &mut out).map_err(|error| of_blob(blob, error))?;
                }
            }
        }
        Ok(out)
    }

    /// Writes it into a new file, several blobs at once, each where it belongs. After an error the file is worthless.
    pub fn create(&self, path: &Path) -> Result<(), SourceError> {
        let failed = |error| SourceError::io(format!("cannot write {}", path.display()), error);
        let file = File::create(path).map_err(failed)?;
        let mut position = 0_u64;
        let mut jobs = Vec::new();
        let mut places = BTreeMap::new();
        for piece in &self.pieces {
            let length = match piece {
                Piece::Bytes(bytes) => {
                    file.write_all_at(bytes, position).map_err(failed)?;
                    bytes.len() as u64
                }
                Piece::Blob(from, blob) => {
                    jobs.push((Arc::clone(from), (**blob).clone()));
                    places.insert(blob.digest, position);
                    blob.size
                }
            };
            position = position.checked_add(length).ok_or_else(|| failed(io::ErrorKind::FileTooLarge.into()))?;
        }
        copy_all(jobs, &|from, blob| {
            let position = places.get(&blob.digest).copied().unwrap_or(position);
            let mut out = At { file: &file, path, position };
            copy_stream(from, blob, &mut out).map_err(|error| of_blob(blob, error))
        })
    }
}

fn of_blob(blob: &Descriptor, error: SourceError) -> SourceError {
    SourceError::caused(error.kind, format!("cannot write {} to an archive", blob.digest), error)
}

/// Writes from a position on, without moving the file's own.
struct At<'f> {
    file: &'f File,
    /// For errors.
    path: &'f Path,
    position: u64,
}

impl Write for At<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        let count = self.file.write_at(bytes, self.position).map_err(named)?;
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
