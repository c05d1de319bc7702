//! Nodes as JSON, the way Go's `encoding/json` would have them after a trip through `interface{}`.

use serde_json::{Number, Value as Json};

use super::{Map, Node, Value};

impl Node {
    /// The JSON that Concourse would hold: numbers through float64, keys in order.
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            #[allow(clippy::cast_precision_loss, reason = "Concourse loses it too")]
            Value::Int(value) => json_number(*value as f64),
            #[allow(clippy::cast_precision_loss, reason = "Concourse loses it too")]
            Value::Uint(value) => json_number(*value as f64),
            Value::Float(value) => json_number(*value),
            Value::Number(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(map) => map.to_json(),
        }
    }

    /// A node from JSON; numbers keep their text, as a decoder with `UseNumber` would.
    pub fn from_json(json: &Json) -> Self {
        Self::of(match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Number(number.to_string()),
            Json::String(text) => Value::String(text.clone()),
            Json::Array(items) => Value::List(items.iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                let mut map = Map::default();
                for (key, value) in fields {
                    map.insert(key.clone(), super::Position::default(), Self::from_json(value));
                }
                Value::Map(map)
            }
        })
    }

    /// The text that a task's environment gets for this value (`atc.TaskEnv`): a text as it is, nothing as nothing,
    /// anything else as compact JSON.
    pub fn env_text(&self) -> String {
        match &self.value {
            Value::Null => String::new(),
            Value::String(text) | Value::Number(text) => text.clone(),
            #[allow(clippy::cast_precision_loss, reason = "Concourse loses it too")]
            Value::Int(value) => number_text(*value as f64),
            #[allow(clippy::cast_precision_loss, reason = "Concourse loses it too")]
            Value::Uint(value) => number_text(*value as f64),
            Value::Float(value) => number_text(*value),
            _ => self.to_json().to_string(),
        }
    }

    /// The Go name of the type as JSON's decoder says it: `string`, `number`, `bool`, `array`, `object`.
    pub fn json_kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Int(_) | Value::Uint(_) | Value::Float(_) | Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::List(_) => "array",
            Value::Map(_) => "object",
        }
    }
}

impl Map {
    /// The JSON object, keys in order.
    pub fn to_json(&self) -> Json {
        let sorted: std::collections::BTreeMap<&str, &Node> =
            self.iter().map(|entry| (entry.key.as_str(), &entry.value)).collect();
        Json::Object(sorted.into_iter().map(|(key, value)| (key.to_owned(), value.to_json())).collect())
    }
}

/// A float64 as `encoding/json` writes it: without an exponent between 1e-6 and 1e21.
pub fn number_text(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return if text.contains("e-") { text } else { text.replace('e', "e+") };
    }
    if value == 0.0 { "0".to_owned() } else { value.to_string() }
}

fn json_number(value: f64) -> Json {
    let text = number_text(value);
    if let Ok(value) = text.parse::<i64>() {
        return Json::Number(value.into());
    }
    if let Ok(value) = text.parse::<u64>() {
        return Json::Number(value.into());
    }
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.1, "1.1"),
            (1000.0, "1000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.000_001, "0.000001"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (12_345_678_901_234_567_890.0, "12345678901234567000"),
        ] {
            assert_eq!(number_text(value), expected);
        }
        assert_eq!(Node::of(Value::Uint(12_345_678_901_234_567_890)).to_json().to_string(), "12345678901234567000");
        assert_eq!(Node::of(Value::Int(1_593_696_431)).to_json().to_string(), "1593696431");
    }
}
