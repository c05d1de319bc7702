//! A tree's attributes in one number: changes if anybody changes anything in the tree, without reading a file.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;
use skycap_image::{Algorithm, Digest, Hasher};

/// One directory on the way down.
struct Level {
    /// Subdirectories still to be visited, the last one first.
    left: Vec<CString>,
}

/// What a walk is told about every entry.
pub(crate) type Visit<'v> = dyn FnMut(&[u8], &Stat, &OwnedFd, &CString) -> io::Result<()> + 'v;

/// The digest over the name, mode, inode, size, times and device of everything below `root` and of itself. Owners show in
/// the time of the status change; they themselves look different from another user namespace.
pub(crate) fn digest(root: &Path) -> io::Result<Digest> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    walk(root, &mut |path, stat, _, _| {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        // A directory's size is the file system's affair.
        let size = if is_directory { 0 } else { stat.st_size };
        hasher.update(&(path.len() as u64).to_le_bytes());
        hasher.update(path);
        for number in [i64::from(stat.st_mode), size, stat.st_mtime, stat.st_ctime] {
            hasher.update(&number.to_le_bytes());
        }
        for number in [stat.st_ino, stat.st_mtime_nsec, stat.st_ctime_nsec, stat.st_rdev] {
            hasher.update(&number.to_le_bytes());
        }
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// Visits everything below `root`, and itself first, in the order of names. Each entry comes with the directory that it
/// is in. A directory that we may not open has nothing below it. Neither depth nor the length of a path is limited, and two
/// files are open at most.
pub(crate) fn walk(root: &Path, visit: &mut Visit<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory = openat(rustix::fs::CWD, root, flags, Mode::empty())?;
    let mut path = Vec::new();
    visit(&path, &rustix::fs::fstat(&directory)?, &directory, &CString::default())?;
    let mut levels = vec![list(&directory, &path, visit)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.left.pop() {
            directory = match openat(&directory, &name, flags, Mode::empty()) {
                Err(Errno::ACCESS) => continue,
                opened => opened?,
            };
            join(&mut path, name.as_bytes());
            levels.push(list(&directory, &path, visit)?);
        } else {
            levels.pop();
            if !levels.is_empty() {
                directory = openat(&directory, c"..", flags, Mode::empty())?;
            }
            let parent = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            path.truncate(parent);
        }
    }
    Ok(())
}

fn list(directory: &OwnedFd, path: &[u8], visit: &mut Visit<'_>) -> io::Result<Level> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    let mut left = Vec::new();
    let mut full = path.to_vec();
    for name in names {
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        join(&mut full, name.as_bytes());
        visit(&full, &stat, directory, &name)?;
        full.truncate(path.len());
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            left.push(name);
        }
    }
    left.reverse();
    Ok(Level { left })
}

fn join(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    type Change = (&'static str, fn(&Path));

    #[test]
    fn whatever_is_done_to_a_tree_shows() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "1").unwrap();
        fs::write(root.join("z"), "1").unwrap();
        let changes: [Change; 8] = [
            ("nothing", |_| {}),
            ("content", |root| fs::write(root.join("a/file"), "2").unwrap()),
            ("mode", |root| fs::set_permissions(root.join("z"), fs::Permissions::from_mode(0o600)).unwrap()),
            ("name", |root| fs::rename(root.join("z"), root.join("y")).unwrap()),
            ("new", |root| fs::write(root.join("a/b/new"), "").unwrap()),
            ("gone", |root| fs::remove_file(root.join("a/b/new")).unwrap()),
            ("link", |root| std::os::unix::fs::symlink("a", root.join("l")).unwrap()),
            ("directory", |root| fs::create_dir(root.join("a/b/c")).unwrap()),
        ];
        let mut before = digest(&root).unwrap();
        for (what, change) in changes {
            // Longer than a tick of the clock of files.
            std::thread::sleep(std::time::Duration::from_millis(12));
            change(&root);
            let after = digest(&root).unwrap();
            assert_eq!(before == after, what == "nothing", "{what}");
            before = after;
        }
    }

    #[test]
    fn a_walk_comes_by_everything_in_order_however_deep() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/x/1", "a/x/2", "a-b/y", "b"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let mut seen = Vec::new();
        walk(dir.path(), &mut |path, _, _, _| {
            seen.push(String::from_utf8(path.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["", "a", "a-b", "b", "a/x", "a/x/1", "a/x/2", "a-b/y"]);
        let deep = dir.path().join("deep");
        fs::create_dir(&deep).unwrap();
        for _ in 0..200 {
            let above = dir.path().join("above");
            fs::create_dir_all(above.join("dddddddddddd/".repeat(10))).unwrap();
            fs::rename(&deep, above.join("dddddddddddd/".repeat(10)).join("e")).unwrap();
            fs::rename(&above, &deep).unwrap();
        }
        let mut count = 0;
        walk(&deep, &mut |_, _, _, _| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 1 + 200 * 11);
        crate::remove::remove(&deep).unwrap();
    }
}
