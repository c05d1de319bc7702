//! The resource type `registry-image`: checks, downloads and pushes images.

mod candidates;
mod check;
mod request;
mod source;

use std::path::Path;

use serde_json::Value;

use crate::{Failure, Host, Resource};

/// The resource type.
pub(crate) struct RegistryImage;

impl Resource for RegistryImage {
    fn check(&self, request: &[u8], host: &Host) -> Result<Value, Failure> {
        let request = request::CheckRequest::decode(request)?;
        let versions = check::check(&request, host)?;
        Ok(versions.iter().map(request::Version::to_json).collect())
    }

    fn get(&self, _request: &[u8], _destination: &Path, _host: &Host) -> Result<Value, Failure> {
        unimplemented!()
    }

    fn put(&self, _request: &[u8], _source: &Path, _host: &Host) -> Result<Value, Failure> {
        unimplemented!()
    }
}
