//! Wildcards, as Go's `filepath.Match` reads them: the ones of `COPY` and `ADD`, and the ground of
//! [`ignore`](crate::ignore).
//!
//! | pattern | matches |
//! |---|---|
//! | `*` | any characters but `/`, also none |
//! | `?` | one character, not `/` |
//! | `[a-z]`, `[^x]` | one character of a class, of its complement |
//! | `\c` | `c` |
//!
//! Patterns and names are bytes. A byte that is not UTF-8 counts as one character, as in Go.

use std::str;

/// A pattern that does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub struct BadPattern;

/// A pattern that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    tokens: Vec<Token>,
}

/// A piece of a pattern. A run of them is a state machine: `Star` and the `Deep`s repeat, the others take one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// One character.
    Char(char),
    /// Any character but `/`.
    Any,
    /// Any number of characters but `/`.
    Star,
    /// One character of a class.
    Class(Class),
    /// Any number of characters.
    Deep,
    /// Any number of characters up to a `/`, or none: `**/` in an ignore file. Always followed by `InDirectory`.
    Directories,
    /// In the middle of a name that `Directories` passes over.
    InDirectory,
}

/// Ranges of characters, both ends included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

/// Whether the whole of `name` matches `pattern`; `*` and `?` stop at `/`.
pub fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    Ok(Pattern::parse(pattern)?.matches(name))
}

/// Whether a source of `COPY` is a pattern at all: it holds `*`, `?` or `[` without a backslash before it.
pub fn has_wildcard(path: &[u8]) -> bool {
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(pattern: &[u8]) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = pattern;
        while let Some(token) = next_token(&mut rest)? {
            tokens.push(token);
        }
        Ok(Self { tokens })
    }

    pub(crate) fn of(tokens: Vec<Token>) -> Self {
        Self { tokens }
    }

    /// Whether the whole of `name` matches.
    pub fn matches(&self, name: &[u8]) -> bool {
        // Most patterns fail at the first character.
        if let (Some(Token::Char(first)), Some(c)) = (self.tokens.first(), Chars(name).next())
            && *first != c
        {
            return false;
        }
        let end = self.tokens.len();
        let mut here = vec![false; end + 1];
        let mut there = vec![false; end + 1];
        self.enter(0, &mut here);
        for c in Chars(name) {
            there.fill(false);
            let mut alive = false;
            for (state, token) in self.tokens.iter().enumerate() {
                if here.get(state).copied().unwrap_or_default()
                    && let Some(next) = token.step(state, c)
                {
                    self.enter(next, &mut there);
                    alive = true;
                }
            }
            if !alive {
                return false;
            }
            std::mem::swap(&mut here, &mut there);
        }
        here.last().copied().unwrap_or_default()
    }

    /// Marks a state and those that are reached without a character.
    fn enter(&self, mut state: usize, states: &mut [bool]) {
        loop {
            match states.get_mut(state) {
                Some(seen) if !*seen => *seen = true,
                _ => return,
            }
            match self.tokens.get(state) {
                Some(Token::Star | Token::Deep) => state += 1,
                Some(Token::Directories) => state += 2,
                _ => return,
            }
        }
    }
}

impl Token {
    /// The state behind a character, if this token takes it.
    fn step(&self, state: usize, c: char) -> Option<usize> {
        let (taken, next) = match self {
            Self::Char(expected) => (*expected == c, state + 1),
            Self::Any => (c != '/', state + 1),
            Self::Star => (c != '/', state),
            Self::Class(class) => (class.holds(c), state + 1),
            // Go's `.` takes no line feed.
            Self::Deep => (c != '\n', state),
            Self::Directories => (c != '\n', if c == '/' { state } else { state + 1 }),
            Self::InDirectory => (c != '\n', if c == '/' { state - 1 } else { state }),
        };
        taken.then_some(next)
    }
}

impl Class {
    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != self.negated
    }
}

/// Takes one token off a pattern.
pub(crate) fn next_token(rest: &mut &[u8]) -> Result<Option<Token>, BadPattern> {
    let mut chars = Chars(rest);
    let Some(c) = chars.next() else { return Ok(None) };
    let token = match c {
        '*' => Token::Star,
        '?' => Token::Any,
        '\\' => Token::Char(chars.next().ok_or(BadPattern)?),
        '[' => Token::Class(class(&mut chars)?),
        c => Token::Char(c),
    };
    *rest = chars.0;
    Ok(Some(token))
}

fn class(chars: &mut Chars<'_>) -> Result<Class, BadPattern> {
    let negated = chars.skip_if(b'^');
    let mut ranges = Vec::new();
    while ranges.is_empty() || !chars.skip_if(b']') {
        let low = class_end(chars)?;
        let high = if chars.skip_if(b'-') { class_end(chars)? } else { low };
        ranges.push((low, high));
    }
    Ok(Class { negated, ranges })
}

/// One end of a range: `-` and `]` must be escaped.
fn class_end(chars: &mut Chars<'_>) -> Result<char, BadPattern> {
    match chars.next() {
        Some('\\') => chars.next().ok_or(BadPattern),
        Some('-' | ']') | None => Err(BadPattern),
        Some(c) => Ok(c),
    }
}

/// Characters of bytes; a byte that is not UTF-8 is a replacement character.
struct Chars<'a>(&'a [u8]);

impl Chars<'_> {
    fn skip_if(&mut self, byte: u8) -> bool {
        match self.0.strip_prefix(&[byte]) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }
}

impl Iterator for Chars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let (first, rest) = self.0.split_first()?;
        if first.is_ascii() {
            self.0 = rest;
            return Some(char::from(*first));
        }
        let longest = self.0.get(..4).unwrap_or(self.0);
        let valid = match str::from_utf8(longest) {
            Ok(text) => text,
            Err(error) => longest.get(..error.valid_up_to()).and_then(|bytes| str::from_utf8(bytes).ok())?,
        };
        let c = valid.chars().next();
        self.0 = self.0.get(c.map_or(1, char::len_utf8)..).unwrap_or_default();
        Some(c.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn go(pattern: &str, name: &str) -> Option<bool> {
        matches(pattern.as_bytes(), name.as_bytes()).ok()
    }

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("abc", "ab", false),
            ("*", "abc", true),
            ("*", "", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            ("a?b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "-", true),
            ("[*]", "*", true),
            ("a[^b]c", "a/c", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("[!a]", "b", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(go(pattern, name), Some(expected), "{pattern} {name}");
        }
    }

    #[test]
    fn bad_patterns_are_bad_whatever_the_name() {
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "x*[", "[a-]"] {
            assert_eq!(go(pattern, "zzz"), None, "{pattern}");
        }
        assert_eq!(BadPattern.to_string(), "syntax error in pattern");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_characters() {
        assert_eq!(matches(b"a?c", b"a\xffc"), Ok(true));
        assert_eq!(matches(b"a*c", b"a\xff\xfec"), Ok(true));
        assert_eq!(matches(b"a?c", b"a\xff\xfec"), Ok(false));
        assert_eq!(matches("a?".as_bytes(), &"aé".as_bytes()[..2]), Ok(true));
    }

    #[test]
    fn a_backslash_hides_a_wildcard() {
        for (path, expected) in
            [("a", false), ("a*", true), ("a\\*", false), ("a\\\\*", true), ("[", true), ("?", true)]
        {
            assert_eq!(has_wildcard(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn many_stars_are_not_exponential() {
        let pattern = "*a".repeat(60);
        assert_eq!(go(&pattern, &("a".repeat(59) + &"b".repeat(2000))), Some(false));
    }
}
