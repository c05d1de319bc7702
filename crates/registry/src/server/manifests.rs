//! Manifests: reading, writing (their parts must be there first) and deleting.

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Response, StatusCode};
use skycap_image::{Descriptor, Digest, Hasher, IndexManifest, Manifest, MediaType, Outline};

use super::answer::{Answer, Refusal, bytes_answer};
use super::repository::Repository;
use super::route::{Reference, RepositoryName};
use super::service::{Asked, Service, done};
use super::storage::{PUSHED, SUBJECT};

/// Manifests and configs beyond this are not read. The specification asks for 4 MiB at least.
pub(super) const LARGEST: usize = 8 * 1024 * 1024;

/// The parts of a manifest that the registry acts on.
pub(super) struct Pushed {
    media_type: MediaType,
    artifact_type: Option<String>,
    pub subject: Option<Descriptor>,
    pub blobs: Vec<Descriptor>,
    pub children: Vec<Descriptor>,
}

impl Service {
    pub(super) async fn manifest(
        &self,
        asked: &Asked,
        name: &RepositoryName,
        reference: &Reference,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        match asked.method {
            Method::GET | Method::HEAD => self.read_manifest(asked, name, reference),
            Method::PUT => {
                let body = Limited::new(body, LARGEST).collect().await.map_err(|_| {
                    let message = format!("the manifest is cut or longer than {LARGEST} bytes");
                    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "MANIFEST_INVALID", message)
                })?;
                let bytes = body.to_bytes();
                tokio::task::block_in_place(|| self.write_manifest(asked, name, reference, &bytes))
            }
            Method::DELETE => tokio::task::block_in_place(|| self.delete_manifest(name, reference)),
            _ => Err(Refusal::unsupported()),
        }
    }

    fn read_manifest(&self, asked: &Asked, name: &RepositoryName, reference: &Reference) -> Result<Answer, Refusal> {
        let repository = self.known(name)?;
        let record = match reference {
            Reference::Tag(tag) => repository.tag(tag)?,
            Reference::Digest(digest) => repository.record(*digest)?,
        };
        let record = record.ok_or_else(unknown)?;
        let builder = Response::builder()
            .header(CONTENT_TYPE, record.media_type.as_str())
            .header("Docker-Content-Digest", record.digest.to_string());
        if asked.method == Method::HEAD {
            let mut answer = super::answer::empty(builder);
            answer.headers_mut().insert(CONTENT_LENGTH, record.size.into());
            return Ok(answer);
        }
        let (_, bytes) = repository.document(record.digest)?.ok_or_else(unknown)?;
        Ok(bytes_answer(builder, bytes.into()))
    }

    fn write_manifest(
        &self,
        asked: &Asked,
        name: &RepositoryName,
        reference: &Reference,
        bytes: &[u8],
    ) -> Result<Answer, Refusal> {
        let stated = asked.header(CONTENT_TYPE).map(|text| text.split(';').next().unwrap_or_default().trim());
        let pushed = parse(stated.map(MediaType::from), bytes)?;
        let digest = match reference {
            Reference::Tag(_) => Digest::sha256(bytes),
            Reference::Digest(wanted) => check_digest(*wanted, bytes)?,
        };
        let now = jiff::Timestamp::now();
        let mut record = Descriptor::new(pushed.media_type.clone(), digest, bytes.len() as u64);
        record.artifact_type.clone_from(&pushed.artifact_type);
        record.annotations.insert(PUSHED.to_owned(), now.to_string());
        let subject = pushed.subject.as_ref().map(|subject| subject.digest);
        record.annotations.extend(subject.map(|subject| (SUBJECT.to_owned(), subject.to_string())));
        let repository = self.storage.repository(name);
        {
            let _guard = repository.adding()?;
            check_parts(&repository, &pushed)?;
            repository.keep_document(&record, bytes, subject)?;
            if let Reference::Tag(tag) = reference {
                repository.set_tag(tag, &record, now.into())?;
            }
        }
        let location = format!("/v2/{}/manifests/{digest}", name.as_str());
        let mut headers = vec![("Location", location), ("Docker-Content-Digest", digest.to_string())];
        headers.extend(subject.map(|subject| ("OCI-Subject", subject.to_string())));
        Ok(done(StatusCode::CREATED, &headers))
    }

    fn delete_manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Answer, Refusal> {
        let repository = self.known(name)?;
        let removed = match reference {
            Reference::Tag(tag) => repository.remove_tag(tag)?,
            Reference::Digest(digest) => repository.remove_document(*digest)?,
        };
        if removed { Ok(done(StatusCode::ACCEPTED, &[])) } else { Err(unknown()) }
    }
}

/// Nobody may find a manifest whose parts are missing.
fn check_parts(repository: &Repository, pushed: &Pushed) -> Result<(), Refusal> {
    let missing = |digest: Digest| Refusal::bad("MANIFEST_BLOB_UNKNOWN", format!("blob unknown to registry: {digest}"));
    for child in &pushed.children {
        if repository.record(child.digest)?.is_none() {
            return Err(missing(child.digest));
        }
    }
    let held = |blob: &&Descriptor| blob.media_type.is_foreign_layer() || repository.blob(blob.digest).is_file();
    match pushed.blobs.iter().find(|blob| !held(blob)) {
        Some(blob) => Err(missing(blob.digest)),
        None => Ok(()),
    }
}

fn unknown() -> Refusal {
    Refusal::missing("MANIFEST_UNKNOWN", "manifest unknown")
}

/// What a manifest that was taken in consists of.
pub(super) fn parts(record: &Descriptor, bytes: &[u8]) -> Result<Pushed, Refusal> {
    parse(Some(record.media_type.clone()), bytes)
}

fn check_digest(wanted: Digest, bytes: &[u8]) -> Result<Digest, Refusal> {
    let mut hasher = Hasher::new(wanted.algorithm());
    hasher.update(bytes);
    let found = hasher.finish();
    if found == wanted {
        return Ok(wanted);
    }
    Err(Refusal::bad(
        "DIGEST_INVALID",
        format!("provided digest did not match uploaded content: {found}, not {wanted}"),
    ))
}

/// Reads a manifest or index. The document's own media type must be the header's.
fn parse(stated: Option<MediaType>, bytes: &[u8]) -> Result<Pushed, Refusal> {
    let invalid = |why: String| Refusal::bad("MANIFEST_INVALID", format!("manifest invalid: {why}"));
    let outline = Outline::read(bytes).map_err(|error| invalid(error.to_string()))?;
    let own = Some(outline.media_type).filter(|media_type| *media_type != MediaType::default());
    let media_type = match (stated, own) {
        (Some(stated), Some(own)) if stated != own => {
            return Err(invalid(format!("the header says {stated}, the document {own}")));
        }
        (Some(media_type), _) | (None, Some(media_type)) => media_type,
        (None, None) => return Err(invalid("no media type".to_owned())),
    };
    if media_type.is_index() {
        let index: IndexManifest = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
        let IndexManifest { artifact_type, subject, manifests, .. } = index;
        return Ok(Pushed { media_type, artifact_type, subject, blobs: Vec::new(), children: manifests });
    }
    if !media_type.is_manifest() {
        return Err(invalid(format!("manifests of type {media_type} are not supported")));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    let Manifest { artifact_type, subject, config, layers, .. } = manifest;
    // An artifact that names no type of its own goes by that of its config.
    let artifact_type = artifact_type.or_else(|| Some(config.media_type.as_str().to_owned()));
    let blobs = std::iter::once(config).chain(layers).collect();
    Ok(Pushed { media_type, artifact_type, subject, blobs, children: Vec::new() })
}
