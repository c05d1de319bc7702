//! The upper directory of an overlay becomes a layer: the difference that a RUN made.

use std::io::{self, Write};
use std::path::Path;

use crate::{Owners, Pack, TreePath, View};

/// Packs what an overlay's upper directory says beyond `lower` and returns the number of entries.
pub fn pack_overlay_upper<W: Write>(
    upper: &Path,
    lower: &View,
    owners: Owners,
    exclude: &dyn Fn(&TreePath) -> bool,
    pack: &mut Pack<W>,
) -> io::Result<usize> {
    let _ = (upper, lower, owners, exclude, pack);
    unimplemented!()
}
