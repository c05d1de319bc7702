//! Writing JSON as Go does.

use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

/// Compact JSON with Go's escapes, without a line feed at the end. Keys stay in the value's order.
pub fn encode(value: &serde_json::Value) -> String {
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, GoFormatter(CompactFormatter));
    // Writing a `serde_json::Value` into memory cannot fail.
    let written = value.serialize(&mut serializer);
    debug_assert!(written.is_ok());
    String::from_utf8(bytes).unwrap_or_default()
}

struct GoFormatter(CompactFormatter);

impl Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, found)) = rest.char_indices().find(|(_, c)| escaped(*c).is_some()) {
            self.0.write_string_fragment(writer, &rest[..at])?;
            writer.write_all(escaped(found).unwrap_or_default().as_bytes())?;
            rest = &rest[at + found.len_utf8()..];
        }
        self.0.write_string_fragment(writer, rest)
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }
}

fn escaped(character: char) -> Option<&'static str> {
    match character {
        '<' => Some(r"\u003c"),
        '>' => Some(r"\u003e"),
        '&' => Some(r"\u0026"),
        '\u{2028}' => Some(r"\u2028"),
        '\u{2029}' => Some(r"\u2029"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_escaped_as_go_does() {
        let cases = [
            (json!("a<b>&c"), r#""a\u003cb\u003e\u0026c""#),
            (json!("\u{2028}é\"\\\n\t\u{1}"), r#""\u2028é\"\\\n\t\u0001""#),
            (json!({"z": ["<"], "a": null}), r#"{"z":["\u003c"],"a":null}"#),
        ];
        for (value, expected) in cases {
            assert_eq!(encode(&value), expected);
        }
    }
}
