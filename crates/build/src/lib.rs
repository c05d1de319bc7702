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

pub mod dockerfile;
mod error;
pub mod glob;
pub mod ignore;
mod request;

pub use error::BuildError;
pub use request::{Built, Outcome, Request, SandboxAccess, StepReport};

use skycap_image::{Progress, Resolver};
use skycap_store::Store;

/// Builds every target of a request for every platform: targets in their order, and for each the platforms in theirs.
///
/// Images that `FROM`, `COPY --from` and mounts name are taken from [`Request::images`], else from `resolver`. Layers and
/// what was learnt about steps stay in `store`.
pub fn build(
    _request: &Request,
    _resolver: &dyn Resolver,
    _store: &Store,
    _sandbox: SandboxAccess<'_>,
    _progress: &dyn Progress,
) -> Result<Vec<Built>, BuildError> {
    unimplemented!("build")
}
