//! Layers become a directory.

use std::path::Path;

use skycap_image::{Layer, Progress};

use crate::{Limits, UnpackError, View};

/// What becomes of the owners that layers name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owners {
    /// Files get them; a process that may not do that fails.
    Keep,
    /// Files belong to the process; the [`View`] knows the real owners.
    Squash,
}

/// Under which names overlayfs keeps its marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OverlayXattrs {
    /// `trusted.overlay.*`: mounts by real root.
    Trusted,
    /// `user.overlay.*`: mounts in a user namespace, with the option `userxattr`.
    User,
}

/// How to unpack.
#[derive(Clone, Debug)]
pub struct Unpack {
    /// What becomes of owners.
    pub owners: Owners,
    /// How many layers are fetched at once, at least one.
    pub concurrency: usize,
    /// Bounds on what a layer may ask for.
    pub limits: Limits,
    /// Whether success means that the files survive a power cut.
    pub sync: bool,
}

/// Makes `destination` the tree that the layers describe, lowest first. It must not exist or be empty; it appears whole
/// or not at all.
pub fn unpack(
    layers: &[Layer],
    destination: &Path,
    options: &Unpack,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    let _ = (layers, destination, options, progress);
    unimplemented!()
}

/// Makes `destination` one layer as overlayfs wants it: deleted files are devices 0:0, opaque directories carry an
/// attribute. `below` is the view of the layers below it: parents that the layer itself does not describe are copied
/// from there, because in an overlay the uppermost directory decides mode and owner.
pub fn unpack_overlay(
    layer: &Layer,
    below: &View,
    destination: &Path,
    options: &Unpack,
    style: OverlayXattrs,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    let _ = (layer, below, destination, options, style, progress);
    unimplemented!()
}
