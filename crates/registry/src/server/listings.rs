//! Lists of tags and repositories, page by page.

use hyper::Response;
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::answer::{Answer, Refusal, json_answer};
use super::names::Page;
use super::route::RepositoryName;
use super::service::{Asked, Service};

/// Names on a page, whatever was asked for.
const MOST: usize = 10_000;

impl Service {
    pub(super) fn tags(&self, asked: &Asked, name: &RepositoryName) -> Result<Answer, Refusal> {
        let repository = self.known(name)?;
        let path = format!("/v2/{}/tags/list", name.as_str());
        let read = |after: &str, count| self.storage.tags(&repository, after, count);
        page(asked, &path, read, |tags| json!({"name": name.as_str(), "tags": tags}))
    }

    pub(super) fn catalog(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let read = |after: &str, count| self.storage.repositories(after, count);
        page(asked, "/v2/_catalog", read, |names| json!({"repositories": names}))
    }
}

/// At most `n` of the sorted names behind `last`, with a link to the next ones.
fn page(
    asked: &Asked,
    path: &str,
    read: impl Fn(&str, usize) -> std::io::Result<Page>,
    document: impl Fn(&[String]) -> Value,
) -> Result<Answer, Refusal> {
    let count = match asked.parameter("n") {
        None => MOST,
        Some(text) => text.parse::<usize>().map_err(|_| {
            Refusal::bad("PAGINATION_NUMBER_INVALID", format!("invalid number of results requested: {text:?}"))
        })?,
    };
    let page = block_in_place(|| read(asked.parameter("last").unwrap_or_default(), count.min(MOST)))?;
    let mut builder = Response::builder();
    if let Some(last) = page.names.last().filter(|_| page.more) {
        builder = builder.header("Link", next(path, &[("last", last), ("n", &count.to_string())]));
    }
    Ok(json_answer(builder, &document(&page.names)))
}

/// A `Link` to the next page.
pub(super) fn next(path: &str, query: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    format!("<{path}?{query}>; rel=\"next\"")
}
