//! A pipeline as Concourse's `atc.Config` has it: typed, strict about keys, with the values that are filled in later kept as
//! trees.
//!
//! [`load`] is what `fly set-pipeline` and the server do together: YAML, static vars, then the schema. What the schema
//! allows and Concourse still refuses is [`crate::validate`]'s business.

mod decode;
mod duration;
mod pipeline;
mod step;
mod task;

use std::path::Path;

pub use decode::DecodeError;
pub use duration::{InvalidDuration, parse_duration};
pub use pipeline::{CheckEvery, Config, Display, Group, Hooks, Job, LogRetention, Resource, ResourceType, VarSource};
pub use step::{
    Across, AcrossVar, Get, Hook, InParallel, InlineTask, LoadVar, MaxInFlight, Named, Put, PutInputs, RunPrototype,
    SetPipeline, Step, StepConfig, TaskStep, Version,
};
pub use task::{Cache, ContainerLimits, ImageResource, Input, Output, Run, TaskConfig};

use crate::vars::{Missing, Vars, interpolate, locate};
use crate::yaml::{Node, Position, parse};

/// Why a file is not a pipeline. The texts are Concourse's, with a position before them.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{name}:{at}: {message}")]
pub struct ConfigError {
    /// The file.
    pub name: String,
    /// Where in it.
    pub at: Position,
    /// What is wrong.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
}

/// Reads a pipeline. `name` is the file's name as messages should show it.
pub fn load(bytes: &[u8], name: &str, vars: &Vars) -> Result<Config, ConfigError> {
    let root = read(bytes, name, vars, Missing::Keep)?;
    Config::decode(&root).map_err(|error| ConfigError {
        name: name.to_owned(),
        at: error.at,
        message: error.message,
        hint: error.hint.map(str::to_owned),
    })
}

/// YAML and vars only: what `fly validate-pipeline -o` prints.
pub fn read(bytes: &[u8], name: &str, vars: &Vars, missing: Missing) -> Result<Node, ConfigError> {
    let fail = |at, message: String, hint: Option<&str>| ConfigError {
        name: name.to_owned(),
        at,
        message,
        hint: hint.map(str::to_owned),
    };
    let document = parse(bytes).map_err(|error| fail(error.at, error.message, error.hint))?;
    if let Some(duplicate) = document.duplicate {
        return Err(fail(duplicate.at, duplicate.message, None));
    }
    interpolate(&document.root, vars, missing).map_err(|error| {
        let at = error.reference().and_then(|name| locate(&document.root, name));
        fail(at.unwrap_or(document.root.at), error.to_string(), None)
    })
}

/// The extension that Concourse goes by, without its dot; empty if there is none.
pub(crate) fn extension(path: &str) -> &str {
    Path::new(path).extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}
