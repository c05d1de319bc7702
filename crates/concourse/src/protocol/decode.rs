//! Reading JSON as Go does with `DisallowUnknownFields`.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::Failure;

/// Why a request does not say what it should; the text is Go's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DecodeError(String);

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::new(format!("invalid payload: {error}"))
    }
}

/// The first JSON value of a request, as text. What follows it is ignored; bytes that are not UTF-8 are replaced.
pub(crate) fn request(bytes: &[u8]) -> Result<Box<RawValue>, DecodeError> {
    let text = String::from_utf8_lossy(bytes);
    let mut values = serde_json::Deserializer::from_str(&text).into_iter::<Box<RawValue>>();
    match values.next() {
        None => Err(DecodeError("EOF".to_owned())),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) if error.is_eof() => Err(DecodeError("unexpected EOF".to_owned())),
        Some(Err(error)) => Err(DecodeError(syntax(&text, &error))),
    }
}

fn syntax(text: &str, error: &serde_json::Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let found = line.as_bytes().get(error.column().saturating_sub(1)).copied();
    let found =
        found.filter(u8::is_ascii).map_or_else(String::new, |byte| format!("invalid character {:?}: ", byte as char));
    format!("{found}{error}")
}

/// A piece of the request.
#[derive(Clone, Copy)]
pub(crate) struct Value<'j> {
    raw: &'j RawValue,
    /// The field's key as it was written.
    key: &'j str,
    path: Path<'j>,
}

/// Where a value stands: `CheckRequest.source.tag`.
#[derive(Clone, Copy)]
struct Path<'p> {
    parent: Option<&'p Path<'p>>,
    name: &'p str,
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(self.name)
    }
}

impl<'j> Value<'j> {
    /// The whole request. `name` is the name of Go's type, for error texts.
    pub(crate) fn root(raw: &'j RawValue, name: &'j str) -> Self {
        Self { raw, key: name, path: Path { parent: None, name } }
    }

    /// The text as it was written.
    pub(crate) fn text(&self) -> &'j str {
        self.raw.get()
    }

    /// The key as it was written.
    pub(crate) fn key(&self) -> &'j str {
        self.key
    }

    /// Hands each field to `field`, by its key in lower case, in the order of the text. `null` has no fields.
    ///
    /// `field` answers keys that it does not know with [`Value::unknown`].
    pub(crate) fn object(
        &self,
        mut field: impl FnMut(&str, &Value<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.is_null() {
            return Ok(());
        }
        if !self.text().starts_with('{') {
            return Err(self.mismatch("object"));
        }
        for (key, raw) in self.entries()? {
            let folded = fold(&key);
            let value = Value { raw: &raw, key: &key, path: Path { parent: Some(&self.path), name: &folded } };
            field(&folded, &value)?;
        }
        Ok(())
    }

    /// Every key as written, with its text.
    fn entries(&self) -> Result<Vec<(String, Box<RawValue>)>, DecodeError> {
        serde_json::from_str::<Entries>(self.text()).map(|entries| entries.0).map_err(|e| DecodeError(e.to_string()))
    }

    /// The error for a key that has no field.
    pub(crate) fn unknown(&self) -> DecodeError {
        DecodeError(format!("json: unknown field {:?}", self.key))
    }

    /// Sets a string; `null` leaves it.
    pub(crate) fn string(&self, target: &mut String) -> Result<(), DecodeError> {
        self.scalar("string", target)
    }

    /// Sets a boolean; `null` leaves it.
    pub(crate) fn boolean(&self, target: &mut bool) -> Result<(), DecodeError> {
        self.scalar("bool", target)
    }

    /// Replaces a list of strings; `null` empties it.
    pub(crate) fn strings(&self, target: &mut Vec<String>) -> Result<(), DecodeError> {
        if self.is_null() {
            target.clear();
            return Ok(());
        }
        if !self.text().starts_with('[') {
            return Err(self.mismatch("[]string"));
        }
        let elements: Vec<Box<RawValue>> =
            serde_json::from_str(self.text()).map_err(|error| DecodeError(error.to_string()))?;
        *target = Vec::with_capacity(elements.len());
        for raw in &elements {
            let mut element = String::new();
            Value { raw, ..*self }.string(&mut element)?;
            target.push(element);
        }
        Ok(())
    }

    /// Whether this is `null`, which leaves defaults.
    pub(crate) fn is_null(&self) -> bool {
        self.text() == "null"
    }

    fn scalar<T: serde::de::DeserializeOwned>(&self, go_type: &str, target: &mut T) -> Result<(), DecodeError> {
        if !self.is_null() {
            *target = serde_json::from_str(self.text()).map_err(|_| self.mismatch(go_type))?;
        }
        Ok(())
    }

    /// Go's text for a value of the wrong type.
    pub(crate) fn mismatch(&self, go_type: &str) -> DecodeError {
        let found = match self.text().as_bytes().first() {
            Some(b'"') => "string",
            Some(b'{') => "object",
            Some(b'[') => "array",
            Some(b't' | b'f') => "bool",
            _ => "number",
        };
        let found =
            if found == "number" && go_type == "int" { format!("number {}", self.text()) } else { found.to_owned() };
        match self.path.parent {
            None => DecodeError(format!("json: cannot unmarshal {found} into Go value of type {}", self.path)),
            Some(_) => DecodeError(format!(
                "json: cannot unmarshal {found} into Go struct field {} of type {go_type}",
                self.path
            )),
        }
    }
}

/// Go folds case by Unicode's simple folding; of our ASCII field names only `k` and `s` have a partner outside ASCII.
fn fold(key: &str) -> String {
    key.chars()
        .map(|character| match character {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

/// The members of an object in order; a key may come twice, and then Go lets both act.
struct Entries(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Debug, PartialEq)]
    struct Probe {
        repository: String,
        insecure: bool,
        list: Vec<String>,
    }

    fn probe(text: &str) -> Result<Probe, String> {
        let raw = request(text.as_bytes()).map_err(|e| e.to_string())?;
        let mut probe = Probe::default();
        Value::root(&raw, "CheckRequest")
            .object(|key, value| match key {
                "source" => value.object(|key, value| match key {
                    "repository" => value.string(&mut probe.repository),
                    "insecure" => value.boolean(&mut probe.insecure),
                    "list" => value.strings(&mut probe.list),
                    _ => Err(value.unknown()),
                }),
                _ => Err(value.unknown()),
            })
            .map_err(|e| e.to_string())?;
        Ok(probe)
    }

    #[test]
    fn requests_are_read_as_go_reads_them() {
        let set = |repository: &str| Ok(Probe { repository: repository.to_owned(), ..Probe::default() });
        let error = |text: &str| Err(text.to_owned());
        let cases: [(&str, Result<Probe, String>); 14] = [
            (r#"{"source":{"repository":"a"}}"#, set("a")),
            (r#"{"SOURCE":{"Repository":"a"}} garbage"#, set("a")),
            (r#"{"source":{"repository":"a","REPOSITORY":"b"}}"#, set("b")),
            (r#"{"ſource":{"repository":null}}"#, set("")),
            (r#"{"source":null}"#, set("")),
            ("null", set("")),
            ("", error("EOF")),
            ("  \n", error("EOF")),
            (r#"{"source":"#, error("unexpected EOF")),
            (r#"{"source":{"foo":1}}"#, error(r#"json: unknown field "foo""#)),
            (r#"{"Params":{}}"#, error(r#"json: unknown field "Params""#)),
            (
                r#"{"source":{"insecure":"yes"}}"#,
                error("json: cannot unmarshal string into Go struct field CheckRequest.source.insecure of type bool"),
            ),
            (
                r#"{"source":{"list":["a",3]}}"#,
                error("json: cannot unmarshal number into Go struct field CheckRequest.source.list of type string"),
            ),
            ("[]", error("json: cannot unmarshal array into Go value of type CheckRequest")),
        ];
        for (text, expected) in cases {
            assert_eq!(probe(text), expected, "{text}");
        }
    }

    #[test]
    fn broken_requests_are_errors_whatever_they_are() {
        for text in [
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "\"\\ud800\"",
            "{\"source\":{\"repository\":\"\\x\"}}",
            "nul",
            "\u{feff}{}",
        ] {
            assert!(probe(text).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(probe(&deep).is_err());
        let deep = format!("{{\"source\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(probe(&deep).is_err());
        assert!(request(b"\xff{}").is_err());
    }
}
