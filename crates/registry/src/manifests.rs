//! Manifests by tag or digest.

use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use skycap_image::{Descriptor, Digest, Hasher, InvalidOutline, Kind, MediaType, Name, Outline, RawManifest};

use crate::error::{Failure, shown};
use crate::remote::{Call, Document, PORTAL, Remote};

/// Manifests beyond this are refused.
pub(crate) const LARGEST_MANIFEST: usize = 8 * 1024 * 1024;
/// What we can read, in the order in which `go-containerregistry` lists it.
const ACCEPTED: &str = "application/vnd.docker.distribution.manifest.v1+json,\
application/vnd.docker.distribution.manifest.v1+prettyjws,\
application/vnd.docker.distribution.manifest.v2+json,\
application/vnd.oci.image.manifest.v1+json,\
application/vnd.docker.distribution.manifest.list.v2+json,\
application/vnd.oci.image.index.v1+json";
pub(crate) const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Remote {
    /// What a name stands for: by HEAD, or by GET where HEAD does not tell.
    pub async fn find(&self, name: &Name) -> Result<Option<Descriptor>, Failure> {
        let call = manifest_call(Method::HEAD, name);
        let failed = match self.send(&call).await {
            Ok(response) => match described(response.headers(), name) {
                Some(descriptor) => return Ok(Some(descriptor)),
                None => None,
            },
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => return Ok(None),
            Err(failure) => Some(failure),
        };
        let call = manifest_call(Method::GET, name);
        // A HEAD that was tried in vain for long enough earns one GET, for its error text; a useless answer, a full set.
        let answer = match failed {
            Some(head) if head.passing => {
                let answer = self.document_once(&call, LARGEST_MANIFEST).await;
                answer.map_err(|failure| if failure.passing { failure.after(head.tries + 1) } else { failure })
            }
            _ => self.document(&call, LARGEST_MANIFEST).await,
        };
        match answer {
            Ok(document) => Ok(Some(hashed(&document, name)?)),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The manifest of a name. For a tag, the digest that the registry states must be that of the bytes, unless
    /// `ignoring_header`.
    pub async fn raw(&self, name: &Name, ignoring_header: bool) -> Result<RawManifest, Failure> {
        let document = self.document(&manifest_call(Method::GET, name), LARGEST_MANIFEST).await?;
        let mut descriptor = hashed(&document, name)?;
        let url = shown(&document.url);
        if matches!(name, Name::Tag(_)) && !ignoring_header {
            let stated = document.headers.get(DIGEST).and_then(|value| value.to_str().ok());
            let agrees =
                |stated: &str| stated.parse::<Digest>().is_ok_and(|digest| hash(digest, &document.body) == digest);
            if let Some(stated) = stated.filter(|stated| !agrees(stated)) {
                let what = format!(
                    "GET {url}: the registry calls it {stated:?} but its content hashes to {}",
                    descriptor.digest
                );
                return Err(Failure::lasting(Kind::Corrupt, what));
            }
        }
        descriptor.media_type = checked_type(&url, descriptor.media_type, &document.body)?;
        self.remember(&document.body);
        Ok(RawManifest { descriptor, bytes: document.body.to_vec() })
    }

    /// Deletes a tag, or a manifest with all its tags.
    pub async fn delete(&self, name: &Name) -> Result<(), Failure> {
        let answer = self.send(&Call::new(Method::DELETE, format!("manifests/{}", escaped(name)))).await;
        let refused = |failure: &Failure| {
            failure.is(StatusCode::METHOD_NOT_ALLOWED) || failure.codes.iter().any(|code| code == "UNSUPPORTED")
        };
        match answer {
            Ok(_) => Ok(()),
            Err(failure) if refused(&failure) => {
                let hint = match name {
                    Name::Tag(_) => {
                        "the registry cannot delete a tag on its own; delete by digest, which deletes all its tags"
                    }
                    Name::Digest(_) => "deleting is switched off in this registry",
                };
                Err(Failure { what: format!("{} ({hint})", failure.what), ..failure })
            }
            Err(failure) => Err(failure),
        }
    }

    /// Whether the repository has a blob and we may read it: by HEAD, or where that does not tell, by asking for one byte.
    pub async fn has_blob(&self, blob: &Descriptor) -> Result<bool, Failure> {
        let path = format!("blobs/{}", blob.digest);
        let Err(failure) = self.send(&Call::new(Method::HEAD, path.clone())).await else { return Ok(true) };
        let is = |status| failure.is(status);
        if is(StatusCode::NOT_FOUND) {
            return Ok(false);
        }
        if failure.kind != Kind::Denied && !is(StatusCode::METHOD_NOT_ALLOWED) && !is(StatusCode::NOT_IMPLEMENTED) {
            return Err(failure);
        }
        // A refusal without a body says little; and some registries refuse only the HEAD.
        let mut call = Call::new(Method::GET, path);
        call.headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        match self.send(&call).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Notes which blobs this repository has, for mounting them elsewhere.
    fn remember(&self, manifest: &[u8]) {
        if let Ok(manifest) = serde_json::from_slice::<skycap_image::Manifest>(manifest) {
            for blob in manifest.layers.iter().chain([&manifest.config]) {
                self.inner.mounts.saw(blob.digest, &self.repository);
            }
        }
    }
}

/// Names come from anywhere: nothing of theirs may end the path of a URL.
pub(crate) fn escaped(name: &Name) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');
    let text = name.to_string();
    // A URL parser takes these for "here" and "above", also in their escaped forms.
    if text == "." || text == ".." {
        return text.replace('.', "%252e");
    }
    utf8_percent_encode(&text, KEPT).to_string()
}

fn manifest_call(method: Method, name: &Name) -> Call {
    let mut call = Call::new(method, format!("manifests/{}", escaped(name)));
    call.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
    call
}

/// What a HEAD says, if it says all of it, and nothing that contradicts the name.
fn described(headers: &HeaderMap, name: &Name) -> Option<Descriptor> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok();
    let digest: Digest = text(&DIGEST)?.parse().ok()?;
    if matches!(name, Name::Digest(wanted) if *wanted != digest) {
        return None;
    }
    let size = text(&CONTENT_LENGTH)?.parse().ok()?;
    Some(Descriptor::new(media_type(text(&CONTENT_TYPE)?), digest, size))
}

/// The descriptor of a document's bytes, which must be those that the name promises.
fn hashed(document: &Document, name: &Name) -> Result<Descriptor, Failure> {
    let stated = document.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = shown(&document.url);
    if stated.trim_start().to_ascii_lowercase().starts_with("text/html") {
        let what = format!("GET {url}: the answer is {stated:?}, not a manifest ({PORTAL})");
        return Err(Failure::lasting(Kind::Other, what));
    }
    let digest = match name {
        Name::Tag(_) => Digest::sha256(&document.body),
        Name::Digest(wanted) => {
            let digest = hash(*wanted, &document.body);
            if digest != *wanted {
                let what =
                    format!("GET {url}: manifest digest: \"{digest}\" does not match requested digest: \"{wanted}\"");
                return Err(Failure::lasting(Kind::Corrupt, what));
            }
            digest
        }
    };
    Ok(Descriptor::new(media_type(stated), digest, document.body.len() as u64))
}

/// The digest of bytes, made as another one was.
pub(crate) fn hash(like: Digest, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(like.algorithm());
    hasher.update(bytes);
    hasher.finish()
}

fn media_type(header: &str) -> MediaType {
    MediaType::from(header.split(';').next().unwrap_or_default().trim())
}

/// Reconciles the type in the header with the type in the document, and refuses documents that two readers could take for
/// two things.
fn checked_type(url: &str, stated: MediaType, body: &[u8]) -> Result<MediaType, Failure> {
    let corrupt = |why: String| Err(Failure::lasting(Kind::Corrupt, format!("GET {url}: {why}")));
    let own = match Outline::read(body) {
        Ok(outline) => outline.media_type,
        Err(InvalidOutline::Json(_)) => return Ok(stated),
        Err(confusing) => return corrupt(confusing.to_string()),
    };
    let known = |media_type: &MediaType| media_type.is_index() || media_type.is_manifest();
    match (known(&stated), known(&own)) {
        (true, true) if stated != own => corrupt(format!("the header says {stated}, the document {own}")),
        (false, true) => Ok(own),
        _ => Ok(stated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_the_url() {
        let base = url::Url::parse("https://r.io/").unwrap();
        for tag in ["../../x", "..", ".", "a/b", "a?b", "a#b", "a%2e", "", "\u{e9}"] {
            let url = base.join(&format!("v2/a/manifests/{}", escaped(&Name::Tag(tag.into())))).unwrap();
            assert!(url.path().starts_with("/v2/a/manifests/") && url.path().matches('/').count() == 4, "{url}");
            assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
        }
    }

    #[test]
    fn header_and_document_must_agree_on_the_type() {
        let index = MediaType::OciIndex;
        for (stated, body, expected) in [
            (MediaType::OciManifest, r#"{"layers":[],"config":{}}"#, Some(MediaType::OciManifest)),
            (MediaType::OciManifest, r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#, None),
            (
                MediaType::from("text/plain"),
                r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
                Some(index.clone()),
            ),
            (index.clone(), r#"{"manifests":[],"layers":[]}"#, None),
            (index.clone(), r#"{"manifests":[],"config":{}}"#, None),
            (index.clone(), "not JSON", Some(index)),
        ] {
            assert_eq!(checked_type("u", stated, body.as_bytes()).ok(), expected, "{body}");
        }
    }
}
