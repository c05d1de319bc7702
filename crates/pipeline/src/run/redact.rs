//! Keeping secret values out of everything that is shown (`vars/tracker.go`).

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use crate::yaml::{Node, Value};

/// What stands in a secret's place.
const INSTEAD: &str = "((redacted))";

/// The lines of secret values seen so far.
#[derive(Default)]
pub(crate) struct Redactor {
    /// Longest first, so that a value inside another does not leave the rest of it readable.
    lines: RwLock<Vec<String>>,
}

impl Redactor {
    /// Tracks a value of `load_var`: texts, and texts inside mappings, as Concourse does; and, beyond it, list elements.
    pub fn track(&self, value: &Node) {
        let mut texts = BTreeSet::new();
        collect(value, &mut texts);
        if texts.is_empty() {
            return;
        }
        let mut lines = self.lines.write().unwrap_or_else(PoisonError::into_inner);
        for text in texts {
            for line in text.lines().map(str::trim).filter(|line| line.len() > 1) {
                if !lines.iter().any(|known| known == line) {
                    lines.push(line.to_owned());
                }
            }
        }
        lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
    }

    /// The text without secrets.
    pub fn text(&self, text: &str) -> String {
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), INSTEAD) } else { text }
        })
    }

    /// The bytes of one line without secrets. Bytes that are not UTF-8 are kept.
    pub fn bytes(&self, bytes: &[u8]) -> Vec<u8> {
        if let Ok(text) = std::str::from_utf8(bytes) {
            return self.text(text).into_bytes();
        }
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        lines.iter().fold(bytes.to_owned(), |bytes, secret| replace(&bytes, secret.as_bytes()))
    }

    /// How much of an unfinished line can be shown now: what may be the beginning of a secret has to wait for the rest.
    pub fn showable(&self, line: &[u8]) -> usize {
        let lines = self.lines.read().unwrap_or_else(PoisonError::into_inner);
        let longest = lines.first().map_or(0, String::len);
        let mut end = line.len().saturating_sub(longest.saturating_sub(1));
        // A secret that lies across the end stays whole, and what that uncovers too.
        while let Some(start) = lines.iter().find_map(|secret| across(line, secret.as_bytes(), end)) {
            end = start;
        }
        end
    }
}

/// Where the secret begins that lies across a position, if one does.
fn across(bytes: &[u8], secret: &[u8], position: usize) -> Option<usize> {
    let mut at = 0;
    while at < position {
        if bytes.get(at..)?.starts_with(secret) {
            if at + secret.len() > position {
                return Some(at);
            }
            at += secret.len();
        } else {
            at += 1;
        }
    }
    None
}

fn replace(bytes: &[u8], secret: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(secret) {
            result.extend_from_slice(INSTEAD.as_bytes());
            rest = after;
        } else {
            result.push(*first);
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    result
}

fn collect(value: &Node, texts: &mut BTreeSet<String>) {
    match &value.value {
        Value::String(text) => drop(texts.insert(text.clone())),
        Value::List(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Map(map) => map.iter().for_each(|entry| collect(&entry.value, texts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::parse;

    #[test]
    fn each_line_of_a_secret_is_replaced_wherever_it_stands() {
        let redactor = Redactor::default();
        redactor.track(&Node::text("hunter2\n  key line  \nx\n"));
        redactor.track(&parse(b"{a: {b: hunter2-longer}, c: [listed], n: 7}").unwrap().root);
        for (text, expected) in [
            ("say hunter2, hunter2", "say ((redacted)), ((redacted))"),
            ("a key line b", "a ((redacted)) b"),
            ("x stays, 7 stays", "x stays, 7 stays"),
            ("hunter2-longer", "((redacted))"),
            ("listed", "((redacted))"),
        ] {
            assert_eq!(redactor.text(text), expected);
        }
        assert_eq!(redactor.bytes(b"\xff hunter2"), b"\xff ((redacted))");
    }

    #[test]
    fn an_unfinished_line_is_cut_outside_of_secrets() {
        let redactor = Redactor::default();
        assert_eq!(redactor.showable(b"plain"), 5);
        redactor.track(&Node::text("hunter2"));
        redactor.track(&Node::text("xhun"));
        for (line, expected) in [
            ("say something hunt", "say somethin"),
            ("say hunter2abc", "say "),
            ("say xhunter2abc", "say "),
            ("hunter2hunter2", "hunter2"),
            ("hun", ""),
        ] {
            let end = redactor.showable(line.as_bytes());
            assert_eq!(line.get(..end), Some(expected), "{line}");
        }
    }
}
