//! The resources and the task against real registries on this machine.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]
#![allow(clippy::needless_pass_by_value, reason = "`json!` makes values, and tests read better without `&`")]

mod oci_build;
mod registry_image_check;
mod registry_image_get;
mod registry_image_identity;
mod registry_image_put;
mod registry_image_trust;
mod registry_tag;
mod world;
