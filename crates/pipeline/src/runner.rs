//! Runs jobs of one pipeline.

use std::sync::Arc;

use skycap_image::Progress;

use crate::{Config, Events, Options, Outcome};

/// Why nothing ran.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunnerError {
    /// What and where.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
}

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ran {
    /// A build with this name ended so.
    Build {
        /// Its number in the job.
        name: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// All input versions equal those of this job's last successful build of this name.
    Unchanged(String),
}

/// A pipeline that can be run.
pub struct Runner {
    config: Config,
    options: Options,
}

impl Runner {
    /// Opens the state directory; fails if another runner holds it.
    pub fn new(config: Config, options: Options, events: Arc<dyn Events>, progress: Arc<dyn Progress>) -> Result<Self, RunnerError> {
        let _ = (events, progress);
        Ok(Self { config, options })
    }

    /// Runs a job once.
    pub fn run(&self, job: &str, cancel: &skycap_sandbox::Cancel) -> Result<Ran, RunnerError> {
        let _ = (job, cancel, &self.config, &self.options);
        unimplemented!()
    }

    /// Runs a job unless its inputs are those of its last successful build.
    pub fn run_if_changed(&self, job: &str, cancel: &skycap_sandbox::Cancel) -> Result<Ran, RunnerError> {
        let _ = (job, cancel);
        unimplemented!()
    }

    /// Checks resources at their intervals and runs jobs whose triggering inputs have new versions, until cancelled.
    pub fn watch(&self, stop: &skycap_sandbox::Cancel) -> Result<(), RunnerError> {
        let _ = stop;
        unimplemented!()
    }
}
