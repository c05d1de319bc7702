//! Content and metadata of files, written by several threads.
//!
//! Names are made by one thread, in the order of the layer; that alone decides what the tree is. A new file's descriptor
//! then comes here together with its content, and whatever happens to its name meanwhile, it is that file that is
//! written. Small files travel in batches, so that handing over costs little; the pieces of a large one go to one thread
//! while the rest of it is still being inflated.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use skycap_image::tar::Segment;

use super::attributes::Attributes;
use super::large::{LARGE, Ways};
use crate::read::Data;
use crate::stream::pool::{Piece, Pool, Slice};
use crate::{Metadata, TreePath};

/// Files with at most so many bytes travel in batches.
const SMALL: u64 = 64 * 1024;
/// A batch is so many bytes or files, and so many of them are there.
const BATCH_BYTES: usize = 256 * 1024;
const BATCH_FILES: usize = 32;
const BATCHES: usize = 6;
/// Open files that wait to be written.
const OPEN: usize = 256;

/// What the threads share.
pub(crate) struct Crew<'p> {
    pub(super) attributes: Attributes<'p>,
    queue: Mutex<Queue>,
    /// There is work, or there will be none.
    added: Condvar,
    /// Some work is done.
    done: Condvar,
    has_failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    batches: Arc<Pool>,
    most_open: usize,
    ways: Ways,
}

#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Files that were handed over and are not done.
    files: usize,
    is_closed: bool,
}

/// A file that could not be written.
pub(crate) struct Failure {
    /// The layer's position among those that are applied.
    pub(crate) layer: usize,
    pub(crate) path: TreePath,
    pub(crate) source: io::Error,
}

/// A new file whose content is on its way.
struct Job {
    file: File,
    layer: usize,
    path: TreePath,
    metadata: Metadata,
    /// The length, and where the data belongs if it has holes.
    size: u64,
    segments: Option<Vec<Segment>>,
}

enum Work {
    Batch(Batch),
    Large(Job, Receiver<Slice>),
}

/// Files whose content lies one behind the other.
struct Batch {
    jobs: Vec<(Job, usize)>,
    bytes: Piece,
}

impl Work {
    fn files(&self) -> usize {
        match self {
            Self::Batch(batch) => batch.jobs.len(),
            Self::Large(..) => 1,
        }
    }
}

impl<'p> Crew<'p> {
    pub(crate) fn new(attributes: Attributes<'p>) -> Self {
        // Others need descriptors, too.
        let allowed = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX) / 4;
        Self {
            attributes,
            queue: Mutex::default(),
            added: Condvar::new(),
            done: Condvar::new(),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
            batches: Pool::new(BATCHES, BATCH_BYTES),
            most_open: usize::try_from(allowed).unwrap_or(OPEN).clamp(1, OPEN),
            ways: Ways::default(),
        }
    }

    /// Works until the crew is dismissed; for a thread of its own.
    pub(crate) fn work(&self) {
        while let Some(work) = self.next() {
            // Counted whatever happens, also a panic: somebody may wait for it.
            let _done = Done { crew: self, files: work.files() };
            if self.has_failed() {
                continue;
            }
            match work {
                Work::Batch(batch) => self.write_batch(batch),
                Work::Large(job, slices) => self.attempt(job, |job| self.write_large(job, slices)),
            }
        }
    }

    /// No work will come any more.
    pub(crate) fn dismiss(&self) {
        self.queue().is_closed = true;
        self.added.notify_all();
    }

    /// What is not written yet need not be.
    pub(crate) fn give_up(&self) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.batches.close();
        drop(self.queue());
        self.done.notify_all();
    }

    /// Whether there is no use in going on.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// The first file that could not be written.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn next(&self) -> Option<Work> {
        let mut queue = self.queue();
        loop {
            if let Some(work) = queue.work.pop_front() {
                return Some(work);
            }
            if queue.is_closed {
                return None;
            }
            queue = self.added.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn add(&self, work: Work) {
        let mut queue = self.queue();
        queue.files += work.files();
        queue.work.push_back(work);
        drop(queue);
        self.added.notify_one();
    }

    /// Waits until at most `most` files are under way.
    fn wait(&self, most: usize) {
        let mut queue = self.queue();
        while queue.files > most && !self.has_failed() {
            queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_batch(&self, batch: Batch) {
        let Batch { jobs, bytes } = batch;
        let mut at = 0;
        for (job, length) in jobs {
            let content = bytes.bytes().get(at..at + length).unwrap_or_default();
            at += length;
            self.attempt(job, |job| write_small(job, content));
        }
    }

    fn write_large(&self, job: &mut Job, slices: Receiver<Slice>) -> io::Result<()> {
        if let Some(segments) = job.segments.take() {
            return write_sparse(job, segments, slices);
        }
        if job.size < LARGE {
            return slices.into_iter().try_for_each(|slice| job.file.write_all(slice.bytes()));
        }
        self.ways.write(&mut job.file, slices.into_iter(), self.ways.choose())
    }

    fn attempt(&self, mut job: Job, write: impl FnOnce(&mut Job) -> io::Result<()>) {
        let written = write(&mut job).and_then(|()| self.attributes.file(&job.file, &job.metadata));
        if let Err(source) = written {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(Failure { layer: job.layer, path: job.path, source });
            drop(failure);
            self.give_up();
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Done<'c, 'p> {
    crew: &'c Crew<'p>,
    files: usize,
}

impl Drop for Done<'_, '_> {
    fn drop(&mut self) {
        self.crew.queue().files -= self.files;
        self.crew.done.notify_all();
    }
}

fn write_small(job: &mut Job, mut content: &[u8]) -> io::Result<()> {
    let Some(segments) = &job.segments else { return job.file.write_all(content) };
    for segment in segments {
        let length = usize::try_from(segment.length).unwrap_or(usize::MAX).min(content.len());
        let (data, rest) = content.split_at(length);
        job.file.write_all_at(data, segment.offset)?;
        content = rest;
    }
    job.file.set_len(job.size)
}

fn write_sparse(job: &mut Job, segments: Vec<Segment>, slices: Receiver<Slice>) -> io::Result<()> {
    let mut slices = slices.into_iter();
    let mut slice: Option<Slice> = None;
    for Segment { mut offset, length } in segments {
        let end = offset + length;
        while offset < end {
            let Some(current) = slice.as_mut().filter(|slice| !slice.is_empty()) else {
                slice = slices.next();
                // The sender knows why nothing more comes.
                if slice.is_none() {
                    return Ok(());
                }
                continue;
            };
            let data = current.split_off(usize::try_from(end - offset).unwrap_or(usize::MAX));
            job.file.write_all_at(data.bytes(), offset)?;
            offset += data.len() as u64;
        }
    }
    job.file.set_len(job.size)
}

/// Where new files are handed over; for the one thread that makes names.
pub(crate) struct Writers<'c, 'p> {
    crew: &'c Crew<'p>,
    batch: Option<Batch>,
    /// The layer that is being applied.
    pub(super) layer: usize,
}

impl<'c, 'p> Writers<'c, 'p> {
    pub(crate) fn new(crew: &'c Crew<'p>) -> Self {
        Self { crew, batch: None, layer: 0 }
    }

    pub(super) fn attributes(&self) -> &'c Attributes<'p> {
        &self.crew.attributes
    }

    /// Fails if there is no use in going on.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.crew.has_failed() { Err(given_up()) } else { Ok(()) }
    }

    /// Waits until another file may be opened.
    pub(super) fn make_room(&mut self) {
        let waiting = self.batch.as_ref().map_or(0, |batch| batch.jobs.len());
        if waiting >= self.crew.most_open {
            self.flush();
        }
        self.crew.wait(self.crew.most_open.saturating_sub(waiting + 1));
    }

    /// Waits until all is written.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        self.flush();
        self.crew.wait(0);
        self.check()
    }

    /// Takes a new, empty file.
    pub(super) fn file(
        &mut self,
        file: OwnedFd,
        path: &TreePath,
        metadata: &Metadata,
        data: &mut Data<'_, '_>,
    ) -> io::Result<()> {
        let (size, segments) = (data.size(), data.take_segments());
        let stored = segments.as_ref().map_or(size, |segments| segments.iter().map(|segment| segment.length).sum());
        let job = self.job(file, path, metadata, size, segments);
        if stored <= SMALL {
            return self.small(job, usize::try_from(stored).unwrap_or_default(), data);
        }
        let (sender, slices) = channel();
        self.crew.add(Work::Large(job, slices));
        // A writer that failed has said why.
        data.slices(&mut |slice| drop(sender.send(slice)))
    }

    /// Takes a file that stays empty.
    pub(super) fn empty(&mut self, file: OwnedFd, path: &TreePath, metadata: &Metadata) -> io::Result<()> {
        let job = self.job(file, path, metadata, 0, None);
        self.small(job, 0, &mut io::empty())
    }

    fn job(
        &self,
        file: OwnedFd,
        path: &TreePath,
        metadata: &Metadata,
        size: u64,
        segments: Option<Vec<Segment>>,
    ) -> Job {
        let (layer, path, metadata) = (self.layer, path.clone(), metadata.clone());
        Job { file: file.into(), layer, path, metadata, size, segments }
    }

    fn small(&mut self, job: Job, stored: usize, data: &mut dyn io::Read) -> io::Result<()> {
        let is_full = |batch: &mut Batch| batch.jobs.len() == BATCH_FILES || batch.bytes.room().len() < stored;
        if self.batch.as_mut().is_some_and(is_full) {
            self.flush();
        }
        let batch = match &mut self.batch {
            Some(batch) => batch,
            none => {
                let bytes = self.crew.batches.take().ok_or_else(given_up)?;
                none.insert(Batch { jobs: Vec::with_capacity(BATCH_FILES), bytes })
            }
        };
        let room = batch.bytes.room().get_mut(..stored).unwrap_or_default();
        data.read_exact(room)?;
        batch.bytes.filled(stored);
        batch.jobs.push((job, stored));
        Ok(())
    }

    fn flush(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.crew.add(Work::Batch(batch));
        }
    }
}

fn given_up() -> io::Error {
    io::Error::other("stopped because another file could not be written")
}
