//! What refers to a manifest, as an index, page by page. A page may hold less than it could, or nothing: what counts is
//! whether it links to another one.

use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde_json::{Value, json};
use skycap_image::{Digest, MediaType};
use tokio::task::block_in_place;

use super::answer::{Answer, Refusal, json_answer};
use super::documents::digest_of;
use super::listings::next;
use super::repository::Repository;
use super::route::RepositoryName;
use super::service::{Asked, Service};

/// Manifests that one request looks at.
const PAGE: usize = 1000;
/// Bytes of a page, but for the last entry: clients read 4 MiB.
const LARGEST: usize = 2 * 1024 * 1024;

impl Service {
    /// None are found for a digest that nobody knows: what refers to something may be there before it.
    pub(super) fn referrers(&self, asked: &Asked, name: &RepositoryName, digest: Digest) -> Result<Answer, Refusal> {
        let repository = self.storage.repository(name);
        let filter = asked.parameter("artifactType");
        let after = asked.parameter("last").unwrap_or_default();
        let count = asked.parameter("n").and_then(|text| text.parse().ok()).unwrap_or(PAGE).clamp(1, PAGE);
        let found = block_in_place(|| {
            let page = self.storage.names(&repository.referrers_directory(digest), after, count)?;
            list(&repository, &page.names, filter).map(|found| Found { more: page.more || found.more, ..found })
        })?;
        let path = format!("/v2/{}/referrers/{digest}", name.as_str());
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OciIndex, "manifests": found.manifests});
        let mut builder = Response::builder();
        if filter.is_some() {
            builder = builder.header("OCI-Filters-Applied", "artifactType");
        }
        if let Some(last) = found.last.filter(|_| found.more) {
            let mut query = vec![("last", last.as_str())];
            query.extend(filter.map(|filter| ("artifactType", filter)));
            builder = builder.header("Link", next(&path, &query));
        }
        let mut answer = json_answer(builder, &index);
        let media_type = HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        answer.headers_mut().insert(CONTENT_TYPE, media_type);
        Ok(answer)
    }
}

#[derive(Default)]
struct Found {
    manifests: Vec<Value>,
    last: Option<String>,
    more: bool,
}

fn list(repository: &Repository, names: &[String], filter: Option<&str>) -> std::io::Result<Found> {
    let mut found = Found::default();
    let mut length = 0;
    for name in names {
        if length > LARGEST {
            found.more = true;
            break;
        }
        found.last = Some(name.clone());
        // A name whose manifest is not there was left by somebody who died between the two.
        let Some((record, bytes)) = digest_of(name).map(|digest| repository.document(digest)).transpose()?.flatten()
        else {
            continue;
        };
        if filter.is_some() && record.artifact_type.as_deref() != filter {
            continue;
        }
        let annotations = serde_json::from_slice::<Value>(&bytes).unwrap_or_default()["annotations"].take();
        let entry = json!({
            "mediaType": record.media_type, "digest": record.digest, "size": record.size,
            "artifactType": record.artifact_type, "annotations": annotations,
        });
        length += entry.to_string().len();
        found.manifests.push(entry);
    }
    Ok(found)
}
