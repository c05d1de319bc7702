//! Variables and quotes in a word, the way BuildKit's shell lexer reads them.
//!
//! | form | is |
//! |---|---|
//! | `$V` `${V}` | the value; empty if unset |
//! | `${V:-w}` `${V-w}` | the value; `w` if unset (with the colon also if empty) |
//! | `${V:+w}` `${V+w}` | `w`; empty if unset (with the colon also if empty) |
//! | `${V:?w}` `${V?w}` | the value; an error that says `w` if unset (with the colon also if empty) |
//! | `${V#p}` `${V##p}` | without the shortest, the longest beginning that matches `p` |
//! | `${V%p}` `${V%%p}` | without the shortest, the longest end that matches `p` |
//! | `${V/p/r}` `${V//p/r}` | with the first match, with all matches of `p` replaced |
//!
//! `w`, `p` and `r` expand in turn. Single quotes keep everything; in double quotes dollars work and the escape character
//! is one only before `"`, `$` and itself.

mod substitution;

use std::collections::BTreeSet;

use super::pattern::Steps;

/// How deep substitutions may nest. BuildKit has no limit; nobody writes more than three.
const DEEPEST: usize = 64;

/// How many bytes the substitutions of one text may give, nested ones included. BuildKit has no limit and runs out of
/// memory; the kernel takes no argument or variable above 128 KiB.
pub(super) const LARGEST: usize = 1 << 20;

/// Expands words.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    escape: char,
    env: &'a dyn Fn(&str) -> Option<String>,
    rules: Rules,
}

/// What differs from the ordinary.
#[derive(Clone, Copy, Default)]
struct Rules {
    quotes: Quotes,
    /// Escape characters escape, and stay.
    keep_escapes: bool,
    /// Substitutions of unset variables stay.
    keep_unset: bool,
}

/// What quotes do.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Quotes {
    /// They quote, and go.
    #[default]
    Go,
    /// They quote, and stay.
    Stay,
    /// They are ordinary characters.
    Plain,
}

/// What a text became.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// As one word.
    pub word: String,
    /// Split at blanks that are not quoted.
    pub words: Vec<String>,
    /// Variables that were asked for and are set.
    pub matched: BTreeSet<String>,
    /// Variables that were asked for and are not set.
    pub unmatched: BTreeSet<String>,
}

/// Text that does not expand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {text:?}: {message}")]
pub struct ExpandError {
    /// The whole text.
    pub text: String,
    /// What is wrong with it.
    pub message: String,
}

/// Expands `text` to one word.
pub fn expand(text: &str, escape: char, env: &dyn Fn(&str) -> Option<String>) -> Result<String, ExpandError> {
    Expander::new(escape, env).run(text).map(|expanded| expanded.word)
}

/// Expands `text` to any number of words, split at blanks that are not quoted after variables have been put in.
pub fn expand_words(
    text: &str,
    escape: char,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<String>, ExpandError> {
    Expander::new(escape, env).run(text).map(|expanded| expanded.words)
}

impl<'a> Expander<'a> {
    /// With the Dockerfile's escape character and the variables.
    pub fn new(escape: char, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { escape, env, rules: Rules::default() }
    }

    /// Takes quotes for ordinary characters, as the content of a heredoc needs it.
    #[must_use]
    pub fn keeping_quotes(self) -> Self {
        Self { rules: Rules { quotes: Quotes::Plain, ..self.rules }, ..self }
    }

    /// Splits a line in search of heredocs: everything stays as it is written.
    pub(super) fn splitting() -> Self {
        let rules = Rules { quotes: Quotes::Stay, keep_escapes: true, keep_unset: true };
        Self { escape: '\\', env: &|_| None, rules }
    }

    /// Reads a heredoc's word, with or without its quotes.
    pub(super) fn reading_heredoc(keep_quotes: bool) -> Self {
        let quotes = if keep_quotes { Quotes::Stay } else { Quotes::Go };
        let rules = Rules { quotes, keep_escapes: false, keep_unset: true };
        Self { escape: '\\', env: &|_| None, rules }
    }

    /// Expands.
    pub fn run(&self, text: &str) -> Result<Expanded, ExpandError> {
        let mut lexer = Lexer {
            chars: text.chars().collect(),
            at: 0,
            expander: *self,
            keep_escapes: self.rules.keep_escapes,
            depth: 0,
            given: 0,
            steps: Steps::default(),
            matched: BTreeSet::new(),
            unmatched: BTreeSet::new(),
        };
        let (word, words) = lexer.until(None).map_err(|message| ExpandError { text: text.to_owned(), message })?;
        Ok(Expanded { word, words, matched: lexer.matched, unmatched: lexer.unmatched })
    }
}

struct Lexer<'a> {
    chars: Vec<char>,
    at: usize,
    expander: Expander<'a>,
    keep_escapes: bool,
    depth: usize,
    /// Bytes that substitutions gave.
    given: usize,
    /// What patterns may still cost.
    steps: Steps,
    matched: BTreeSet<String>,
    unmatched: BTreeSet<String>,
}

/// Collects words. An empty one is none, even if it was quoted.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    fn push(&mut self, c: char) {
        if c.is_whitespace() { self.end() } else { self.word.push(c) }
    }

    fn end(&mut self) {
        if !self.word.is_empty() {
            self.done.push(std::mem::take(&mut self.word));
        }
    }
}

impl Lexer<'_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek();
        self.at += usize::from(c.is_some());
        c
    }

    fn get(&mut self, name: &str) -> Option<String> {
        let value = (self.expander.env)(name);
        let seen = if value.is_some() { &mut self.matched } else { &mut self.unmatched };
        seen.insert(name.to_owned());
        value
    }

    /// Reads up to `stop` and over it, or to the end.
    fn until(&mut self, stop: Option<char>) -> Result<(String, Vec<String>), String> {
        let quotes = self.expander.rules.quotes != Quotes::Plain;
        let mut result = String::new();
        let mut words = Words::default();
        while let Some(c) = self.next() {
            match c {
                c if Some(c) == stop => {
                    words.end();
                    return Ok((result, words.done));
                }
                '\'' | '"' if quotes => {
                    let quoted = if c == '"' { self.double_quoted()? } else { self.single_quoted()? };
                    words.word += &quoted;
                    result += &quoted;
                }
                '$' => {
                    let value = self.dollar()?;
                    value.chars().for_each(|c| words.push(c));
                    result += &value;
                }
                c if c == self.expander.escape => {
                    let escaped = self.next();
                    for c in self.keep_escapes.then_some(c).into_iter().chain(escaped) {
                        words.word.push(c);
                        result.push(c);
                    }
                }
                c => {
                    words.push(c);
                    result.push(c);
                }
            }
        }
        if let Some(stop) = stop {
            return Err(format!("unexpected end of statement while looking for matching {stop}"));
        }
        words.end();
        Ok((result, words.done))
    }

    /// As [`Self::until`], where escape characters stay if `keep_escapes`, and the end of the text has its own message.
    fn part(&mut self, stop: char, keep_escapes: bool, missing: &str) -> Result<String, String> {
        let before = std::mem::replace(&mut self.keep_escapes, keep_escapes);
        let part = self.until(Some(stop));
        self.keep_escapes = before;
        match part {
            Err(_) if self.peek().is_none() => Err(missing.to_owned()),
            part => part.map(|(word, _)| word),
        }
    }

    fn single_quoted(&mut self) -> Result<String, String> {
        let keep = (self.expander.rules.quotes == Quotes::Stay).then_some('\'');
        let mut result: String = keep.into_iter().collect();
        loop {
            match self.next() {
                None => return Err("unexpected end of statement while looking for matching single-quote".to_owned()),
                Some('\'') => {
                    result.extend(keep);
                    return Ok(result);
                }
                Some(c) => result.push(c),
            }
        }
    }

    fn double_quoted(&mut self) -> Result<String, String> {
        let keep = (self.expander.rules.quotes == Quotes::Stay).then_some('"');
        let escape = self.expander.escape;
        let mut result: String = keep.into_iter().collect();
        loop {
            match self.next() {
                None => return Err("unexpected end of statement while looking for matching double-quote".to_owned()),
                Some('"') => {
                    result.extend(keep);
                    return Ok(result);
                }
                Some('$') => result += &self.dollar()?,
                Some(c) if c == escape => {
                    result.extend(self.keep_escapes.then_some(c));
                    match self.peek() {
                        None => {}
                        Some(c) if c == '"' || c == '$' || c == escape => result.extend(self.next()),
                        Some(_) => result.push(c),
                    }
                }
                Some(c) => result.push(c),
            }
        }
    }

    /// What a dollar gives, of which there is a limit.
    fn dollar(&mut self) -> Result<String, String> {
        let value = self.substitution()?;
        self.given += value.len();
        if self.given > LARGEST { Err(too_large()) } else { Ok(value) }
    }

    /// What follows a dollar.
    fn substitution(&mut self) -> Result<String, String> {
        if self.peek() != Some('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            let value = self.get(&name);
            return Ok(value.unwrap_or_else(|| if self.keeps_unset() { format!("${name}") } else { String::new() }));
        }
        self.next();
        match self.peek() {
            None => return Err("syntax error: missing '}'".to_owned()),
            Some('{' | '}' | ':') => return Err("syntax error: bad substitution".to_owned()),
            Some(_) => {}
        }
        if self.depth == DEEPEST {
            return Err(format!("substitutions nest more than {DEEPEST} deep"));
        }
        self.depth += 1;
        let value = self.braced();
        self.depth -= 1;
        value
    }
}

/// What is said when substitutions give more than [`LARGEST`].
pub(super) fn too_large() -> String {
    format!("its variables expand to more than {LARGEST} bytes")
}

#[cfg(test)]
#[path = "expand_tests.rs"]
mod tests;
