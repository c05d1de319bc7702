//! Images in one tar file: what `docker save` and BuildKit write, and OCI layouts in a tar.
//!
//! Reading ([`open`]) lists the tar once and then reads members in place, by their offsets; nothing is unpacked. A
//! compressed archive has no offsets, so each blob of it costs decompressing what comes before it. Writing is one pass, into a
//! file with several blobs at once, and depends on nothing but the image and its names.

mod docker;
mod members;
mod plan;
mod read;
mod write;

use crate::SourceError;

pub use plan::Plan;
pub use read::{Archive, open, open_as};
pub use write::{plan_docker, plan_docker_flat, plan_oci, write_docker, write_docker_flat, write_oci};

/// Which of the two an archive is read as. One file can be both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// `manifest.json`, as `docker save` writes it.
    Docker,
    /// `index.json`, an OCI layout.
    Oci,
}

/// An archive that breaks the rules.
fn corrupt(what: impl Into<String>) -> SourceError {
    SourceError::new(crate::Kind::Corrupt, what)
}
