//! Values of the form `key=value,key=value`, as Docker's flags have them: CSV, so that a field with a comma stands in
//! quotes (`"name=a,b"`).

use skycap_image::suggest::nearest;

use crate::failure::Failure;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Before the first `=`, in lower case, without blanks around it; the whole field where there is none.
    pub key: String,
    /// Behind it.
    pub value: Option<String>,
    /// Where it begins, in characters from 0.
    pub column: usize,
}

/// The value of a flag, by fields.
#[derive(Debug)]
pub struct Fields<'t> {
    /// The flag, for errors.
    flag: &'t str,
    text: &'t str,
    pub list: Vec<Field>,
}

impl<'t> Fields<'t> {
    pub fn parse(flag: &'t str, text: &'t str) -> Result<Self, Failure> {
        let fields = split(text).map_err(|(column, what)| misplaced(flag, text, column, what))?;
        let list = fields.into_iter().map(|(column, field)| {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = if value.is_some() { key.trim().to_ascii_lowercase() } else { key.to_owned() };
            Field { key, value, column }
        });
        Ok(Self { flag, text, list: list.collect() })
    }

    /// An error that points at a field.
    pub fn wrong(&self, field: &Field, what: impl AsRef<str>) -> Failure {
        misplaced(self.flag, self.text, field.column, what.as_ref())
    }

    /// An error about the whole.
    pub fn incomplete(&self, what: &str) -> Failure {
        Failure::usage(format!("{} {}: {what}", self.flag, self.text))
    }

    /// A field whose key nobody knows.
    pub fn unknown(&self, field: &Field, known: &[&str]) -> Failure {
        let failure = self.wrong(field, format!("there is no key {:?}", field.key));
        match nearest(&field.key, known.iter().copied()) {
            Some(near) => failure.with_hint(format!("did you mean {near}? keys are {}", known.join(", "))),
            None => failure.with_hint(format!("keys are {}", known.join(", "))),
        }
    }

    /// A field that must have a value.
    pub fn value<'f>(&self, field: &'f Field) -> Result<&'f str, Failure> {
        let value = field.value.as_deref().filter(|value| !value.is_empty());
        value.ok_or_else(|| self.wrong(field, format!("{} needs a value: {}=…", field.key, field.key)))
    }

    /// A field that says yes or no; a bare key is a yes.
    pub fn flag(&self, field: &Field) -> Result<bool, Failure> {
        match field.value.as_deref() {
            None => Ok(true),
            Some(text) => {
                boolean(text).ok_or_else(|| self.wrong(field, format!("{}={text}: expected true or false", field.key)))
            }
        }
    }
}

/// What Go's `strconv.ParseBool` takes.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// An error that shows where in the value of a flag something is wrong.
pub fn misplaced(flag: &str, text: &str, column: usize, what: &str) -> Failure {
    let indent = " ".repeat(flag.chars().count() + 1 + column);
    Failure::usage(format!("{flag} {text}: {what}\n  {flag} {text}\n  {indent}^"))
}

/// Fields with the columns where they begin.
fn split(text: &str) -> Result<Vec<(usize, String)>, (usize, &'static str)> {
    let mut fields = Vec::new();
    let mut letters = text.chars().enumerate().peekable();
    loop {
        let column = letters.peek().map_or(text.chars().count(), |(at, _)| *at);
        let mut field = String::new();
        if letters.next_if(|(_, c)| *c == '"').is_some() {
            loop {
                match letters.next() {
                    Some((_, '"')) if letters.next_if(|(_, c)| *c == '"').is_some() => field.push('"'),
                    Some((_, '"')) => break,
                    Some((_, c)) => field.push(c),
                    None => return Err((column, "this quote is not closed")),
                }
            }
            if let Some((at, _)) = letters.peek().filter(|(_, c)| *c != ',') {
                return Err((*at, "a quoted field ends with its quote"));
            }
        } else {
            while let Some((_, c)) = letters.next_if(|(_, c)| *c != ',') {
                field.push(c);
            }
        }
        if field.is_empty() {
            return Err((column, "a field is empty"));
        }
        fields.push((column, field));
        if letters.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(String, Option<String>, usize)> {
        let fields = Fields::parse("--x", text).unwrap();
        fields.list.into_iter().map(|field| (field.key, field.value, field.column)).collect()
    }

    #[test]
    fn fields_are_docker_s() {
        let pair = |key: &str, value: &str, column| (key.to_owned(), Some(value.to_owned()), column);
        assert_eq!(fields("type=local,dest=a b"), [pair("type", "local", 0), pair("dest", "a b", 11)]);
        assert_eq!(fields("\"name=a,b\",Push=true"), [pair("name", "a,b", 0), pair("push", "true", 11)]);
        assert_eq!(fields("\"a=\"\"q\"\"\""), [pair("a", "\"q\"", 0)]);
        assert_eq!(fields("x=a=b"), [pair("x", "a=b", 0)]);
        assert_eq!(fields("./Dir"), [("./Dir".to_owned(), None, 0)]);
    }

    #[test]
    fn what_is_no_field_is_pointed_at() {
        for (text, column) in [("", 0), ("a=b,", 4), ("a=b,,c=d", 4), ("a=b,\"c=d", 4), ("\"a\"b", 3)] {
            let failure = Fields::parse("-o", text).unwrap_err();
            let caret = failure.message.lines().last().unwrap().chars().count();
            assert_eq!((failure.code, caret), (2, 2 + 3 + column + 1), "{text}: {}", failure.message);
        }
    }

    #[test]
    fn unknown_keys_are_guessed() {
        let fields = Fields::parse("--secret", "id=x,scr=y").unwrap();
        let failure = fields.unknown(&fields.list[1], &["id", "src", "env"]);
        assert_eq!(
            failure.message,
            "--secret id=x,scr=y: there is no key \"scr\"\n  --secret id=x,scr=y\n                ^"
        );
        assert_eq!(failure.hint.as_deref(), Some("did you mean src? keys are id, src, env"));
    }
}
