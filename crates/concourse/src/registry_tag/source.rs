//! `source` of registry-tag, read as leniently as the original reads it: keys that it does not know are ignored, numbers
//! may be strings.

use serde_json::{Map, Value};
use skycap_image::Secret;
use skycap_registry::Credentials;

use crate::Failure;
use crate::pattern::RubyPattern;
use crate::version::Matcher;

/// A request, checked.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) source: Source,
    /// The version as it was given.
    pub(super) version: Map<String, Value>,
}

/// The source, checked.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) uri: String,
    pub(super) credentials: Credentials,
    /// How many pages are asked for at most.
    pub(super) pages: usize,
    pub(super) tags_per_page: usize,
    pub(super) rules: Rules,
}

/// Which tags are versions, in which order.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) regexp: Option<RubyPattern>,
    pub(super) semver: Option<Semver>,
    pub(super) order: Order,
    pub(super) reverse: bool,
}

/// What makes a tag a semantic version.
#[derive(Debug)]
pub(super) struct Semver {
    /// What is cut off at the beginning.
    pub(super) prefix: Option<RubyPattern>,
    /// Absent means that every version will do.
    pub(super) matcher: Option<Matcher>,
}

/// How tags are sorted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Order {
    /// As versions where there is `semver`, else the list backwards.
    #[default]
    Default,
    /// By bytes.
    Alphabetical,
    /// By the numbers in them.
    Numerical,
}

impl Request {
    /// Reads and checks a request.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        // Callers look for the name of Ruby's exception.
        let parsed: Result<Value, _> = serde_json::from_slice(bytes);
        let request = parsed.map_err(|error| Failure::new(format!("JSON::ParserError: {error}")))?;
        let request = object("the request", Some(&request))?;
        let source = object("source", request.get("source"))?;
        let version = object("version", request.get("version"))?;
        Ok(Self { source: Source::of(&source)?, version })
    }

    /// The version's tag, where it has one.
    pub(super) fn tag(&self) -> Option<&str> {
        self.version.get("tag").and_then(Value::as_str)
    }
}

impl Source {
    fn of(source: &Map<String, Value>) -> Result<Self, Failure> {
        let uri = text("source.uri", source.get("uri"))?.unwrap_or_default();
        if uri.is_empty() {
            return Err(Failure::new("mandatory source.uri not found"));
        }
        let pages = positive("source.pages", source.get("pages"), 1)?;
        let tags_per_page = positive("source.tags_per_page", source.get("tags_per_page"), 25)?;
        Ok(Self { uri, credentials: credentials(source)?, pages, tags_per_page, rules: Rules::of(source)? })
    }
}

impl Rules {
    fn of(source: &Map<String, Value>) -> Result<Self, Failure> {
        let regexp = text("source.regexp", source.get("regexp"))?;
        let regexp = regexp.map(|pattern| RubyPattern::parse(&pattern)).transpose();
        let regexp = regexp.map_err(|error| Failure::new(format!("source.regexp: {error}")))?;
        let sort = object("source.sort", source.get("sort"))?;
        let method = text("source.sort.method", sort.get("method"))?;
        let semver = source.get("semver").filter(|semver| !semver.is_null());
        let semver = semver.map(|semver| Semver::of(&object("source.semver", Some(semver))?)).transpose()?;
        if method.is_some() && semver.as_ref().is_some_and(|semver| semver.matcher.is_some()) {
            return Err(Failure::new("sort.method and semver.matcher are exclusive"));
        }
        let order = match method.as_deref() {
            None => Order::Default,
            Some("alphabetical") => Order::Alphabetical,
            Some("numerical") => Order::Numerical,
            Some(other) => return Err(Failure::new(format!("sort.method {other} is not recognised"))),
        };
        // Ruby's idea of truth.
        let reverse = !matches!(sort.get("reverse"), None | Some(Value::Null | Value::Bool(false)));
        Ok(Self { regexp, semver, order, reverse })
    }
}

impl Semver {
    fn of(semver: &Map<String, Value>) -> Result<Self, Failure> {
        let prefix = text("source.semver.prefix", semver.get("prefix"))?.filter(|prefix| !prefix.is_empty());
        let prefix = prefix.map(|prefix| RubyPattern::parse_at_start(&prefix)).transpose();
        let prefix = prefix.map_err(|error| Failure::new(format!("source.semver.prefix: {error}")))?;
        let matcher = text("source.semver.matcher", semver.get("matcher"))?;
        let matcher = matcher.map(|matcher| Matcher::parse(&matcher)).transpose();
        Ok(Self { prefix, matcher: matcher.map_err(|error| Failure::new(format!("source.{error}")))? })
    }
}

fn credentials(source: &Map<String, Value>) -> Result<Credentials, Failure> {
    let field = |name: &str| -> Result<String, Failure> {
        match source.get(name) {
            None => Ok(String::new()),
            Some(Value::String(value)) => Ok(value.clone()),
            Some(_) => Err(Failure::new(format!("source.{name} must be a string"))),
        }
    };
    let (username, password) = (field("username")?, field("password")?);
    if username.is_empty() && password.is_empty() {
        return Ok(Credentials::Anonymous);
    }
    Ok(Credentials::Basic { username, password: Secret::new(password) })
}

/// An object; absent and `null` are an empty one.
fn object(name: &str, value: Option<&Value>) -> Result<Map<String, Value>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(Failure::new(format!("{name} must be an object"))),
    }
}

fn text(name: &str, value: Option<&Value>) -> Result<Option<String>, Failure> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Failure::new(format!("{name} must be a string"))),
    }
}

fn positive(name: &str, value: Option<&Value>, default: usize) -> Result<usize, Failure> {
    let number = value.map_or(Some(default), to_i);
    number.filter(|number| *number > 0).ok_or_else(|| Failure::new(format!("{name} must be a positive integer")))
}

/// Ruby's `to_i`, as far as positive numbers go: the digits at the beginning of a string, `null` is 0.
fn to_i(value: &Value) -> Option<usize> {
    match value {
        Value::Null => Some(0),
        Value::String(text) => {
            let text = text.trim_start();
            let text = text.strip_prefix('+').unwrap_or(text);
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            text.get(..end)?.parse().ok()
        }
        Value::Number(number) => {
            let whole = number.as_u64().and_then(|number| usize::try_from(number).ok());
            whole.or_else(|| to_i(&Value::String(number.to_string())))
        }
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Request::decode(text.as_bytes()).err().map(|failure| failure.message).unwrap_or_default()
    }

    #[test]
    fn requests_are_checked_with_the_originals_texts() {
        let cases = [
            ("{}", "mandatory source.uri not found"),
            (r#"{"source":null,"version":null}"#, "mandatory source.uri not found"),
            (r#"{"source":{"uri":"u","pages":0}}"#, "source.pages must be a positive integer"),
            (r#"{"source":{"uri":"u","pages":null}}"#, "source.pages must be a positive integer"),
            (r#"{"source":{"uri":"u","tags_per_page":"x"}}"#, "source.tags_per_page must be a positive integer"),
            (
                r#"{"source":{"uri":"u","sort":{"method":"numerical"},"semver":{"matcher":"*"}}}"#,
                "sort.method and semver.matcher are exclusive",
            ),
            (r#"{"source":{"uri":"u","sort":{"method":"size"}}}"#, "sort.method size is not recognised"),
            (r#"{"source":{"uri":"u","username":null}}"#, "source.username must be a string"),
            (r#"{"source":[]}"#, "source must be an object"),
        ];
        for (text, expected) in cases {
            assert_eq!(error(text), expected, "{text}");
        }
        assert!(error("nonsense").starts_with("JSON::ParserError"));
        assert!(error("").starts_with("JSON::ParserError"));
        assert!(error(r#"{"source":{"uri":"u","regexp":"("}}"#).starts_with("source.regexp: "));
        let matcher = error(r#"{"source":{"uri":"u","semver":{"matcher":"<=> 1"}}}"#);
        assert!(matcher.starts_with("source.semver.matcher \"<=> 1\" cannot be understood"), "{matcher}");
    }

    #[test]
    fn numbers_may_be_strings() -> Result<(), Failure> {
        for (json, expected) in [("3", 3), ("\"3\"", 3), ("\"2x\"", 2), ("\" +4 \"", 4), ("2.9", 2)] {
            let request = Request::decode(format!(r#"{{"source":{{"uri":"u","pages":{json}}}}}"#).as_bytes())?;
            assert_eq!(request.source.pages, expected, "{json}");
        }
        Ok(())
    }

    #[test]
    fn unknown_keys_are_ignored_and_secrets_do_not_show() -> Result<(), Failure> {
        let text =
            br#"{"source":{"uri":"u","x":1,"username":"u","password":"hunter2"},"version":{"tag":"1"},"params":{}}"#;
        let request = Request::decode(text)?;
        assert_eq!(request.tag(), Some("1"));
        assert!(!format!("{request:?}").contains("hunter2"));
        Ok(())
    }
}
