//! What Concourse sends to registry-image.

use super::source::{PlatformSource, Source};
use crate::Failure;
use crate::protocol::{DecodeError, Value, request};

/// A version as it was given; either part may be missing and is then empty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Version {
    pub(crate) tag: String,
    pub(crate) digest: String,
}

impl Version {
    /// As it stands in answers.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"tag": self.tag, "digest": self.digest})
    }

    fn field(&mut self, key: &str, value: &Value<'_>) -> Result<(), DecodeError> {
        match key {
            "tag" => value.string(&mut self.tag),
            "digest" => value.string(&mut self.digest),
            _ => Err(value.unknown()),
        }
    }
}

/// What check is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckRequest {
    pub(crate) source: Source,
    /// Where the caller is.
    pub(crate) version: Option<Version>,
}

/// What `in` is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct GetRequest {
    pub(crate) source: Source,
    pub(crate) format: String,
    pub(crate) platform: Option<PlatformSource>,
    pub(crate) skip_download: bool,
    pub(crate) version: Version,
}

/// What `out` is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct PutRequest {
    pub(crate) source: Source,
    pub(crate) image: String,
    pub(crate) version: String,
    pub(crate) bump_aliases: bool,
    pub(crate) additional_tags: String,
    pub(crate) tag_prefix: String,
}

impl CheckRequest {
    /// Reads a request.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let raw = request(bytes)?;
        let mut decoded = Self::default();
        Value::root(&raw, "CheckRequest").object_of("resource.CheckRequest", |key, value| match key {
            "source" => Source::decode(value).map(|source| decoded.source = source),
            "version" if value.is_null() => Ok(()),
            "version" => {
                let version = decoded.version.get_or_insert_default();
                value.object_of("resource.Version", |key, value| version.field(key, value))
            }
            _ => Err(value.unknown()),
        })?;
        Ok(decoded)
    }
}

impl GetRequest {
    /// Reads a request.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let raw = request(bytes)?;
        let mut decoded = Self::default();
        Value::root(&raw, "InRequest").object_of("resource.InRequest", |key, value| match key {
            "source" => Source::decode(value).map(|source| decoded.source = source),
            "version" => value.object_of("resource.Version", |key, value| decoded.version.field(key, value)),
            "params" => value.object_of("resource.GetParams", |key, value| match key {
                "format" => value.string(&mut decoded.format),
                "platform" => PlatformSource::decode(value, &mut decoded.platform),
                "skip_download" => value.boolean(&mut decoded.skip_download),
                _ => Err(value.unknown().with_hint(meant(key))),
            }),
            _ => Err(value.unknown()),
        })?;
        Ok(decoded)
    }
}

impl PutRequest {
    /// Reads a request.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Failure> {
        let raw = request(bytes)?;
        let mut decoded = Self::default();
        Value::root(&raw, "OutRequest").object_of("resource.OutRequest", |key, value| match key {
            "source" => Source::decode(value).map(|source| decoded.source = source),
            "params" => value.object_of("resource.PutParams", |key, value| match key {
                "image" => value.string(&mut decoded.image),
                "version" => value.string(&mut decoded.version),
                "bump_aliases" => value.boolean(&mut decoded.bump_aliases),
                "additional_tags" => value.string(&mut decoded.additional_tags),
                "tag_prefix" => value.string(&mut decoded.tag_prefix),
                _ => Err(value.unknown().with_hint(meant(key))),
            }),
            _ => Err(value.unknown()),
        })?;
        Ok(decoded)
    }
}

/// What is called otherwise here: in the params of docker-image, from which people come.
fn meant(param: &str) -> Option<&'static str> {
    Some(match param {
        "build" | "dockerfile" | "build_args" | "target_name" => {
            "nothing is built here: a task of oci-build does that, and params.image names what came of it"
        }
        "load" | "load_file" | "import_file" => "params.image names what is pushed",
        "tag" | "tag_file" => "params.version is a version to push as, and params.additional_tags a file with tags",
        "tag_as_latest" => "params.bump_aliases moves latest; a file of params.additional_tags may name it, too",
        "save" | "rootfs" => "params.format says what a get writes: rootfs, oci or oci-layout",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<CheckRequest, String> {
        CheckRequest::decode(text.as_bytes()).map_err(|failure| failure.message)
    }

    #[test]
    fn a_check_knows_source_and_version_only() -> Result<(), String> {
        let request = check(r#"{"Source":{"Repository":"a"},"Version":{"TAG":"1"}}"#)?;
        assert_eq!(request.source.repository, "a");
        assert_eq!(request.version, Some(Version { tag: "1".to_owned(), digest: String::new() }));
        assert_eq!(check(r#"{"source":{},"version":null}"#)?.version, None);
        for (text, expected) in [
            (r#"{"params":{}}"#, r#"invalid payload: json: unknown field "params""#),
            (r#"{"version":{"ref":"x"}}"#, r#"invalid payload: json: unknown field "ref""#),
            ("", "invalid payload: EOF"),
            (
                r#"{"source":{"insecure":"true"}}"#,
                "invalid payload: json: cannot unmarshal string into Go struct field CheckRequest.source.insecure of type bool",
            ),
        ] {
            assert_eq!(check(text).err().as_deref(), Some(expected));
        }
        Ok(())
    }
}
