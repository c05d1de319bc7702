//! Fetches several layers at once and hands them out in order.
//!
//! Every layer has a window of memory that it is fetched into and read from at the same time. A window that is full makes
//! its connection wait: bytes that pass through a file cost more than bytes that wait in the network. Only if the reader
//! waits for the network, so that every connection should be busy, or if one has waited so long that the other end may lose
//! patience, does a layer go on into a file without a name. Fetching runs ahead of reading by a few layers only.
//!
//! The threads that fetch are not waited for when all is to end: one may be stuck in a read that takes its time to fail.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use skycap_image::progress::Task;
use skycap_image::{Layer, Progress};

use crate::stream::Each;
use crate::stream::pool::{Piece, Pool};
use crate::{Fault, UnpackError};

/// Bytes that are handed over at once.
const CHUNK: usize = 256 * 1024;
/// Bytes in the windows of all layers.
const WINDOWS: usize = 16 << 20;
/// The reader may wait so long in all before every connection is to be kept busy.
const STARVING: Duration = Duration::from_millis(250);
/// A connection may wait so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a waiting thread looks whether it still has to.
const TICK: Duration = Duration::from_millis(50);

/// Layers on their way, in the order in which they are wanted.
pub(crate) struct Fetch {
    spools: Vec<Spool>,
    concurrency: usize,
    /// Takes the files without names.
    directory: OwnedFd,
    turn: Mutex<Turn>,
    moved: Condvar,
    is_stopped: AtomicBool,
    /// Milliseconds that the reader has waited.
    starved: AtomicU64,
}

/// Which layer is fetched next, and which is being read.
#[derive(Default)]
struct Turn {
    next: usize,
    reading: usize,
}

/// A layer on its way.
struct Spool {
    layer: Layer,
    /// It is a local file and needs no window.
    is_local: bool,
    window: Arc<Pool>,
    state: Mutex<State>,
    grown: Condvar,
    has_begun: AtomicBool,
    is_wanted: AtomicBool,
    arrived: AtomicU64,
}

#[derive(Default)]
struct State {
    /// What is read first.
    memory: VecDeque<Piece>,
    /// What is read then: from `read` to `written`.
    file: Option<Arc<File>>,
    read: u64,
    written: u64,
    /// Set once nothing more will come.
    end: Option<io::Result<()>>,
    is_whole: bool,
}

impl Fetch {
    /// Begins to fetch layers, at most `concurrency` at once.
    pub(crate) fn start(layers: Vec<Layer>, concurrency: usize, directory: OwnedFd) -> Arc<Self> {
        let concurrency = concurrency.clamp(1, layers.len().max(1));
        let chunks = (WINDOWS / CHUNK / (2 * concurrency)).max(2);
        let fetch = Arc::new(Self {
            spools: layers.into_iter().map(|layer| Spool::new(layer, chunks)).collect(),
            concurrency,
            directory,
            turn: Mutex::default(),
            moved: Condvar::new(),
            is_stopped: AtomicBool::new(false),
            starved: AtomicU64::new(0),
        });
        if fetch.spools.iter().any(|spool| !spool.is_local) {
            for _ in 0..concurrency {
                let fetch = Arc::clone(&fetch);
                std::thread::spawn(move || fetch.work());
            }
        }
        fetch
    }

    /// Calls `each` for every layer, in order.
    pub(crate) fn feed(self: &Arc<Self>, each: &mut Each<'_>) -> Result<(), UnpackError> {
        for (number, spool) in self.spools.iter().enumerate() {
            if spool.is_local {
                spool.has_begun.store(true, Ordering::Relaxed);
                let blob = spool.layer.blobs.open_unverified(&spool.layer.descriptor);
                let blob = blob.map_err(|source| Fault::Source(source).of(&spool.layer))?;
                each(number, Box::new(LocalReader { fetch: Arc::clone(self), number, blob }))?;
            } else {
                each(number, Box::new(SpoolReader { fetch: Arc::clone(self), number, piece: None, used: 0 }))?;
                spool.window.close();
            }
            self.turn().reading += 1;
            self.moved.notify_all();
        }
        Ok(())
    }

    /// Nothing more is wanted.
    pub(crate) fn stop(&self) {
        // Taken so that nobody is between looking and waiting, or making a file.
        let turn = self.turn();
        self.is_stopped.store(true, Ordering::Relaxed);
        drop(turn);
        self.moved.notify_all();
        for spool in &self.spools {
            spool.window.close();
            drop(spool.lock());
            spool.grown.notify_all();
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(spool) = self.next().and_then(|number| self.spools.get(number)) {
            if spool.is_local {
                continue;
            }
            let ended = Ended(spool);
            let result = self.fetch(spool);
            ended.with(result);
        }
    }

    /// The next layer to fetch, as soon as it is near enough to the one being read.
    fn next(&self) -> Option<usize> {
        let mut turn = self.turn();
        let number = turn.next;
        turn.next += 1;
        let is_near = |turn: &Turn| number < turn.reading + 2 * self.concurrency;
        while number < self.spools.len() && !is_near(&turn) && !self.is_stopped() {
            turn = self.moved.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        (number < self.spools.len() && !self.is_stopped()).then_some(number)
    }

    fn fetch(&self, spool: &Spool) -> io::Result<()> {
        let descriptor = &spool.layer.descriptor;
        // One byte too many is enough for the check to fail.
        let blob = spool.layer.blobs.open_unverified(descriptor)?;
        let mut blob = blob.take(descriptor.size.saturating_add(1));
        spool.has_begun.store(true, Ordering::Relaxed);
        let mut aside = Vec::new();
        loop {
            let count = if let Some(mut piece) = self.buffer(spool)? {
                let count = spool.fill(&mut blob, piece.room())?;
                piece.filled(count);
                spool.append(piece);
                count
            } else {
                aside.resize(CHUNK, 0);
                let count = spool.fill(&mut blob, &mut aside)?;
                self.write_aside(spool, aside.get(..count).unwrap_or_default())?;
                count
            };
            if count == 0 {
                return Ok(());
            }
            spool.arrived.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// A part of the window, or nothing if the file is where the layer goes on.
    fn buffer(&self, spool: &Spool) -> io::Result<Option<Piece>> {
        let begun = Instant::now();
        loop {
            if self.is_stopped() {
                return Err(io::Error::other("stopped because another layer failed"));
            }
            if !spool.lock().has_read_the_file() {
                return Ok(None);
            }
            if let Some(piece) = spool.window.take_within(TICK) {
                return Ok(Some(piece));
            }
            let is_starving = u128::from(self.starved.load(Ordering::Relaxed)) > STARVING.as_millis();
            if is_starving || begun.elapsed() > PATIENCE {
                return Ok(None);
            }
        }
    }

    fn write_aside(&self, spool: &Spool, bytes: &[u8]) -> io::Result<()> {
        let mut state = spool.lock();
        let file = if let Some(file) = &state.file {
            Arc::clone(file)
        } else {
            // Nobody removes the directory meanwhile.
            let turn = self.turn();
            if self.is_stopped() {
                return Err(io::Error::other("stopped because another layer failed"));
            }
            let file = Arc::new(nameless(&self.directory)?);
            drop(turn);
            Arc::clone(state.file.insert(file))
        };
        if state.has_read_the_file() {
            // The same pages again: fresh ones are dear.
            (state.read, state.written) = (0, 0);
        }
        let at = state.written;
        // The reader must not wait for the disk.
        drop(state);
        file.write_all_at(bytes, at)?;
        spool.lock().written += bytes.len() as u64;
        spool.grown.notify_all();
        Ok(())
    }

    /// Tells how far each layer is; `tasks` are those that have begun.
    pub(crate) fn report<'p>(&self, tasks: &mut Vec<Reported<'p>>, progress: &'p dyn Progress) {
        tasks.resize_with(self.spools.len(), || Reported { task: None, bytes: 0 });
        for (spool, reported) in self.spools.iter().zip(tasks) {
            reported.update(spool, progress);
        }
    }
}

/// What was last told about a layer.
pub(crate) struct Reported<'p> {
    task: Option<Task<'p>>,
    bytes: u64,
}

impl<'p> Reported<'p> {
    fn update(&mut self, spool: &Spool, progress: &'p dyn Progress) {
        let descriptor = &spool.layer.descriptor;
        if self.bytes == u64::MAX || !spool.has_begun.load(Ordering::Relaxed) {
            return;
        }
        // Asked first, so that nothing arrives between counting and the end.
        let is_whole = spool.lock().is_whole;
        let task = self
            .task
            .get_or_insert_with(|| Task::start(progress, &descriptor.digest.hex()[..12], Some(descriptor.size)));
        let arrived = spool.arrived.load(Ordering::Relaxed);
        if arrived > self.bytes {
            task.advance(arrived - self.bytes);
            self.bytes = arrived;
        }
        if is_whole && let Some(task) = self.task.take() {
            task.finish("done");
            self.bytes = u64::MAX;
        }
    }
}

impl Spool {
    fn new(layer: Layer, chunks: usize) -> Self {
        Self {
            is_local: layer.blobs.file(&layer.descriptor).is_some(),
            layer,
            window: Pool::new(chunks, CHUNK),
            state: Mutex::default(),
            grown: Condvar::new(),
            has_begun: AtomicBool::new(false),
            is_wanted: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the buffer is full, the blob ends, or somebody waits for what is there.
    fn fill(&self, blob: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() && (filled == 0 || !self.is_wanted.load(Ordering::Relaxed)) {
            match blob.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn append(&self, piece: Piece) {
        if !piece.is_empty() {
            self.lock().memory.push_back(piece);
            self.grown.notify_all();
        }
    }
}

impl State {
    fn has_read_the_file(&self) -> bool {
        self.read == self.written
    }
}

/// Makes sure that a spool ends, so that its reader does not wait for ever for a thread that panicked.
struct Ended<'s>(&'s Spool);

impl Ended<'_> {
    fn with(self, result: io::Result<()>) {
        let mut state = self.0.lock();
        state.is_whole = result.is_ok();
        state.end = Some(result);
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.lock().end.get_or_insert_with(|| Err(io::Error::other("fetching it was interrupted")));
        self.0.grown.notify_all();
    }
}

/// A file without a name in a directory that is removed in the end.
fn nameless(directory: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            const NAME: &str = "fetched";
            let file = rustix::fs::openat(directory, NAME, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
            rustix::fs::unlinkat(directory, NAME, AtFlags::empty())?;
            Ok(file.into())
        }
        Err(error) => Err(error.into()),
    }
}

struct SpoolReader {
    fetch: Arc<Fetch>,
    number: usize,
    piece: Option<Piece>,
    used: usize,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = &self.piece {
                let rest = piece.bytes().get(self.used..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                if count > 0 {
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.used += count;
                    return Ok(count);
                }
                (self.piece, self.used) = (None, 0);
            }
            let Some(spool) = self.fetch.spools.get(self.number) else { return Ok(0) };
            let mut state = spool.lock();
            if let Some(piece) = state.memory.pop_front() {
                drop(state);
                self.piece = Some(piece);
            } else if state.read < state.written {
                let (file, at) = (state.file.clone(), state.read);
                let most = usize::try_from(state.written - at).unwrap_or(usize::MAX).min(buffer.len());
                drop(state);
                let count = file.map_or(Ok(0), |file| file.read_at(&mut buffer[..most], at))?;
                if count == 0 && most > 0 {
                    return Err(io::Error::other("the file of what was fetched was cut off"));
                }
                spool.lock().read += count as u64;
                return Ok(count);
            } else if let Some(end) = &mut state.end {
                return std::mem::replace(end, Err(io::Error::other("fetching it failed"))).map(|()| {
                    *end = Ok(());
                    0
                });
            } else if self.fetch.is_stopped() {
                return Err(io::Error::other("stopped"));
            } else {
                spool.is_wanted.store(true, Ordering::Relaxed);
                let begun = Instant::now();
                drop(spool.grown.wait(state).unwrap_or_else(PoisonError::into_inner));
                spool.is_wanted.store(false, Ordering::Relaxed);
                let waited = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                self.fetch.starved.fetch_add(waited, Ordering::Relaxed);
            }
        }
    }
}

struct LocalReader {
    fetch: Arc<Fetch>,
    number: usize,
    blob: skycap_image::BlobReader,
}

impl Read for LocalReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fetch.is_stopped() {
            return Err(io::Error::other("stopped"));
        }
        let count = self.blob.read(buffer)?;
        if let Some(spool) = self.fetch.spools.get(self.number) {
            spool.arrived.fetch_add(count as u64, Ordering::Relaxed);
            if count == 0 {
                spool.lock().is_whole = true;
            }
        }
        Ok(count)
    }
}
