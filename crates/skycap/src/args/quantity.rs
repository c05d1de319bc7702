//! Sizes and ages as people write them.

use std::time::Duration;

use super::Limit;

/// `500MB`, `10GB` (powers of ten), `8GiB` (powers of two), `1.5TB`, or bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return Err("expected a size such as 500MB, 10GB or 8GiB".to_owned()),
    };
    scaled(number, factor).ok_or_else(|| "expected a size such as 500MB, 10GB or 8GiB".to_owned())
}

/// A size, or `none`.
pub fn limit(text: &str) -> Result<Limit, String> {
    match text.trim() {
        "none" => Ok(Limit::None),
        text => size(text).map(Limit::Size).map_err(|error| format!("{error}, or none")),
    }
}

/// `30m`, `12h`, `7d`, `4w`.
pub fn age(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err("expected an age such as 30m, 12h, 7d or 4w".to_owned()),
    };
    let seconds = scaled(number, seconds).ok_or_else(|| "expected an age such as 30m, 12h, 7d or 4w".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// A number with at most nine decimals, times the factor, exactly.
fn scaled(number: &str, factor: u64) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if decimals.is_empty() || decimals.len() > 9 {
        return None;
    }
    let whole = u128::from(whole.parse::<u64>().ok()?) * u128::from(factor);
    let digits = u32::try_from(decimals.len()).ok()?;
    let part = u128::from(decimals.parse::<u64>().ok()?) * u128::from(factor) / 10_u128.pow(digits);
    u64::try_from(whole + part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_read_as_people_write_them() {
        for (text, expected) in
            [("0", 0), ("12", 12), ("10GB", 10_000_000_000), ("8 GiB", 8 << 30), ("1.5k", 1500), ("500mb", 500_000_000)]
        {
            assert_eq!(size(text), Ok(expected), "{text}");
        }
        for (text, expected) in [("30m", 1800), ("12h", 43_200), ("7d", 604_800), ("1.5h", 5400), ("2w", 1_209_600)] {
            assert_eq!(age(text), Ok(Duration::from_secs(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "GB", "-1", "1e3", "10 parsecs", "99999999999999TB", "1.", "1.1.1", "²"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["", "7", "7 days", "-1d", "99999999999999999999w"] {
            assert!(age(text).is_err(), "{text}");
        }
    }
}
