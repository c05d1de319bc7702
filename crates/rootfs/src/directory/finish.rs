//! The last step: modes and times of directories, deepest first.

use std::io;

use super::Directory;
use super::attributes::{mode, times};
use super::handle::{READ, below, list, open_below};
use crate::Metadata;

impl Directory<'_> {
    /// Gives all directories their modes and times. Nothing can be applied afterwards.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writers.settle()?;
        let directories = std::mem::take(&mut self.directories);
        let settle = |path: &[u8]| -> io::Result<()> {
            let directory = open_below(self.resolver.root(), path, READ)?;
            let inode = rustix::fs::fstat(&directory)?.st_ino;
            let implied = Metadata::implied();
            let metadata = directories.get(&inode).unwrap_or(&implied);
            rustix::fs::fchmod(&directory, mode(metadata))?;
            Ok(rustix::fs::futimens(&directory, &times(metadata.mtime))?)
        };
        // Walked with a list instead of recursion, and without keeping directories open: trees may be very deep.
        let mut pending = vec![(Vec::new(), false)];
        while let Some((path, is_listed)) = pending.pop() {
            if is_listed {
                settle(&path)?;
                continue;
            }
            let children = list(open_below(self.resolver.root(), &path, READ)?)?;
            let parent = path.clone();
            pending.push((path, true));
            let directories = children.into_iter().filter(|child| child.is_directory);
            pending.extend(directories.map(|child| (below(&parent, &child.name), false)));
        }
        Ok(())
    }
}
