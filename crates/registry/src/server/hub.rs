//! Docker Hub's own API, as far as it lists tags: newest first, a page at a time, with the next page's URL in the document.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use skycap_image::{Descriptor, ImageConfig, IndexManifest, Manifest};

use super::answer::{Answer, Refusal, json_answer};
use super::manifests::LARGEST;
use super::route::RepositoryName;
use super::service::{Asked, Service};
use super::storage::{Contents, PUSHED, tag_of};

/// What Docker Hub takes when nothing is said, and at most.
const PAGE: usize = 10;
const LARGEST_PAGE: usize = 100;

impl Service {
    pub(super) fn hub_tags(&self, asked: &Asked, name: &RepositoryName) -> Result<Answer, Refusal> {
        let Some(contents) = self.storage.contents(name)? else { return Ok(not_found()) };
        let number =
            |key: &str, default| asked.parameter(key).and_then(|text| text.parse::<usize>().ok()).unwrap_or(default);
        let size = number("page_size", PAGE).clamp(1, LARGEST_PAGE);
        let page = number("page", 1).max(1);
        let newest = newest_first(&contents);
        let pages = newest.len().div_ceil(size).max(1);
        if page > pages {
            return Ok(not_found());
        }
        let url = |page: usize| {
            let path = format!("/v2/repositories/{}/tags", name.as_str());
            format!("{}{path}?page={page}&page_size={size}", asked.base)
        };
        let shown = newest.iter().skip((page - 1) * size).take(size);
        let results: Vec<Value> = shown.map(|entry| self.hub_entry(name, &contents, entry)).collect();
        let document = json!({
            "count": newest.len(),
            "next": (page < pages).then(|| url(page + 1)),
            "previous": (page > 1).then(|| url(page - 1)),
            "results": results,
        });
        Ok(json_answer(Response::builder(), &document))
    }

    pub(super) fn hub_tag(&self, name: &RepositoryName, tag: &str) -> Result<Answer, Refusal> {
        let Some(contents) = self.storage.contents(name)? else { return Ok(not_found()) };
        let Some(entry) = contents.tag(tag) else { return Ok(not_found()) };
        Ok(json_answer(Response::builder(), &self.hub_entry(name, &contents, entry)))
    }

    fn hub_entry(&self, name: &RepositoryName, contents: &Contents, entry: &Descriptor) -> Value {
        let pushed = entry.annotations.get(PUSHED);
        let images = self.images(name, contents, entry).unwrap_or_default();
        json!({
            "name": tag_of(entry),
            "images": images,
            "digest": entry.digest,
            "media_type": entry.media_type,
            "last_updated": pushed,
            "tag_last_pushed": pushed,
            "tag_status": "active",
            "v2": true,
        })
    }

    /// One entry a platform. What cannot be read is left out: the list is about tags.
    fn images(&self, name: &RepositoryName, contents: &Contents, entry: &Descriptor) -> Option<Vec<Value>> {
        let path = self.storage.blob(name, entry.digest);
        if entry.media_type.is_index() {
            let index: IndexManifest = read(&path)?;
            let children = index.manifests.iter().filter_map(|child| {
                let platform = child.platform.as_ref()?;
                let pushed = contents.manifest(child.digest).and_then(|entry| entry.annotations.get(PUSHED));
                Some(image(&platform.os, &platform.architecture, platform.variant.as_deref(), child, pushed))
            });
            return Some(children.collect());
        }
        let manifest: Manifest = read(&path)?;
        let config: ImageConfig = read(&self.storage.blob(name, manifest.config.digest))?;
        let variant = config.variant.as_deref();
        Some(vec![image(&config.os, &config.architecture, variant, entry, entry.annotations.get(PUSHED))])
    }
}

fn image(os: &str, architecture: &str, variant: Option<&str>, manifest: &Descriptor, pushed: Option<&String>) -> Value {
    json!({
        "os": os, "architecture": architecture, "variant": variant, "digest": manifest.digest, "size": manifest.size,
        "status": "active", "last_pushed": pushed,
    })
}

/// Tags pushed within one tick of the clock keep the order in which they arrived.
fn newest_first(contents: &Contents) -> Vec<&Descriptor> {
    let mut tags: Vec<&Descriptor> = contents.entries().iter().filter(|entry| tag_of(entry).is_some()).rev().collect();
    let pushed =
        |entry: &Descriptor| entry.annotations.get(PUSHED).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    tags.sort_by_key(|entry| std::cmp::Reverse(pushed(entry)));
    tags
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
