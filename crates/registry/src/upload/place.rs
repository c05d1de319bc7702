//! Where an upload goes on: the URL that the registry gave, and how far it has got.

use reqwest::header::{HeaderName, LOCATION, RANGE};
use reqwest::{Method, Response, StatusCode};
use skycap_image::{Digest, Kind};
use url::Url;

use crate::error::{Failure, shown};
use crate::manifests::DIGEST;
use crate::parse::upload_range;

/// The least number of bytes in a chunk, other than the last (OCI distribution-spec, "Pushing a blob in chunks").
const LEAST: HeaderName = HeaderName::from_static("oci-chunk-min-length");
/// A registry that wants longer chunks than this cannot be served in chunks.
pub(super) const LARGEST_CHUNK: u64 = 1024 * 1024 * 1024;

/// An upload under way.
#[derive(Clone)]
pub(super) struct Place {
    pub url: Url,
    /// How many bytes the registry has.
    pub start: u64,
    /// The least that it takes in a chunk.
    pub least: u64,
}

impl Place {
    /// What the answer to a POST says.
    pub fn of(response: &Response) -> Result<Self, Failure> {
        let least = response.headers().get(LEAST).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Ok(Self { url: location(response)?, start: had(response).unwrap_or(0), least: least.unwrap_or(0) })
    }

    /// What a later answer says; what it does not say stays as it was.
    pub fn moved(&self, response: &Response, start: u64) -> Self {
        Self {
            url: location(response).unwrap_or_else(|_| self.url.clone()),
            start: had(response).unwrap_or(start),
            ..*self
        }
    }
}

/// How many bytes of an upload a registry says that it has.
pub(super) fn had(response: &Response) -> Option<u64> {
    upload_range(response.headers().get(RANGE)?.to_str().ok()?)
}

/// Absolute or relative.
fn location(response: &Response) -> Result<Url, Failure> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = if text.is_empty() { None } else { response.url().join(text).ok() };
    url.ok_or_else(|| {
        let what =
            format!("POST {}: the registry does not say where the upload goes (Location)", shown(response.url()));
        Failure::lasting(Kind::Other, what)
    })
}

/// The query is the registry's own state: it stays byte for byte as it was.
pub(super) fn with_digest(mut place: Url, digest: Digest) -> Url {
    let kept =
        place.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("digest="));
    let mut query: Vec<String> = kept.map(str::to_owned).collect();
    query.push(format!("digest={digest}"));
    place.set_query(Some(&query.join("&")));
    place
}

/// A digest that the registry states must be ours.
pub(crate) fn check_digest(method: &Method, response: &Response, ours: Digest) -> Result<(), Failure> {
    let stated = response.headers().get(DIGEST).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
    match stated {
        Some(stated) if stated.algorithm() == ours.algorithm() && stated != ours => {
            let what = format!("{method} {}: the registry stored {stated} instead of {ours}", shown(response.url()));
            Err(Failure::lasting(Kind::Corrupt, what))
        }
        _ => Ok(()),
    }
}

/// What a registry answers to a request to link a blob.
pub(super) enum Mount {
    Done,
    Upload(Place),
    Refused,
}

impl Mount {
    /// A refusal is no error: the blob is sent then.
    pub fn of(answer: Result<Response, Failure>) -> Self {
        match answer {
            Ok(response) if response.status() == StatusCode::CREATED => Self::Done,
            Ok(response) => Place::of(&response).map_or(Self::Refused, Self::Upload),
            Err(_) => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_upload_survives_the_digest() {
        let digest = Digest::sha256(b"");
        for (place, expected) in [
            ("http://r/v2/u/1", format!("http://r/v2/u/1?digest={digest}")),
            ("http://r/u?_state=a%2Fb==", format!("http://r/u?_state=a%2Fb==&digest={digest}")),
            ("http://r/u?digest=old&x=1", format!("http://r/u?x=1&digest={digest}")),
        ] {
            assert_eq!(with_digest(Url::parse(place).unwrap(), digest).as_str(), expected);
        }
    }
}
