//! Buffers that go round: what flows through the process is bounded by their number, and memory that is warm stays in use.
//! Touching fresh memory costs more than filling it: on a virtual machine many times more.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// At most so many buffers of one size.
pub(crate) struct Pool {
    state: Mutex<State>,
    returned: Condvar,
    size: usize,
}

struct State {
    free: Vec<Vec<u8>>,
    /// How many may still be made.
    unmade: usize,
    is_closed: bool,
}

impl Pool {
    /// `count` buffers of `size` bytes, made when they are first needed.
    pub(crate) fn new(count: usize, size: usize) -> Arc<Self> {
        let state = State { free: Vec::new(), unmade: count, is_closed: false };
        Arc::new(Self { state: Mutex::new(state), returned: Condvar::new(), size })
    }

    /// A buffer with any content, as soon as one is free; none once the pool is closed.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Piece> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(piece) = self.ready(&mut state) {
                return Some(piece);
            }
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A buffer if one is free or becomes free within this time.
    pub(crate) fn take_within(self: &Arc<Self>, time: Duration) -> Option<Piece> {
        let mut state = self.lock();
        if state.free.is_empty() && state.unmade == 0 && !state.is_closed {
            state = self.returned.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_closed { None } else { self.ready(&mut state) }
    }

    /// Nobody gets a buffer any more, and whoever waits for one gets none. The memory is given back.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        state.free = Vec::new();
        self.returned.notify_all();
    }

    fn ready(self: &Arc<Self>, state: &mut State) -> Option<Piece> {
        let bytes = state.free.pop().or_else(|| {
            state.unmade = state.unmade.checked_sub(1)?;
            Some(vec![0; self.size])
        })?;
        Some(Piece { bytes, length: 0, pool: Arc::clone(self) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of a pool. Dropped, it goes back.
pub(crate) struct Piece {
    bytes: Vec<u8>,
    length: usize,
    pool: Arc<Pool>,
}

impl Piece {
    /// What is in it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// What is free behind its content.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.length..).unwrap_or_default()
    }

    /// The first `count` bytes of its room are content now.
    pub(crate) fn filled(&mut self, count: usize) {
        self.length = self.bytes.len().min(self.length + count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        if !state.is_closed {
            state.free.push(std::mem::take(&mut self.bytes));
            self.pool.returned.notify_one();
        }
    }
}

/// A part of a piece that may still be read elsewhere.
#[derive(Clone)]
pub(crate) struct Slice {
    piece: Arc<Piece>,
    start: usize,
    end: usize,
}

impl Slice {
    /// All of a piece.
    pub(crate) fn whole(piece: Arc<Piece>) -> Self {
        let end = piece.length;
        Self { piece, start: 0, end }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.piece.bytes().get(self.start..self.end).unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes the first `count` bytes away.
    pub(crate) fn advance(&mut self, count: usize) {
        self.start = self.end.min(self.start + count);
    }

    /// The first bytes, at most `most`, which are taken away.
    pub(crate) fn split_off(&mut self, most: usize) -> Self {
        let end = self.end.min(self.start + most);
        let first = Self { piece: Arc::clone(&self.piece), start: self.start, end };
        self.start = end;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_hands_out_no_more_than_it_has_and_takes_back_what_is_dropped() {
        let pool = Pool::new(2, 8);
        let first = pool.take();
        let second = pool.take_within(Duration::ZERO);
        assert!(first.is_some() && second.is_some() && pool.take_within(Duration::ZERO).is_none());
        drop(first);
        assert!(pool.take().is_some());
        drop(second);
        pool.close();
        assert!(pool.take().is_none());
    }

    #[test]
    fn a_piece_is_free_once_its_last_slice_is_gone() {
        let pool = Pool::new(1, 8);
        let mut piece = pool.take().unwrap();
        piece.room()[..5].copy_from_slice(b"abcde");
        piece.filled(5);
        let mut rest = Slice::whole(Arc::new(piece));
        let first = rest.split_off(3);
        rest.advance(1);
        assert_eq!((first.bytes(), rest.bytes(), rest.len()), (&b"abc"[..], &b"e"[..], 1));
        drop(rest);
        assert!(pool.take_within(Duration::ZERO).is_none());
        drop(first);
        assert!(pool.take_within(Duration::ZERO).is_some());
    }
}
