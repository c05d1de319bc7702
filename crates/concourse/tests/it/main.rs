//! The resources and the task against real registries on this machine.

#![allow(clippy::unwrap_used, reason = "a test may fail loudly")]

mod oci_build;
mod registry_image_check;
mod registry_image_get;
mod registry_image_put;
mod registry_tag;
mod world;
