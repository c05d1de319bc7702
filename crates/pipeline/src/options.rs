//! What the binary decides about a run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::Vars;

/// How to run jobs. Nothing here changes what a pipeline means; it says where things are and what is allowed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The pipeline's name: `BUILD_PIPELINE_NAME`, and part of where its state lives.
    pub pipeline: String,
    /// Where versions, builds and caches are kept.
    pub state: PathBuf,
    /// Where vars that are still `((unresolved))` when a step runs come from: a credential manager's place. Redacted.
    pub secrets: Vars,
    /// Registry and other hosts that something else answers for: `docker.io` to `http://127.0.0.1:5000`.
    pub hosts: BTreeMap<String, String>,
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
    /// Those of these names.
    Only(BTreeSet<String>),
    /// None runs; each counts as succeeded, and its implicit get is left out. Not faithful, and said so.
    Skip,
}

impl Options {
    /// Options for one pipeline, with the defaults of a plain `run`.
    pub fn new(pipeline: impl Into<String>, state: impl Into<PathBuf>) -> Self {
        Self {
            pipeline: pipeline.into(),
            state: state.into(),
            secrets: Vars::default(),
            hosts: BTreeMap::new(),
            native: true,
            base_types: BTreeMap::new(),
            inputs: Inputs::new(),
            pins: BTreeMap::new(),
            puts: Puts::Refuse,
            external_url: "http://127.0.0.1:8080".to_owned(),
        }
    }
}
