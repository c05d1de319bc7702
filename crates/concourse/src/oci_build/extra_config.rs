//! `BUILDKIT_EXTRA_CONFIG`: of `BuildKit`'s configuration the tables of registries mean something without `BuildKit`. Every
//! other key is named and refused, with what does its work here.

use std::collections::BTreeMap;

use toml::{Table, Value};

use crate::Failure;

const PARAMETER: &str = "BUILDKIT_EXTRA_CONFIG";

/// What is said of a registry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RegistryTable {
    /// Asked before it, in order.
    pub(super) mirrors: Vec<String>,
    /// It may be spoken to in plain HTTP.
    pub(super) http: bool,
    /// Its certificates are not looked at.
    pub(super) insecure: bool,
    /// Files with certificates that are trusted beside the system's.
    pub(super) ca: Vec<String>,
    /// Files with our own certificate and its key.
    pub(super) keypair: Option<KeyPair>,
}

/// The files of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct KeyPair {
    pub(super) key: String,
    pub(super) cert: String,
}

/// Keys of the daemon, and the way out.
const REFUSED: [(&str, &str); 13] = [
    ("debug", "say DEBUG: true"),
    ("trace", "say DEBUG: true"),
    ("log", "there is no daemon whose log has a form"),
    ("root", "declare a cache of the task, `cache`; temporary files go to TMPDIR"),
    ("worker", "there is no worker; the cache is the task's `cache`, and everything uses all processors"),
    ("insecure-entitlements", "nothing is given beyond the rights of an ordinary RUN, as in the original"),
    ("dns", "RUN resolves as the task's container does; BUILDKIT_ADD_HOSTS names further hosts"),
    ("grpc", "there is no daemon to connect to"),
    ("otel", "there is no daemon that is traced"),
    ("history", "there is no daemon that keeps a history"),
    ("cdi", "there are no devices for RUN"),
    ("frontend", "the frontend is built in; build arguments reach it as BUILD_ARG_<name>"),
    ("system", "platforms that can be run are found out by themselves"),
];

/// Reads the text; an empty one says nothing.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, RegistryTable>, Failure> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
        Failure::new("generate config: Extra buildkit config must be valid TOML")
            .with_hint(format!("{PARAMETER}, line {line}: {}", error.message()))
    })?;
    let (mut registries, mut refused) = (BTreeMap::new(), Vec::new());
    for (key, value) in &table {
        match (key.as_str(), value) {
            ("registry", Value::Table(tables)) => {
                for (host, table) in tables {
                    registries.insert(host.clone(), registry(host, table, &mut refused)?);
                }
            }
            ("registry", _) => return Err(wrong("registry", "tables such as [registry.\"docker.io\"]")),
            _ => refused.push(leaf(key, value)),
        }
    }
    if refused.is_empty() { Ok(registries) } else { Err(refuse(&refused)) }
}

fn refuse(keys: &[String]) -> Failure {
    let way_out = |key: &String| {
        let known = REFUSED.iter().find(|(name, _)| key.split('.').next() == Some(*name));
        let why =
            known.map_or("only mirrors, http, insecure, ca and keypair of a registry mean something", |known| known.1);
        format!("{key} ({why})")
    };
    let told: Vec<String> = keys.iter().map(way_out).collect();
    Failure::new(format!("{PARAMETER}: without a BuildKit daemon nothing honours {}", told.join(", ")))
        .with_hint("remove these keys; tables of registries are honoured")
}

/// The first setting in a table, by its whole name.
fn leaf(name: &str, value: &Value) -> String {
    match value.as_table().and_then(|table| table.iter().next()) {
        Some((key, value)) => leaf(&format!("{name}.{key}"), value),
        None => name.to_owned(),
    }
}

fn registry(host: &str, value: &Value, refused: &mut Vec<String>) -> Result<RegistryTable, Failure> {
    let name = |key: &str| format!("registry.{host:?}.{key}");
    let Value::Table(table) = value else { return Err(wrong(&format!("registry.{host:?}"), "a table")) };
    let mut found = RegistryTable::default();
    for (key, value) in table {
        let name = name(key);
        match key.as_str() {
            "mirrors" => found.mirrors = texts(&name, value)?,
            "ca" => found.ca = texts(&name, value)?,
            "http" => found.http = truth(&name, value)?,
            "insecure" => found.insecure = truth(&name, value)?,
            "keypair" => found.keypair = keypair(&name, value)?,
            _ => refused.push(leaf(&name, value)),
        }
    }
    Ok(found)
}

fn keypair(name: &str, value: &Value) -> Result<Option<KeyPair>, Failure> {
    let expected = || wrong(name, "one table with `key` and `cert`");
    let pairs = value.as_array().ok_or_else(expected)?;
    let pair = match &pairs[..] {
        [] => return Ok(None),
        [pair] => pair,
        _ => return Err(expected()),
    };
    let text = |key: &str| pair.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(expected);
    Ok(Some(KeyPair { key: text("key")?, cert: text("cert")? }))
}

fn texts(name: &str, value: &Value) -> Result<Vec<String>, Failure> {
    let texts = value.as_array().into_iter().flatten().map(|text| text.as_str().map(str::to_owned));
    let texts: Option<Vec<String>> = texts.collect();
    texts.filter(|_| value.is_array()).ok_or_else(|| wrong(name, "a list of texts"))
}

fn truth(name: &str, value: &Value) -> Result<bool, Failure> {
    value.as_bool().ok_or_else(|| wrong(name, "true or false"))
}

fn wrong(key: &str, expected: &str) -> Failure {
    Failure::new(format!("{PARAMETER}: {key} must be {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text).err().map(|failure| failure.to_string()).unwrap_or_default()
    }

    #[test]
    fn tables_of_registries_are_read() -> Result<(), Failure> {
        let text = "[registry.\"docker.io\"]\nmirrors = [\"m:5000\"]\n[registry.'r:5000']\nhttp = true\ninsecure = false\n\
                    ca = ['ca.pem']\n[[registry.'r:5000'.keypair]]\nkey = 'k'\ncert = 'c'\n";
        let found = parse(text)?;
        assert_eq!(found.get("docker.io").map(|table| table.mirrors.clone()), Some(vec!["m:5000".to_owned()]));
        let keypair = Some(KeyPair { key: "k".to_owned(), cert: "c".to_owned() });
        let expected = RegistryTable { http: true, ca: vec!["ca.pem".to_owned()], keypair, ..RegistryTable::default() };
        assert_eq!(found.get("r:5000"), Some(&expected));
        assert!(parse("")?.is_empty() && parse("# nothing\n")?.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_no_toml_is_said_so() {
        let expected =
            "generate config: Extra buildkit config must be valid TOML\nhint: BUILDKIT_EXTRA_CONFIG, line 2: ";
        assert!(error("a = 1\nb c").starts_with(expected), "{}", error("a = 1\nb c"));
        assert!(error("a = 1\na = 2").starts_with(expected));
    }

    #[test]
    fn every_other_key_is_named_with_its_way_out() {
        for (name, why) in REFUSED {
            let error = error(&format!("{name} = true"));
            let expected = format!("BUILDKIT_EXTRA_CONFIG: without a BuildKit daemon nothing honours {name} ({why})");
            assert!(error.starts_with(&expected), "{error}");
        }
        let error = error("[worker.oci]\ngc = true\n[registry.'r.io']\ntlsconfigdir = ['d']\n[nonsense]\n");
        for expected in ["worker.oci.gc (", "registry.\"r.io\".tlsconfigdir (only mirrors", "nonsense (only"] {
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_has_another_type_is_an_error() {
        for (text, expected) in [
            ("registry = 1", "registry must be tables"),
            ("registry.r = 1", "registry.\"r\" must be a table"),
            ("registry.r.mirrors = 'm'", "registry.\"r\".mirrors must be a list of texts"),
            ("registry.r.ca = [1]", "registry.\"r\".ca must be a list of texts"),
            ("registry.r.http = 'yes'", "registry.\"r\".http must be true or false"),
            ("registry.r.keypair = [{key = 'k'}]", "registry.\"r\".keypair must be one table"),
        ] {
            assert!(error(text).contains(expected), "{text}: {}", error(text));
        }
    }
}
