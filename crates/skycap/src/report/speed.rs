//! How fast something is, now and not on average.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What happened before this does not count.
const WINDOW: Duration = Duration::from_secs(3);

/// Amounts with the times at which they were reached.
#[derive(Default, Debug)]
pub struct Speed(VecDeque<(Instant, u64)>);

impl Speed {
    /// Notes how much there is now; to be called at about the same distances.
    pub fn note(&mut self, now: Instant, amount: u64) {
        self.0.push_back((now, amount));
        while self.0.len() > 2 && self.0.front().is_some_and(|(then, _)| now.duration_since(*then) > WINDOW) {
            self.0.pop_front();
        }
    }

    /// Per second; nothing until there is something to compare with.
    #[allow(clippy::cast_precision_loss)]
    pub fn rate(&self) -> f64 {
        match (self.0.front(), self.0.back()) {
            (Some((then, before)), Some((now, after))) if now > then => {
                after.saturating_sub(*before) as f64 / now.duration_since(*then).as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_seconds_count() {
        let start = Instant::now();
        let mut speed = Speed::default();
        assert!(speed.rate() < 0.1);
        for second in 0..10 {
            // Slow at first, then ten times as fast.
            let amount = if second < 5 { second * 100 } else { 400 + (second - 4) * 1000 };
            speed.note(start + Duration::from_secs(second), amount);
        }
        assert!((speed.rate() - 1000.0).abs() < 1.0, "{}", speed.rate());
    }
}
