//! Directories for temporary files outside of a store. They go when they are dropped; what a killed process left, the next
//! one that makes such a directory finds by its missing lock and removes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::remove::remove;
use crate::{PRIVATE, boot};

/// How often others may take a new directory for a left-over before we give up.
const TRIES: usize = 16;

/// A directory of our own.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    /// The directory itself, locked.
    _lock: File,
}

impl Temporary {
    /// Makes one in a directory. Its name begins with `prefix`, and so do the left-overs that are removed.
    pub fn create(parent: &Path, prefix: &str) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot make a directory in {}: {error}", parent.display()))
        };
        Self::try_create(parent, prefix).map_err(named)
    }

    fn try_create(parent: &Path, prefix: &str) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::sweep(parent, prefix);
        let boot: String = boot::id().unwrap_or_default().chars().take(8).collect();
        for _ in 0..TRIES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("{prefix}{}-{boot}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(PRIVATE).create(&path) {
                // A process of another namespace has our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Where there are no locks nobody sweeps either.
            let locked = File::open(&path).inspect(|directory| drop(directory.try_lock()));
            match locked {
                // Between making and locking somebody may have swept it away.
                Ok(lock) if path.exists() => return Ok(Self { path, _lock: lock }),
                Ok(_) => {}
                Err(error) => {
                    let _ = fs::remove_dir(&path);
                    return Err(error);
                }
            }
        }
        Err(io::Error::other("others keep removing it"))
    }

    /// Removes what dead processes left, for who does not need a directory this time. Best effort: it is no reason not to work.
    pub fn sweep(parent: &Path, prefix: &str) {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix));
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_ours && is_directory && File::open(entry.path()).is_ok_and(|directory| directory.try_lock().is_ok()) {
                let _ = remove(&entry.path());
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // The next one sweeps what cannot be removed now.
        let _ = remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K03
    #[test]
    fn left_overs_go_and_what_somebody_holds_stays() {
        let parent = tempfile::tempdir().unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(parent.path()).unwrap().map(|e| e.unwrap().path()).collect();
            names.sort();
            names
        };
        for name in ["skycap-x-1-dead-0", "skycap-x-old"] {
            fs::create_dir_all(parent.path().join(name).join("a/b")).unwrap();
        }
        let kept = ["other", "skycap-x-file"].map(|name| parent.path().join(name));
        fs::create_dir(&kept[0]).unwrap();
        fs::write(&kept[1], "").unwrap();
        let first = Temporary::create(parent.path(), "skycap-x-").unwrap();
        fs::write(first.path().join("file"), "").unwrap();
        let second = Temporary::create(parent.path(), "skycap-x-").unwrap();
        let mut expected = [kept[0].clone(), kept[1].clone(), first.path().into(), second.path().into()];
        expected.sort();
        assert_eq!(names(), expected);
        assert!(first.path().join("file").exists());
        drop((first, second));
        assert_eq!(names(), kept);
    }
}
