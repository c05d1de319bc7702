//! From parser events to nodes: anchors, merge keys, duplicate keys, budgets.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::scalar::plain;
use super::{Map, Node, Position, Value, YamlError};

/// How many nodes a document may have once aliases are expanded. The largest pipelines known have some ten thousand.
const NODE_BUDGET: usize = 500_000;
/// How deep nodes may nest. Everything after this recurses over the tree.
const DEPTH_BUDGET: usize = 128;

/// A parsed document.
#[derive(Clone, Debug, Default)]
pub struct Document {
    /// Its root; null for an empty file.
    pub root: Node,
    /// The first key that a mapping holds twice. Only `fly set-pipeline` and `fly validate-pipeline` refuse these, with a
    /// text of their own, so the caller decides.
    pub duplicate: Option<YamlError>,
}

/// Reads the first document of a file.
pub fn parse(bytes: &[u8]) -> Result<Document, YamlError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = before.split(|b| *b == b'\n').count();
        fault(Position { line, column: 1 }, "yaml: invalid leading UTF-8 octet")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut composer =
        Composer { parser: Parser::new_from_str(text), anchors: HashMap::new(), nodes: 0, depth: 0, duplicate: None };
    loop {
        let (event, span) = composer.next()?;
        match event {
            Event::StreamEnd => return Ok(Document::default()),
            Event::DocumentStart(_) => {
                let first = composer.next()?;
                let root = composer.node(first)?.node;
                return Ok(Document { root, duplicate: composer.duplicate });
            }
            Event::Nothing | Event::StreamStart => {}
            _ => return Err(fault(position(span), "yaml: content outside a document")),
        }
    }
}

struct Composer<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Each anchor's node and its size; `None` while it is still being read.
    anchors: HashMap<usize, Option<(Node, usize)>>,
    nodes: usize,
    depth: usize,
    duplicate: Option<YamlError>,
}

/// A node, with the text of a scalar as it was written: merge keys and duplicates are told by that.
struct Composed {
    node: Node,
    written: Option<(String, bool)>,
}

impl<'t> Composer<'t> {
    fn next(&mut self) -> Result<(Event<'t>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let at = Position { line: error.marker().line(), column: error.marker().col() + 1 };
                Err(fault(at, format!("yaml: {}", error.info())))
            }
            None => Err(fault(Position::default(), "yaml: unexpected end")),
        }
    }

    fn node(&mut self, (event, span): (Event<'t>, Span)) -> Result<Composed, YamlError> {
        let at = position(span);
        self.spend(1, at)?;
        let before = self.nodes;
        match event {
            Event::Alias(id) => self.alias(id, at),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), at)?;
                let node = Node { value, at };
                self.keep(anchor, &node, 1);
                Ok(Composed { node, written: Some((text.into_owned(), style == ScalarStyle::Plain)) })
            }
            Event::SequenceStart(anchor, _) => {
                let node = self.nested(anchor, at, Self::sequence)?;
                self.keep(anchor, &node, self.nodes - before + 1);
                Ok(Composed { node, written: None })
            }
            Event::MappingStart(anchor, _) => {
                let node = self.nested(anchor, at, Self::mapping)?;
                self.keep(anchor, &node, self.nodes - before + 1);
                Ok(Composed { node, written: None })
            }
            _ => Err(fault(at, "yaml: unexpected end of a collection")),
        }
    }

    fn nested(
        &mut self,
        anchor: usize,
        at: Position,
        read: impl FnOnce(&mut Self) -> Result<Value, YamlError>,
    ) -> Result<Node, YamlError> {
        if self.depth >= DEPTH_BUDGET {
            return Err(fault(at, format!("yaml: nested deeper than {DEPTH_BUDGET} levels")));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, None);
        }
        self.depth += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(Node { value, at })
    }

    fn sequence(&mut self) -> Result<Value, YamlError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                event => items.push(self.node(event)?.node),
            }
        }
    }

    fn mapping(&mut self) -> Result<Value, YamlError> {
        let mut map = Map::default();
        let mut seen: HashMap<(String, bool), usize> = HashMap::new();
        loop {
            let event = self.next()?;
            if matches!(event.0, Event::MappingEnd) {
                return Ok(Value::Map(map));
            }
            let key = self.node(event)?;
            let at = key.node.at;
            if let Some(written) = &key.written {
                self.note_duplicate(&mut seen, written, at);
            }
            let value = self.next()?;
            let value = self.node(value)?.node;
            if key.written.as_ref().is_some_and(|(text, plain)| *plain && text == "<<") {
                merge(&mut map, value)?;
            } else {
                map.insert(key_text(&key.node)?, at, value);
            }
        }
    }

    fn note_duplicate(&mut self, seen: &mut HashMap<(String, bool), usize>, written: &(String, bool), at: Position) {
        // A quoted and a plain key are the same text to yaml.v3 unless the plain one means something else.
        let is_text = !written.1 || matches!(plain(&written.0), Value::String(_));
        match seen.get(&(written.0.clone(), is_text)) {
            Some(line) if self.duplicate.is_none() => {
                let message = format!(
                    "error parsing yaml before applying templates: yaml: unmarshal errors:\n  line {}: mapping key {:?} already defined at line {line}",
                    at.line, written.0
                );
                self.duplicate = Some(fault(at, message));
            }
            Some(_) => {}
            None => {
                seen.insert((written.0.clone(), is_text), at.line);
            }
        }
    }

    fn alias(&mut self, id: usize, at: Position) -> Result<Composed, YamlError> {
        match self.anchors.get(&id) {
            Some(Some((node, size))) => {
                let (node, size) = (node.clone(), *size);
                self.spend(size, at)?;
                Ok(Composed { node, written: None })
            }
            Some(None) => Err(fault(at, "yaml: anchor value contains itself")),
            None => Err(fault(at, "yaml: unknown anchor referenced")),
        }
    }

    fn keep(&mut self, anchor: usize, node: &Node, size: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, Some((node.clone(), size)));
        }
    }

    fn spend(&mut self, nodes: usize, at: Position) -> Result<(), YamlError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > NODE_BUDGET {
            return Err(fault(at, "yaml: document contains excessive aliasing"));
        }
        Ok(())
    }
}

/// `yaml.v2` merges where the key stands: later keys win over it, and it wins over earlier ones. Of several mappings the
/// first wins.
fn merge(map: &mut Map, value: Node) -> Result<(), YamlError> {
    let refuse = |at| fault(at, "yaml: map merge requires map or sequence of maps as the value");
    match value.value {
        Value::Map(other) => {
            for entry in other.0 {
                map.insert(entry.key, entry.at, entry.value);
            }
            Ok(())
        }
        Value::List(items) => {
            for item in items.into_iter().rev() {
                if item.as_map().is_none() {
                    return Err(refuse(item.at));
                }
                merge(map, item)?;
            }
            Ok(())
        }
        _ => Err(refuse(value.at)),
    }
}

/// A key as `sigs.k8s.io/yaml` turns it into JSON's.
fn key_text(key: &Node) -> Result<String, YamlError> {
    match &key.value {
        Value::String(text) | Value::Number(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Int(value) => Ok(value.to_string()),
        Value::Uint(value) => Ok(value.to_string()),
        Value::Float(value) => Ok(super::number_text(*value)),
        Value::Null => Err(fault(key.at, "unsupported map key of type: null")),
        Value::List(_) => Err(fault(key.at, "yaml: invalid map key: []interface {}")),
        Value::Map(map) => {
            let mut error =
                fault(key.at, format!("yaml: invalid map key: map[string]interface {{}}{}", go_syntax(map)));
            error.hint = Some("vars are written ((name)); a text that begins with { must be quoted");
            Err(error)
        }
    }
}

/// Go's `%#v` of a map, for the error that people search for.
fn go_syntax(map: &Map) -> String {
    let pairs: Vec<String> = map
        .iter()
        .map(|entry| match &entry.value.value {
            Value::Null => format!("{:?}:interface {{}}(nil)", entry.key),
            _ => format!("{:?}:{}", entry.key, entry.value.to_json()),
        })
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Position) -> Result<Value, YamlError> {
    let value = match tag {
        None if style == ScalarStyle::Plain => plain(text),
        Some(tag) if tag.is_yaml_core_schema() => tagged(text, &tag.suffix, at)?,
        // A tag of one's own means nothing to Concourse.
        None | Some(_) => Value::String(text.to_owned()),
    };
    match value {
        Value::Float(number) if number.is_nan() => Err(fault(at, "json: unsupported value: NaN")),
        Value::Float(f64::INFINITY) => Err(fault(at, "json: unsupported value: +Inf")),
        Value::Float(f64::NEG_INFINITY) => Err(fault(at, "json: unsupported value: -Inf")),
        value => Ok(value),
    }
}

fn tagged(text: &str, tag: &str, at: Position) -> Result<Value, YamlError> {
    let value = plain(text);
    #[allow(clippy::cast_precision_loss, reason = "the tag asks for a float")]
    match (tag, value) {
        ("str", _) => Ok(Value::String(text.to_owned())),
        ("int", value @ (Value::Int(_) | Value::Uint(_)))
        | ("float", value @ Value::Float(_))
        | ("bool", value @ Value::Bool(_))
        | ("null", value @ Value::Null)
        | ("timestamp", value @ Value::String(_)) => Ok(value),
        ("float", Value::Int(value)) => Ok(Value::Float(value as f64)),
        ("binary", _) => Err(fault(at, "!!binary is not supported: write the text itself")),
        (tag, _) => Err(fault(at, format!("yaml: cannot decode !!str `{text}` as a !!{tag}"))),
    }
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn fault(at: Position, message: impl Into<String>) -> YamlError {
    YamlError { at, message: message.into(), hint: None }
}
