//! `--cache-from` and `--cache-to`: `type=registry,ref=NAME`, `type=local,src=PATH`, `type=inline`, or just a name.

use std::path::PathBuf;

use skycap_image::{Name, Reference, suggest};

use super::place::CacheMode;

/// What one option says; places are opened by who knows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CacheOption {
    /// Where.
    pub place: CacheWhere,
    /// How much is put there.
    pub mode: CacheMode,
    /// Whether a build goes on if it cannot be written.
    pub ignore_error: bool,
}

/// The kinds of places.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CacheWhere {
    /// A registry.
    Registry(Reference),
    /// A directory, and what the cache is called in it.
    Directory(PathBuf, Name),
    /// The image itself.
    Inline,
}

/// Why an option is not understood.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text:?}: {what}")]
pub struct CacheOptionError {
    text: String,
    what: String,
    hint: Option<String>,
}

impl CacheOptionError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Which of the two options it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    From,
    To,
}

impl CacheOption {
    /// Reads the value of `--cache-from`.
    pub fn parse_from(text: &str) -> Result<Self, CacheOptionError> {
        parse(text, Way::From).map_err(|(what, hint)| CacheOptionError { text: text.to_owned(), what, hint })
    }

    /// Reads the value of `--cache-to`.
    pub fn parse_to(text: &str) -> Result<Self, CacheOptionError> {
        parse(text, Way::To).map_err(|(what, hint)| CacheOptionError { text: text.to_owned(), what, hint })
    }
}

type Refused = (String, Option<String>);

fn refused(what: impl Into<String>) -> Refused {
    (what.into(), None)
}

/// Keys that BuildKit has and that change nothing here: the cache is always an image with OCI's types, packed as its layers
/// are.
const OF_NO_MATTER: [&str; 2] = ["image-manifest", "oci-mediatypes"];

fn parse(text: &str, way: Way) -> Result<CacheOption, Refused> {
    if !text.contains('=') {
        let reference = text.parse().map_err(|error| refused(format!("{error}")))?;
        return Ok(CacheOption { place: CacheWhere::Registry(reference), mode: CacheMode::Min, ignore_error: false });
    }
    let mut fields = Fields::default();
    for field in text.split(',') {
        let (key, value) = field.split_once('=').ok_or_else(|| refused(format!("{field:?} is not KEY=VALUE")))?;
        fields.set(key.trim(), value, way)?;
    }
    fields.finish(way)
}

#[derive(Default)]
struct Fields {
    kind: Option<String>,
    reference: Option<String>,
    path: Option<PathBuf>,
    tag: Option<String>,
    digest: Option<String>,
    mode: CacheMode,
    ignore_error: bool,
}

impl Fields {
    fn set(&mut self, key: &str, value: &str, way: Way) -> Result<(), Refused> {
        let text = || Some(value.to_owned());
        match (key, way) {
            ("type", _) => self.kind = text(),
            ("ref", _) => self.reference = text(),
            ("src", Way::From) | ("dest", Way::To) => self.path = Some(PathBuf::from(value)),
            ("tag", _) => self.tag = text(),
            ("digest", Way::From) => self.digest = text(),
            ("mode", Way::To) => {
                self.mode = match value {
                    "min" => CacheMode::Min,
                    "max" => CacheMode::Max,
                    _ => return Err(refused(format!("the mode is min or max, not {value:?}"))),
                };
            }
            ("ignore-error", Way::To) => self.ignore_error = boolean(key, value)?,
            (key, Way::To) if OF_NO_MATTER.contains(&key) => {
                if !boolean(key, value)? {
                    return Err(refused(format!("{key}=false cannot be honoured: caches are images with OCI's types")));
                }
            }
            _ => {
                let known = match way {
                    Way::From => &["type", "ref", "src", "tag", "digest"][..],
                    Way::To => &["type", "ref", "dest", "tag", "mode", "ignore-error"],
                };
                let hint = suggest::nearest(key, known.iter().copied()).map(|name| format!("did you mean {name}?"));
                return Err((format!("unknown key {key:?}; known are {}", known.join(", ")), hint));
            }
        }
        Ok(())
    }

    fn finish(self, way: Way) -> Result<CacheOption, Refused> {
        let kind = self.kind.as_deref().unwrap_or("registry");
        let place = match (kind, way) {
            ("registry", _) => {
                let reference = self.reference.ok_or_else(|| refused("type=registry needs ref=NAME"))?;
                CacheWhere::Registry(reference.parse().map_err(|error| refused(format!("{error}")))?)
            }
            ("local", _) => {
                let key = if way == Way::From { "src" } else { "dest" };
                let path = self.path.ok_or_else(|| refused(format!("type=local needs {key}=PATH")))?;
                let name = match (self.digest, self.tag) {
                    (Some(digest), _) => {
                        Name::Digest(digest.parse().map_err(|_| refused(format!("{digest:?} is no digest")))?)
                    }
                    (None, tag) => Name::Tag(tag.unwrap_or_else(|| "latest".to_owned())),
                };
                CacheWhere::Directory(path, name)
            }
            ("inline", Way::To) if self.mode == CacheMode::Max => {
                return Err(refused("an image holds only what made its own layers: type=inline has no mode=max"));
            }
            ("inline", Way::To) => CacheWhere::Inline,
            ("inline", Way::From) => {
                let hint = "name the image: type=registry,ref=NAME finds the cache in it".to_owned();
                return Err(("an image with a cache is found by its name".to_owned(), Some(hint)));
            }
            ("gha" | "s3" | "azblob", _) => {
                return Err(refused(format!(
                    "caches of type={kind} are not supported; use type=registry or type=local"
                )));
            }
            _ => return Err(refused(format!("unknown type {kind:?}; known are registry, local, inline"))),
        };
        Ok(CacheOption { place, mode: self.mode, ignore_error: self.ignore_error })
    }
}

fn boolean(key: &str, value: &str) -> Result<bool, Refused> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(refused(format!("{key} is true or false, not {value:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_as_buildx_writes_them() {
        let registry = |name: &str| CacheWhere::Registry(name.parse().unwrap());
        let local = |path: &str, tag: &str| CacheWhere::Directory(path.into(), Name::Tag(tag.to_owned()));
        let from = |place| CacheOption { place, mode: CacheMode::Min, ignore_error: false };
        for (text, expected) in [
            ("r.example/app:cache", registry("r.example/app:cache")),
            ("type=registry,ref=r.example/app", registry("r.example/app")),
            ("ref=r.example/app", registry("r.example/app")),
            ("type=local,src=/c", local("/c", "latest")),
            ("type=local,src=c,tag=main", local("c", "main")),
        ] {
            assert_eq!(CacheOption::parse_from(text), Ok(from(expected)), "{text}");
        }
        for (text, place, mode, ignore_error) in [
            ("type=inline", CacheWhere::Inline, CacheMode::Min, false),
            ("type=local,dest=c,mode=max", local("c", "latest"), CacheMode::Max, false),
            ("type=registry,ref=a/b,ignore-error=true,oci-mediatypes=true", registry("a/b"), CacheMode::Min, true),
        ] {
            assert_eq!(CacheOption::parse_to(text), Ok(CacheOption { place, mode, ignore_error }), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, what) in [
            ("type=registry", "type=registry needs ref=NAME"),
            ("type=local", "type=local needs dest=PATH"),
            ("type=gha", "caches of type=gha are not supported; use type=registry or type=local"),
            ("type=x", "unknown type \"x\"; known are registry, local, inline"),
            ("type=inline,mode=max", "an image holds only what made its own layers: type=inline has no mode=max"),
            ("type=local,dest=c,mode=all", "the mode is min or max, not \"all\""),
            ("type=local,dest", "\"dest\" is not KEY=VALUE"),
            ("type=local,dest=c,ignore-error=yes", "ignore-error is true or false, not \"yes\""),
            (
                "type=registry,ref=a,oci-mediatypes=false",
                "oci-mediatypes=false cannot be honoured: caches are images with OCI's types",
            ),
        ] {
            let error = CacheOption::parse_to(text).unwrap_err();
            assert_eq!(error.to_string(), format!("{text:?}: {what}"));
        }
        let error = CacheOption::parse_to("type=local,dst=c").unwrap_err();
        assert_eq!(error.hint(), Some("did you mean dest?"));
        assert!(CacheOption::parse_from("type=inline").unwrap_err().hint().unwrap().contains("type=registry,ref=NAME"));
    }
}
