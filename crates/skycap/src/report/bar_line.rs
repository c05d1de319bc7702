//! What a bar looks like at a given width: pure, in ASCII, never wider than the terminal less one column.

use std::time::Duration;

use super::units;

/// The widest and the narrowest that a bar itself is drawn.
const BAR: std::ops::RangeInclusive<usize> = 10..=40;

/// `  pull layer 0123456789ab [====>     ] 12.3 MB / 45.6 MB  10.2 MB/s`; parts go as the width does.
pub fn transfer(label: &str, done: u64, total: u64, rate: f64, width: usize) -> String {
    let sizes = format!("{} / {}", units::bytes(done.min(total)), units::bytes(total));
    let percent = format!("{:>3}%", percent(done, total));
    let rate = speed(rate);
    let room = width.saturating_sub(1);
    let long = format!("  {label}  {sizes:>19}  {rate:>10}");
    if let Some(left) = room.checked_sub(long.chars().count() + 3).filter(|left| left >= BAR.start()) {
        let bar = bar(done, total, left.min(*BAR.end()));
        return format!("  {label} [{bar}] {sizes:>19}  {rate:>10}").trim_end().to_owned();
    }
    [format!("  {label} {percent} {rate}"), format!("{label} {percent}")]
        .into_iter()
        .map(|line| line.trim_end().to_owned())
        .find(|line| line.chars().count() <= room)
        .unwrap_or_else(|| cut(&format!("{percent} {label}"), room))
}

/// `  3 done, 4 under way, 120 MB at 35 MB/s`.
pub fn total(text: &str, done: u64, rate: f64, width: usize) -> String {
    let rate = speed(rate);
    let at = if rate.is_empty() { String::new() } else { format!(" at {rate}") };
    cut(&format!("  {text}, {}{at}", units::bytes(done)), width.saturating_sub(1))
}

/// `  RUN make  12 s`.
pub fn step(label: &str, elapsed: Duration, width: usize) -> String {
    let time = units::duration(elapsed);
    let room = width.saturating_sub(1);
    let line: String = label.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match room.checked_sub(time.chars().count() + 4) {
        Some(left) if left > 0 => format!("  {}  {time}", cut(&line, left)),
        _ => cut(&line, room),
    }
}

fn bar(done: u64, total: u64, width: usize) -> String {
    let full = usize::try_from(u128::from(done.min(total)) * width as u128 / u128::from(total.max(1))).unwrap_or(width);
    let head = if full < width { ">" } else { "" };
    format!("{:<width$}", format!("{}{head}", "=".repeat(full)))
}

fn percent(done: u64, total: u64) -> u128 {
    u128::from(done.min(total)) * 100 / u128::from(total.max(1))
}

/// Nothing while it is not known.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn speed(rate: f64) -> String {
    if rate >= 1.0 { format!("{}/s", units::bytes(rate as u64)) } else { String::new() }
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_fits_any_width() {
        let line = |width| transfer("pull layer 0123456789ab", 12_345_678, 45_600_000, 10_200_000.0, width);
        assert_eq!(
            line(100),
            "  pull layer 0123456789ab [==========>                           ]   12.3 MB / 45.6 MB   10.2 MB/s"
        );
        assert_eq!(line(60), "  pull layer 0123456789ab  27% 10.2 MB/s");
        assert_eq!(line(32), "pull layer 0123456789ab  27%");
        assert_eq!(line(12), " 27% pull l");
        for width in 0..200 {
            let line = line(width);
            assert!(line.len() < width.max(1), "{width}: {line:?}");
        }
    }

    #[test]
    fn odd_numbers_make_no_odd_bars() {
        for (done, total, rate) in
            [(0, 0, 0.0), (5, 0, f64::NAN), (u64::MAX, 1, f64::INFINITY), (u64::MAX, u64::MAX, -1.0)]
        {
            let line = transfer("x", done, total, rate, 80);
            assert!(line.len() < 80 && line.is_ascii(), "{line}");
        }
    }

    #[test]
    fn steps_and_totals_are_cut() {
        assert_eq!(step("RUN a\nb", Duration::from_secs(12), 40), "  RUN a b  12 s");
        assert_eq!(step("RUN make everything", Duration::from_secs(12), 20), "  RUN make ev  12 s");
        assert_eq!(step("RUN make everything", Duration::from_secs(12), 5), "RUN ");
        assert_eq!(total("3 done, 4 under way", 120_000_000, 0.0, 80), "  3 done, 4 under way, 120.0 MB");
        assert_eq!(total("3 done, 4 under way", 120_000_000, 3.5e7, 20), "  3 done, 4 under w");
    }
}
