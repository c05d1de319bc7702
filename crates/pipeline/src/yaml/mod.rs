//! YAML as `go.yaml.in/yaml/v2` reads it, then JSON as `sigs.k8s.io/yaml` makes it, because that is what a pipeline passes
//! through on its way into Concourse: YAML 1.1 scalars, merge keys, numbers through float64, the first document only.
//!
//! Every [`Node`] knows where it was written, so each later error can name a line.

mod compose;
mod json;
mod scalar;

use std::fmt;

use serde::{Serialize, Serializer};

pub use compose::{Document, parse};
pub use json::number_text;

/// Where something was written, counted from 1. Line 0 stands for values that no file holds, such as vars from a command
/// line.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value and where it was written. Two nodes are equal if their values are; serialised, a node is its value.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Node {
    /// What it is.
    pub value: Value,
    /// Where it was written.
    #[serde(skip)]
    pub at: Position,
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// What `yaml.v2` makes of a node. Numbers keep Go's type, because only some of them may be embedded in a text by a var.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing, `~`, `null`.
    #[default]
    Null,
    /// Any of YAML 1.1's words for it.
    Bool(bool),
    /// Go's `int`.
    Int(i64),
    /// Go's `uint64`, for what exceeds an `int`.
    Uint(u64),
    /// Go's `float64`; always finite.
    Float(f64),
    /// Go's `json.Number`: the text of a number that was read from a file at run time.
    Number(String),
    /// A text.
    String(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order written.
    Map(Map),
}

/// A mapping. Keys are texts, as JSON's are; `yes:` is the key `true`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Map(Vec<Entry>);

/// One pair of a [`Map`].
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key was written.
    pub at: Position,
    /// The value.
    pub value: Node,
}

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Sets a key, in place if it is there already.
    pub fn insert(&mut self, key: String, at: Position, value: Node) {
        match self.0.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value = value,
            None => self.0.push(Entry { key, at, value }),
        }
    }

    /// The values, to be changed in place.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.0.iter_mut().map(|entry| &mut entry.value)
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let index = self.0.iter().position(|entry| entry.key == key)?;
        Some(self.0.remove(index).value)
    }

    /// The pairs in the order written.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter().map(|entry| (&entry.key, &entry.value)))
    }
}

impl<'m> IntoIterator for &'m Map {
    type Item = &'m Entry;
    type IntoIter = std::slice::Iter<'m, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl Node {
    /// A value from nowhere.
    pub fn of(value: Value) -> Self {
        Self { value, at: Position::default() }
    }

    /// A text from nowhere.
    pub fn text(text: impl Into<String>) -> Self {
        Self::of(Value::String(text.into()))
    }

    /// The mapping, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    /// Whether it is nothing; Go reads that as an absent key.
    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }
}

/// Why bytes are not a YAML document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct YamlError {
    /// Where.
    pub at: Position,
    /// Concourse's text where it has one.
    pub message: String,
    /// What the user can do.
    pub hint: Option<&'static str>,
}
