//! What a build is done with: everything outside the request that it may use.

use skycap_image::{Progress, Resolver};
use skycap_sandbox::{Refused, Sandbox};
use skycap_store::Store;

use crate::remote::Remote;

/// What a build is done with.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// Finds the images that `FROM`, `COPY --from` and mounts name.
    pub resolver: &'a dyn Resolver,
    /// Fetches what `ADD` and contexts name by an address; [`crate::remote::Offline`] refuses to.
    pub remote: &'a dyn Remote,
    /// Keeps layers, and what was learnt about steps.
    pub store: &'a Store,
    /// Whether `RUN` can be run, and how.
    pub sandbox: SandboxAccess<'a>,
    /// Is told what happens.
    pub progress: &'a dyn Progress,
}

/// Whether `RUN` can be run here.
#[derive(Clone, Copy)]
pub enum SandboxAccess<'a> {
    /// It can.
    Available(&'a Sandbox),
    /// It cannot; a `RUN` whose result is not known is an error that says why.
    Refused(&'a Refused),
}
