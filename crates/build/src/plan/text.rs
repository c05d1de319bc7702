//! The texts of history entries, as BuildKit's `commitToHistory` callers print them with Go's `fmt`.

use std::fmt::Write as _;

use crate::dockerfile::Network;

/// Go's `%q` of a list of strings: `["a" "b"]`.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", quoted.join(" "))
}

/// Go's `%v` of a list of strings: `[a b]`.
pub(super) fn plain_list(words: &[String]) -> String {
    format!("[{}]", words.join(" "))
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c == '\u{7f}' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x1_0000 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => {
                let _ = write!(out, "\\U{:08x}", c as u32);
            }
        }
    }
    out.push('"');
    out
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols, and the one blank. The standard library escapes the
/// same characters, and marks as well where they come first.
fn is_printable(c: char) -> bool {
    c.is_ascii_graphic() || c == ' ' || format!(" {c}").escape_debug().count() == 2
}

/// Go's `%v` of a `time.Duration` in nanoseconds: `1m30s`, `1.5s`, `2ms`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let ns = nanoseconds.unsigned_abs();
    if ns == 0 {
        return "0s".to_owned();
    }
    if ns < 1_000_000_000 {
        let (unit, name) = match ns {
            0..1_000 => return format!("{sign}{ns}ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{sign}{}{name}", fraction(ns, unit));
    }
    let (seconds, rest) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let last = fraction(seconds % 60 * 1_000_000_000 + rest, 1_000_000_000);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{last}s"),
        (0, _) => format!("{sign}{minutes}m{last}s"),
        _ => format!("{sign}{hours}h{minutes}m{last}s"),
    }
}

/// `value / unit` in decimal without trailing zeros; `unit` is a power of ten.
fn fraction(value: u64, unit: u64) -> String {
    let (whole, rest) = (value / unit, value % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

/// What `RUN`'s entry says: the arguments of the build that are declared, the command, and who ran it.
pub(super) fn run(args: &[String], build_args: &[(String, String)]) -> String {
    let mut words = Vec::new();
    if !build_args.is_empty() {
        words.push(format!("|{}", build_args.len()));
        words.extend(build_args.iter().map(|(name, value)| format!("{name}={value}")));
    }
    words.extend(args.iter().cloned());
    format!("RUN {} # buildkit", words.join(" "))
}

/// The word that stands for a network in a key.
pub(crate) fn network(network: &Network) -> &'static str {
    match network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        for (nanoseconds, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (2_000_000, "2ms"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-5_000_000_000, "-5s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
    }

    #[test]
    fn lists_print_as_go_prints_them() {
        let words = ["/bin/sh".to_owned(), "echo \"a\"\n".to_owned()];
        assert_eq!(quoted_list(&words), r#"["/bin/sh" "echo \"a\"\n"]"#);
        assert_eq!(plain_list(&words[..1]), "[/bin/sh]");
    }

    #[test]
    fn characters_that_do_not_print_are_escaped_as_go_escapes_them() {
        for (text, expected) in [
            ("a\u{a0}b", r#""a\u00a0b""#),
            ("\u{feff}", r#""\ufeff""#),
            ("\u{85}\u{200b}\u{2028}", r#""\u0085\u200b\u2028""#),
            ("\u{e0001}", r#""\U000e0001""#),
            ("é e\u{301} 한 🐳 '", "\"é e\u{301} 한 🐳 '\""),
            ("\u{1}\u{7f}", r#""\x01\x7f""#),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }
}
