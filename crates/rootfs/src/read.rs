//! Reads a layer once.

use skycap_image::Layer;

use crate::{Limits, Tree, UnpackError};

/// Streams a layer into a tree: verified, decompressed by content, compared with its diff ID, read to its very end.
pub fn read_layer(layer: &Layer, tree: &mut dyn Tree, limits: &Limits) -> Result<(), UnpackError> {
    let _ = (layer, tree, limits);
    unimplemented!()
}
