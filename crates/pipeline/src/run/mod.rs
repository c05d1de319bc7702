//! Doing what a plan says.
//!
//! [`interpret`] knows how outcomes, hooks, retries and scopes work and nothing about resources or containers; whatever it
//! must really do, it asks an [`interpret::Executor`] for. [`build`] is the real one.

pub(crate) mod build;
pub(crate) mod check;
pub(crate) mod container;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod interpret;
pub(crate) mod log;
pub(crate) mod parallel;
pub(crate) mod redact;
pub(crate) mod resource;
pub(crate) mod scope;
pub(crate) mod stop;
pub(crate) mod task;
pub(crate) mod types;
pub(crate) mod users;
