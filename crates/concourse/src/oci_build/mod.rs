//! skeleton
use crate::{Environment, Failure, Host, Workshop};
use std::path::Path;
/// What the task was asked for.
#[derive(Clone, Debug)]
pub struct Params {}
impl Params {
    /// Reads the parameters from the environment.
    pub fn from_environment(_environment: &Environment) -> Result<Self, Failure> {
        unimplemented!()
    }
    /// Reads the JSON request that the original's `task` program takes on stdin.
    pub fn from_request(_request: &[u8], _environment: &Environment) -> Result<Self, Failure> {
        unimplemented!()
    }
}
/// What was exported.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The names of the output directories that were filled, in order.
    pub outputs: Vec<String>,
}
/// Builds in `working_dir`, where the inputs and the outputs that the task declares are directories.
pub fn run(_params: &Params, _working_dir: &Path, _host: &Host, _workshop: &Workshop<'_>) -> Result<Outcome, Failure> {
    unimplemented!()
}
