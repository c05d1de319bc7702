//! Go's durations: `1h30m`, `1.5s`, `-2ms`.

use std::time::Duration;

/// A text that is not a duration; Go's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("time: {what} {text:?}")]
pub struct InvalidDuration {
    what: String,
    text: String,
}

/// Go counts nanoseconds in 63 bits, for some 292 years. What is longer cannot be added to a time either.
const LONGEST: Duration = Duration::from_nanos(i64::MAX.cast_unsigned());

/// `time.ParseDuration`, for durations that are not negative: Concourse waits for these, and a negative wait is none.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let fail = |what: &str| InvalidDuration { what: what.to_owned(), text: text.to_owned() };
    let invalid = || fail("invalid duration");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        if !number.bytes().any(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let seconds = match unit {
            "" => return Err(fail("missing unit in duration")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(fail(&format!("unknown unit {unit:?} in duration"))),
        };
        total += number * seconds;
        rest = after;
    }
    if total > LONGEST.as_secs_f64() {
        return Err(invalid());
    }
    if negative {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("1m", Ok(Duration::from_mins(1))),
            ("1h30m", Ok(Duration::from_mins(90))),
            ("1.5s", Ok(Duration::from_millis(1500))),
            ("10ms", Ok(Duration::from_millis(10))),
            ("0", Ok(Duration::ZERO)),
            ("-5s", Ok(Duration::ZERO)),
            ("nope", Err("time: invalid duration \"nope\"")),
            ("", Err("time: invalid duration \"\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5d", Err("time: unknown unit \"d\" in duration \"5d\"")),
            ("1.2.3s", Err("time: invalid duration \"1.2.3s\"")),
            (".s", Err("time: invalid duration \".s\"")),
            ("2562047h", Ok(Duration::from_hours(2_562_047))),
            ("2562048h", Err("time: invalid duration \"2562048h\"")),
            ("-2562048h", Err("time: invalid duration \"-2562048h\"")),
            ("5000000000000000h", Err("time: invalid duration \"5000000000000000h\"")),
        ] {
            let found = parse_duration(text).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
