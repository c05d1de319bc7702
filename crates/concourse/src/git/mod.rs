//! skeleton
use crate::{Failure, Host, Resource};
use serde_json::Value;
use std::path::Path;
/// The resource type.
pub(crate) struct Git;
impl Resource for Git {
    fn check(&self, _request: &[u8], _host: &Host) -> Result<Value, Failure> {
        unimplemented!()
    }
    fn get(&self, _request: &[u8], _destination: &Path, _host: &Host) -> Result<Value, Failure> {
        unimplemented!()
    }
    fn put(&self, _request: &[u8], _source: &Path, _host: &Host) -> Result<Value, Failure> {
        unimplemented!()
    }
}
