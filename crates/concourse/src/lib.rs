//! What does Concourse say to a resource or task, and what do we answer?
//!
//! Fronts that translate: a request's bytes or an environment come in, library functions are called, a value goes out.
//! Nothing here looks at arguments, standard streams or the process's environment; the binary and the runner do.
//!
//! * [`resource`] gives the resource types that are built in: `registry-image`, `registry-tag` and `git`.
//! * [`oci_build`] is the task that builds images.
//! * [`known_image`] says which images of other people need not be downloaded because we do their work.
//! * [`install`] says what an image must contain to be a drop-in replacement.
//!
//! Each resource decides in pure functions (which tags are versions, in which order, which request is refused) and
//! fetches around them. Versions, patterns and the request's JSON have dialects of their own (`version`, `pattern`,
//! `protocol`): pipelines were written against Go's and Ruby's libraries.

mod environment;
mod failure;
mod files;
mod git;
mod host;
mod inputs;
pub mod install;
mod known;
pub mod oci_build;
mod parallel;
mod pattern;
mod progress;
mod protocol;
mod registry_image;
mod registry_tag;
mod remote;
mod resource;
mod version;

pub use environment::Environment;
pub use failure::Failure;
pub use host::{Host, Workshop};
pub use known::{Kind, Known, known_image};
pub use protocol::encode;
/// Says in plain words what a source of registry-image does.
pub use registry_image::{Explanation, explain};
pub use remote::Fetcher;
pub use resource::{Resource, resource};
/// What a caller needs to make a [`Host`] and a [`Workshop`].
pub use skycap_build::SandboxAccess;
pub use skycap_registry::{Credentials, Keychain, Proxies, Retries, Settings};
pub use skycap_rootfs::Owners;
pub use skycap_store::Store;
