//! The resource type `registry-tag`: follows the tags of a repository, by Docker Hub's web API or by the registry
//! protocol. It cannot be put.

mod select;
mod source;
mod web;

use std::path::Path;

use serde_json::{Value, json};

use self::source::Request;
use self::web::Site;
use crate::files::{io_failure, write_file};
use crate::{Failure, Host, Resource};

/// The resource type.
pub(crate) struct RegistryTag;

impl Resource for RegistryTag {
    fn check(&self, request: &[u8], host: &Host) -> Result<Value, Failure> {
        let request = Request::decode(request)?;
        let tags = Site::new(&request.source, host)?.tags()?;
        let selected = select::select(&tags, &request.source.rules, request.tag());
        let selected = selected.map_err(|error| Failure::new(error.to_string()))?;
        Ok(selected.into_iter().map(|tag| json!({"tag": tag})).collect())
    }

    fn get(&self, request: &[u8], destination: &Path, host: &Host) -> Result<Value, Failure> {
        let request = Request::decode(request)?;
        let tag = request.tag().ok_or_else(|| Failure::new("mandatory version.tag not found"))?;
        let is_tag = !tag.is_empty() && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !is_tag || tag.starts_with(['.', '-']) {
            return Err(Failure::new(format!("version.tag {tag:?} is no tag")));
        }
        std::fs::create_dir_all(destination).map_err(|error| io_failure("make", destination, &error))?;
        let digest = Site::new(&request.source, host)?.digest(tag)?;
        write_file(destination, "tag", tag)?;
        write_file(destination, "digest", &digest)?;
        let metadata = json!([{"name": "tag", "value": tag}, {"name": "digest", "value": digest}]);
        Ok(json!({"version": request.version, "metadata": metadata}))
    }

    fn put(&self, _request: &[u8], _source: &Path, _host: &Host) -> Result<Value, Failure> {
        Err(Failure::new("a registry-tag resource cannot be put")
            .with_hint("tags are made by putting a registry-image resource"))
    }
}
