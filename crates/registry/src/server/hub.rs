//! Docker Hub's own API, as far as it lists tags: newest first, a page at a time, with the next page's URL in the document.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use skycap_image::{Descriptor, ImageConfig, IndexManifest, Manifest};
use tokio::task::block_in_place;

use super::answer::{Answer, Refusal, json_answer};
use super::manifests::LARGEST;
use super::repository::Repository;
use super::route::RepositoryName;
use super::service::{Asked, Service};
use super::storage::PUSHED;

/// What Docker Hub takes when nothing is said, and at most.
const PAGE: usize = 10;
const LARGEST_PAGE: usize = 100;

impl Service {
    pub(super) fn hub_tags(&self, asked: &Asked, name: &RepositoryName) -> Result<Answer, Refusal> {
        let repository = self.storage.repository(name);
        if !repository.is_known() {
            return Ok(not_found());
        }
        let number =
            |key: &str, default| asked.parameter(key).and_then(|text| text.parse::<usize>().ok()).unwrap_or(default);
        let size = number("page_size", PAGE).clamp(1, LARGEST_PAGE);
        let page = number("page", 1).max(1);
        let newest = block_in_place(|| repository.newest_tags())?;
        let pages = newest.len().div_ceil(size).max(1);
        if page > pages {
            return Ok(not_found());
        }
        let url = |page: usize| {
            let path = format!("/v2/repositories/{}/tags", name.as_str());
            format!("{}{path}?page={page}&page_size={size}", asked.base)
        };
        let mut results = Vec::new();
        for tag in newest.iter().skip((page - 1) * size).take(size) {
            // One that was removed meanwhile is left out.
            results.extend(repository.tag(tag)?.map(|record| hub_entry(&repository, tag, &record)));
        }
        let document = json!({
            "count": newest.len(),
            "next": (page < pages).then(|| url(page + 1)),
            "previous": (page > 1).then(|| url(page - 1)),
            "results": results,
        });
        Ok(json_answer(Response::builder(), &document))
    }

    pub(super) fn hub_tag(&self, name: &RepositoryName, tag: &str) -> Result<Answer, Refusal> {
        let repository = self.storage.repository(name);
        let Some(record) = repository.tag(tag)? else { return Ok(not_found()) };
        Ok(json_answer(Response::builder(), &hub_entry(&repository, tag, &record)))
    }
}

fn hub_entry(repository: &Repository, tag: &str, record: &Descriptor) -> Value {
    let pushed = record.annotations.get(PUSHED);
    let images = images(repository, record).unwrap_or_default();
    json!({
        "name": tag,
        "images": images,
        "digest": record.digest,
        "media_type": record.media_type,
        "last_updated": pushed,
        "tag_last_pushed": pushed,
        "tag_status": "active",
        "v2": true,
    })
}

/// One entry a platform. What cannot be read is left out: the list is about tags.
fn images(repository: &Repository, record: &Descriptor) -> Option<Vec<Value>> {
    let (_, bytes) = repository.document(record.digest).ok()??;
    if record.media_type.is_index() {
        let index: IndexManifest = serde_json::from_slice(&bytes).ok()?;
        let children = index.manifests.iter().filter_map(|child| {
            let platform = child.platform.as_ref()?;
            let child_record = repository.record(child.digest).ok().flatten();
            let pushed = child_record.as_ref().and_then(|record| record.annotations.get(PUSHED));
            Some(image(&platform.os, &platform.architecture, platform.variant.as_deref(), child, pushed))
        });
        return Some(children.collect());
    }
    let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    let config: ImageConfig = read(&repository.blob(manifest.config.digest))?;
    let variant = config.variant.as_deref();
    Some(vec![image(&config.os, &config.architecture, variant, record, record.annotations.get(PUSHED))])
}

fn image(os: &str, architecture: &str, variant: Option<&str>, manifest: &Descriptor, pushed: Option<&String>) -> Value {
    json!({
        "os": os, "architecture": architecture, "variant": variant, "digest": manifest.digest, "size": manifest.size,
        "status": "active", "last_pushed": pushed,
    })
}

/// A blob that is said to be a config may be anything.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).ok()?;
    if bytes.len() > LARGEST { None } else { serde_json::from_slice(&bytes).ok() }
}

fn not_found() -> Answer {
    let document = json!({"message": "object not found", "errinfo": {}});
    json_answer(Response::builder().status(StatusCode::NOT_FOUND), &document)
}
