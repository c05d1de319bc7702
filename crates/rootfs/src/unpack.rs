//! Layers become a directory.

use std::path::Path;

use skycap_image::{Layer, Progress};

use crate::directory::{Directory, Form};
use crate::read::{apply_to, read_blob};
use crate::spool::in_order;
use crate::staging::{Stage, at};
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
///
/// Devices that the process may not make become empty files, and extended attributes that it may not set are left out,
/// both with one warning; anything else that cannot be done is an error.
pub fn unpack(
    layers: &[Layer],
    destination: &Path,
    options: &Unpack,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    unpack_as(Form::Merged, layers, destination, options, progress)
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
    unpack_as(Form::Overlay(style, below), std::slice::from_ref(layer), destination, options, progress)
}

fn unpack_as(
    form: Form<'_>,
    layers: &[Layer],
    destination: &Path,
    options: &Unpack,
    progress: &dyn Progress,
) -> Result<(), UnpackError> {
    let stage = Stage::create(destination)?;
    let begin = || Directory::new(stage.root()?, stage.trash()?, options.owners, form, progress);
    let mut tree = begin().map_err(at("prepare", destination))?;
    in_order(layers, options.concurrency, stage.side(), progress, &mut |layer, blob| {
        read_blob(layer, blob, &options.limits, &mut |tar| apply_to(tar, &mut tree, &options.limits))
    })?;
    tree.finish().map_err(at("finish", destination))?;
    stage.commit(options.sync)
}
