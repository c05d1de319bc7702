//! What the headers of a registry say: pure functions of text, so that they can be tested, and fuzzed, without a network.
//!
//! Not for use outside this workspace: no promise of stability.

use std::time::Duration;

pub use crate::challenge::{Challenge, challenges};
pub use crate::link::next_in as link_next;

/// `Content-Range: bytes START-END/TOTAL`: the first byte, the last one, and the total where it is known (`*` is not).
pub fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let text = text.trim().strip_prefix("bytes")?;
    let (range, total) = text.trim_start_matches([' ', '=']).split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (number(start)?, number(end)?);
    let total = if total.trim() == "*" { None } else { Some(number(total)?) };
    let sound = start <= end && total.is_none_or(|total| end < total);
    sound.then_some((start, end, total))
}

/// `Range: 0-LAST` in the answer to an upload: how many bytes the registry has. Registries write `0-0` for none, so that a
/// single byte cannot be told apart from none and counts as none.
pub fn upload_range(text: &str) -> Option<u64> {
    let text = text.trim();
    let (start, last) = text.strip_prefix("bytes=").unwrap_or(text).split_once('-')?;
    let (start, last) = (number(start)?, number(last)?);
    match (start, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

/// `Retry-After` in seconds or as a date; anything else, or a time in the past, is as if it were not there.
pub fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Duration::try_from(then.duration_since(jiff::Timestamp::now())).ok()
}

/// `Warning: 299 - "text"` (RFC 7234, section 5.5, as the distribution specification uses it): the text, unquoted.
pub fn warning(header: &str) -> Option<String> {
    let (code, rest) = header.trim().split_once(' ')?;
    if code != "299" {
        return None;
    }
    let (_agent, quoted) = rest.trim_start().split_once(' ')?;
    let mut text = String::new();
    let mut characters = quoted.trim_start().strip_prefix('"')?.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => text.extend(characters.next()),
            _ => text.push(character),
        }
    }
    Some(text)
}

/// Digits only: what the standard library reads beside them (`+5`) no registry means.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_range_is_read() {
        for (value, expected) in [
            ("bytes 5-9/10", Some((5, 9, Some(10)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes=5-9/10", Some((5, 9, Some(10)))),
            ("bytes */10", None),
            ("5-9", None),
            ("bytes a-b/c", None),
            ("bytes 9-5/10", None),
            ("bytes 5-10/10", None),
            ("bytes +5-9/10", None),
            ("bytes 0-99999999999999999999/*", None),
        ] {
            assert_eq!(content_range(value), expected, "{value}");
        }
    }

    #[test]
    fn the_state_of_an_upload_is_read() {
        for (value, expected) in [
            ("0-0", Some(0)),
            ("0-499", Some(500)),
            ("bytes=0-499", Some(500)),
            ("5-9", None),
            ("", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(upload_range(value), expected, "{value}");
        }
    }

    #[test]
    fn retry_after_is_read_leniently() {
        let asked = |value: &str| retry_after(value).map(|wait| wait.as_secs());
        for (value, expected) in
            [("2", Some(2)), ("0", Some(0)), ("-1", None), ("abc", None), ("Wed, 21 Oct 2015 07:28:00 GMT", None)]
        {
            assert_eq!(asked(value), expected, "{value}");
        }
        let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
        let date = soon.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert!(asked(&date).is_some_and(|wait| (50..=60).contains(&wait)), "{date}");
    }

    #[test]
    fn warnings_are_unquoted() {
        for (value, expected) in [
            (r#"299 - "use \"v2\" instead""#, Some("use \"v2\" instead")),
            (r#"299 registry.example "old""#, Some("old")),
            (r#"199 - "miscellaneous""#, None),
            ("299 -", None),
            ("299 - unquoted", None),
        ] {
            assert_eq!(warning(value).as_deref(), expected, "{value}");
        }
    }
}
