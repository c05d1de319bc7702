//! How the task's parameters are written: Go's booleans, lists by commas, files of arguments, hosts, platforms.

use std::collections::BTreeMap;
use std::net::IpAddr;

use saphyr_parser::{Event, Parser, ScalarStyle};
use skycap_build::platform;
use skycap_image::Platform;

use crate::Failure;

/// Go's `strconv.ParseBool`.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Splits at commas outside braces. Nothing is trimmed, empty elements stay; an empty text has none.
pub(super) fn list(text: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut depth = 0_usize;
    let separates = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(separates).map(str::to_owned).collect()
}

/// `NAME=VALUE` as a pair.
pub(super) fn pair(what: &str, text: &str) -> Result<(String, String), Failure> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(Failure::new(format!("{what} {text:?} is not NAME=VALUE"))),
    }
}

/// The lines of a file of arguments: only empty ones are left out, nothing is trimmed, there are no comments.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.split('\n').filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A YAML map of scalars, each value as the text that stands there.
pub(super) fn yaml_map(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut events = Parser::new_from_str(text);
    let mut next = || match events.next() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok((Event::StreamEnd, 0)),
    };
    let mut map = BTreeMap::new();
    loop {
        match next()?.0 {
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => {}
            Event::MappingStart(..) => break,
            Event::StreamEnd => return Ok(map),
            Event::Scalar(value, ScalarStyle::Plain, ..) if is_null(&value) => return Ok(map),
            _ => return Err("expected a map of names to values".to_owned()),
        }
    }
    loop {
        let (key, line) = next()?;
        let Event::Scalar(key, ..) = key else {
            return if key == Event::MappingEnd {
                Ok(map)
            } else {
                Err(format!("line {line}: a name must be a scalar"))
            };
        };
        let (value, line) = next()?;
        let Event::Scalar(value, style, ..) = value else {
            return Err(format!("line {line}: the value of {key} must be a scalar"));
        };
        let value = if style == ScalarStyle::Plain && is_null(&value) { String::new() } else { value.into_owned() };
        if map.insert(key.to_string(), value).is_some() {
            return Err(format!("line {line}: {key} is already there"));
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// `host=ip,host=ip`.
pub(super) fn hosts(text: &str) -> Result<Vec<(String, IpAddr)>, Failure> {
    let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let host = |entry: &str| {
        let (name, address) = entry.split_once('=')?;
        let address = address.trim().trim_matches(['[', ']']).parse().ok()?;
        (!name.trim().is_empty()).then(|| (name.trim().to_owned(), address))
    };
    entries
        .map(|entry| {
            host(entry).ok_or_else(|| Failure::new(format!("BUILDKIT_ADD_HOSTS: {entry:?} is not HOST=ADDRESS")))
        })
        .collect()
}

/// `linux/amd64,linux/arm64`; none for this machine's own.
pub(super) fn platforms(text: &str) -> Result<Vec<Platform>, Failure> {
    let platforms = text.split(',').map(str::trim).filter(|platform| !platform.is_empty()).map(platform::parse);
    platforms
        .collect::<Result<_, _>>()
        .map_err(|error| Failure::new(format!("IMAGE_PLATFORM: {error}")).with_hint(error.hint()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_split_outside_braces() {
        for (text, expected) in [
            ("", &[][..]),
            ("a", &["a"]),
            ("a, b", &["a", " b"]),
            ("a,", &["a", ""]),
            ("{a,b},c", &["{a,b}", "c"]),
            ("}a,b", &["}a", "b"]),
        ] {
            assert_eq!(list(text), expected, "{text}");
        }
    }

    #[test]
    fn yaml_scalars_keep_their_text() -> Result<(), String> {
        let text = "a: 1\nb: true\nc: null\nd: '~'\ne: 1.10\nf: |\n  x\n  y\n\"g h\": 2020-01-01\ni:\n";
        let found: Vec<(String, String)> = yaml_map(text)?.into_iter().collect();
        let expected = [
            ("a", "1"),
            ("b", "true"),
            ("c", ""),
            ("d", "~"),
            ("e", "1.10"),
            ("f", "x\ny\n"),
            ("g h", "2020-01-01"),
            ("i", ""),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(yaml_map("")?.is_empty());
        assert!(yaml_map("---\n")?.is_empty());
        for broken in ["a: 1\na: 2", "a: [1]", "a: {b: c}", "- a", "a", "a: &x 1\nb: *x", "a: 'b"] {
            assert!(yaml_map(broken).is_err(), "{broken}");
        }
        Ok(())
    }

    #[test]
    fn lines_are_not_trimmed() {
        assert_eq!(lines("a=1\n\n #b=2 \r\nc\n"), ["a=1", " #b=2 \r", "c"]);
        assert!(pair("build argument", "c").is_err());
        assert_eq!(pair("build argument", "a=b=c").ok(), Some(("a".to_owned(), "b=c".to_owned())));
    }

    #[test]
    fn hosts_and_platforms_are_checked() {
        let found = hosts("a=10.0.0.1, b=::1").map_err(|failure| failure.message);
        assert_eq!(found.map(|hosts| hosts.len()), Ok(2));
        assert!(hosts("a=nonsense").is_err());
        assert!(hosts("=1.1.1.1").is_err());
        assert_eq!(platforms("linux/amd64,linux/arm64/v8").map(|p| p.len()).ok(), Some(2));
        assert_eq!(platforms("arm64").ok(), platforms("linux/arm64/v8").ok());
        let refused = platforms("linux/amd46").err().map(|failure| (failure.message, failure.hint));
        assert!(refused.is_some_and(|(message, hint)| {
            message.starts_with("IMAGE_PLATFORM: unknown architecture")
                && hint.is_some_and(|hint| hint.contains("amd64?"))
        }));
    }
}
