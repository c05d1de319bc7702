//! What others say about a manifest: by the registry's own list (OCI distribution-spec 1.1, "Listing Referrers"), or by the
//! index under a tag made of the digest, where the registry keeps no list.

use reqwest::header::{ACCEPT, HeaderName, HeaderValue};
use reqwest::{Method, Response, StatusCode};
use skycap_image::{Descriptor, Digest, IndexManifest, Kind, MediaType, Name, RawManifest};
use std::collections::{BTreeMap, HashSet};

use crate::error::{Failure, shown};
use crate::link::next_page;
use crate::manifests::LARGEST_MANIFEST;
use crate::remote::{Call, Document, Remote, Target};

/// More than these are not listed.
const MOST: usize = 100_000;
/// A registry that has taken note of a manifest's subject says so with this header.
const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// The parts of a manifest or index that its subject's list shows.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Remote {
    /// In the registry's order, each once.
    pub async fn referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, Failure> {
        let mut call = Call::new(Method::GET, format!("referrers/{subject}"));
        call.headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.oci.image.index.v1+json"));
        let mut page = match self.document(&call, LARGEST_MANIFEST).await {
            Ok(page) => page,
            // Some registries answer paths that they do not know with 400, and some with a page for people.
            Err(failure) if failure.is(StatusCode::NOT_FOUND) || failure.is(StatusCode::BAD_REQUEST) => {
                return Ok(self.listed_by_tag(subject).await?.map(|index| index.manifests).unwrap_or_default());
            }
            Err(failure) => return Err(failure),
        };
        let (mut found, mut seen, mut pages) = (Vec::new(), HashSet::new(), HashSet::new());
        loop {
            let before = found.len();
            found.extend(read(&page)?.manifests.into_iter().filter(|descriptor| seen.insert(descriptor.digest)));
            let Some(link) = next_page(&page.headers) else { return Ok(found) };
            let next = page.url.join(link).ok().filter(|next| next.origin() == page.url.origin());
            let next = next.ok_or_else(|| broken(&page, "the link to the next page leads elsewhere"))?;
            if !pages.insert(next.clone()) || found.len() == before || found.len() > MOST {
                return Err(broken(&page, "the list of referrers does not end"));
            }
            call.target = Target::Url(next);
            page = self.document(&call, LARGEST_MANIFEST).await?;
        }
    }

    /// The list under the subject's tag; `None` if there is no such tag, or if it stands for something else.
    async fn listed_by_tag(&self, subject: Digest) -> Result<Option<IndexManifest>, Failure> {
        match self.raw(&tag(subject), false).await {
            Ok(raw) if raw.descriptor.media_type.is_index() => {
                let index = serde_json::from_slice(&raw.bytes).map_err(|error| {
                    let what = format!("{}: the list of referrers does not parse", self.repository);
                    Failure::lasting(Kind::Corrupt, what).caused_by(error)
                })?;
                Ok(Some(index))
            }
            Ok(_) => Ok(None),
            Err(failure) if failure.is(StatusCode::NOT_FOUND) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// After a manifest was sent: where the registry does not keep the list of what it says something about, we do.
    pub async fn keep_referrer(&self, raw: &RawManifest, answer: &Response) -> Result<(), Failure> {
        let Ok(statement) = serde_json::from_slice::<Statement>(&raw.bytes) else { return Ok(()) };
        let Some(subject) = statement.subject else { return Ok(()) };
        if answer.headers().contains_key(SUBJECT) {
            return Ok(());
        }
        let mut index = self.listed_by_tag(subject.digest).await?.unwrap_or_else(|| IndexManifest {
            schema_version: 2,
            media_type: MediaType::OciIndex,
            artifact_type: None,
            manifests: Vec::new(),
            subject: None,
            annotations: BTreeMap::new(),
        });
        if index.manifests.iter().any(|known| known.digest == raw.descriptor.digest) {
            return Ok(());
        }
        let of_config = statement.config.map(|config| config.media_type.as_str().to_owned());
        index.manifests.push(Descriptor {
            artifact_type: statement.artifact_type.or(of_config),
            annotations: statement.annotations.unwrap_or_default(),
            ..Descriptor::new(raw.descriptor.media_type.clone(), raw.descriptor.digest, raw.descriptor.size)
        });
        let bytes = serde_json::to_vec(&index)
            .map_err(|error| Failure::lasting(Kind::Other, "cannot write the list of referrers").caused_by(error))?;
        let list = RawManifest::new(MediaType::OciIndex, bytes);
        self.put_raw(&list, &tag(subject.digest)).await.map(drop)
    }
}

/// `sha256:ab…` as a tag: `sha256-ab…`, and of longer digests the beginning.
fn tag(subject: Digest) -> Name {
    let text = subject.to_string().replacen(':', "-", 1);
    let most = text.find('-').map_or(0, |dash| dash + 1 + 64);
    Name::Tag(text.chars().take(most).collect())
}

fn read(page: &Document) -> Result<IndexManifest, Failure> {
    serde_json::from_slice(&page.body)
        .map_err(|error| broken(page, "the answer is not a list of referrers").caused_by(error))
}

fn broken(page: &Document, why: &str) -> Failure {
    Failure::lasting(Kind::Corrupt, format!("GET {}: {why}", shown(&page.url)))
}
