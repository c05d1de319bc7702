//! From a path to what it means. Nothing gets past here that could name a file outside its repository.

use percent_encoding::percent_decode_str;
use skycap_image::Digest;

use crate::tags::is_tag;

/// What a request is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Route {
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, Reference),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
    Referrers(RepositoryName, Digest),
    HubTags(RepositoryName),
    HubTag(RepositoryName, String),
}

/// A manifest's tag or digest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reference {
    Tag(String),
    Digest(Digest),
}

/// A repository's name: components of lower-case letters and digits, joined by single separators (OCI distribution-spec,
/// "Pulling manifests"). None begins with `_`, so the names that the storage makes up cannot be taken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct RepositoryName(String);

impl RepositoryName {
    /// Checks the grammar.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = text.len() <= 255 && text.split('/').all(is_component);
        sound.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_component(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let separator = |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-');
    let bytes = text.as_bytes();
    let ends = bytes.first().is_some_and(|byte| plain(*byte)) && bytes.last().is_some_and(|byte| plain(*byte));
    ends && text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|part| part.is_empty() || separator(part))
}

/// Why a path means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unknown {
    Path,
    Name,
    Tag,
    Digest,
}

/// Reads the path of a URL.
pub(super) fn route(path: &str) -> Result<Route, Unknown> {
    let path = percent_decode_str(path).decode_utf8().map_err(|_| Unknown::Path)?;
    let rest = match path.strip_prefix("/v2") {
        Some("" | "/") => return Ok(Route::Base),
        Some(rest) => rest.strip_prefix('/').ok_or(Unknown::Path)?,
        None => return Err(Unknown::Path),
    };
    if rest == "_catalog" {
        return Ok(Route::Catalog);
    }
    let name = |text: &str| RepositoryName::parse(text).ok_or(Unknown::Name);
    let digest = |text: &str| text.parse::<Digest>().map_err(|_| Unknown::Digest);
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return Ok(Route::Tags(name(repository)?));
    }
    if let Some(hub) = rest.strip_prefix("repositories/").and_then(hub) {
        return hub;
    }
    if let Some(repository) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
        return Ok(Route::Uploads(name(repository)?));
    }
    let (before, last) = rest.rsplit_once('/').ok_or(Unknown::Path)?;
    if let Some(repository) = before.strip_suffix("/blobs/uploads") {
        let sound = last.len() == 32 && last.bytes().all(|byte| byte.is_ascii_hexdigit());
        return if sound { Ok(Route::Upload(name(repository)?, last.to_owned())) } else { Err(Unknown::Path) };
    }
    if let Some(repository) = before.strip_suffix("/blobs") {
        return Ok(Route::Blob(name(repository)?, digest(last)?));
    }
    if let Some(repository) = before.strip_suffix("/manifests") {
        let reference = match digest(last) {
            Ok(digest) => Reference::Digest(digest),
            Err(_) if is_tag(last) => Reference::Tag(last.to_owned()),
            Err(_) if last.contains(':') => return Err(Unknown::Digest),
            Err(_) => return Err(Unknown::Tag),
        };
        return Ok(Route::Manifest(name(repository)?, reference));
    }
    if let Some(repository) = before.strip_suffix("/referrers") {
        return Ok(Route::Referrers(name(repository)?, digest(last)?));
    }
    Err(Unknown::Path)
}

/// Docker Hub's own API, beside the registry's.
fn hub(rest: &str) -> Option<Result<Route, Unknown>> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let name = |text: &str| RepositoryName::parse(text).ok_or(Unknown::Name);
    if let Some(repository) = rest.strip_suffix("/tags") {
        return Some(name(repository).map(Route::HubTags));
    }
    let (before, tag) = rest.rsplit_once('/')?;
    let repository = before.strip_suffix("/tags")?;
    if !is_tag(tag) {
        return Some(Err(Unknown::Tag));
    }
    Some(name(repository).map(|name| Route::HubTag(name, tag.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).unwrap()
    }

    #[test]
    fn paths_are_understood() {
        let digest = Digest::sha256(b"");
        let id = "0123456789abcdef0123456789abcdef";
        for (path, expected) in [
            ("/v2/".to_owned(), Route::Base),
            ("/v2".to_owned(), Route::Base),
            ("/v2/_catalog".to_owned(), Route::Catalog),
            ("/v2/a/b/tags/list".to_owned(), Route::Tags(name("a/b"))),
            ("/v2/tags/list/tags/list".to_owned(), Route::Tags(name("tags/list"))),
            ("/v2/a/manifests/1.0".to_owned(), Route::Manifest(name("a"), Reference::Tag("1.0".into()))),
            (format!("/v2/a/manifests/{digest}"), Route::Manifest(name("a"), Reference::Digest(digest))),
            (
                format!("/v2/a/manifests/sha256%3A{}", digest.hex()),
                Route::Manifest(name("a"), Reference::Digest(digest)),
            ),
            (format!("/v2/a/blobs/{digest}"), Route::Blob(name("a"), digest)),
            ("/v2/a/blobs/uploads/".to_owned(), Route::Uploads(name("a"))),
            (format!("/v2/a/blobs/uploads/{id}"), Route::Upload(name("a"), id.into())),
            (format!("/v2/a/referrers/{digest}"), Route::Referrers(name("a"), digest)),
            ("/v2/repositories/library/ruby/tags".to_owned(), Route::HubTags(name("library/ruby"))),
            ("/v2/repositories/library/ruby/tags/".to_owned(), Route::HubTags(name("library/ruby"))),
            ("/v2/repositories/ruby/tags/3".to_owned(), Route::HubTag(name("ruby"), "3".into())),
        ] {
            assert_eq!(route(&path), Ok(expected), "{path}");
        }
    }

    #[test]
    fn hostile_paths_mean_nothing() {
        let digest = Digest::sha256(b"");
        for (path, expected) in [
            ("/".to_owned(), Unknown::Path),
            ("/v2x".to_owned(), Unknown::Path),
            (format!("/v2/../blobs/{digest}"), Unknown::Name),
            (format!("/v2/a/%2e%2e/b/blobs/{digest}"), Unknown::Name),
            (format!("/v2/a%2f..%2fb/blobs/{digest}"), Unknown::Name),
            (format!("/v2/_uploads/blobs/{digest}"), Unknown::Name),
            (format!("/v2/A/blobs/{digest}"), Unknown::Name),
            (format!("/v2//blobs/{digest}"), Unknown::Name),
            (format!("/v2/a//b/blobs/{digest}"), Unknown::Name),
            (format!("/v2/{}/blobs/{digest}", "a".repeat(256)), Unknown::Name),
            ("/v2/a/blobs/sha256:..".to_owned(), Unknown::Digest),
            ("/v2/a/blobs/sha256:../../x".to_owned(), Unknown::Path),
            ("/v2/a/manifests/..".to_owned(), Unknown::Tag),
            ("/v2/a/manifests/sha256:1".to_owned(), Unknown::Digest),
            ("/v2/a/blobs/uploads/../x".to_owned(), Unknown::Path),
            ("/v2/a/blobs/uploads/..".to_owned(), Unknown::Path),
            ("/v2/a\0/tags/list".to_owned(), Unknown::Name),
            ("/v2/%ff/tags/list".to_owned(), Unknown::Path),
        ] {
            assert_eq!(route(&path), Err(expected), "{path}");
        }
    }

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "a.b", "a_b", "a__b", "a-b", "a---b", "0/a.b/c"] {
            assert!(RepositoryName::parse(good).is_some(), "{good}");
        }
        for bad in ["", ".", "..", "a.", ".a", "a..b", "a___b", "a._b", "-a", "a/", "/a", "a//b", "_a", "a/_layout"] {
            assert!(RepositoryName::parse(bad).is_none(), "{bad}");
        }
    }
}
