//! The resource type `registry-image`: checks, downloads and pushes images.

mod candidates;
mod check;
mod explain;
mod find_image;
mod get;
mod identity;
mod load;
mod put;
mod request;
mod restart;
mod source;
mod tags;
mod trust;

use std::path::Path;

use serde_json::Value;

pub use self::explain::{Explanation, explain};
pub(crate) use self::restart::Restarts;
use crate::{Failure, Host, Resource};

/// The resource type.
pub(crate) struct RegistryImage;

impl Resource for RegistryImage {
    fn check(&self, request: &[u8], host: &Host) -> Result<Value, Failure> {
        let mut request = request::CheckRequest::decode(request)?;
        request.source = identity::logged_in(request.source, host)?;
        let versions = check::check(&request, host)?;
        Ok(versions.iter().map(request::Version::to_json).collect())
    }

    fn get(&self, request: &[u8], destination: &Path, host: &Host) -> Result<Value, Failure> {
        let mut request = request::GetRequest::decode(request)?;
        request.source = identity::logged_in(request.source, host)?;
        get::get(&request, destination, host)
    }

    fn put(&self, request: &[u8], source: &Path, host: &Host) -> Result<Value, Failure> {
        let mut request = request::PutRequest::decode(request)?;
        request.source = identity::logged_in(request.source, host)?;
        put::put(&request, source, host)
    }
}
