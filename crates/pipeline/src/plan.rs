//! What a job does, as a value.

use crate::config::Config;

/// What a job does.
#[derive(Clone, PartialEq, Debug)]
pub enum Plan {}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What.
    pub message: String,
}

/// The plan of a job.
pub fn plan(config: &Config, job: &str) -> Result<Plan, PlanError> {
    let _ = config;
    Err(PlanError { message: format!("unknown job '{job}'") })
}
