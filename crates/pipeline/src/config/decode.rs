//! From trees to structs with the strictness and the words of `encoding/json`.

use crate::yaml::{Entry, Map, Node, Position, Value};

/// A tree that does not fit the schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{at}: {message}")]
pub struct DecodeError {
    /// Where.
    pub at: Position,
    /// Concourse's text.
    pub message: String,
    /// What the user can do.
    pub hint: Option<&'static str>,
}

impl DecodeError {
    pub(super) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: None }
    }

    pub(super) fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Puts Concourse's context before the text.
    pub(super) fn within(mut self, context: &str) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

pub(super) type Decoded<T> = Result<T, DecodeError>;

/// The fields of one Go struct, taken one by one; what is left is unknown.
pub(super) struct Fields<'n> {
    /// Go's name of the struct, for messages.
    struct_name: &'static str,
    /// Where the mapping begins.
    pub at: Position,
    entries: Vec<&'n Entry>,
}

impl<'n> Fields<'n> {
    /// The fields of a mapping. Null reads as a mapping without any, as in Go.
    pub fn of(node: &'n Node, struct_name: &'static str) -> Decoded<Self> {
        match &node.value {
            Value::Map(map) => Ok(Self::of_map(map, node.at, struct_name)),
            Value::Null => Ok(Self { struct_name, at: node.at, entries: Vec::new() }),
            _ => Err(DecodeError::new(
                node.at,
                format!("json: cannot unmarshal {} into Go value of type atc.{struct_name}", node.json_kind()),
            )),
        }
    }

    pub fn of_map(map: &'n Map, at: Position, struct_name: &'static str) -> Self {
        Self { struct_name, at, entries: map.iter().collect() }
    }

    /// Says which struct the next fields belong to; the mapping of a step serves several.
    pub fn rename(&mut self, struct_name: &'static str) {
        self.struct_name = struct_name;
    }

    /// Whether a key is there, even with a null value.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Takes a key; null counts as absent, as in Go.
    pub fn take(&mut self, key: &str) -> Option<&'n Node> {
        self.take_raw(key).filter(|node| !node.is_null())
    }

    /// Takes a key, null or not.
    pub fn take_raw(&mut self, key: &str) -> Option<&'n Node> {
        let index = self.entries.iter().position(|entry| entry.key == key)?;
        Some(&self.entries.remove(index).value)
    }

    pub fn string(&mut self, key: &str) -> Decoded<String> {
        Ok(self.optional_string(key)?.unwrap_or_default())
    }

    pub fn optional_string(&mut self, key: &str) -> Decoded<Option<String>> {
        let Some(node) = self.take(key) else { return Ok(None) };
        match node.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.mismatch(node, key, "string").with_hint("quote it to make it a text")),
        }
    }

    pub fn bool(&mut self, key: &str) -> Decoded<bool> {
        match self.take(key) {
            None => Ok(false),
            Some(Node { value: Value::Bool(value), .. }) => Ok(*value),
            Some(node) => Err(self.mismatch(node, key, "bool")),
        }
    }

    pub fn int(&mut self, key: &str) -> Decoded<Option<i64>> {
        let Some(node) = self.take(key) else { return Ok(None) };
        node.env_text()
            .parse()
            .ok()
            .filter(|_| node.json_kind() == "number")
            .map(Some)
            .ok_or_else(|| self.mismatch(node, key, "int"))
    }

    pub fn strings(&mut self, key: &str) -> Decoded<Vec<String>> {
        let Some(items) = self.list(key, "[]string")? else { return Ok(Vec::new()) };
        items
            .iter()
            .map(|item| match item.as_str() {
                Some(text) => Ok(text.to_owned()),
                None if item.is_null() => Ok(String::new()),
                None => Err(self.mismatch(item, key, "string").with_hint("quote it to make it a text")),
            })
            .collect()
    }

    pub fn list(&mut self, key: &str, go_type: &str) -> Decoded<Option<&'n [Node]>> {
        match self.take(key) {
            None => Ok(None),
            Some(Node { value: Value::List(items), .. }) => Ok(Some(items)),
            Some(node) => Err(self.mismatch(node, key, go_type)),
        }
    }

    pub fn map(&mut self, key: &str, go_type: &str) -> Decoded<Option<&'n Map>> {
        match self.take(key) {
            None => Ok(None),
            Some(Node { value: Value::Map(map), .. }) => Ok(Some(map)),
            Some(node) => Err(self.mismatch(node, key, go_type)),
        }
    }

    /// A mapping of texts to texts.
    pub fn string_map(&mut self, key: &str) -> Decoded<Vec<(String, String)>> {
        let Some(map) = self.map(key, "map[string]string")? else { return Ok(Vec::new()) };
        map.iter()
            .map(|entry| match entry.value.as_str() {
                Some(text) => Ok((entry.key.clone(), text.to_owned())),
                None if entry.value.is_null() => Ok((entry.key.clone(), String::new())),
                None => Err(self.mismatch(&entry.value, key, "string").with_hint("quote it to make it a text")),
            })
            .collect()
    }

    /// Each item of a list, read by `read`.
    pub fn each<T>(&mut self, key: &str, go_type: &str, read: impl Fn(&'n Node) -> Decoded<T>) -> Decoded<Vec<T>> {
        self.list(key, go_type)?.unwrap_or_default().iter().map(read).collect()
    }

    /// Refuses what is left, as `DisallowUnknownFields` does.
    pub fn finish(self) -> Decoded<()> {
        match self.entries.first() {
            None => Ok(()),
            Some(entry) => Err(DecodeError::new(entry.at, format!("json: unknown field {:?}", entry.key))),
        }
    }

    /// What is left: names and places.
    pub fn left(self) -> Vec<(String, Position)> {
        self.entries.into_iter().map(|entry| (entry.key.clone(), entry.at)).collect()
    }

    pub fn mismatch(&self, node: &Node, key: &str, go_type: &str) -> DecodeError {
        DecodeError::new(
            node.at,
            format!(
                "json: cannot unmarshal {} into Go struct field {}.{key} of type {go_type}",
                node.json_kind(),
                self.struct_name
            ),
        )
    }
}
