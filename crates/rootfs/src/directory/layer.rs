//! What the layer being applied has made so far.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use crate::TreePath;

/// Its own entries, by facts of the file system.
#[derive(Default)]
pub(super) struct CurrentLayer {
    /// Directories it made, by inode. An inode number that is given out again goes to a new directory, which is its own, too.
    made: HashSet<u64>,
    /// Names it set in directories that were there before: hashes of the directory's inode and the name. The hash has a
    /// secret key, so nobody can make two names meet; by chance they do once in 10^7 layers of a million names.
    touched: HashSet<u64>,
    key: RandomState,
    /// Hard links whose target has not come yet.
    pub(super) links: Vec<(TreePath, TreePath)>,
}

impl CurrentLayer {
    /// It made a directory.
    pub(super) fn made(&mut self, inode: u64) {
        self.made.insert(inode);
    }

    /// It set a name in a directory.
    pub(super) fn touch(&mut self, directory: u64, name: &[u8]) {
        if !self.made.contains(&directory) {
            let name = self.key.hash_one((directory, name));
            self.touched.insert(name);
        }
    }

    /// Whether it made this directory, so that all in it is its own.
    pub(super) fn has_made(&self, directory: u64) -> bool {
        self.made.contains(&directory)
    }

    /// Whether it set this name itself.
    pub(super) fn owns(&self, directory: u64, name: &[u8]) -> bool {
        self.made.contains(&directory) || self.touched.contains(&self.key.hash_one((directory, name)))
    }
}
