//! Files that appear whole or not at all.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A file that is being written under a temporary name. It holds a lock on itself, so that a process that looks for
/// left-overs can tell it from one whose writer is dead. Dropping it without a commit removes it.
#[derive(Debug)]
pub struct Staged {
    file: File,
    path: PathBuf,
    committed: bool,
}

impl Staged {
    /// Makes a new file in a directory of the file system where it is to end. Its name begins with `prefix`.
    pub fn create(directory: &Path, prefix: &str) -> io::Result<Self> {
        loop {
            let name = format!("{prefix}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = directory.join(name);
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    let staged = Self { file, path, committed: false };
                    staged.file.lock()?;
                    return Ok(staged);
                }
                // Left over by a process that had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The file, for reading back what was written.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Makes the bytes durable and gives them their final name and mode, in place of what is there. The name itself is
    /// durable only after [`sync_directory`].
    pub fn commit(self, destination: &Path, mode: u32) -> io::Result<()> {
        self.file.sync_all()?;
        self.commit_unsynced(destination, mode)
    }

    /// The same without waiting for the disk: for places that do not outlive the machine's next start, or that somebody makes
    /// durable as a whole.
    pub fn commit_unsynced(mut self, destination: &Path, mode: u32) -> io::Result<()> {
        self.file.set_permissions(Permissions::from_mode(mode))?;
        std::fs::rename(&self.path, destination)?;
        self.committed = true;
        Ok(())
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing can be done about a failure; the next writer sweeps.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes the staged files of dead processes. The caller holds a lock that keeps others from creating new ones.
pub(crate) fn sweep(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        // What cannot be opened or locked belongs to somebody who lives, or is gone already.
        let is_dead = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if is_dead {
            match std::fs::remove_file(entry.path()) {
                // It got its name between the two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}
