//! Sizes and times for people.

use std::time::Duration;

/// `532 B`, `12.3 kB`, `4.5 MB`, `1.2 GB`: powers of ten, as download sizes are usually given.
#[allow(clippy::cast_precision_loss)]
pub fn bytes(count: u64) -> String {
    let scaled = |unit: f64, name: &str| format!("{:.1} {name}", count as f64 / unit);
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => scaled(1e3, "kB"),
        1_000_000..1_000_000_000 => scaled(1e6, "MB"),
        _ => scaled(1e9, "GB"),
    }
}

/// `10.2 MB/s`; nothing for a time too short to tell.
pub fn rate(count: u64, time: Duration) -> Option<String> {
    let milliseconds = time.as_millis();
    if count == 0 || milliseconds < 50 {
        return None;
    }
    let per_second = u128::from(count) * 1000 / milliseconds;
    Some(format!("{}/s", bytes(u64::try_from(per_second).unwrap_or(u64::MAX))))
}

/// `0.4 s`, `12 s`, `3 m 20 s`.
pub fn duration(time: Duration) -> String {
    match time.as_secs() {
        0..10 => format!("{:.1} s", time.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} m {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_well() {
        assert_eq!(
            [0, 999, 1_000, 12_345_678, 5_000_000_000].map(bytes),
            ["0 B", "999 B", "1.0 kB", "12.3 MB", "5.0 GB"]
        );
        assert_eq!([400, 12_000, 200_000].map(|ms| duration(Duration::from_millis(ms))), ["0.4 s", "12 s", "3 m 20 s"]);
    }
}
