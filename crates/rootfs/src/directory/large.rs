//! Writing large files, past the page cache where that is faster.
//!
//! Usually it is not: the page cache takes bytes at the speed of memory. But where a page costs more than its content, as on
//! a virtual machine that gets its memory from the host page by page, writing straight to a fast disk takes a third of the
//! time and next to no work. Nobody can tell beforehand; so both ways are tried, and the faster one is used.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::stream::pool::Slice;

/// Files from so many bytes on may go past the page cache.
pub(super) const LARGE: u64 = 1 << 20;
/// What the kernel wants addresses, offsets and lengths to be multiples of, on every disk there is.
const ALIGNMENT: usize = 4096;
/// Bytes that are written at once.
const BUFFER: usize = 1 << 20;
/// After so many files the slower way gets another chance, unless it is hopeless.
const CHANCE: u32 = 32;
const HOPELESS: f64 = 4.0;

/// A way to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Cached,
    Direct,
}

/// How fast the two ways have been lately.
#[derive(Default)]
pub(super) struct Ways(Mutex<State>);

#[derive(Default)]
struct State {
    /// Seconds a byte.
    cached: Option<f64>,
    direct: Option<f64>,
    files: u32,
    is_unsupported: bool,
}

impl Ways {
    /// The way to write the next large file.
    pub(super) fn choose(&self) -> Way {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.files = state.files.wrapping_add(1);
        if state.is_unsupported {
            return Way::Cached;
        }
        let (Some(cached), Some(direct)) = (state.cached, state.direct) else {
            return if state.cached.is_none() { Way::Cached } else { Way::Direct };
        };
        let (faster, slower) = if direct < cached { (Way::Direct, Way::Cached) } else { (Way::Cached, Way::Direct) };
        let is_hopeless = cached.max(direct) > HOPELESS * cached.min(direct);
        if state.files.is_multiple_of(CHANCE) && !is_hopeless { slower } else { faster }
    }

    fn learn(&self, way: Way, bytes: usize, time: Duration) {
        if bytes == 0 {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "an estimate")]
        let new = time.as_secs_f64() / bytes as f64;
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match way {
            Way::Cached => &mut state.cached,
            Way::Direct => &mut state.direct,
        };
        *old = Some(old.map_or(new, |old| f64::midpoint(old, new)));
    }

    /// Writes a whole new file.
    pub(super) fn write(&self, file: &mut File, slices: impl Iterator<Item = Slice>, way: Way) -> io::Result<()> {
        if way == Way::Cached || rustix::fs::fcntl_setfl(&*file, OFlags::DIRECT).is_err() {
            if way == Way::Direct {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).is_unsupported = true;
            }
            return self.cached(file, slices);
        }
        self.direct(file, slices)
    }

    fn cached(&self, file: &mut File, slices: impl Iterator<Item = Slice>) -> io::Result<()> {
        let (mut bytes, mut time) = (0, Duration::ZERO);
        for slice in slices {
            let begun = Instant::now();
            file.write_all(slice.bytes())?;
            time += begun.elapsed();
            bytes += slice.len();
        }
        self.learn(Way::Cached, bytes, time);
        Ok(())
    }

    fn direct(&self, file: &mut File, slices: impl Iterator<Item = Slice>) -> io::Result<()> {
        let mut memory = vec![0; BUFFER + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let buffer = memory.get_mut(start..start + BUFFER).unwrap_or_default();
        let (mut filled, mut bytes, mut time) = (0, 0, Duration::ZERO);
        for mut slice in slices {
            bytes += slice.len();
            while !slice.is_empty() {
                let part = slice.split_off(BUFFER - filled);
                buffer[filled..filled + part.len()].copy_from_slice(part.bytes());
                filled += part.len();
                if filled == BUFFER {
                    let begun = Instant::now();
                    write_whole(file, buffer)?;
                    time += begun.elapsed();
                    filled = 0;
                }
            }
        }
        let begun = Instant::now();
        let (whole, rest) = buffer[..filled].split_at(filled - filled % ALIGNMENT);
        write_whole(file, whole)?;
        rustix::fs::fcntl_setfl(&*file, OFlags::empty())?;
        file.write_all(rest)?;
        self.learn(Way::Direct, bytes, time + begun.elapsed());
        Ok(())
    }
}

/// Writes whole blocks past the page cache, or into it where the file system does not like them.
fn write_whole(file: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            // What is left of a short write may lie anywhere.
            Ok(count) if count % ALIGNMENT == 0 && count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
            Ok(count) => {
                rustix::fs::fcntl_setfl(&*file, OFlags::empty())?;
                return file.write_all(bytes.get(count..).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                rustix::fs::fcntl_setfl(&*file, OFlags::empty())?;
                return file.write_all(bytes);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::stream::pool::Pool;

    fn slices(bytes: &[u8], size: usize) -> Vec<Slice> {
        let pool = Pool::new(bytes.len() / size + 1, size);
        let piece = |part: &[u8]| {
            let mut piece = pool.take().unwrap();
            piece.room()[..part.len()].copy_from_slice(part);
            piece.filled(part.len());
            Slice::whole(Arc::new(piece))
        };
        bytes.chunks(size).map(piece).collect()
    }

    #[test]
    fn both_ways_write_the_same_files_of_any_length() {
        let directory = tempfile::tempdir().unwrap();
        let ways = Ways::default();
        for length in [1, 4095, 4096, 4097, BUFFER - 1, BUFFER, BUFFER + 1, 3 * BUFFER + 8192, 3 * BUFFER + 12_345] {
            let bytes: Vec<u8> = (0..length).map(|number| u8::try_from(number * 31 % 251).unwrap()).collect();
            for way in [Way::Cached, Way::Direct] {
                for size in [1000, 300_000, 2 * BUFFER] {
                    let path = directory.path().join("file");
                    let mut file = File::create(&path).unwrap();
                    ways.write(&mut file, slices(&bytes, size).into_iter(), way).unwrap();
                    assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes, {way:?}, pieces of {size}");
                }
            }
        }
    }

    #[test]
    fn the_faster_way_is_used_and_the_other_gets_a_chance_now_and_then() {
        let ways = Ways::default();
        let mebibyte = |way, milliseconds| ways.learn(way, 1 << 20, Duration::from_millis(milliseconds));
        assert_eq!(ways.choose(), Way::Cached);
        mebibyte(Way::Cached, 3);
        assert_eq!(ways.choose(), Way::Direct);
        mebibyte(Way::Direct, 1);
        let chosen: Vec<Way> = (0..2 * CHANCE).map(|_| ways.choose()).collect();
        assert_eq!(chosen.iter().filter(|&&way| way == Way::Cached).count(), 2);
        mebibyte(Way::Direct, 100);
        assert!((0..100).all(|_| ways.choose() == Way::Cached), "it is hopeless");
    }
}
