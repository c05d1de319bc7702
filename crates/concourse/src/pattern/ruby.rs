//! Ruby's regular expressions (Onigmo) on `fancy-regex`. `^` and `$` are anchors of lines, `(?m)` lets the dot match line
//! feeds, `\h` is a hexadecimal digit; look-around, possessive repetition, atomic groups and references back are the
//! engine's own. Tags are ASCII, so whether a class knows Unicode makes no difference.

use std::ops::Range;

use fancy_regex::{Regex, RegexBuilder};

use super::{Cursor, literal};

/// How much work one match may be before it counts as a fault of the pattern.
const BACKTRACK_LIMIT: usize = 1_000_000;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub(crate) struct RubyPattern {
    pattern: String,
    regex: Regex,
}

/// A pattern that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("regular expression {pattern:?}: {what}")]
pub(crate) struct InvalidRubyPattern {
    pattern: String,
    what: String,
}

impl RubyPattern {
    /// Reads a pattern that matches anywhere in a text.
    pub(crate) fn parse(pattern: &str) -> Result<Self, InvalidRubyPattern> {
        Self::compile(pattern, "", "")
    }

    /// Reads a pattern that matches only at the beginning of a text.
    pub(crate) fn parse_at_start(pattern: &str) -> Result<Self, InvalidRubyPattern> {
        Self::compile(pattern, r"\A(?:", ")")
    }

    fn compile(pattern: &str, before: &str, after: &str) -> Result<Self, InvalidRubyPattern> {
        let invalid = |what: String| InvalidRubyPattern { pattern: pattern.to_owned(), what };
        let translated = translate(pattern).map_err(invalid)?;
        let regex = RegexBuilder::new(&format!("{before}{translated}{after}")).backtrack_limit(BACKTRACK_LIMIT).build();
        let regex = regex.map_err(|error| invalid(error.to_string().lines().last().unwrap_or_default().to_owned()))?;
        Ok(Self { pattern: pattern.to_owned(), regex })
    }

    /// Where it matches first.
    pub(crate) fn find(&self, text: &str) -> Result<Option<Range<usize>>, InvalidRubyPattern> {
        let found = self.regex.find(text);
        found.map(|found| found.map(|found| found.range())).map_err(|error| InvalidRubyPattern {
            pattern: self.pattern.clone(),
            what: format!("matching {text:?}: {error}"),
        })
    }
}

fn translate(pattern: &str) -> Result<String, String> {
    let mut cursor = Cursor::new(pattern);
    let mut out = String::new();
    let mut after_count = false;
    while let Some(next) = cursor.peek() {
        let was_count = std::mem::take(&mut after_count);
        match next {
            '^' => whole_line(&mut cursor, &mut out, "(?m:^)"),
            '$' => whole_line(&mut cursor, &mut out, "(?m:$)"),
            '(' => group(&mut cursor, &mut out)?,
            '[' => class(&mut cursor, &mut out)?,
            '\\' => escape(&mut cursor, &mut out)?,
            '{' => after_count = count(&mut cursor, &mut out),
            // In Ruby this is no possessive repetition but a repetition of a repetition.
            '+' if was_count => return Err("`{…}+` is not supported: write (?:…{…})+".to_owned()),
            '}' | ']' => out.extend([literal_text(&mut cursor)]),
            _ => out.extend(cursor.next()),
        }
    }
    Ok(out)
}

fn whole_line(cursor: &mut Cursor<'_>, out: &mut String, anchor: &str) {
    cursor.next();
    out.push_str(anchor);
}

fn literal_text(cursor: &mut Cursor<'_>) -> String {
    let mut text = String::new();
    if let Some(next) = cursor.next() {
        literal(next, &mut text);
    }
    text
}

/// `{n}`, `{n,}`, `{n,m}` and Ruby's `{,m}`; any other brace stands for itself. Says whether it was a count.
fn count(cursor: &mut Cursor<'_>, out: &mut String) -> bool {
    let counts = cursor.rest().strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(counts, _)| counts);
    let sound = |counts: &&str| {
        let (least, most) = counts.split_once(',').unwrap_or((counts, "0"));
        let digits = |text: &str| text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
        digits(least)
            && digits(most)
            && !(least.is_empty() && most.is_empty())
            && (counts.contains(',') || !least.is_empty())
    };
    let Some(counts) = counts.filter(sound) else {
        out.push_str(&literal_text(cursor));
        return false;
    };
    cursor.at += counts.len() + 2;
    let least_is_missing = counts.starts_with(',');
    out.push('{');
    out.push_str(if least_is_missing { "0" } else { "" });
    out.push_str(counts);
    out.push('}');
    true
}

fn group(cursor: &mut Cursor<'_>, out: &mut String) -> Result<(), String> {
    if cursor.eat("(?#") {
        let (comment, _) = cursor.rest().split_once(')').ok_or("end pattern in group")?;
        cursor.at += comment.len() + 1;
        return Ok(());
    }
    cursor.next();
    out.push('(');
    if !cursor.eat("?") {
        return Ok(());
    }
    out.push('?');
    for kind in ["<=", "<!", "=", "!", ">", ":", "<"] {
        if cursor.eat(kind) {
            out.push_str(kind);
            return Ok(());
        }
    }
    flags(cursor, out)
}

/// `(?i)`, `(?m-i:…)`: Ruby's `m` is everybody else's `s`.
fn flags(cursor: &mut Cursor<'_>, out: &mut String) -> Result<(), String> {
    loop {
        match cursor.next() {
            Some('i') => out.push('i'),
            Some('m') => out.push('s'),
            Some('-') => out.push('-'),
            Some('x') => return Err("extended patterns (?x) are not supported".to_owned()),
            Some(end @ (')' | ':')) => {
                out.push(end);
                return Ok(());
            }
            Some(other) => return Err(format!("undefined group option `(?{other}`")),
            None => return Err("end pattern in group".to_owned()),
        }
    }
}

/// Escapes that the engine reads as Ruby does.
const SHARED_ESCAPES: &str = "dDwWsSbBAzZGKkgntrfvaeR123456789";

fn escape(cursor: &mut Cursor<'_>, out: &mut String) -> Result<(), String> {
    cursor.next();
    match cursor.next() {
        None => return Err("too short escape sequence".to_owned()),
        Some('h') => out.push_str("[0-9A-Fa-f]"),
        Some('H') => out.push_str("[^0-9A-Fa-f]"),
        Some('p' | 'P') => {
            return Err("character properties \\p{…} are not supported: write [[:alpha:]] and the like".to_owned());
        }
        Some('x') => literal(code(cursor.eat_while(2, |c| c.is_ascii_hexdigit()))?, out),
        Some('u') => literal(unicode(cursor)?, out),
        Some(shared) if SHARED_ESCAPES.contains(shared) => out.extend(['\\', shared]),
        Some(letter) if letter.is_ascii_alphanumeric() => return Err(format!("escape \\{letter} is not supported")),
        Some(other) => literal(other, out),
    }
    Ok(())
}

fn unicode(cursor: &mut Cursor<'_>) -> Result<char, String> {
    if !cursor.eat("{") {
        return code(cursor.eat_while(4, |c| c.is_ascii_hexdigit()));
    }
    let digits = cursor.eat_while(6, |c| c.is_ascii_hexdigit());
    if cursor.eat("}") { code(digits) } else { Err("invalid Unicode range".to_owned()) }
}

fn code(digits: &str) -> Result<char, String> {
    u32::from_str_radix(digits, 16).ok().and_then(char::from_u32).ok_or_else(|| "invalid escape sequence".to_owned())
}

/// A class. Nested classes and `&&` mean the same to both; `--` and `~~` would be operators to the engine only.
fn class(cursor: &mut Cursor<'_>, out: &mut String) -> Result<(), String> {
    let mut depth = 0_usize;
    let mut is_first = true;
    loop {
        let unclosed = || "premature end of char-class".to_owned();
        if cursor.rest().starts_with("[:")
            && depth > 0
            && let Some(length) = cursor.rest().find(":]")
        {
            out.push_str(cursor.rest().get(..length + 2).unwrap_or_default());
            cursor.at += length + 2;
            is_first = false;
            continue;
        }
        match cursor.peek().ok_or_else(unclosed)? {
            '[' => {
                cursor.next();
                depth += 1;
                out.push('[');
                if cursor.eat("^") {
                    out.push('^');
                }
                is_first = true;
                continue;
            }
            ']' if is_first => out.push_str(&literal_text(cursor)),
            ']' => {
                cursor.next();
                out.push(']');
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
            }
            '\\' => escape_in_class(cursor, out)?,
            '-' => {
                let is_range = !is_first && !cursor.rest().starts_with("--") && !cursor.rest().starts_with("-]");
                out.push_str(&if is_range && !out.ends_with('-') {
                    cursor.next().map(String::from).unwrap_or_default()
                } else {
                    literal_text(cursor)
                });
            }
            '&' if cursor.eat("&&") => out.push_str("&&"),
            _ => out.push_str(&literal_text(cursor)),
        }
        is_first = false;
    }
}

fn escape_in_class(cursor: &mut Cursor<'_>, out: &mut String) -> Result<(), String> {
    if cursor.eat(r"\b") {
        literal('\u{8}', out);
        return Ok(());
    }
    let is_shared = cursor.rest().chars().nth(1).is_some_and(|c| "AzZGKkgRB123456789".contains(c));
    if is_shared {
        Err(format!("escape {} cannot stand in a class", cursor.rest().get(..2).unwrap_or_default()))
    } else {
        escape(cursor, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &[(&str, &[&str], &[&str])] = &[
        (
            r"^[0-9]+[.][0-9]+[.][0-9]+-alpine$",
            &["2.7.1-alpine", "x\n2.7.1-alpine\ny"],
            &["2.7.1-alpine3", "2.7-alpine"],
        ),
        (r"\A1\z", &["1"], &["1\n", "x\n1"]),
        (r"\h{2}", &["af"], &["ag"]),
        (r"^\H+$", &["xyz"], &["xaz"]),
        (r"^(?!rc)", &["1"], &["rc1"]),
        (r"(?<=v)1", &["v1"], &["1"]),
        (r"(?<n>a)\k<n>", &["aa"], &["ab"]),
        (r"(a)\1", &["aa"], &["ab"]),
        (r"(?i)RC", &["rc"], &["x"]),
        (r"(?i:A)b", &["ab"], &["aB"]),
        (r"(?m)a.b", &["a\nb"], &["ab"]),
        (r"a.b", &["axb"], &["a\nb"]),
        (r"^a++b$", &["aab"], &["aac"]),
        (r"^a{,2}$", &["", "aa"], &["aaa"]),
        (r"a{x}", &["a{x}"], &["a"]),
        (r"(?>a+)b", &["aab"], &["a"]),
        (r"^[a--b]$", &["-"], &["~"]),
        (r"^[a-c&&b-d]$", &["b", "c"], &["a", "d"]),
        (r"^[[:digit:]a]$", &["1", "a"], &["b"]),
        (r"^[^[:digit:]]$", &["a"], &["1"]),
        (r"^[\w.-]+$", &["a.b-c"], &["a b"]),
        (r"^[\h]$", &["f"], &["g"]),
        (r"\<", &["<"], &["a"]),
        (r"a(?#comment)b", &["ab"], &["a"]),
        (r"\u0041\x42", &["AB"], &["ab"]),
    ];

    #[test]
    fn patterns_mean_what_they_mean_in_ruby() -> Result<(), InvalidRubyPattern> {
        for (pattern, matched, other) in CASES {
            let compiled = RubyPattern::parse(pattern)?;
            for text in *matched {
                assert!(compiled.find(text)?.is_some(), "{pattern} should match {text:?}");
            }
            for text in *other {
                assert!(compiled.find(text)?.is_none(), "{pattern} should not match {text:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_prefix_matches_only_at_the_start() -> Result<(), InvalidRubyPattern> {
        let prefix = RubyPattern::parse_at_start("v|release-")?;
        assert_eq!(prefix.find("v1")?, Some(0..1));
        assert_eq!(prefix.find("rev1.2.3")?, None);
        Ok(())
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        for pattern in ["(", "[a", "a)", "(?x)a", r"\p{L}", r"\y", "a{2}+", "*", "(?<n", r"\"] {
            assert!(RubyPattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_explodes_is_an_error() -> Result<(), InvalidRubyPattern> {
        let pattern = RubyPattern::parse(r"^(a|a|b(?=x))*\1c$")?;
        assert!(pattern.find(&"a".repeat(60)).is_err());
        Ok(())
    }
}
