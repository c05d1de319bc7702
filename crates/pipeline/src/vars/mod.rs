//! `((references))` and what fills them in: Concourse's `vars` package.
//!
//! [`Reference`] is the syntax, [`Lookup`] is anything that may know a value, [`interpolate`] replaces. [`Vars`] are the ones
//! that a person hands over: fly's `-v`, `-y` and `-l`, and the runner's file of secrets.

mod given;
mod interpolate;
mod reference;

pub use given::Vars;
pub use interpolate::{Missing, interpolate, locate, references};
pub use reference::Reference;

use crate::yaml::{Node, Value};

/// Knows some vars.
pub trait Lookup {
    /// The value, or `None` if this place does not know it. A var that is known but lacks a field is an error.
    fn get(&self, reference: &Reference) -> Result<Option<Node>, VarError>;
}

/// Why something could not be filled in. The texts are Concourse's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VarError {
    /// Nobody knows these; sorted.
    #[error("undefined vars: {}", .0.join(", "))]
    Undefined(Vec<String>),
    /// The reference itself is wrong.
    #[error("invalid var '{name}': {why}")]
    Invalid {
        /// What stands between the parentheses.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The value has no such field.
    #[error("missing field '{field}' in var: {name}")]
    MissingField {
        /// The field.
        field: String,
        /// The reference as written.
        name: String,
    },
    /// The value has no fields at all.
    #[error("cannot access field '{field}' of non-map value ('{found}') from var: {name}")]
    NotAMap {
        /// The field.
        field: String,
        /// The Go type of the value.
        found: &'static str,
        /// The reference as written.
        name: String,
    },
    /// There is no var source of that name.
    #[error("missing source '{source_name}' in var: {name}")]
    MissingSource {
        /// The source.
        source_name: String,
        /// The reference as written.
        name: String,
    },
    /// Only texts and whole numbers can stand inside a text.
    #[error("cannot interpolate non-primitive value ({found}) from var: {name}")]
    NotPrimitive {
        /// The Go type of the value.
        found: &'static str,
        /// The reference as written.
        name: String,
    },
}

impl VarError {
    /// The reference that is to blame, as written; the first of several.
    pub fn reference(&self) -> Option<&str> {
        match self {
            Self::Undefined(names) => names.first().map(String::as_str),
            Self::Invalid { name, .. }
            | Self::MissingField { name, .. }
            | Self::NotAMap { name, .. }
            | Self::MissingSource { name, .. }
            | Self::NotPrimitive { name, .. } => Some(name),
        }
    }
}

/// Walks into a value by the reference's fields (`vars.Traverse`).
pub fn traverse(value: &Node, reference: &Reference) -> Result<Node, VarError> {
    let mut value = value;
    for field in &reference.fields {
        let Value::Map(map) = &value.value else {
            return Err(VarError::NotAMap { field: field.clone(), found: go_type(value), name: reference.to_string() });
        };
        value = map
            .get(field)
            .ok_or_else(|| VarError::MissingField { field: field.clone(), name: reference.to_string() })?;
    }
    Ok(value.clone())
}

/// What Go's `%T` prints for the value.
fn go_type(node: &Node) -> &'static str {
    match &node.value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Uint(_) => "uint64",
        Value::Float(_) => "float64",
        Value::Number(_) => "json.Number",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    }
}
