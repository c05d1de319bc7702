//! How fast a body comes. Only time spent waiting for the network counts, not the time that the reader takes.

use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

/// A body slower than this many bytes a second, for as long as the stall time, counts as cut.
const SLOWEST: u64 = 1024;
/// Before this time a connection is still finding its speed.
const SETTLED: Duration = Duration::from_secs(1);
/// A connection that brings fewer bytes a second than this, while the reader waits for it, may not be alone to blame.
const SLOW: u64 = 24 * 1024 * 1024;

/// Why a body ended before its end.
pub(crate) enum Cut {
    Broken(reqwest::Error),
    Slow(Duration),
}

/// The speed of one connection.
pub(crate) struct Pace {
    /// In the present window, which is as long as the stall time.
    waited: Duration,
    bytes: u64,
    /// Since the beginning.
    began: Instant,
    waited_in_all: Duration,
    bytes_in_all: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { waited: Duration::ZERO, bytes: 0, began: Instant::now(), waited_in_all: Duration::ZERO, bytes_in_all: 0 }
    }
}

impl Pace {
    /// The next bytes of a body; an error if none come, or too few for too long.
    pub async fn chunk(&mut self, body: &mut Response, stall: Duration) -> Result<Option<Bytes>, Cut> {
        let start = Instant::now();
        let chunk = tokio::time::timeout(stall, body.chunk()).await.map_err(|_| Cut::Slow(stall))?;
        let chunk = chunk.map_err(Cut::Broken)?;
        self.count(start.elapsed(), chunk.as_ref().map_or(0, |chunk| chunk.len() as u64));
        if self.waited >= stall {
            let slow = chunk.is_some() && u128::from(self.bytes) * 1000 < u128::from(SLOWEST) * self.waited.as_millis();
            (self.waited, self.bytes) = (Duration::ZERO, 0);
            if slow {
                return Err(Cut::Slow(stall));
            }
        }
        Ok(chunk)
    }

    fn count(&mut self, waited: Duration, bytes: u64) {
        self.waited += waited;
        self.bytes += bytes;
        self.waited_in_all += waited;
        self.bytes_in_all += bytes;
    }

    /// Whether more connections would help: the reader waits for this one most of the time, and it is slow.
    pub fn is_slow(&self) -> bool {
        slow(self.began.elapsed(), self.waited_in_all, self.bytes_in_all)
    }
}

fn slow(time: Duration, waited: Duration, bytes: u64) -> bool {
    time >= SETTLED && waited * 10 >= time * 8 && u128::from(bytes) * 1000 < u128::from(SLOW) * time.as_millis()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_slow_if_the_reader_waits_for_it() {
        let ms = Duration::from_millis;
        for (time, waited, bytes, expected) in [
            (ms(999), ms(999), 0, false),
            (ms(1000), ms(1000), 10 << 20, true),
            (ms(1000), ms(700), 10 << 20, false),
            (ms(1000), ms(1000), 100 << 20, false),
            (ms(10_000), ms(9000), 200 << 20, true),
        ] {
            assert_eq!(slow(time, waited, bytes), expected, "{time:?} {waited:?} {bytes}");
        }
    }
}
