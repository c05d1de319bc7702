//! The dates of HTTP headers.

/// Seconds since 1970 of `Sun, 06 Nov 1994 08:49:37 GMT`; nothing for what is written in another way.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim().strip_suffix("GMT")?;
    let time = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S", text.trim()).ok()?;
    Some(time.to_datetime().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("yesterday", None),
            ("", None),
            ("Sun, 06 Nov 1994 08:49:37 +0200", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
