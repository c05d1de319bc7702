//! Files that appear whole: written beside, synced, renamed.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use tempfile::TempPath;

/// Writes a small file whole, in place of any that is there. A time makes it look as if it had been written then.
pub(super) fn replace(staging: &Path, path: &Path, pieces: &[&[u8]], time: Option<SystemTime>) -> io::Result<()> {
    let mut staged = tempfile::Builder::new().prefix("staged-").tempfile_in(staging)?;
    for piece in pieces {
        staged.write_all(piece)?;
    }
    if let Some(time) = time {
        staged.as_file().set_modified(time)?;
    }
    let (file, staged) = staged.into_parts();
    settle(&file, staged, path)
}

/// Gives a staged file its place for good. Its bytes reach the disk before its name does.
pub(super) fn settle(file: &File, staged: TempPath, path: &Path) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    path.parent().map_or(Ok(()), sync_directory)
}

/// Makes a directory below another one that is there, and what is missing between them.
pub(super) fn make_directory(below: &Path, directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    directory.ancestors().skip(1).take_while(|parent| parent.starts_with(below)).try_for_each(sync_directory)
}

/// Removes a file; `false` if there is none.
pub(super) fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// What is in a file; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    present(fs::read(path))
}

/// Absence as a value.
pub(super) fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
