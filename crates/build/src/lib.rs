//! How does a Dockerfile become an image?
//!
//! ```text
//! parse -> plan -> keys -> execute what is missing -> commit -> image
//! ```
//!
//! * [`dockerfile`] reads the language; nothing is looked up there.
//! * `plan` walks the stages that the targets reach and gives each its configuration, its history and a chain of nodes in
//!   a graph. A node is a file system: a base, or one that a `RUN`, `COPY`, `ADD` or `WORKDIR` made from its parent.
//! * `key` gives each node a name that says everything its content depends on. Files of the context count by content.
//! * `execute` asks for the targets' nodes, backwards: a node that the store already has never asks for its inputs.
//! * `commit` turns a new file system difference into a layer in one pass.
//!
//! Only a `RUN` that was not found in the store unpacks anything; everything else looks at layer indexes.

mod archive;
mod arguments;
mod assemble;
pub mod attest;
mod build;
pub mod cache;
mod changes;
mod commit;
mod context;
mod copy;
pub mod dockerfile;
mod epoch;
mod error;
mod execute;
mod files;
pub mod glob;
mod graph;
pub mod ignore;
mod inputs;
mod key;
mod late;
mod lint;
mod lookup;
mod mask;
mod missing;
mod mode;
mod mounts;
mod named;
mod owner;
mod parallel;
mod pick;
mod plan;
pub mod platform;
mod reason;
pub mod remote;
mod request;
mod run;
pub mod ssh;
mod step;
mod takeover;
mod times;
mod world;

pub use build::{build, check};
pub use error::BuildError;
pub use lint::{Finding, Rule};
pub use named::NamedContext;
pub use remote::Remote;
pub use request::{Built, Entitlement, Outcome, Request, StepReport, UnknownEntitlement};
pub use world::{SandboxAccess, World};
