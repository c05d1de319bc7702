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

/// How names of files begin that are on their way to a place that somebody named.
const PLACED: &str = ".skycap-";

/// A file at a place that somebody named. It appears there whole, instead of what is there. Only what is no file, such as a
/// pipe, a device or what `/dev/stdout` leads to, is written into: nothing can appear there whole, and it is not ours to replace.
#[derive(Debug)]
pub struct Placed {
    path: PathBuf,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Whole(Staged),
    Into(File),
}

impl Placed {
    /// Nothing is seen at the place before the end, if it is to be a file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let way = if is_written_into(path) {
            Way::Into(OpenOptions::new().append(true).open(path)?)
        } else {
            let parent = parent(path);
            match sweep(&parent, PLACED) {
                // Some directories may be written to and not read.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                swept => swept?,
            }
            Way::Whole(Staged::create(&parent, PLACED)?)
        };
        Ok(Self { path: path.to_owned(), way })
    }

    /// What is written to.
    pub fn file(&self) -> &File {
        match &self.way {
            Way::Whole(staged) => staged.file(),
            Way::Into(file) => file,
        }
    }

    /// Makes it durable and gives it its name and mode.
    pub fn commit(self, mode: u32) -> io::Result<()> {
        match self.way {
            Way::Whole(staged) => staged.commit(&self.path, mode).and_then(|()| sync_directory(&parent(&self.path))),
            Way::Into(_) => Ok(()),
        }
    }
}

impl Write for Placed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Links are followed: whatever standard output is, also a file, the name `/dev/stdout` has to stay.
fn is_written_into(path: &Path) -> bool {
    let is_of_the_system =
        || parent(path).canonicalize().is_ok_and(|parent| parent == Path::new("/dev") || parent.starts_with("/proc"));
    path.metadata().is_ok_and(|there| !there.is_file() || is_of_the_system())
}

/// The directory that a path lies in.
pub(crate) fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Removes the staged files of dead processes. The caller holds a lock that keeps others from creating new ones.
pub(crate) fn sweep(directory: &Path, prefix: &str) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // Directories with such a name are somebody else's, who sweeps them.
        if !entry.file_name().to_string_lossy().starts_with(prefix) || !entry.file_type()?.is_file() {
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

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_no_file_is_written_into_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("pipe", &link).unwrap();
        for path in [&pipe, &link] {
            let reader = std::thread::spawn({
                let pipe = pipe.clone();
                move || {
                    let mut read = String::new();
                    File::open(pipe).unwrap().read_to_string(&mut read).map(|_| read).unwrap()
                }
            });
            let mut placed = Placed::open(path).unwrap();
            placed.write_all(b"through").unwrap();
            placed.commit(0o644).unwrap();
            assert_eq!(reader.join().unwrap(), "through");
        }
        assert!(link.symlink_metadata().unwrap().is_symlink() && !pipe.metadata().unwrap().is_file());
        // A name of ours for an open file, as `/dev/stdout` is one.
        let open = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
        let name = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(open.as_file())));
        let mut placed = Placed::open(&name).unwrap();
        placed.write_all(b"through").unwrap();
        placed.commit(0o644).unwrap();
        assert_eq!(std::fs::read_to_string(open.path()).unwrap(), "through");
        assert_eq!(dir.path().read_dir().unwrap().count(), 3);
    }

    #[test]
    fn a_directory_that_somebody_else_left_is_in_nobody_s_way() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(".skycap-unpacking-1-0")).unwrap();
        std::fs::write(dir.path().join(".skycap-1-0"), "left over").unwrap();
        let mut placed = Placed::open(&dir.path().join("x")).unwrap();
        placed.write_all(b"x").unwrap();
        placed.commit(0o644).unwrap();
        let mut names: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".skycap-unpacking-1-0", "x"]);
    }
}
