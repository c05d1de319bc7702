//! Manifests: reading, writing (their parts must be there first), deleting, and what refers to them.

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Response, StatusCode};
use serde_json::{Value, json};
use skycap_image::{Descriptor, Digest, Hasher, IndexManifest, Manifest, MediaType, Outline};

use super::answer::{Answer, Refusal, bytes_answer, json_answer};
use super::route::{Reference, RepositoryName};
use super::service::{Asked, Service, done};
use super::storage::{Contents, PUSHED, SUBJECT, TAG};

/// Manifests and configs beyond this are not read. The specification asks for 4 MiB at least.
pub(super) const LARGEST: usize = 8 * 1024 * 1024;

/// The parts of a manifest that the registry acts on.
struct Pushed {
    media_type: MediaType,
    artifact_type: Option<String>,
    subject: Option<Descriptor>,
    blobs: Vec<Descriptor>,
    children: Vec<Descriptor>,
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
        let contents = self.contents(name)?;
        let entry = find(&contents, reference).ok_or_else(unknown)?;
        let builder = Response::builder()
            .header(CONTENT_TYPE, entry.media_type.as_str())
            .header("Docker-Content-Digest", entry.digest.to_string());
        if asked.method == Method::HEAD {
            let mut answer = super::answer::empty(builder);
            answer.headers_mut().insert(CONTENT_LENGTH, entry.size.into());
            return Ok(answer);
        }
        let bytes = std::fs::read(self.storage.blob(name, entry.digest))?;
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
        let mut entry = Descriptor::new(pushed.media_type.clone(), digest, bytes.len() as u64);
        entry.artifact_type.clone_from(&pushed.artifact_type);
        entry.annotations.insert(PUSHED.to_owned(), jiff::Timestamp::now().to_string());
        if let Reference::Tag(tag) = reference {
            entry.annotations.insert(TAG.to_owned(), tag.clone());
        }
        if let Some(subject) = &pushed.subject {
            entry.annotations.insert(SUBJECT.to_owned(), subject.digest.to_string());
        }
        self.storage.change(name, |contents| {
            self.check_parts(name, contents, &pushed)?;
            self.storage.keep_bytes(name, digest, bytes)?;
            contents.add(entry);
            Ok::<(), Refusal>(())
        })?;
        let location = format!("/v2/{}/manifests/{digest}", name.as_str());
        let mut headers = vec![("Location", location), ("Docker-Content-Digest", digest.to_string())];
        headers.extend(pushed.subject.map(|subject| ("OCI-Subject", subject.digest.to_string())));
        Ok(done(StatusCode::CREATED, &headers))
    }

    /// Nobody may find a manifest whose parts are missing.
    fn check_parts(&self, name: &RepositoryName, contents: &Contents, pushed: &Pushed) -> Result<(), Refusal> {
        let missing =
            |digest: Digest| Refusal::bad("MANIFEST_BLOB_UNKNOWN", format!("blob unknown to registry: {digest}"));
        if let Some(child) = pushed.children.iter().find(|child| contents.manifest(child.digest).is_none()) {
            return Err(missing(child.digest));
        }
        let held =
            |blob: &&Descriptor| blob.media_type.is_foreign_layer() || self.storage.blob(name, blob.digest).is_file();
        match pushed.blobs.iter().find(|blob| !held(blob)) {
            Some(blob) => Err(missing(blob.digest)),
            None => Ok(()),
        }
    }

    fn delete_manifest(&self, name: &RepositoryName, reference: &Reference) -> Result<Answer, Refusal> {
        self.contents(name)?;
        self.storage.change(name, |contents| {
            let removed = match reference {
                Reference::Tag(tag) => contents.remove_tag(tag),
                Reference::Digest(digest) => contents.remove_manifest(*digest),
            };
            if removed { Ok(()) } else { Err(unknown()) }
        })?;
        Ok(done(StatusCode::ACCEPTED, &[]))
    }

    /// The manifests whose `subject` is this digest, as an index. None are found for a digest that nobody knows.
    pub(super) fn referrers(&self, asked: &Asked, name: &RepositoryName, digest: Digest) -> Result<Answer, Refusal> {
        let contents = self.contents(name)?;
        let subject = digest.to_string();
        let filter = asked.parameter("artifactType");
        let refers = |entry: &&Descriptor| entry.annotations.get(SUBJECT) == Some(&subject);
        let fits = |entry: &&Descriptor| filter.is_none() || entry.artifact_type.as_deref() == filter;
        let mut manifests: Vec<Value> = Vec::new();
        for entry in contents.entries().iter().filter(refers).filter(fits) {
            let bytes = std::fs::read(self.storage.blob(name, entry.digest))?;
            let annotations = serde_json::from_slice::<Value>(&bytes).unwrap_or_default()["annotations"].take();
            manifests.push(json!({
                "mediaType": entry.media_type, "digest": entry.digest, "size": entry.size,
                "artifactType": entry.artifact_type, "annotations": annotations,
            }));
        }
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::OciIndex, "manifests": manifests});
        let builder = Response::builder();
        let builder = if filter.is_some() { builder.header("OCI-Filters-Applied", "artifactType") } else { builder };
        let mut answer = json_answer(builder, &index);
        let media_type = hyper::header::HeaderValue::from_static("application/vnd.oci.image.index.v1+json");
        answer.headers_mut().insert(CONTENT_TYPE, media_type);
        Ok(answer)
    }
}

fn find<'c>(contents: &'c Contents, reference: &Reference) -> Option<&'c Descriptor> {
    match reference {
        Reference::Tag(tag) => contents.tag(tag),
        Reference::Digest(digest) => contents.manifest(*digest),
    }
}

fn unknown() -> Refusal {
    Refusal::missing("MANIFEST_UNKNOWN", "manifest unknown")
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
