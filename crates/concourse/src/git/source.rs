//! What Concourse sends to the git resource. Fields of the original that are not built yet are refused by name when they
//! say something; unknown ones always.

use serde_json::{Map, Value};
use skycap_image::Secret;
use url::Url;

use crate::Failure;

/// A request, checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) source: Source,
    pub(super) get: GetParams,
    pub(super) put: PutParams,
    /// The version as it was given; empty without one.
    pub(super) version: Map<String, Value>,
}

/// `source`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// For http and https without a user and a password in it.
    pub(crate) uri: String,
    /// Empty for the remote's default branch.
    pub(super) branch: String,
    /// Often a token itself.
    pub(crate) username: Secret,
    pub(crate) password: Secret,
    pub(super) private_key: Secret,
    pub(super) private_key_user: String,
    pub(super) paths: Vec<String>,
    pub(super) ignore_paths: Vec<String>,
    pub(super) tag_filter: String,
    pub(super) fetch_tags: bool,
    pub(super) skip_ssl_verification: bool,
    pub(super) disable_ci_skip: bool,
    /// How many versions a first check reports.
    pub(super) version_depth: u64,
}

/// A get's `params`.
#[allow(clippy::struct_excessive_bools, reason = "they are the resource's own switches")]
#[derive(Clone, Debug, Default)]
pub(super) struct GetParams {
    /// 0 for all of the history.
    pub(super) depth: u64,
    pub(super) fetch_tags: bool,
    pub(super) clean_tags: bool,
    pub(super) without_submodules: bool,
    pub(super) flat_submodules: bool,
    pub(super) disable_git_lfs: bool,
    /// What `.git/short_ref` is made by; empty for `%s`.
    pub(super) short_ref_format: String,
}

/// A put's `params`.
#[derive(Clone, Debug, Default)]
pub(super) struct PutParams {
    pub(super) repository: String,
    pub(super) branch: String,
    pub(super) force: bool,
}

/// Which params a request may have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Check,
    Get,
    Put,
}

impl Request {
    /// Reads and checks a request.
    pub(super) fn decode(bytes: &[u8], operation: Operation) -> Result<Self, Failure> {
        let parsed: Result<Value, _> = serde_json::from_slice(bytes);
        let parsed = parsed.map_err(|error| Failure::new(format!("invalid payload: {error}")))?;
        let mut request = Self::default();
        for (key, value) in object("the request", &parsed)? {
            match (key.as_str(), operation) {
                ("source", _) => request.source = Source::decode(value)?,
                ("version", Operation::Check | Operation::Get) => {
                    request.version.clone_from(object("version", value)?);
                }
                ("params", Operation::Get) => request.get = GetParams::decode(value)?,
                ("params", Operation::Put) => request.put = PutParams::decode(value)?,
                _ => return Err(unknown(key)),
            }
        }
        if request.source.uri.is_empty() {
            return Err(Failure::new("source.uri is required and must not be empty"));
        }
        let reference = request.reference();
        if !reference.is_empty() && !is_reference(reference) {
            return Err(Failure::new(format!("version.ref {reference:?} is neither a commit nor a tag")));
        }
        Ok(request)
    }

    /// The version's commit or tag; empty without one.
    pub(super) fn reference(&self) -> &str {
        self.version.get("ref").and_then(Value::as_str).unwrap_or_default()
    }
}

impl Source {
    /// A repository at an address, which may hold credentials.
    pub(crate) fn at(address: &str) -> Result<Self, Failure> {
        let mut source = Self { uri: address.to_owned(), ..Self::default() };
        source.hide_credentials()?;
        Ok(source)
    }

    fn decode(value: &Value) -> Result<Self, Failure> {
        let mut source = Self { version_depth: 1, ..Self::default() };
        for (key, value) in object("source", value)? {
            source.field(key, &format!("source.{key}"), value)?;
        }
        if source.branch.starts_with('-') || source.uri.starts_with('-') {
            return Err(Failure::new("source.uri and source.branch cannot begin with a dash"));
        }
        source.hide_credentials()?;
        Ok(source)
    }

    fn field(&mut self, key: &str, name: &str, value: &Value) -> Result<(), Failure> {
        match key {
            "uri" => trimmed(name, value).map(|text| self.uri = text),
            "branch" => trimmed(name, value).map(|text| self.branch = text),
            "username" => text(name, value).map(|text| self.username = Secret::new(text)),
            "password" => text(name, value).map(|text| self.password = Secret::new(text)),
            "private_key" => text(name, value).map(|text| self.private_key = Secret::new(text)),
            "private_key_user" => text(name, value).map(|text| self.private_key_user = text),
            "paths" => texts(name, value).map(|texts| self.paths = texts),
            "ignore_paths" => texts(name, value).map(|texts| self.ignore_paths = texts),
            "tag_filter" => trimmed(name, value).map(|text| self.tag_filter = text),
            "fetch_tags" => truth(name, value).map(|truth| self.fetch_tags = truth),
            "skip_ssl_verification" => truth(name, value).map(|truth| self.skip_ssl_verification = truth),
            "disable_ci_skip" => truth(name, value).map(|truth| self.disable_ci_skip = truth),
            "version_depth" => {
                self.version_depth = number(name, value)?;
                if self.version_depth == 0 {
                    Err(Failure::new("source.version_depth must be at least 1"))
                } else {
                    Ok(())
                }
            }
            "tag_behaviour" if value.as_str() == Some("match_tagged") => Ok(()),
            "private_key_passphrase"
            | "forward_agent"
            | "credential_hosts"
            | "sparse_paths"
            | "tag_regex"
            | "tag_behaviour"
            | "submodule_credentials"
            | "git_config"
            | "commit_verification_keys"
            | "commit_verification_key_ids"
            | "gpg_keyserver"
            | "git_crypt_key"
            | "https_tunnel"
            | "commit_filter"
            | "search_remote_refs"
            | "debug"
            | "branch_filters"
            | "branch_regex"
            | "tag_filters"
            | "tag_sort"
            | "version_type"
            | "github_app_id"
            | "github_app_private_key"
            | "github_app_installation_id" => refuse_unless_silent(name, value),
            _ => Err(unknown(name)),
        }
    }

    /// What stands before the `@` of the uri would stand in the argument list of git, in its configuration and in texts.
    /// `source.username` and `source.password` go before it.
    fn hide_credentials(&mut self) -> Result<(), Failure> {
        let is_web = |scheme: &str| matches!(scheme, "http" | "https");
        let Ok(mut url) = Url::parse(&self.uri) else {
            let scheme = self.uri.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
            if scheme.is_some_and(|scheme| is_web(&scheme)) {
                return Err(Failure::new("source.uri cannot be read as an address"));
            }
            return Ok(());
        };
        if !is_web(url.scheme()) {
            return match url.password() {
                Some(_) => Err(Failure::new("source.uri holds a password, which only http and https can use")),
                None => Ok(()),
            };
        }
        let (username, password) = (decoded(url.username()), decoded(url.password().unwrap_or_default()));
        if username.is_empty() && password.is_empty() {
            return Ok(());
        }
        if self.username.is_empty() && self.password.is_empty() {
            self.password = password;
        }
        if self.username.is_empty() {
            self.username = username;
        }
        if url.set_password(None).is_err() || url.set_username("").is_err() {
            return Err(Failure::new("source.uri holds a user that cannot be taken out"));
        }
        self.uri = url.to_string();
        Ok(())
    }
}

/// A user or a password of an address, `%` undone.
fn decoded(text: &str) -> Secret {
    // What means something else in a form.
    let form = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let text = url::form_urlencoded::parse(form.as_bytes()).next().map(|(text, _)| text.into_owned());
    Secret::new(text.unwrap_or_default())
}

impl GetParams {
    fn decode(value: &Value) -> Result<Self, Failure> {
        let mut params = Self::default();
        for (key, value) in object("params", value)? {
            let name = format!("params.{key}");
            match key.as_str() {
                "depth" => params.depth = number(&name, value)?,
                "fetch_tags" => params.fetch_tags = truth(&name, value)?,
                "clean_tags" => params.clean_tags = truth(&name, value)?,
                "disable_git_lfs" => params.disable_git_lfs = truth(&name, value)?,
                "short_ref_format" => params.short_ref_format = text(&name, value)?,
                "submodules" if matches!(value.as_str(), Some("all" | "none")) || value.is_null() => {
                    params.without_submodules = value.as_str() == Some("none");
                }
                "submodule_recursive" => params.flat_submodules = !value.is_null() && !truth(&name, value)?,
                "submodules"
                | "submodule_remote"
                | "fetch"
                | "git_crypt_gpg_key"
                | "timestamp_format"
                | "describe_ref_options" => refuse_unless_silent(&name, value)?,
                _ => return Err(unknown(&name)),
            }
        }
        Ok(params)
    }
}

impl PutParams {
    fn decode(value: &Value) -> Result<Self, Failure> {
        let mut params = Self::default();
        for (key, value) in object("params", value)? {
            let name = format!("params.{key}");
            match key.as_str() {
                "repository" => params.repository = text(&name, value)?,
                "branch" => params.branch = trimmed(&name, value)?,
                "force" => params.force = truth(&name, value)?,
                "rebase" | "merge" | "returning" | "tag" | "only_tag" | "tag_prefix" | "annotate" | "notes"
                | "force_with_lease" | "refs_prefix" => refuse_unless_silent(&name, value)?,
                _ => return Err(unknown(&name)),
            }
        }
        if params.branch.starts_with('-') {
            return Err(Failure::new("params.branch cannot begin with a dash"));
        }
        Ok(params)
    }
}

/// A commit, or a tag's name as far as it can be handed to git without meaning something else.
fn is_reference(text: &str) -> bool {
    let sound = |c: char| c.is_alphanumeric() || "._-+/".contains(c);
    !text.starts_with(['-', '/']) && !text.contains("..") && text.chars().all(sound)
}

fn unknown(name: &str) -> Failure {
    Failure::new(format!("{name} is no field of the git resource"))
}

/// `null`, `false` and what is empty leave the default, whatever the field is.
fn refuse_unless_silent(name: &str, value: &Value) -> Result<(), Failure> {
    let silent = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    };
    if silent { Ok(()) } else { Err(Failure::unsupported(name, "the git resource that is built in cannot do this")) }
}

fn object<'v>(name: &str, value: &'v Value) -> Result<&'v Map<String, Value>, Failure> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    match value {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(&EMPTY),
        _ => Err(Failure::new(format!("{name} must be an object"))),
    }
}

fn text(name: &str, value: &Value) -> Result<String, Failure> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        // Branches and tags such as `1.0` come as numbers out of YAML.
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(Failure::new(format!("{name} must be a string"))),
    }
}

fn trimmed(name: &str, value: &Value) -> Result<String, Failure> {
    text(name, value).map(|text| text.trim().to_owned())
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, Failure> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => list.iter().map(|value| text(name, value)).collect(),
        _ => Err(Failure::new(format!("{name} must be a list of strings"))),
    }
}

/// The original's shell does not tell `true` from `"true"`.
fn truth(name: &str, value: &Value) -> Result<bool, Failure> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text == "true" => Ok(true),
        Value::String(text) if text == "false" || text.is_empty() => Ok(false),
        _ => Err(Failure::new(format!("{name} must be true or false"))),
    }
}

fn number(name: &str, value: &Value) -> Result<u64, Failure> {
    let number = match value {
        Value::Null => Some(0),
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.ok_or_else(|| Failure::new(format!("{name} must be a whole number that is not negative")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str, operation: Operation) -> Result<Request, String> {
        Request::decode(text.as_bytes(), operation).map_err(|failure| failure.message)
    }

    #[test]
    fn what_is_unknown_or_not_built_is_refused_by_name() {
        let cases = [
            (r#"{"source":{"uri":"u","nonsense":1}}"#, "source.nonsense is no field of the git resource"),
            (r#"{"source":{"uri":"u"},"params":{}}"#, "params is no field of the git resource"),
            (r#"{"source":{}}"#, "source.uri is required and must not be empty"),
            (r#"{"source":{"uri":"u","paths":"a"}}"#, "source.paths must be a list of strings"),
            (r#"{"source":{"uri":"--upload-pack=x"}}"#, "source.uri and source.branch cannot begin with a dash"),
            (
                r#"{"source":{"uri":"u"},"version":{"ref":"--all"}}"#,
                "version.ref \"--all\" is neither a commit nor a tag",
            ),
            (
                r#"{"source":{"uri":"u"},"version":{"ref":"a..b"}}"#,
                "version.ref \"a..b\" is neither a commit nor a tag",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text, Operation::Check).err().as_deref(), Some(expected), "{text}");
        }
        for field in ["git_config", "commit_filter", "tag_regex", "private_key_passphrase"] {
            let text = format!(r#"{{"source":{{"uri":"u","{field}":["x"]}}}}"#);
            let error = decode(&text, Operation::Check).err().unwrap_or_default();
            assert!(error.starts_with(&format!("source.{field} is not supported yet")), "{error}");
        }
        for (operation, params) in [(Operation::Put, "rebase"), (Operation::Put, "tag"), (Operation::Get, "fetch")] {
            let text = format!(r#"{{"source":{{"uri":"u"}},"params":{{"{params}":["x"]}}}}"#);
            let error = decode(&text, operation).err().unwrap_or_default();
            assert!(error.starts_with(&format!("params.{params} is not supported yet")), "{error}");
            let text = format!(r#"{{"source":{{"uri":"u"}},"params":{{"{params}":null}}}}"#);
            assert!(decode(&text, operation).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_password_does_not_stay_in_the_uri() -> Result<(), String> {
        let request = decode(r#"{"source":{"uri":"https://me:p%40ss+1@git.example/a.git"}}"#, Operation::Check)?;
        assert_eq!(request.source.uri, "https://git.example/a.git");
        assert_eq!((request.source.username.reveal(), request.source.password.reveal()), ("me", "p@ss+1"));
        assert!(!format!("{request:?}").contains("p@ss"));
        let request = decode(r#"{"source":{"uri":"git@git.example:a.git"}}"#, Operation::Check)?;
        assert_eq!(request.source.uri, "git@git.example:a.git");
        Ok(())
    }

    #[test]
    fn for_http_nothing_before_the_at_stays_in_the_uri() -> Result<(), String> {
        for (uri, username, password, expected) in [
            ("https://ghp_X@github.com/a/b.git", "", "", ("ghp_X", "")),
            ("https://:pw@github.com/a/b.git", "", "", ("", "pw")),
            ("HTTPS://me:a&b=c@github.com/a/b.git", "", "", ("me", "a&b=c")),
            ("https://me@github.com/a/b.git", "", "given", ("me", "given")),
            ("https://me:pw@github.com/a/b.git", "you", "", ("you", "")),
            ("https://me:pw@github.com/a/b.git", "you", "given", ("you", "given")),
        ] {
            let text = serde_json::json!({"source": {"uri": uri, "username": username, "password": password}});
            let source = decode(&text.to_string(), Operation::Check)?.source;
            assert_eq!(source.uri, "https://github.com/a/b.git");
            assert_eq!((source.username.reveal(), source.password.reveal()), expected, "{uri}");
            assert!(!format!("{source:?}").contains("ghp_X"));
        }
        for (uri, expected) in [
            ("https://me:p/w@github.com/a", "source.uri cannot be read as an address"),
            ("ssh://me:pw@github.com/a", "source.uri holds a password, which only http and https can use"),
        ] {
            let text = serde_json::json!({"source": {"uri": uri}}).to_string();
            assert_eq!(decode(&text, Operation::Check).err().as_deref(), Some(expected), "{uri}");
        }
        let request = decode(r#"{"source":{"uri":"ssh://me@github.com/a"}}"#, Operation::Check)?;
        assert_eq!(request.source.uri, "ssh://me@github.com/a");
        Ok(())
    }
}
