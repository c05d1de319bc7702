//! Removing trees that layers and their programs have made: directories without permissions, and as deep as you like.

use std::collections::VecDeque;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Removes whatever is at a path. What is not there is removed already.
///
/// Directories inside are moved up beside the top before they are emptied, so that neither the length of a path nor the
/// number of open files limits the depth.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    let mut moved = 0;
    let mut left = VecDeque::from([path.to_owned()]);
    while let Some(directory) = left.pop_front() {
        open_up(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open_up(&entry.path())?;
                moved += 1;
                left.push_back(move_up(&entry.path(), path, moved)?);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(&directory)?;
    }
    Ok(())
}

/// Moving and emptying a directory needs all rights on it.
fn open_up(directory: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(directory)?.permissions().mode();
    if mode & 0o700 == 0o700 { Ok(()) } else { fs::set_permissions(directory, Permissions::from_mode(0o700)) }
}

fn move_up(from: &Path, top: &Path, number: u64) -> io::Result<PathBuf> {
    let mut name = top.as_os_str().to_owned();
    name.push(format!(".{number}"));
    let to = PathBuf::from(name);
    fs::rename(from, &to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_without_permissions_are_removed_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (tree, kept) = (dir.path().join("tree"), dir.path().join("kept"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        for closed in ["a/b/c", "a/b", "a", ""] {
            fs::set_permissions(tree.join(closed), Permissions::from_mode(0o000)).unwrap();
        }
        remove(&tree).unwrap();
        assert!(kept.join("file").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&tree).unwrap();
        remove(&kept.join("file")).unwrap();
    }

    #[test]
    fn depth_beyond_the_longest_path_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        // Each round puts what there is below ten more directories.
        for round in 0..300 {
            let above = dir.path().join(format!("above{round}"));
            let deepest = above.join("dddddddddd/".repeat(10));
            fs::create_dir_all(&deepest).unwrap();
            fs::rename(&tree, deepest.join("t")).unwrap();
            fs::rename(&above, &tree).unwrap();
        }
        remove(&tree).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
