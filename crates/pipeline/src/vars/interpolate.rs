//! Replaces references in a tree (`vars/template.go`).

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use super::{Lookup, Reference, VarError, go_type};
use crate::yaml::{Map, Node, Position, Value};

/// Go's `\w` is ASCII and its `\pL` any letter.
#[allow(clippy::expect_used, reason = "the pattern is a constant that a test compiles")]
static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\(\((([-/.0-9A-Za-z_\p{L}]+:)?[-/.:@"0-9A-Za-z_\p{L}]+)\)\)"#).expect("a sound pattern")
});

/// What to do with a var that nobody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// Leave `((it))`: someone later may know.
    Keep,
    /// Report all of them.
    Refuse,
}

/// The tree with its references replaced. A text that is nothing but one reference becomes the value itself, whatever its
/// type; a value is not looked through again.
pub fn interpolate(node: &Node, vars: &dyn Lookup, missing: Missing) -> Result<Node, VarError> {
    let mut work = Interpolation { vars, undefined: BTreeSet::new() };
    let result = work.node(node)?;
    if missing == Missing::Refuse && !work.undefined.is_empty() {
        return Err(VarError::Undefined(work.undefined.into_iter().collect()));
    }
    Ok(result)
}

/// Every reference in the tree as written, sorted; malformed ones included.
pub fn references(node: &Node) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(node, &mut found);
    found
}

/// Where the tree refers to a name, as written.
pub fn locate(node: &Node, name: &str) -> Option<Position> {
    match &node.value {
        Value::String(text) => names(text).iter().any(|found| found == name).then_some(node.at),
        Value::List(items) => items.iter().find_map(|item| locate(item, name)),
        Value::Map(map) => map.iter().find_map(|entry| {
            let in_key = names(&entry.key).iter().any(|found| found == name).then_some(entry.at);
            in_key.or_else(|| locate(&entry.value, name))
        }),
        _ => None,
    }
}

fn collect(node: &Node, found: &mut BTreeSet<String>) {
    match &node.value {
        Value::String(text) => found.extend(names(text)),
        Value::List(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Map(map) => {
            for entry in map {
                found.extend(names(&entry.key));
                collect(&entry.value, found);
            }
        }
        _ => {}
    }
}

fn names(text: &str) -> Vec<String> {
    PATTERN.captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str().to_owned())).collect()
}

struct Interpolation<'l> {
    vars: &'l dyn Lookup,
    undefined: BTreeSet<String>,
}

impl Interpolation<'_> {
    fn node(&mut self, node: &Node) -> Result<Node, VarError> {
        let value = match &node.value {
            Value::String(text) => self.text(text)?,
            Value::List(items) => Value::List(items.iter().map(|item| self.node(item)).collect::<Result<_, _>>()?),
            Value::Map(map) => Value::Map(self.map(map)?),
            other => other.clone(),
        };
        Ok(Node { value, at: node.at })
    }

    fn map(&mut self, map: &Map) -> Result<Map, VarError> {
        let mut result = Map::default();
        for entry in map {
            let key = match self.text(&entry.key)? {
                Value::String(text) => text,
                other => Node::of(other).env_text(),
            };
            let value = self.node(&entry.value)?;
            result.insert(key, entry.at, value);
        }
        Ok(result)
    }

    /// The test for "nothing but this reference" is made against the text as replaced so far, as upstream does: with an
    /// empty `a`, `((a))((b))` is `b` with its type.
    fn text(&mut self, text: &str) -> Result<Value, VarError> {
        let mut result = text.to_owned();
        for name in names(text) {
            let reference = Reference::parse(&name)?;
            let Some(found) = self.vars.get(&reference)? else {
                self.undefined.insert(name);
                continue;
            };
            let written = format!("(({name}))");
            if result == written {
                return Ok(found.value);
            }
            let embedded = match &found.value {
                Value::String(text) | Value::Number(text) => text.clone(),
                Value::Int(value) => value.to_string(),
                Value::Uint(value) => value.to_string(),
                _ => return Err(VarError::NotPrimitive { found: go_type(&found), name }),
            };
            result = result.replace(&written, &embedded);
        }
        Ok(Value::String(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vars::Vars;
    use crate::yaml::parse;

    fn vars() -> Vars {
        let mut vars = Vars::default();
        vars.set_text("empty", "").unwrap();
        vars.set_text("name", "ruby").unwrap();
        vars.set_text("tricky", "((name))").unwrap();
        vars.set_yaml("port", "8080").unwrap();
        vars.set_yaml("ratio", "1.5").unwrap();
        vars.set_yaml("list", "[1, 2]").unwrap();
        vars.set_yaml("flag", "yes").unwrap();
        vars.set_yaml("map", "{a: {b: deep}}").unwrap();
        vars.add_file("vars.yml", b"number: 9").unwrap();
        vars
    }

    fn filled(yaml: &str, missing: Missing) -> String {
        let node = parse(yaml.as_bytes()).unwrap().root;
        match interpolate(&node, &vars(), missing) {
            Ok(node) => node.to_json().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn references_are_replaced_as_concourse_replaces_them() {
        for (written, expected) in [
            ("((name))", r#""ruby""#),
            ("x-((name))-((name))", r#""x-ruby-ruby""#),
            ("((port))", "8080"),
            ("p((port))", r#""p8080""#),
            ("((list))", "[1,2]"),
            ("((flag))", "true"),
            ("((map.a.b))!", r#""deep!""#),
            ("((empty))((list))", "[1,2]"),
            ("((tricky))", r#""((name))""#),
            ("{\"((name))\": [\"((port))\"]}", r#"{"ruby":[8080]}"#),
            ("((number))", "9"),
            ("n((number))", "cannot interpolate non-primitive value (float64) from var: number"),
            ("n((ratio))", "cannot interpolate non-primitive value (float64) from var: ratio"),
            ("n((list))", "cannot interpolate non-primitive value ([]interface {}) from var: list"),
            ("n((flag))", "cannot interpolate non-primitive value (bool) from var: flag"),
            ("((map.a.c))", "missing field 'c' in var: map.a.c"),
            ("((name.x))", "cannot access field 'x' of non-map value ('string') from var: name.x"),
            ("[\"((zz))\", ((aa)), ((.:x))]", "undefined vars: .:x, aa, zz"),
            ("(( name ))", r#""(( name ))""#),
        ] {
            assert_eq!(filled(written, Missing::Refuse), expected, "{written}");
        }
    }

    #[test]
    fn unknown_vars_may_wait_for_somebody_who_knows_them() {
        assert_eq!(filled("((zz))-((name))", Missing::Keep), r#""((zz))-ruby""#);
        assert_eq!(filled("((map.zz))", Missing::Keep), "missing field 'zz' in var: map.zz");
    }

    #[test]
    fn references_can_be_listed() {
        let node = parse(b"{a: [((x)), \"((.:y)) ((x))\"], ((k)): 1}").unwrap().root;
        assert_eq!(references(&node).into_iter().collect::<Vec<_>>(), [".:y", "k", "x"]);
    }
}
