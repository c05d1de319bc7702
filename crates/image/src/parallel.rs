//! Copies several blobs at once.
//!
//! One thread walks an artifact and hands its blobs to a few others. Documents wait until all blobs before them are there,
//! so that whoever looks at the place meanwhile never finds a document whose parts are missing.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::walk::{Part, walk};
use crate::{Artifact, BlobSource, Descriptor, SourceError};

/// How many blobs are under way at once: what browsers and container engines allow themselves against one host.
const AT_ONCE: usize = 4;
/// Blobs that wait. Each is a descriptor.
const WAITING: usize = 64;
/// Bytes of documents that wait for blobs.
const DOCUMENTS: usize = 16 << 20;
/// Small enough for the second-level cache, large enough to make system calls cheap.
const PIECE: usize = 256 * 1024;

/// A blob and where to read it.
pub(crate) type Job = (Arc<dyn BlobSource>, Descriptor);

/// What is done with a blob, on several threads.
type Copy<'c> = &'c (dyn Fn(&dyn BlobSource, &Descriptor) -> Result<(), SourceError> + Sync);

/// What is done with a document, on the caller's thread.
type Keep<'k> = &'k mut dyn FnMut(&Descriptor, &[u8]) -> Result<(), SourceError>;

/// Copies every part of an artifact, a document after its parts.
pub(crate) fn copy_parts(artifact: &Artifact, copy: Copy<'_>, keep: Keep<'_>) -> Result<(), SourceError> {
    with_pool(copy, |pool| {
        let mut documents: Vec<(Descriptor, Vec<u8>)> = Vec::new();
        let mut bytes_waiting = 0;
        let mut write = |documents: &mut Vec<(Descriptor, Vec<u8>)>| {
            pool.wait(|state| state.jobs.is_empty() && state.running == 0)?;
            documents.drain(..).try_for_each(|(document, bytes)| keep(&document, &bytes))
        };
        walk(artifact, &mut |part| match part {
            Part::Blob(from, blob) => pool.submit((Arc::clone(from), blob.clone())),
            Part::Document(document, bytes) => {
                bytes_waiting += bytes.len();
                documents.push((document.clone(), bytes.to_vec()));
                if bytes_waiting > DOCUMENTS {
                    bytes_waiting = 0;
                    write(&mut documents)?;
                }
                Ok(())
            }
        })?;
        write(&mut documents)
    })
}

/// Runs `copy` for every job.
pub(crate) fn copy_all(jobs: impl IntoIterator<Item = Job>, copy: Copy<'_>) -> Result<(), SourceError> {
    with_pool(copy, |pool| {
        jobs.into_iter().try_for_each(|job| pool.submit(job))?;
        pool.wait(|state| state.jobs.is_empty() && state.running == 0)
    })
}

/// Copies in large pieces and checks the end.
pub(crate) fn copy_stream(from: &dyn BlobSource, blob: &Descriptor, out: &mut dyn Write) -> Result<(), SourceError> {
    let mut reader = from.open(blob)?;
    let mut piece = vec![0; PIECE.min(usize::try_from(blob.size).unwrap_or(PIECE)).max(1)];
    loop {
        // Small reads come from the network; large writes are what a disk likes.
        let count = fill(&mut reader, &mut piece)?;
        if count == 0 {
            return reader.finish().map_err(SourceError::from);
        }
        out.write_all(&piece[..count])?;
    }
}

fn fill(reader: &mut impl Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match reader.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    running: usize,
    is_closed: bool,
    has_failed: bool,
    failure: Option<SourceError>,
}

fn with_pool<T>(copy: Copy<'_>, give: impl FnOnce(&Pool) -> Result<T, SourceError>) -> Result<T, SourceError> {
    let pool = Pool { state: Mutex::default(), changed: Condvar::new() };
    let given = std::thread::scope(|scope| {
        // Also when `give` unwinds, or the scope would wait for ever.
        let closing = Closing(&pool);
        for _ in 0..AT_ONCE {
            scope.spawn(|| pool.work(copy));
        }
        let given = give(&pool);
        drop(closing);
        given
    });
    // What went wrong with a blob explains why no more were taken.
    match pool.lock().failure.take() {
        Some(failure) => Err(failure),
        None => given,
    }
}

struct Closing<'p>(&'p Pool);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_closed = true;
        state.jobs.clear();
        drop(state);
        self.0.changed.notify_all();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room and queues a job.
    fn submit(&self, job: Job) -> Result<(), SourceError> {
        self.wait(|state| state.jobs.len() < WAITING)?;
        self.lock().jobs.push_back(job);
        self.changed.notify_all();
        Ok(())
    }

    fn wait(&self, until: impl Fn(&State) -> bool) -> Result<(), SourceError> {
        let mut state = self.lock();
        while !state.has_failed && !until(&state) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.has_failed { Err(SourceError::new(crate::Kind::Other, "another blob failed")) } else { Ok(()) }
    }

    fn work(&self, copy: Copy<'_>) {
        let mut state = self.lock();
        loop {
            if let Some((from, blob)) = state.jobs.pop_front() {
                state.running += 1;
                drop(state);
                let outcome = copy(&*from, &blob);
                state = self.lock();
                state.running -= 1;
                if let Err(failure) = outcome {
                    state.has_failed = true;
                    state.jobs.clear();
                    state.failure.get_or_insert(failure);
                }
                self.changed.notify_all();
            } else if state.is_closed || state.has_failed {
                return;
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Kind, MediaType, Memory};

    fn jobs(count: usize) -> Vec<Job> {
        let memory = Memory::default();
        let add = |number: usize| memory.add(MediaType::OciLayer, number.to_string().into_bytes());
        (0..count).map(|number| (Arc::new(memory.clone()) as Arc<dyn BlobSource>, add(number))).collect()
    }

    #[test]
    fn every_job_is_done_and_several_at_once() {
        let (done, together, most) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        copy_all(jobs(200), &|from, blob| {
            most.fetch_max(together.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(1));
            copy_stream(from, blob, &mut io::sink())?;
            together.fetch_sub(1, Ordering::SeqCst);
            done.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
        .unwrap();
        assert_eq!(done.into_inner(), 200);
        assert!((2..=AT_ONCE).contains(&most.into_inner()));
    }

    #[test]
    fn the_first_failure_ends_all_and_is_told() {
        let done = AtomicUsize::new(0);
        let error = copy_all(jobs(5000), &|_, _| match done.fetch_add(1, Ordering::SeqCst) {
            3 => Err(SourceError::new(Kind::Denied, "no")),
            _ => Ok(()),
        });
        assert_eq!(error.unwrap_err().kind, Kind::Denied);
        assert!(done.into_inner() < 5000);
    }
}
