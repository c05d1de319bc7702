//! A place that can be told to stop, and that tells what is read from it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::progress::Task;
use crate::{BlobReader, BlobSource, Descriptor, Progress, RawManifest, SourceError};

/// Says whether to stop.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// Another place whose readers fail once `stop` says so. So whoever reads, and cleans up when reading fails, can be
/// interrupted between any two pieces of any blob.
pub struct Watched {
    /// Where the blobs are.
    pub from: Arc<dyn BlobSource>,
    /// Asked before every piece.
    pub stop: Stop,
    /// Told about layers, for places that do not tell by themselves.
    pub progress: Option<Arc<dyn Progress>>,
}

impl Watched {
    fn check(&self) -> io::Result<()> {
        check(&self.stop)
    }
}

fn check(stop: &Stop) -> io::Result<()> {
    // Not `Interrupted`: that kind means "try again" to readers.
    if stop() { Err(io::Error::other("interrupted")) } else { Ok(()) }
}

impl BlobSource for Watched {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        self.check()?;
        let task = self.progress.as_ref().filter(|_| !blob.media_type.is_image_config()).map(|progress| {
            let label = format!("copy layer {}", &blob.digest.hex()[..12]);
            Task::start_shared(Arc::clone(progress), &label, Some(blob.size))
        });
        let from = self.from.open_unverified(blob)?;
        Ok(Box::new(Reader { from, stop: Arc::clone(&self.stop), task }))
    }

    fn manifest(&self, manifest: &Descriptor) -> Result<RawManifest, SourceError> {
        self.check()?;
        self.from.manifest(manifest)
    }

    fn asker(&self) -> Option<String> {
        self.from.asker()
    }

    fn holds(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        self.check()?;
        self.from.holds(blob)
    }

    fn kept_in(&self) -> Option<&Path> {
        self.from.kept_in()
    }

    fn file(&self, blob: &Descriptor) -> Option<PathBuf> {
        self.from.file(blob)
    }
}

struct Reader {
    from: BlobReader,
    stop: Stop,
    task: Option<Task<'static>>,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check(&self.stop)?;
        let count = self.from.read(buffer)?;
        match &self.task {
            Some(task) if count > 0 => task.advance(count as u64),
            Some(_) if !buffer.is_empty() => {
                if let Some(task) = self.task.take() {
                    task.finish("done");
                }
            }
            _ => {}
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    use crate::{MediaType, Memory};

    #[test]
    fn a_reader_that_is_told_to_stop_fails_at_its_next_piece() {
        let memory = Memory::default();
        let blob = memory.add(MediaType::OciLayer, &b"0123456789"[..]);
        let wished = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&wished);
        let stop: Stop = Arc::new(move || seen.load(Ordering::Relaxed));
        let watched = Watched { from: Arc::new(memory), stop, progress: None };
        let mut reader = watched.open(&blob).unwrap();
        let mut piece = [0; 4];
        reader.read_exact(&mut piece).unwrap();
        wished.store(true, Ordering::Relaxed);
        assert_eq!(reader.read(&mut piece).unwrap_err().to_string(), "interrupted");
        assert!(watched.open(&blob).is_err() && watched.manifest(&blob).is_err());
    }
}
