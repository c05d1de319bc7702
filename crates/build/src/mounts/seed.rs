//! Files of another file system, written out: what a new cache begins with.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;

use skycap_rootfs::{Entry, Kind, TreePath};

use crate::error::Fault;
use crate::execute::Engine;
use crate::files::outside;
use crate::graph::{From, NodeId};
use crate::pick;

impl Engine<'_> {
    /// Writes what is in a directory of a node into an empty directory. Devices and pipes are left out.
    pub fn write_tree(&self, to: &Path, node: NodeId, source: &str, owners_kept: bool) -> Result<(), Fault> {
        let layers = self.layers(node)?;
        let view = self.view(&layers)?;
        let picked = pick::whole(&view, From::Node(node), source)?;
        let Some(picked) = picked.first().filter(|picked| picked.entry.is_directory()) else {
            return Err(Fault::new(format!("{source} is no directory")));
        };
        let mut files = Vec::new();
        for (relative, entry) in &picked.below {
            match &entry.kind {
                Kind::Directory => std::fs::create_dir(outside(to, relative))?,
                Kind::Symlink(target) => symlink(OsStr::from_bytes(target), outside(to, relative))?,
                Kind::File { .. } => files.push(picked.path.below(relative)),
                Kind::Device(_) | Kind::Fifo => {}
            }
        }
        let top = picked.path.components().count();
        let place = |path: &TreePath| outside(to, &relative(path, top));
        view.contents(&files, &layers, &mut |paths, _, content| {
            let Some((first, others)) = paths.split_first() else { return Ok(()) };
            io::copy(content, &mut File::create_new(place(first))?)?;
            others.iter().try_for_each(|other| std::fs::hard_link(place(first), place(other)))
        })?;
        // Children first, so that nothing is written into a directory that is done.
        for (relative, entry) in picked.below.iter().rev() {
            finish(&outside(to, relative), entry, owners_kept)?;
        }
        Ok(finish(to, &picked.entry, owners_kept)?)
    }
}

/// A path without its first components.
fn relative(path: &TreePath, top: usize) -> TreePath {
    let parts: Vec<&[u8]> = path.components().skip(top).collect();
    TreePath::parse(&parts.join(&b'/')).unwrap_or_default()
}

fn finish(path: &Path, entry: &Entry, owners_kept: bool) -> io::Result<()> {
    let metadata = &entry.metadata;
    let (uid, gid) = (Some(metadata.uid), Some(metadata.gid));
    match entry.kind {
        Kind::Symlink(_) if owners_kept => lchown(path, uid, gid),
        Kind::Symlink(_) | Kind::Device(_) | Kind::Fifo => Ok(()),
        Kind::Directory | Kind::File { .. } => {
            if owners_kept {
                chown(path, uid, gid)?;
            }
            std::fs::set_permissions(path, Permissions::from_mode(metadata.mode))
        }
    }
}
