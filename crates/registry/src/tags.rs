//! All tags of a repository, page by page.

use std::collections::HashSet;

use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use skycap_image::{Event, Kind};
use url::Url;

use crate::error::{Failure, shown};
use crate::link::next_page;
use crate::remote::{Call, Document, Remote, Target};

/// How many tags a page should have; the most that every registry allows.
const PAGE: usize = 1000;
/// Some registries ignore the page size and send everything at once.
const LARGEST_PAGE: usize = 64 * 1024 * 1024;
/// Lists beyond this are refused: the largest known repository has 0.2 million tags.
const MOST_TAGS: usize = 4_000_000;

/// Pages in a row that bring no new tag; more of them are a registry that goes round in circles.
const MOST_FRUITLESS: u32 = 3;

#[derive(Deserialize)]
struct Page {
    tags: Option<Vec<Option<String>>>,
}

impl Remote {
    /// In the registry's order, without duplicates. Entries that cannot be tags are left out.
    pub async fn tags(&self) -> Result<Vec<String>, Failure> {
        let mut tags = Vec::new();
        let mut seen = HashSet::new();
        let mut pages = HashSet::new();
        let mut fruitless = 0;
        let mut strange = 0_u64;
        let mut page = self.first_page().await?;
        loop {
            let before = tags.len();
            let next = next_url(&page)?;
            for tag in parse(&page)? {
                if !is_tag(&tag) {
                    strange += 1;
                } else if seen.insert(tag.clone()) {
                    tags.push(tag);
                }
            }
            let Some(next) = next else {
                if strange > 0 {
                    let warning = format!("{}: {strange} entries of its list of tags are no tags", self.repository);
                    self.progress.event(Event::Warning(&warning));
                }
                return Ok(tags);
            };
            fruitless = if tags.len() == before { fruitless + 1 } else { 0 };
            if !pages.insert(next.clone()) || fruitless > MOST_FRUITLESS || tags.len() > MOST_TAGS {
                let what = format!("GET {}: the list of tags does not end", shown(&page.url));
                return Err(Failure::lasting(Kind::Other, what));
            }
            page = self.document(&Call::to(Method::GET, Target::Url(next)), LARGEST_PAGE).await?;
        }
    }

    async fn first_page(&self) -> Result<Document, Failure> {
        let page = self.document(&Call::new(Method::GET, format!("tags/list?n={PAGE}")), LARGEST_PAGE).await;
        match page {
            // Some registries dislike the page size.
            Err(failure) if failure.is(StatusCode::BAD_REQUEST) => {
                self.document(&Call::new(Method::GET, "tags/list"), LARGEST_PAGE).await
            }
            other => other,
        }
    }
}

fn parse(page: &Document) -> Result<Vec<String>, Failure> {
    let document: Page = serde_json::from_slice(&page.body).map_err(|error| {
        let stated = page.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("of no type");
        let what = format!("GET {}: the answer, {stated}, is not a list of tags", shown(&page.url));
        Failure::lasting(Kind::Corrupt, what).caused_by(error)
    })?;
    Ok(document.tags.unwrap_or_default().into_iter().flatten().collect())
}

fn next_url(page: &Document) -> Result<Option<Url>, Failure> {
    let Some(link) = next_page(&page.headers) else { return Ok(None) };
    let refused = || {
        let what = format!("GET {}: the link to the next page leads elsewhere", shown(&page.url));
        Failure::lasting(Kind::Other, what)
    };
    let next = page.url.join(link).map_err(|_| refused())?;
    if next.origin() == page.url.origin() { Ok(Some(next)) } else { Err(refused()) }
}

/// `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`. Nexus lists nulls, Artifactory digests; neither is a tag.
pub(crate) fn is_tag(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}
