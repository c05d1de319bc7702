//! `--name[=value]` between an instruction and its arguments.

use skycap_image::suggest;

use super::error::ParseError;
use super::lex::{Logical, Source};
use super::span::Spanned;

/// A flag as it was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Where it begins in the line.
    at: usize,
    /// Where it ends.
    end: usize,
    /// Without quotes and escapes.
    word: String,
}

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// `true`, `false` or nothing.
    Switch,
    /// A value.
    Value,
    /// A value, and it may be there several times.
    Values,
}

/// The flags of an instruction, checked.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: Vec<(&'static str, Spanned<String>)>,
}

/// Splits flags off the text of `line` from `start` on; tells where the arguments begin. Quotes and backslashes work
/// whatever the Dockerfile's escape character is. `--` ends the flags.
pub(super) fn split(line: &Logical, start: usize) -> (Vec<Written>, usize) {
    let text = line.text.as_str();
    let mut flags = Vec::new();
    let mut at = start;
    loop {
        at = skip_blanks(text, at);
        if !text.get(at..).is_some_and(|rest| rest.starts_with("--")) {
            return (flags, at);
        }
        let flag = word(text, at);
        at = flag.end;
        if flag.word == "--" {
            return (flags, skip_blanks(text, at));
        }
        flags.push(flag);
    }
}

fn skip_blanks(text: &str, at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    text.len() - rest.trim_start().len()
}

fn word(text: &str, at: usize) -> Written {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.get(at..).unwrap_or_default().char_indices();
    while let Some((offset, c)) = chars.next() {
        match (c, quote) {
            (c, None) if c.is_whitespace() => return Written { at, end: at + offset, word },
            ('\'' | '"', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            ('\\', _) => word.extend(chars.next().map(|(_, c)| c)),
            (c, _) => word.push(c),
        }
    }
    Written { at, end: text.len(), word }
}

/// Checks flags against those that the instruction knows.
pub(super) fn check(
    written: &[Written],
    known: &[(&'static str, Takes)],
    source: &Source<'_>,
    line: &Logical,
) -> Result<Flags, ParseError> {
    let mut flags = Flags::default();
    for flag in written {
        let error = |message: String| line.error(source, flag.at, message);
        let (name, value) = match flag.word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag.word.as_str(), None),
        };
        let Some((known_name, takes)) = known.iter().find(|(known, _)| name.strip_prefix("--") == Some(known)) else {
            let names: Vec<String> = known.iter().map(|(known, _)| format!("--{known}")).collect();
            let hint = suggest::nearest(name, names.iter().map(String::as_str));
            let mut error = error(format!("unknown flag: {name}"));
            error.hint = hint.map(|hint| format!("did you mean {hint}?"));
            return Err(error);
        };
        if *takes != Takes::Values && flags.values.iter().any(|(seen, _)| seen == known_name) {
            return Err(error(format!("duplicate flag specified: {name}")));
        }
        let value = match (takes, value) {
            (Takes::Switch, Some("")) | (Takes::Value | Takes::Values, None) => {
                return Err(error(format!("missing a value on flag: {name}")));
            }
            (Takes::Switch, None) => "true".to_owned(),
            (Takes::Switch, Some(value)) if value.eq_ignore_ascii_case("true") => "true".to_owned(),
            (Takes::Switch, Some(value)) if value.eq_ignore_ascii_case("false") => "false".to_owned(),
            (Takes::Switch, Some(value)) => {
                return Err(error(format!("expecting boolean value for flag {name}, not: {value}")));
            }
            (Takes::Value | Takes::Values, Some(value)) => value.to_owned(),
        };
        let text = line.text.get(flag.at..flag.end).unwrap_or_default().to_owned();
        flags.values.push((known_name, Spanned { value, span: line.span_of(flag.at, flag.end), text }));
    }
    Ok(flags)
}

impl Flags {
    /// Takes the value of a flag.
    pub(super) fn value(&mut self, name: &str) -> Option<Spanned<String>> {
        let at = self.values.iter().position(|(seen, _)| *seen == name)?;
        Some(self.values.remove(at).1)
    }

    /// Takes a switch.
    pub(super) fn switch(&mut self, name: &str) -> Option<Spanned<bool>> {
        self.value(name).map(|flag| flag.map(|value| value == "true"))
    }

    /// Takes all values of a flag.
    pub(super) fn values(&mut self, name: &str) -> Vec<Spanned<String>> {
        std::iter::from_fn(|| self.value(name)).collect()
    }
}
