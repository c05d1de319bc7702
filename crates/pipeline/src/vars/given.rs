//! Vars that a person hands over: flags and files.

use serde::Serialize;

use super::{Lookup, Reference, VarError, traverse};
use crate::yaml::{Map, Node, Position, Value, YamlError, parse};

/// Fly's `-v`, `-y` and `-l`. What the command line says wins over files; of files, the one given last wins.
#[derive(Clone, PartialEq, Default, Serialize)]
pub struct Vars {
    command_line: Map,
    /// In the order given.
    files: Vec<Map>,
}

impl std::fmt::Debug for Vars {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Vars {
    /// `-v name=text`. A dotted name nests: `a.b` is the field `b` of `a`.
    pub fn set_text(&mut self, name: &str, text: &str) -> Result<(), VarError> {
        self.set(name, Node::text(text))
    }

    /// `-y name=yaml`.
    pub fn set_yaml(&mut self, name: &str, yaml: &str) -> Result<(), GivenError> {
        let node = parse(yaml.as_bytes()).map_err(|error| GivenError::yaml(name, error))?.root;
        self.set(name, node).map_err(GivenError::Var)
    }

    /// `-l file`: a mapping. Its numbers become float64, as fly's do, so they cannot be embedded in a text.
    pub fn add_file(&mut self, name: &str, bytes: &[u8]) -> Result<(), GivenError> {
        let root = parse(bytes).map_err(|error| GivenError::yaml(name, error))?.root;
        self.add_map(name, floats(root))
    }

    /// A file that plays a credential manager: a mapping, whose whole numbers can be embedded as a manager's can.
    pub fn add_secrets(&mut self, name: &str, bytes: &[u8]) -> Result<(), GivenError> {
        let root = parse(bytes).map_err(|error| GivenError::yaml(name, error))?.root;
        self.add_map(name, root)
    }

    fn add_map(&mut self, name: &str, root: Node) -> Result<(), GivenError> {
        match root.value {
            Value::Map(map) => self.files.push(map),
            Value::Null => {}
            _ => return Err(GivenError::NotAMap(name.to_owned())),
        }
        Ok(())
    }

    /// Vars made of a mapping, as a var source's configuration or a task's `vars:`.
    pub fn of(map: Map) -> Self {
        Self { command_line: map, files: Vec::new() }
    }

    /// Every top-level name, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.layers().flat_map(|map| map.iter().map(|entry| entry.key.as_str())).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    fn layers(&self) -> impl Iterator<Item = &Map> {
        std::iter::once(&self.command_line).chain(self.files.iter().rev())
    }

    fn set(&mut self, name: &str, value: Node) -> Result<(), VarError> {
        let reference = Reference::parse(name)?;
        insert(&mut self.command_line, reference.path, &reference.fields, value);
        Ok(())
    }
}

/// Puts a value below a path of keys; what stands in the way and is no mapping is replaced.
fn insert(map: &mut Map, key: String, fields: &[String], value: Node) {
    let Some((next, rest)) = fields.split_first() else {
        map.insert(key, Position::default(), value);
        return;
    };
    let mut inner = match map.remove(&key).map(|node| node.value) {
        Some(Value::Map(inner)) => inner,
        _ => Map::default(),
    };
    insert(&mut inner, next.clone(), rest, value);
    map.insert(key, Position::default(), Node::of(Value::Map(inner)));
}

fn floats(mut node: Node) -> Node {
    #[allow(clippy::cast_precision_loss, reason = "fly loses it too")]
    match &mut node.value {
        Value::Int(value) => node.value = Value::Float(*value as f64),
        Value::Uint(value) => node.value = Value::Float(*value as f64),
        Value::List(items) => *items = std::mem::take(items).into_iter().map(floats).collect(),
        Value::Map(map) => map.values_mut().for_each(|value| *value = floats(std::mem::take(value))),
        _ => {}
    }
    node
}

impl Lookup for Vars {
    fn get(&self, reference: &Reference) -> Result<Option<Node>, VarError> {
        if reference.source.is_some() {
            return Ok(None);
        }
        self.layers().find_map(|map| map.get(&reference.path)).map(|value| traverse(value, reference)).transpose()
    }
}

/// Why vars could not be taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GivenError {
    /// The file or the value is not YAML.
    #[error("{name}:{error}")]
    Yaml {
        /// The file or the var.
        name: String,
        /// Why.
        error: YamlError,
    },
    /// The file holds something else than names and values.
    #[error("{0}: must be a mapping of names to values")]
    NotAMap(String),
    /// The name is wrong.
    #[error(transparent)]
    Var(VarError),
}

impl GivenError {
    fn yaml(name: &str, error: YamlError) -> Self {
        Self::Yaml { name: name.to_owned(), error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(vars: &Vars, name: &str) -> Option<Node> {
        vars.get(&Reference::parse(name).unwrap()).unwrap()
    }

    #[test]
    fn the_command_line_wins_over_files_and_later_files_over_earlier_ones() {
        let mut vars = Vars::default();
        vars.set_text("a.b", "flag").unwrap();
        vars.add_file("1.yml", b"a: {b: one}\nx: one\nw: one\n").unwrap();
        vars.add_file("2.yml", b"x: two\n").unwrap();
        assert_eq!(look(&vars, "a.b"), Some(Node::text("flag")));
        assert_eq!(look(&vars, "x"), Some(Node::text("two")));
        assert_eq!(look(&vars, "w"), Some(Node::text("one")));
        assert_eq!(look(&vars, "z"), None);
    }

    #[test]
    fn numbers_of_secrets_stay_whole() {
        let mut vars = Vars::default();
        vars.add_secrets("secrets.yml", b"port: 8080").unwrap();
        vars.add_file("vars.yml", b"limit: 7").unwrap();
        assert_eq!(look(&vars, "port"), Some(Node::of(Value::Int(8080))));
        assert_eq!(look(&vars, "limit"), Some(Node::of(Value::Float(7.0))));
        assert!(vars.add_secrets("list.yml", b"[1]").is_err());
    }

    #[test]
    fn values_do_not_print() {
        let mut vars = Vars::default();
        vars.set_text("password", "hunter2").unwrap();
        assert_eq!(format!("{vars:?}"), r#"["password"]"#);
    }

    #[test]
    fn dotted_flags_nest_and_quoted_ones_do_not() {
        let mut vars = Vars::default();
        vars.set_text("\"a.b\"", "quoted").unwrap();
        vars.set_yaml("n.m", "[1]").unwrap();
        vars.set_text("n.o", "x").unwrap();
        assert_eq!(look(&vars, "\"a.b\""), Some(Node::text("quoted")));
        assert_eq!(look(&vars, "n").unwrap().to_json().to_string(), r#"{"m":[1],"o":"x"}"#);
    }
}
