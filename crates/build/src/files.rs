//! Trees that files can be copied from: the build context, and the view of another file system.

use std::path::Path;

use skycap_rootfs::{Entry, Kind, TreePath, View};

use crate::error::Fault;

/// A tree of files.
pub(crate) trait Files {
    /// What is at a path none of whose parents is a link. What an ignore file hides is not there.
    fn find(&self, path: &TreePath) -> Result<Option<Entry>, Fault>;

    /// What is in a directory, sorted by name.
    fn list(&self, directory: &TreePath) -> Result<Vec<(Vec<u8>, Entry)>, Fault>;

    /// Where a path leads after `chroot` into the tree. What does not exist is kept as named.
    fn resolve(&self, path: &TreePath) -> Result<TreePath, Fault> {
        resolve(&|path| self.find(path), path)
    }
}

impl Files for View {
    fn find(&self, path: &TreePath) -> Result<Option<Entry>, Fault> {
        Ok(self.lookup(path).cloned())
    }

    fn list(&self, directory: &TreePath) -> Result<Vec<(Vec<u8>, Entry)>, Fault> {
        Ok(self.children(directory).map(|(name, entry)| (name.to_vec(), entry.clone())).collect())
    }
}

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Follows links below a root that `find` looks into; `..` stops at the root.
pub(crate) fn resolve(
    find: &dyn Fn(&TreePath) -> Result<Option<Entry>, Fault>,
    path: &TreePath,
) -> Result<TreePath, Fault> {
    let mut open: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let (mut reached, mut links) = (TreePath::root(), 0);
    while let Some(component) = open.pop() {
        match &*component {
            b"" | b"." => continue,
            b".." => {
                reached = reached.parent().unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let next = reached.join(&component)?;
        let Some(Entry { kind: Kind::Symlink(target), .. }) = find(&next)? else {
            reached = next;
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(Fault::new(format!("{path}: too many levels of symbolic links")));
        }
        if target.starts_with(b"/") {
            reached = TreePath::root();
        }
        open.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
    Ok(reached)
}

/// An absolute path of a Dockerfile, already cleaned, as a path in a tree.
pub(crate) fn tree_path(path: &str) -> Result<TreePath, Fault> {
    Ok(TreePath::parse(path.as_bytes())?)
}

/// A path in a tree below a directory outside.
pub(crate) fn outside(root: &Path, path: &TreePath) -> std::path::PathBuf {
    if path.is_root() { root.to_owned() } else { root.join(path.as_path()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skycap_rootfs::Metadata;

    #[test]
    fn links_stay_inside_the_root() {
        let path = |name: &str| TreePath::parse(name.as_bytes()).unwrap();
        let links = [("a", "/b"), ("b/c", "../../../etc"), ("loop", "loop"), ("up", "../..")];
        let find = |asked: &TreePath| {
            let link = links.iter().find(|(name, _)| path(name) == *asked);
            Ok(link.map(|(_, target)| Entry {
                kind: Kind::Symlink(target.as_bytes().into()),
                metadata: Metadata::default(),
            }))
        };
        for (from, to) in [("a/x", "b/x"), ("a/c/passwd", "etc/passwd"), ("up/x", "x"), ("none/x", "none/x")] {
            assert_eq!(resolve(&find, &path(from)).unwrap(), path(to), "{from}");
        }
        assert!(resolve(&find, &path("loop")).is_err());
    }
}
