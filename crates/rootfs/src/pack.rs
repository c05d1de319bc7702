//! Files become a layer.

use std::io::{self, Write};
use std::path::Path;

use crate::{Change, Metadata, Owners, TreePath};

/// Writes a layer as a bare tar. The same calls make the same bytes.
pub struct Pack<W: Write> {
    out: W,
}

impl<W: Write> Pack<W> {
    /// An empty layer.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds an entry. The caller sorts: parents first, hard links after the file they name.
    pub fn add(&mut self, path: &TreePath, change: Change<'_>) -> io::Result<()> {
        let _ = (path, change);
        unimplemented!()
    }

    /// Hides what lower layers have at this path.
    pub fn whiteout(&mut self, path: &TreePath) -> io::Result<()> {
        self.add(path, Change::Whiteout)
    }

    /// Hides what lower layers have in this directory.
    pub fn opaque(&mut self, path: &TreePath) -> io::Result<()> {
        self.add(path, Change::Opaque)
    }

    /// Ends the archive.
    pub fn finish(self) -> io::Result<W> {
        Ok(self.out)
    }
}

/// Adds everything in a directory on disk below `prefix`, sorted. `adjust` may change what is recorded of each file.
pub fn pack_directory<W: Write>(
    directory: &Path,
    prefix: &TreePath,
    owners: Owners,
    adjust: &dyn Fn(&TreePath, &mut Metadata),
    pack: &mut Pack<W>,
) -> io::Result<usize> {
    let _ = (directory, prefix, owners, adjust, pack);
    unimplemented!()
}
