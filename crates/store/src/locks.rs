//! Locks between processes. They are the kernel's (`flock`), so a dead process holds none.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::{LOCKS, Store, hashed};

/// Guards the boundary between using entries and removing them.
const GATE: &str = "gate";

/// An exclusive lock between processes and threads, held until it is dropped.
#[derive(Debug)]
#[must_use = "a lock that is dropped at once locks nothing"]
pub struct Lock(#[allow(dead_code, reason = "closing the file lets go")] File);

impl Store {
    /// Waits for the lock of this name.
    pub fn lock(&self, name: &str) -> io::Result<Lock> {
        let path = self.dir().join(LOCKS).join(hashed(name));
        loop {
            let file = open(&path)?;
            file.lock().map_err(explained)?;
            // The collector may have removed the file while we waited; then others do not see our lock.
            let is_there = fs::metadata(&path).is_ok_and(|there| file.metadata().is_ok_and(|ours| same(&ours, &there)));
            if is_there {
                return Ok(Lock(file));
            }
        }
    }
}

/// Locks the gate for using entries: short, and together with others.
pub(crate) fn gate_shared(dir: &Path) -> io::Result<File> {
    let file = open(&dir.join(LOCKS).join(GATE))?;
    file.lock_shared().map_err(explained)?;
    Ok(file)
}

/// Locks the gate for removing entries: short, and alone.
pub(crate) fn gate_exclusive(dir: &Path) -> io::Result<File> {
    let file = open(&dir.join(LOCKS).join(GATE))?;
    file.lock().map_err(explained)?;
    Ok(file)
}

/// Removes the lock files that nobody holds.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(LOCKS))? {
        let entry = entry?;
        if entry.file_name() == GATE {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

pub(crate) fn explained(error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::Unsupported {
        return error;
    }
    let text = "the file system of the cache has no file locks; choose a directory on a local file system";
    io::Error::new(io::ErrorKind::Unsupported, text)
}
