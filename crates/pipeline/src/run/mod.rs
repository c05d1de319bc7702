//! Doing what a plan says.
//!
//! [`interpret`] knows how outcomes, hooks, retries and scopes work and nothing about resources or containers; whatever it
//! must really do, it asks an [`interpret::Executor`] for. [`build`] is the real one.

pub(crate) mod interpret;
pub(crate) mod parallel;
pub(crate) mod redact;
pub(crate) mod scope;
pub(crate) mod stop;
