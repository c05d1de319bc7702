//! Large files on their way to the disk, past the page cache (`docs/decisions/0025-how-outputs-are-written.md`).
//!
//! Whoever makes a file durable waits for the disk anyway. Bytes that go there at once need no memory to wait in, which a
//! machine may first have to get from its host, and push nothing out that others use. One thread makes the bytes and another
//! writes them, so that reading and hashing cost no time beside a disk that is slower.

use std::fs::File;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// What is written at once: more makes no disk faster.
const CHUNK: usize = 1 << 20;
/// What the memory and the positions of direct writes are multiples of: a page, and of no disk's blocks is it a part.
const ALIGNMENT: usize = 4096;
/// One chunk is filled while another is written and a third waits.
const CHUNKS: usize = 3;

/// Writes a new file from its beginning. Only [`Direct::finish`] writes all of it; the file is durable when it is synced after
/// that. A file system that has no direct writes gets ordinary ones.
pub(crate) struct Direct {
    file: File,
    filling: Chunk,
    disk: Option<Disk>,
}

/// The thread that writes, from the first full chunk on.
struct Disk {
    full: Option<SyncSender<Chunk>>,
    empty: Receiver<Chunk>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// Some bytes of the file at an aligned place in memory.
struct Chunk {
    memory: Vec<u8>,
    start: usize,
    filled: usize,
}

impl Direct {
    /// `file` is empty and its position is at its beginning.
    pub fn new(file: &File) -> io::Result<Self> {
        Ok(Self { file: file.try_clone()?, filling: Chunk::new(), disk: None })
    }

    /// Writes what is left.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(mut disk) = self.disk.take() {
            disk.end()?;
        }
        // Less than a chunk, and seldom whole blocks.
        self.file.write_all(self.filling.bytes())
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let disk = match &mut self.disk {
            Some(disk) => disk,
            none => none.insert(Disk::start(self.file.try_clone()?)?),
        };
        let Some(mut next) = disk.next() else { return disk.failed() };
        std::mem::swap(&mut next, &mut self.filling);
        if disk.take(next) { Ok(()) } else { disk.failed() }
    }
}

impl Write for Direct {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.filling.room() == 0 {
            self.hand_over()?;
        }
        Ok(self.filling.add(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Disk {
    fn start(file: File) -> io::Result<Self> {
        let (full, from_full) = sync_channel(CHUNKS);
        let (to_empty, empty) = sync_channel(CHUNKS);
        for _ in 1..CHUNKS {
            let _ = to_empty.try_send(Chunk::new());
        }
        let thread = Builder::new().spawn(move || write_chunks(file, &from_full, &to_empty))?;
        Ok(Self { full: Some(full), empty, thread: Some(thread) })
    }

    /// An empty chunk, when there is one; `None` if the thread has ended.
    fn next(&self) -> Option<Chunk> {
        self.empty.recv().ok()
    }

    /// Whether the thread takes a full one.
    fn take(&self, chunk: Chunk) -> bool {
        self.full.as_ref().is_some_and(|full| full.send(chunk).is_ok())
    }

    /// What ended the thread.
    fn failed(&mut self) -> io::Result<()> {
        self.end().and_then(|()| Err(no_further()))
    }

    /// Waits until everything that was taken is written. Once: what is written after an error would leave a hole.
    fn end(&mut self) -> io::Result<()> {
        self.full = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(written)) => written,
            Some(Err(_)) | None => Err(no_further()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing is written any more when the file is removed.
        let _ = self.end();
    }
}

fn no_further() -> io::Error {
    io::Error::other("the file is written no further after an error")
}

fn write_chunks(file: File, full: &Receiver<Chunk>, empty: &SyncSender<Chunk>) -> io::Result<()> {
    // Pipes and devices have another meaning for it.
    let is_file = file.metadata().is_ok_and(|file| file.is_file());
    let mut way = Way { is_direct: is_file && set_direct(&file, true).is_ok(), file };
    let written = full.iter().try_for_each(|mut chunk| {
        way.write_all(chunk.bytes())?;
        chunk.filled = 0;
        // Nobody waits for it after the last one.
        let _ = empty.send(chunk);
        Ok(())
    });
    way.leave().and(written)
}

struct Way {
    file: File,
    is_direct: bool,
}

impl Way {
    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The file system cannot after all, or wants larger blocks, or a disk that is nearly full took a part of one.
                Err(error) if self.is_direct && error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
                    self.leave()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// From here on writes are ordinary ones.
    fn leave(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_direct) { set_direct(&self.file, false) } else { Ok(()) }
    }
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

impl Chunk {
    fn new() -> Self {
        let memory = vec![0; CHUNK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, filled: 0 }
    }

    fn room(&self) -> usize {
        CHUNK - self.filled
    }

    fn add(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        let from = self.start + self.filled;
        self.memory[from..from + count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        count
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.filled]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(count: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn a_file_holds_what_was_written_whatever_its_size_and_in_whatever_pieces() {
        let bytes = noise(5 * CHUNK + 4097);
        for size in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, bytes.len()] {
            for piece in [777, 4096, 3 * CHUNK] {
                let file = tempfile::NamedTempFile::new().unwrap();
                let mut direct = Direct::new(file.as_file()).unwrap();
                bytes[..size].chunks(piece).for_each(|piece| direct.write_all(piece).unwrap());
                direct.finish().unwrap();
                assert!(std::fs::read(file.path()).unwrap() == bytes[..size], "{size} in pieces of {piece}");
                let flags = fcntl_getfl(file.as_file()).unwrap();
                assert!(!flags.contains(OFlags::DIRECT), "later writes are ordinary ones");
            }
        }
    }

    #[test]
    fn the_thread_s_error_is_told_to_whoever_writes_on() {
        let mut direct = Direct::new(&File::options().write(true).open("/dev/full").unwrap()).unwrap();
        let piece = vec![1; CHUNK];
        let failed = (0..10).find_map(|_| direct.write_all(&piece).err()).expect("the device is full");
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(direct.finish().is_err(), "nothing is written any more");
    }

    #[test]
    fn an_error_in_the_last_chunks_is_told_at_the_end() {
        for size in [1, CHUNK + 1] {
            let mut direct = Direct::new(&File::options().write(true).open("/dev/full").unwrap()).unwrap();
            direct.write_all(&vec![1; size]).unwrap();
            assert_eq!(direct.finish().unwrap_err().kind(), io::ErrorKind::StorageFull, "{size}");
        }
    }

    #[test]
    fn what_cannot_be_written_directly_is_written_anyway() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let to = file.reopen().unwrap();
        let mut way = Way { is_direct: set_direct(&to, true).is_ok(), file: to };
        let bytes = noise(2 * ALIGNMENT + 100);
        // Neither the length nor the place in memory is right.
        way.write_all(&bytes[1..]).unwrap();
        way.write_all(&bytes[..100]).unwrap();
        assert!(std::fs::read(file.path()).unwrap() == [&bytes[1..], &bytes[..100]].concat());
    }

    #[test]
    fn a_chunk_is_aligned_wherever_it_is_moved() {
        let mut chunk = Chunk::new();
        chunk.add(&[1; 100]);
        let chunks = [chunk, Chunk::new()];
        assert!(chunks.iter().all(|chunk| chunk.bytes().as_ptr().addr() % ALIGNMENT == 0));
    }
}
