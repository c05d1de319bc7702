//! One pattern of an ignore file: what it says, and whether a path matches it.

use super::InvalidIgnore;
use crate::glob::{self, BadPattern, Token};

/// A pattern, and whether it takes back what an earlier one left out.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub takes_back: bool,
    /// Cleaned, without the `!`.
    pub text: Vec<u8>,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// No wildcard.
    Exact,
    /// `dir/**`: what begins with this.
    Prefix(Vec<u8>),
    /// `**/name`, `**name`: what ends with this.
    Suffix(Vec<u8>),
    /// Anything else.
    Pattern(glob::Pattern),
}

impl Rule {
    /// Reads a line; a blank one is none.
    pub fn parse(pattern: &[u8]) -> Result<Option<Self>, InvalidIgnore> {
        let pattern = trim(pattern);
        if pattern.is_empty() {
            return Ok(None);
        }
        let pattern = clean(pattern);
        let (takes_back, text) = match pattern.strip_prefix(b"!") {
            Some([]) => return Err(InvalidIgnore::BareExclamationMark),
            Some(rest) => (true, rest),
            None => (false, pattern.as_slice()),
        };
        let invalid = |source| InvalidIgnore::Pattern { pattern: String::from_utf8_lossy(text).into_owned(), source };
        let matcher = matcher(text).map_err(invalid)?;
        Ok(Some(Self { takes_back, text: text.to_vec(), matcher }))
    }

    /// Whether a path matches, whatever the directories above it do.
    pub fn matches(&self, path: &[u8]) -> bool {
        match &self.matcher {
            Matcher::Exact => path == self.text,
            Matcher::Prefix(prefix) => path.starts_with(prefix),
            // `**/foo` is also `foo`.
            Matcher::Suffix(suffix) => path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path),
            Matcher::Pattern(pattern) => pattern.matches(path),
        }
    }

    /// Whether a path below `directory` may match, judged part by part.
    pub fn may_match_below(&self, directory: &[u8]) -> bool {
        let mut parts = self.text.split(|b| *b == b'/');
        for name in directory.split(|b| *b == b'/') {
            let Some(part) = parts.next() else { return false };
            // A class may hold a `/`, and `**` anything.
            if part.contains(&b'[') || part.windows(2).any(|pair| pair == b"**") {
                return true;
            }
            if !glob::matches(part, name).unwrap_or(true) {
                return false;
            }
        }
        parts.next().is_some()
    }
}

/// How a pattern is matched. What it is can depend on what comes later, as in the original: `**foo` looks at the end of a
/// path, but `**foo*` at the names in it.
fn matcher(text: &[u8]) -> Result<Matcher, BadPattern> {
    enum Looks {
        Whole,
        Start,
        End,
        Closely,
    }
    let mut tokens = Vec::new();
    let mut looks = Looks::Whole;
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(b"**") {
            rest = behind.strip_prefix(b"/").unwrap_or(behind);
            if rest.is_empty() {
                looks = if matches!(looks, Looks::Whole) { Looks::Start } else { Looks::Closely };
                tokens.push(Token::Deep);
            } else {
                looks = Looks::Closely;
                tokens.extend([Token::Directories, Token::InDirectory]);
            }
            if first {
                looks = Looks::End;
            }
        } else {
            let escaped = rest.starts_with(b"\\");
            match glob::next_token(&mut rest)? {
                Some(Token::Char(c)) if !escaped => {
                    // A `]` alone makes the original look closely; it comes to the same.
                    tokens.push(Token::Char(c));
                }
                Some(token) => {
                    looks = Looks::Closely;
                    tokens.push(token);
                }
                None => break,
            }
        }
        first = false;
    }
    let (start, end) = (text.strip_suffix(b"**"), text.strip_prefix(b"**"));
    Ok(match looks {
        Looks::Whole => Matcher::Exact,
        Looks::Start => Matcher::Prefix(start.unwrap_or(text).to_vec()),
        Looks::End => Matcher::Suffix(end.unwrap_or(text).to_vec()),
        Looks::Closely => Matcher::Pattern(glob::Pattern::of(tokens)),
    })
}

/// Without blanks around it. Bytes that are not UTF-8 are not blank.
pub(super) fn trim(line: &[u8]) -> &[u8] {
    // A vertical tab is blank in Go and not in `trim_ascii`.
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    line.get(start..end).unwrap_or_default()
}

/// Go's `filepath.Clean`: no empty parts, no `.`, and `..` takes the part before it away.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b".")) {
        let climbs = part == b"..";
        match parts.last() {
            Some(last) if climbs && *last != b".." => drop(parts.pop()),
            None if climbs && rooted => {}
            _ => parts.push(part),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
