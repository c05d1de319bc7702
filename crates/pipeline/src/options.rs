//! What the binary decides about a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use skycap_sandbox::Cancel;

use crate::Vars;

/// How to run jobs. Nothing here changes what a pipeline means; it says where things are and what is allowed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The pipeline's name: `BUILD_PIPELINE_NAME`.
    pub pipeline: String,
    /// The directory of this pipeline's versions, builds and caches. One runner at a time may use it.
    pub state: PathBuf,
    /// Where vars that are still `((unresolved))` when a step runs come from: a credential manager's place. Redacted.
    pub secrets: Vars,
    /// What stands in for the pipeline's `var_sources`, by their names. Redacted. Sources of type `dummy` need none.
    pub var_sources: BTreeMap<String, Vars>,
    /// Whether resources and tasks that skycap is run in process.
    pub native: bool,
    /// Base resource types beyond the table, or other images for them: name to image reference.
    pub base_types: BTreeMap<String, String>,
    /// Gets that take a local directory instead.
    pub inputs: Inputs,
    /// Versions pinned from outside: resource name to version.
    pub pins: BTreeMap<String, BTreeMap<String, String>>,
    /// Which puts may run.
    pub puts: Puts,
    /// `ATC_EXTERNAL_URL`; Concourse's own development default is `http://127.0.0.1:8080`.
    pub external_url: String,
    /// How many threads a build of an image may use; at least 1.
    pub threads: usize,
    /// Also cancels hooks, which an ordinary abort lets run.
    pub kill: Cancel,
}

/// Local directories by the name of the get that they replace.
pub type Inputs = BTreeMap<String, PathBuf>;

/// Which puts of a job may run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Puts {
    /// None: a job that has one is refused before it starts.
    #[default]
    Refuse,
    /// All.
    Allow,
    /// Those of these names; a job with another one is refused before it starts.
    Only(BTreeSet<String>),
    /// None runs; each counts as succeeded, and the get after it is left out. Not what a cluster does, and said so.
    Skip,
}

impl Options {
    /// Options for one pipeline, with the defaults of a plain `run`.
    pub fn new(pipeline: impl Into<String>, state: impl Into<PathBuf>) -> Self {
        Self {
            pipeline: pipeline.into(),
            state: state.into(),
            secrets: Vars::default(),
            var_sources: BTreeMap::new(),
            native: true,
            base_types: BTreeMap::new(),
            inputs: Inputs::new(),
            pins: BTreeMap::new(),
            puts: Puts::Refuse,
            external_url: "http://127.0.0.1:8080".to_owned(),
            threads: 1,
            kill: Cancel::new(),
        }
    }
}
