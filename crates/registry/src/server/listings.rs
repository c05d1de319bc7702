//! Lists of tags and repositories, page by page.

use hyper::Response;
use serde_json::json;

use super::answer::{Answer, Refusal, json_answer};
use super::route::RepositoryName;
use super::service::{Asked, Service};

impl Service {
    pub(super) fn tags(&self, asked: &Asked, name: &RepositoryName) -> Result<Answer, Refusal> {
        let contents = self.contents(name)?;
        let path = format!("/v2/{}/tags/list", name.as_str());
        page(asked, &path, &contents.tags(), |tags| json!({"name": name.as_str(), "tags": tags}))
    }

    pub(super) fn catalog(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let repositories = self.storage.repositories()?;
        let names: Vec<&str> = repositories.iter().map(String::as_str).collect();
        page(asked, "/v2/_catalog", &names, |names| json!({"repositories": names}))
    }
}

/// At most `n` of the sorted names behind `last`, with a link to the next ones.
fn page(
    asked: &Asked,
    path: &str,
    names: &[&str],
    document: impl Fn(&[&str]) -> serde_json::Value,
) -> Result<Answer, Refusal> {
    let start = asked.parameter("last").map_or(0, |last| names.partition_point(|name| *name <= last));
    let rest = names.get(start..).unwrap_or_default();
    let count = match asked.parameter("n") {
        None => rest.len(),
        Some(text) => text.parse::<usize>().map_err(|_| {
            Refusal::bad("PAGINATION_NUMBER_INVALID", format!("invalid number of results requested: {text:?}"))
        })?,
    };
    let shown = rest.get(..count).unwrap_or(rest);
    let mut builder = Response::builder();
    if let Some(last) = shown.last().filter(|_| shown.len() < rest.len()) {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("last", last)
            .append_pair("n", &count.to_string())
            .finish();
        builder = builder.header("Link", format!("<{path}?{query}>; rel=\"next\""));
    }
    Ok(json_answer(builder, &document(shown)))
}
