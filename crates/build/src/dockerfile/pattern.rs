//! The patterns of `${V#p}`, `${V%p}` and `${V/p/r}`: `?` is one character, `*` any number of them, a backslash takes the
//! meaning away. They never reach over the end of a line.
//!
//! BuildKit turns them into regular expressions. The matcher here walks the same choices in the same order (leftmost
//! first, then the star's preference), but remembers the ones that failed, so that no pattern is exponential. How many it
//! may remember and how much a replacement may give is limited.

use std::collections::HashSet;

use super::expand::{LARGEST, too_large};

/// How many places of values may be compared with places of patterns in one text. What people write takes some thousands.
const MOST_STEPS: usize = 1 << 20;

/// How many comparisons a text has left.
#[derive(Debug)]
pub(super) struct Steps(usize);

impl Default for Steps {
    fn default() -> Self {
        Self(MOST_STEPS)
    }
}

impl Steps {
    fn take(&mut self) -> Result<(), String> {
        self.0 =
            self.0.checked_sub(1).ok_or_else(|| format!("its patterns take more than {MOST_STEPS} steps to match"))?;
        Ok(())
    }
}

/// A pattern that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    greedy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Char(char),
    Any,
    Star,
}

impl Pattern {
    /// Reads a pattern; the error is what is wrong with it.
    pub(super) fn parse(text: &str, greedy: bool) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            tokens.push(match c {
                '*' => Token::Star,
                '?' => Token::Any,
                // These two must be escaped to stand in a substitution at all: the escape is not the pattern's.
                '\\' if matches!(chars.peek(), Some('}' | '/')) => continue,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\')) => Token::Char(c),
                    Some(c) => return Err(format!("invalid escape '\\{c}'")),
                    None => return Err("invalid escape '\\'".to_owned()),
                },
                c => Token::Char(c),
            });
        }
        Ok(Self { tokens, greedy })
    }

    /// `value` without the beginning that matches.
    pub(super) fn trim_start(&self, value: &str, steps: &mut Steps) -> Result<String, String> {
        let value: Vec<char> = value.chars().collect();
        let end = self.match_at(&value, 0, &mut HashSet::new(), steps)?.unwrap_or(0);
        Ok(value.iter().skip(end).collect())
    }

    /// `value` without the end that matches.
    pub(super) fn trim_end(&self, value: &str, steps: &mut Steps) -> Result<String, String> {
        let reversed = Self { tokens: self.tokens.iter().rev().copied().collect(), greedy: self.greedy };
        let value: String = value.chars().rev().collect();
        Ok(reversed.trim_start(&value, steps)?.chars().rev().collect())
    }

    /// `value` with its first match replaced; the replacement is taken as it is.
    pub(super) fn replace_first(&self, value: &str, replacement: &str, steps: &mut Steps) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let Some((start, end)) = self.find(&chars, 0, steps)? else { return Ok(value.to_owned()) };
        let mut out: String = chars.iter().take(start).collect();
        out.push_str(replacement);
        out.extend(chars.iter().skip(end));
        Ok(out)
    }

    /// `value` with every match replaced. As in BuildKit, dollars in the replacement name groups: `$0` is the match, any
    /// other is empty.
    pub(super) fn replace_all(&self, value: &str, replacement: &str, steps: &mut Steps) -> Result<String, String> {
        let chars: Vec<char> = value.chars().collect();
        let mut out = Output(String::new());
        let (mut copied, mut at) = (0, 0);
        while let Some((start, end)) = self.find(&chars, at, steps)? {
            out.push(chars.iter().take(start).skip(copied))?;
            // An empty match right behind another match does not count.
            if end > copied || start == 0 {
                let matched: String = chars.iter().take(end).skip(start).collect();
                fill_groups(replacement, &matched, &mut out)?;
            }
            copied = end;
            at = if at + 1 > end { at + 1 } else { end };
            if at > chars.len() {
                break;
            }
        }
        out.push(chars.iter().skip(copied))?;
        Ok(out.0)
    }

    /// The first match. What failed from one start fails from any other, and is remembered.
    fn find(&self, value: &[char], from: usize, steps: &mut Steps) -> Result<Option<(usize, usize)>, String> {
        let mut failed = HashSet::new();
        for start in from..=value.len() {
            if let Some(end) = self.match_at(value, start, &mut failed, steps)? {
                return Ok(Some((start, end)));
            }
        }
        Ok(None)
    }

    /// Where the preferred match that begins at `start` ends.
    fn match_at(
        &self,
        value: &[char],
        start: usize,
        seen: &mut HashSet<(usize, usize)>,
        steps: &mut Steps,
    ) -> Result<Option<usize>, String> {
        let mut choices = vec![(0, start)];
        while let Some((token, at)) = choices.pop() {
            if !seen.insert((token, at)) {
                continue;
            }
            steps.take()?;
            let here = value.get(at).copied();
            match self.tokens.get(token) {
                None => return Ok(Some(at)),
                Some(Token::Char(c)) if here == Some(*c) => choices.push((token + 1, at + 1)),
                Some(Token::Any) if here.is_some_and(|c| c != '\n') => choices.push((token + 1, at + 1)),
                Some(Token::Star) => {
                    let (stop, go) = ((token + 1, at), (token, at + 1));
                    let can_go = here.is_some_and(|c| c != '\n');
                    // The last one pushed is tried first.
                    match (can_go, self.greedy) {
                        (false, _) => choices.push(stop),
                        (true, true) => choices.extend([stop, go]),
                        (true, false) => choices.extend([go, stop]),
                    }
                }
                Some(_) => {}
            }
        }
        Ok(None)
    }
}

/// A text that cannot become larger than a word may be.
struct Output(String);

impl Output {
    fn push<'c>(&mut self, chars: impl Iterator<Item = &'c char>) -> Result<(), String> {
        self.0.extend(chars);
        self.check()
    }

    fn push_str(&mut self, text: &str) -> Result<(), String> {
        self.0.push_str(text);
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        if self.0.len() > LARGEST { Err(too_large()) } else { Ok(()) }
    }
}

/// Go's `Regexp.Expand` for an expression without groups.
fn fill_groups(template: &str, matched: &str, out: &mut Output) -> Result<(), String> {
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before)?;
        if let Some(after) = after.strip_prefix('$') {
            out.push_str("$")?;
            rest = after;
            continue;
        }
        let (name, behind) = group_name(after);
        match name {
            None => out.push_str("$")?,
            Some(name) if !name.is_empty() && name.bytes().all(|b| b == b'0') => out.push_str(matched)?,
            Some(_) => {}
        }
        rest = behind;
    }
    out.push_str(rest)
}

fn group_name(text: &str) -> (Option<&str>, &str) {
    let braced = text.strip_prefix('{');
    let name_from = braced.unwrap_or(text);
    let length = name_from.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name_from.len());
    let (name, behind) = name_from.split_at(length);
    match (braced, behind.strip_prefix('}')) {
        _ if name.is_empty() => (None, text),
        (None, _) => (Some(name), behind),
        (Some(_), Some(behind)) => (Some(name), behind),
        (Some(_), None) => (None, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_prefers_the_shortest_unless_it_is_greedy() {
        for (pattern, value, shortest, longest) in [
            ("*x", "xxyy", "xyy", "yy"),
            ("*", "abc", "abc", ""),
            ("", "abc", "abc", "abc"),
            ("?\\?", "???y", "?y", "?y"),
            ("*/", "a/b/c", "b/c", "c"),
            ("*b*d", "abcdbd", "bd", ""),
            ("z*", "abc", "abc", "abc"),
            ("*c", "a\nc", "a\nc", "a\nc"),
            ("한*", "한국어", "국어", ""),
        ] {
            let trim =
                |greedy| Pattern::parse(pattern, greedy).unwrap().trim_start(value, &mut Steps::default()).unwrap();
            assert_eq!((trim(false), trim(true)), (shortest.to_owned(), longest.to_owned()), "{pattern} {value}");
        }
    }

    #[test]
    fn an_end_is_trimmed_like_a_beginning_read_backwards() {
        for (pattern, value, shortest, longest) in
            [(".*", "a.tar.gz", "a.tar", "a"), ("\\**", "xx**", "xx*", "xx"), ("x", "xxyy", "xxyy", "xxyy")]
        {
            let trim =
                |greedy| Pattern::parse(pattern, greedy).unwrap().trim_end(value, &mut Steps::default()).unwrap();
            assert_eq!((trim(false), trim(true)), (shortest.to_owned(), longest.to_owned()), "{pattern} {value}");
        }
    }

    #[test]
    fn replacing_follows_go() {
        let replace = |pattern: &str, value: &str, replacement: &str| {
            let pattern = Pattern::parse(pattern, true).unwrap();
            let steps = &mut Steps::default();
            (
                pattern.replace_first(value, replacement, steps).unwrap(),
                pattern.replace_all(value, replacement, steps).unwrap(),
            )
        };
        for (pattern, value, replacement, first, all) in [
            ("/tmp", "/tmp/tmp/a", "", "/tmp/a", "/a"),
            ("/?/", "/a/foo/b/c", "/", "/foo/b/c", "/foo/c"),
            ("", "xy", "-", "-xy", "-x-y-"),
            ("*", "xy", "-", "-", "-"),
            ("*", "", "-", "-", "-"),
            ("b", "abc", "[$0]", "a[$0]c", "a[b]c"),
            ("b", "abc", "[$1]", "a[$1]c", "a[]c"),
            ("b", "abc", "[${0}$$]", "a[${0}$$]c", "a[b$]c"),
            ("b", "abc", "[${0]", "a[${0]c", "a[${0]c"),
            ("b", "abc", "[$]", "a[$]c", "a[$]c"),
            ("z", "abc", "x", "abc", "abc"),
        ] {
            assert_eq!(
                replace(pattern, value, replacement),
                (first.to_owned(), all.to_owned()),
                "{pattern} {value} {replacement}"
            );
        }
    }

    #[test]
    fn only_wildcards_and_the_backslash_can_be_escaped() {
        for (pattern, message) in
            [("\\", "invalid escape '\\'"), ("\\x", "invalid escape '\\x'"), ("\\\\\\", "invalid escape '\\'")]
        {
            assert_eq!(Pattern::parse(pattern, true), Err(message.to_owned()));
        }
        assert!(Pattern::parse("\\}\\/\\*\\?\\\\", true).is_ok());
    }

    #[test]
    fn many_stars_are_not_exponential() {
        let pattern = Pattern::parse(&"*a".repeat(40), false).unwrap();
        let value = "a".repeat(39) + &"b".repeat(400);
        assert_eq!(pattern.trim_start(&value, &mut Steps::default()), Ok(value));
    }
}
