//! Small files and whole directories in a get's or task's output: they appear complete or not at all, also after a power
//! cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::Failure;
use crate::failure::chain;

/// Writes a small file (0644 less the umask), replacing one that is there.
pub(crate) fn write_file(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    let stage = Stage::new(directory, name);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o644).open(stage.path());
    let written = written.and_then(|mut file| file.write_all(content.as_ref()));
    written.map_err(|error| io_failure("write", &directory.join(name), &error))?;
    stage.commit()
}

/// Makes a file or directory under another name, which is removed unless it is committed.
pub(crate) struct Stage {
    path: PathBuf,
    destination: PathBuf,
    committed: bool,
}

impl Stage {
    /// A place beside `directory/name`. What an earlier attempt left there is removed.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let path = directory.join(format!(".{name}.partial"));
        remove(&path);
        Self { path, destination: directory.join(name), committed: false }
    }

    /// Where to write; nothing is there yet.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it durable and gives it its name, in place of what has it. What a directory holds was made durable by who wrote
    /// it.
    pub(crate) fn commit(self) -> Result<(), Failure> {
        let destination = self.destination.clone();
        self.settle().map_err(|error| io_failure("write", &destination, &error))
    }

    /// The same without waiting for the disk: for a directory that does not outlive the machine's next start.
    pub(crate) fn commit_unsynced(self) -> Result<(), Failure> {
        let destination = self.destination.clone();
        self.rename().map_err(|error| io_failure("write", &destination, &error))
    }

    fn settle(self) -> io::Result<()> {
        if !self.path.is_dir() {
            File::open(&self.path)?.sync_all()?;
        }
        let destination = self.destination.clone();
        self.rename()?;
        sync_parent(&destination)
    }

    fn rename(mut self) -> io::Result<()> {
        let renamed = fs::rename(&self.path, &self.destination).or_else(|error| {
            // A directory does not replace a full one.
            if self.path.is_dir() && self.destination.is_dir() {
                remove(&self.destination);
                fs::rename(&self.path, &self.destination)
            } else {
                Err(error)
            }
        });
        renamed?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.committed {
            remove(&self.path);
        }
    }
}

/// Removes a file for good, if it is there.
pub(crate) fn retract(path: &Path) -> Result<(), Failure> {
    let removed = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        removed => removed.and_then(|()| sync_parent(path)),
    };
    removed.map_err(|error| io_failure("remove", path, &error))
}

/// Makes the names in a file's directory durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// Removes what is there, if anything; the next write tells if that failed.
fn remove(path: &Path) {
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        drop(fs::remove_dir_all(path));
    } else {
        drop(fs::remove_file(path));
    }
}

/// A failure of the file system with what was being done to what.
pub(crate) fn io_failure(doing: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot {doing} {}: {}", path.display(), chain(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_committed_leaves_nothing() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let stage = Stage::new(directory.path(), "a");
        fs::create_dir(stage.path())?;
        fs::write(stage.path().join("b"), "")?;
        drop(stage);
        assert_eq!(fs::read_dir(directory.path())?.count(), 0);
        Ok(())
    }

    #[test]
    fn a_commit_replaces_what_is_there() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        fs::create_dir(directory.path().join("d"))?;
        fs::write(directory.path().join("d/old"), "")?;
        let stage = Stage::new(directory.path(), "d");
        fs::create_dir(stage.path())?;
        stage.commit()?;
        assert!(!directory.path().join("d/old").exists());
        write_file(directory.path(), "f", "1")?;
        write_file(directory.path(), "f", "2")?;
        assert_eq!(fs::read_to_string(directory.path().join("f"))?, "2");
        assert_eq!(fs::read_dir(directory.path())?.count(), 2);
        Ok(())
    }
}
