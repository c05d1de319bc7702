//! The resource type `git`: follows the commits of a branch, by running the program `git`.

mod check;
mod commits;
mod get;
pub(crate) mod program;
mod put;
pub(crate) mod source;

#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::Value;

use self::source::{Operation, Request};
use crate::{Failure, Host, Resource};

/// The resource type.
pub(crate) struct Git;

impl Resource for Git {
    fn check(&self, request: &[u8], host: &Host) -> Result<Value, Failure> {
        check::check(&Request::decode(request, Operation::Check)?, host).map(Value::Array)
    }

    fn get(&self, request: &[u8], destination: &Path, host: &Host) -> Result<Value, Failure> {
        get::get(&Request::decode(request, Operation::Get)?, destination, host)
    }

    fn put(&self, request: &[u8], source: &Path, host: &Host) -> Result<Value, Failure> {
        put::put(&Request::decode(request, Operation::Put)?, source, host)
    }
}
