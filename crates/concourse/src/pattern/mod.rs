//! Regular expressions in the dialects that users of the resources have been writing: Go's RE2 (registry-image) and Ruby's
//! Onigmo (registry-tag). Both are rewritten into the dialect of the engine that runs them; what the engine would
//! read differently is spelled out or refused.

mod go;
mod ruby;

pub(crate) use go::GoPattern;
pub(crate) use ruby::{InvalidRubyPattern, RubyPattern};

/// A character that stands for itself, whatever the engine thinks of it.
fn literal(character: char, out: &mut String) {
    if character.is_ascii_alphanumeric() {
        out.push(character);
    } else {
        use std::fmt::Write as _;
        // Writing into a string cannot fail.
        let _ = write!(out, r"\x{{{:x}}}", u32::from(character));
    }
}

/// The pattern as a queue of characters.
#[derive(Default)]
struct Cursor<'p> {
    pattern: &'p str,
    at: usize,
}

impl<'p> Cursor<'p> {
    fn new(pattern: &'p str) -> Self {
        Self { pattern, at: 0 }
    }

    fn rest(&self) -> &'p str {
        self.since(self.at).0
    }

    /// What follows `start`, and what of it was read already.
    fn since(&self, start: usize) -> (&'p str, &'p str) {
        let whole = self.pattern.get(start..).unwrap_or_default();
        let read = self.pattern.get(start..self.at).unwrap_or_default();
        (whole, read)
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    /// Reads while `keep` holds, at most `limit` characters.
    fn eat_while(&mut self, limit: usize, keep: impl Fn(char) -> bool) -> &'p str {
        let start = self.at;
        let mut count = 0;
        while count < limit && self.peek().is_some_and(&keep) {
            self.next();
            count += 1;
        }
        self.since(start).1
    }
}
