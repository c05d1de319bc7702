//! Fetches several layers at once and hands them out in order.
//!
//! A layer is written to a spool while it arrives and read from there at the same time, so the first layer is applied
//! while it is still on its way, and the others do not wait for it. Small layers stay in memory, larger ones go to a file
//! without a name; fetching runs ahead of applying by a few layers only.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use skycap_image::progress::Task;
use skycap_image::{BlobReader, Layer, Progress};

use crate::{Fault, UnpackError};

/// Layers up to this many bytes are kept in memory.
const SMALL: u64 = 256 * 1024;
const BUFFER: usize = 128 * 1024;

/// What to do with each layer.
type Each<'e> = dyn FnMut(&Layer, BlobReader) -> Result<(), UnpackError> + 'e;

/// Calls `each` for every layer, in order, while at most `concurrency` of them are being fetched. `directory` takes the
/// files without names.
pub(crate) fn in_order(
    layers: &[Layer],
    concurrency: usize,
    directory: &Path,
    progress: &dyn Progress,
    each: &mut Each<'_>,
) -> Result<(), UnpackError> {
    let concurrency = concurrency.clamp(1, layers.len().max(1));
    let spools: Vec<Spool> = layers.iter().map(Spool::for_layer).collect();
    let queue = Queue::new(2 * concurrency);
    std::thread::scope(|scope| {
        // Whatever happens, also a panic in `each`, the workers stop.
        let _stop = StopOnDrop(&queue);
        if spools.iter().any(|spool| !spool.is_local) {
            for _ in 0..concurrency {
                scope.spawn(|| work(&queue, layers, &spools, directory, progress));
            }
        }
        for (layer, spool) in layers.iter().zip(&spools) {
            if spool.is_local {
                read_local(layer, progress, each)?;
            } else {
                read_spooled(layer, spool, each)?;
            }
            queue.advance();
        }
        Ok(())
    })
}

/// A layer that is a local file already needs no spool.
fn read_local(layer: &Layer, progress: &dyn Progress, each: &mut Each<'_>) -> Result<(), UnpackError> {
    let task = task(layer, progress);
    let blob = layer.blobs.open_unverified(&layer.descriptor);
    let blob = blob.map_err(|source| Fault::Source(source).of(layer))?;
    each(layer, blob)?;
    task.advance(layer.descriptor.size);
    task.finish("done");
    Ok(())
}

fn read_spooled(layer: &Layer, spool: &Spool, each: &mut Each<'_>) -> Result<(), UnpackError> {
    // The reader must own what it reads: the contents move into it and are gone with it.
    let reader = SpoolReader { shared: std::sync::Arc::clone(&spool.shared), at: 0 };
    let result = each(layer, Box::new(reader));
    spool.shared.lock().store = Store::Memory(Vec::new());
    result
}

fn task<'p>(layer: &Layer, progress: &'p dyn Progress) -> Task<'p> {
    let digest = layer.descriptor.digest.hex();
    Task::start(progress, &digest[..12], Some(layer.descriptor.size))
}

/// Which layer is fetched next, and how far applying is.
struct Queue {
    state: Mutex<(usize, usize)>,
    moved: Condvar,
    window: usize,
    stopped: AtomicBool,
}

impl Queue {
    fn new(window: usize) -> Self {
        Self { state: Mutex::new((0, 0)), moved: Condvar::new(), window, stopped: AtomicBool::new(false) }
    }

    /// The next layer to fetch, as soon as it is near enough to the one being applied.
    fn next(&self, count: usize) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let index = state.0;
        state.0 += 1;
        while index < count && index >= state.1 + self.window && !self.is_stopped() {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (index < count && !self.is_stopped()).then_some(index)
    }

    fn advance(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 += 1;
        self.moved.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

struct StopOnDrop<'q>(&'q Queue);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        // Taken so that nobody is between looking and waiting.
        let _state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.stopped.store(true, Ordering::Relaxed);
        self.0.moved.notify_all();
    }
}

fn work(queue: &Queue, layers: &[Layer], spools: &[Spool], directory: &Path, progress: &dyn Progress) {
    while let Some(index) = queue.next(layers.len()) {
        let (Some(layer), Some(spool)) = (layers.get(index), spools.get(index)) else { return };
        if spool.is_local {
            continue;
        }
        let task = task(layer, progress);
        let ended = Ended { shared: &spool.shared };
        let result = fetch(layer, &spool.shared, directory, &task, queue);
        if result.is_ok() {
            task.finish("done");
        }
        ended.with(result);
    }
}

fn fetch(layer: &Layer, shared: &Shared, directory: &Path, task: &Task<'_>, queue: &Queue) -> io::Result<()> {
    if layer.descriptor.size > SMALL {
        shared.lock().store = Store::File(std::sync::Arc::new(tempfile::tempfile_in(directory)?));
    }
    // One byte too many is enough for the check to fail.
    let mut blob = layer.blobs.open_unverified(&layer.descriptor)?.take(layer.descriptor.size.saturating_add(1));
    let mut buffer = vec![0; BUFFER];
    while !queue.is_stopped() {
        match blob.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                shared.append(&buffer[..count])?;
                task.advance(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("stopped because another layer failed"))
}

/// A layer on its way.
struct Spool {
    shared: std::sync::Arc<Shared>,
    is_local: bool,
}

struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

struct State {
    store: Store,
    written: u64,
    /// Set once nothing more will come.
    end: Option<io::Result<()>>,
}

#[derive(Clone)]
enum Store {
    Memory(Vec<u8>),
    File(std::sync::Arc<File>),
}

impl Spool {
    fn for_layer(layer: &Layer) -> Self {
        let state = State { store: Store::Memory(Vec::new()), written: 0, end: None };
        Self {
            shared: std::sync::Arc::new(Shared { state: Mutex::new(state), grown: Condvar::new() }),
            is_local: layer.blobs.file(&layer.descriptor).is_some(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let at = state.written;
        match &mut state.store {
            Store::Memory(memory) => memory.extend_from_slice(bytes),
            Store::File(file) => {
                let file = std::sync::Arc::clone(file);
                // The reader must not wait for the disk.
                drop(state);
                file.write_all_at(bytes, at)?;
                state = self.lock();
            }
        }
        state.written += bytes.len() as u64;
        drop(state);
        self.grown.notify_all();
        Ok(())
    }
}

/// Makes sure that a spool ends, so that its reader does not wait for ever for a worker that panicked.
struct Ended<'s> {
    shared: &'s Shared,
}

impl Ended<'_> {
    fn with(self, result: io::Result<()>) {
        self.shared.lock().end = Some(result);
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.shared.lock().end.get_or_insert_with(|| Err(io::Error::other("fetching it was interrupted")));
        self.shared.grown.notify_all();
    }
}

struct SpoolReader {
    shared: std::sync::Arc<Shared>,
    at: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.lock();
        while state.written <= self.at {
            match &mut state.end {
                None => state = self.shared.grown.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Ok(())) => return Ok(0),
                Some(end) => return std::mem::replace(end, Err(io::Error::other("fetching it failed"))).map(|()| 0),
            }
        }
        let ready = usize::try_from(state.written - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let count = match &state.store {
            Store::Memory(memory) => {
                let start = usize::try_from(self.at).unwrap_or(usize::MAX);
                memory.get(start..).unwrap_or_default().read(&mut buffer[..ready])?
            }
            Store::File(file) => {
                let file = std::sync::Arc::clone(file);
                drop(state);
                file.read_at(&mut buffer[..ready], self.at)?
            }
        };
        self.at += count as u64;
        Ok(count)
    }
}
