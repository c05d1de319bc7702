//! What would Concourse do with this pipeline, here?
//!
//! The layers, from pure to doing:
//!
//! - [`yaml`] reads bytes the way `yaml.v2` does, keeping positions;
//! - [`vars`] fills `((references))` in;
//! - [`config`] turns the tree into a typed pipeline, as strictly as Concourse; [`validate`] adds its further rules;
//! - [`plan`] says what a job would do, as a printable value;
//! - [`Runner`] does it, telling an [`Events`] what happens. Resources and tasks that skycap *is* run in process, all others
//!   run in the sandbox with Concourse's mounts.
//!
//! What `fly` would accept is accepted, what a worker would do is done, and where this runner differs it says so.

pub mod config;
mod events;
mod inputs;
mod options;
mod outcome;
mod plan;
mod run;
mod runner;
mod state;
pub mod validate;
pub mod vars;
pub mod yaml;

pub use config::{Config, ConfigError, load};
pub use events::{Events, Mute, Step, StepEvent, Stream};
pub use options::{Inputs, Options, Puts};
pub use outcome::Outcome;
pub use plan::{Plan, PlanError, plan};
pub use runner::{GetReport, PutReport, Ran, Report, Runner, RunnerError};
pub use validate::Validation;
pub use vars::Vars;
