//! Reading JSON as Go does with `DisallowUnknownFields`.

use std::fmt;

use super::scan;
use crate::Failure;

/// Why a request does not say what it should; the text is Go's.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct DecodeError {
    text: String,
    /// What the user can do, where there is something.
    hint: Option<&'static str>,
}

impl DecodeError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), hint: None }
    }

    /// A copy with a hint, if there is one.
    pub(crate) fn with_hint(self, hint: Option<&'static str>) -> Self {
        Self { hint, ..self }
    }
}

impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        let failure = Self::new(format!("invalid payload: {error}"));
        error.hint.into_iter().fold(failure, Self::with_hint)
    }
}

/// The first JSON value of a request, as text. What follows it is ignored; bytes that are not UTF-8 are replaced.
pub(crate) fn request(bytes: &[u8]) -> Result<String, DecodeError> {
    let value = scan::first_value(bytes)?;
    Ok(String::from_utf8_lossy(bytes.get(value).unwrap_or_default()).into_owned())
}

/// A piece of the request.
#[derive(Clone, Copy)]
pub(crate) struct Value<'j> {
    /// As it was written.
    text: &'j str,
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
    pub(crate) fn root(text: &'j str, name: &'j str) -> Self {
        Self { text, key: name, path: Path { parent: None, name } }
    }

    /// The text as it was written.
    pub(crate) fn text(&self) -> &'j str {
        self.text
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
        field: impl FnMut(&str, &Value<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        self.object_of("object", field)
    }

    /// The same where Go's type has a name, for the error text.
    pub(crate) fn object_of(
        &self,
        go_type: &str,
        mut field: impl FnMut(&str, &Value<'_>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.is_null() {
            return Ok(());
        }
        if !self.text.starts_with('{') {
            return Err(self.mismatch(go_type));
        }
        for (key, text) in scan::members(self.text) {
            let key = scan::unquote(key);
            let folded = fold(&key);
            field(&folded, &Value { text, key: &key, path: Path { parent: Some(&self.path), name: &folded } })?;
        }
        Ok(())
    }

    /// The error for a key that has no field.
    pub(crate) fn unknown(&self) -> DecodeError {
        DecodeError::new(format!("json: unknown field {:?}", self.key))
    }

    /// Sets a string; `null` leaves it.
    pub(crate) fn string(&self, target: &mut String) -> Result<(), DecodeError> {
        if self.is_null() {
            return Ok(());
        }
        if !self.text.starts_with('"') {
            let is_number = self.text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
            let hint = is_number.then_some("put it in quotes: to YAML it is a number");
            return Err(self.mismatch("string").with_hint(hint));
        }
        *target = scan::unquote(self.text);
        Ok(())
    }

    /// Sets a boolean; `null` leaves it.
    pub(crate) fn boolean(&self, target: &mut bool) -> Result<(), DecodeError> {
        match self.text {
            "null" => {}
            "true" => *target = true,
            "false" => *target = false,
            _ => return Err(self.mismatch("bool")),
        }
        Ok(())
    }

    /// Replaces a list of strings; `null` empties it.
    pub(crate) fn strings(&self, target: &mut Vec<String>) -> Result<(), DecodeError> {
        target.clear();
        if self.is_null() {
            return Ok(());
        }
        if !self.text.starts_with('[') {
            return Err(self.mismatch("[]string"));
        }
        for text in scan::parts(self.text) {
            let mut element = String::new();
            Value { text, ..*self }.string(&mut element)?;
            target.push(element);
        }
        Ok(())
    }

    /// Whether this is `null`, which leaves defaults.
    pub(crate) fn is_null(&self) -> bool {
        self.text() == "null"
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
            None if go_type == "object" => {
                DecodeError::new(format!("json: cannot unmarshal {found} into Go value of type {}", self.path))
            }
            None => DecodeError::new(format!("json: cannot unmarshal {found} into Go value of type {go_type}")),
            Some(_) => DecodeError::new(format!(
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
    fn hostile_requests_are_errors() {
        assert!(probe(&"[".repeat(100_000)).is_err());
        let deep = format!("{{\"source\":{}1{}}}", "[".repeat(9000), "]".repeat(9000));
        assert!(probe(&deep).is_err());
        assert!(request(b"\xff{}").is_err());
        assert_eq!(request(b"\"\xff\"").as_deref(), Ok("\"\u{fffd}\""));
    }
}
