//! Locks between processes. They are the kernel's (`flock`), so a dead process holds none, nor does one of before a reboot.

use std::fs::{self, File, FileTimes, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::blobs::open_file;
use crate::remove::remove;
use crate::{LOCKS, Store, hashed};

/// Guards the boundary between using entries and removing them.
const GATE: &str = "gate";
/// How long the gate may be closed: whoever holds it only renames.
const GATE_LIMIT: Duration = Duration::from_mins(1);
/// How long the holder of a lock that saves work may give no sign of life.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often somebody who waits looks.
const PAUSE: Duration = Duration::from_millis(10);

/// An exclusive lock between processes and threads, held until it is dropped.
#[derive(Debug)]
#[must_use = "a lock that is dropped at once locks nothing"]
pub struct Lock(File);

/// How a lock is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// By one at a time.
    Alone,
    /// Together with others that hold it so.
    Together,
}

impl Store {
    /// The lock of this name, unless somebody holds it in a way that does not go together with this one.
    pub fn try_lock(&self, name: &str, hold: Hold) -> io::Result<Option<Lock>> {
        let path = self.dir().join(LOCKS).join(hashed(name));
        loop {
            let file = open(&path)?;
            let locked = match hold {
                Hold::Alone => file.try_lock(),
                Hold::Together => file.try_lock_shared(),
            };
            match locked {
                Ok(()) if is_current(&file, &path) => return Ok(Some(Lock(file))),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(explained(error)),
            }
        }
    }

    /// Waits for the lock of this name, as long as it takes.
    pub fn lock(&self, name: &str) -> io::Result<Lock> {
        let path = self.dir().join(LOCKS).join(hashed(name));
        loop {
            let file = open(&path)?;
            file.lock().map_err(explained)?;
            if is_current(&file, &path) {
                return Ok(Lock(file));
            }
        }
    }

    /// Waits for a lock that only saves doing something twice. `None` if its holder has given no sign of life for half a
    /// minute, as a stopped process does not: then it is better done twice.
    pub(crate) fn lock_or_go_alone(&self, name: &str) -> io::Result<Option<Lock>> {
        self.lock_within(name, PATIENCE)
    }

    fn lock_within(&self, name: &str, patience: Duration) -> io::Result<Option<Lock>> {
        let path = self.dir().join(LOCKS).join(hashed(name));
        let (mut sign, mut since) = (None, Instant::now());
        loop {
            let file = open(&path)?;
            if try_lock(&file)? {
                let lock = Lock(file);
                lock.beat();
                if is_current(&lock.0, &path) {
                    return Ok(Some(lock));
                }
                continue;
            }
            // The clock of the file system is only compared with itself: it may jump.
            let now = file.metadata().and_then(|metadata| metadata.modified()).ok();
            if now != sign {
                (sign, since) = (now, Instant::now());
            }
            if since.elapsed() > patience {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Lock {
    /// A sign of life for those who wait.
    pub(crate) fn beat(&self) {
        let _ = self.0.set_times(FileTimes::new().set_modified(SystemTime::now()));
    }
}

/// Locks the gate for using entries: short, and together with others.
pub(crate) fn gate_shared(dir: &Path) -> io::Result<File> {
    gate(dir, File::try_lock_shared)
}

/// Locks the gate for removing entries: short, and alone.
pub(crate) fn gate_exclusive(dir: &Path) -> io::Result<File> {
    gate(dir, File::try_lock)
}

fn gate(dir: &Path, lock: impl Fn(&File) -> Result<(), TryLockError>) -> io::Result<File> {
    let path = dir.join(LOCKS).join(GATE);
    let file = open(&path)?;
    let start = Instant::now();
    loop {
        match lock(&file) {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(explained(error)),
            Err(TryLockError::WouldBlock) if start.elapsed() > GATE_LIMIT => {
                let text = format!(
                    "another process has held the lock {} for {} s; end it, or choose another directory for the cache",
                    path.display(),
                    GATE_LIMIT.as_secs()
                );
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Removes the lock files that nobody holds.
pub(crate) fn sweep(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir.join(LOCKS))? {
        let entry = entry?;
        if entry.file_name() == GATE {
            continue;
        }
        let file = match open_file(&entry.path()) {
            Ok(file) => file,
            // Nobody can hold what is no file.
            Err(_) if !entry.file_type()?.is_file() => {
                let _ = remove(&entry.path());
                continue;
            }
            Err(_) => continue,
        };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Opens a lock's file, which is made if it is missing. Whatever else stands there goes.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        _ if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) => {
            remove(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(explained(error)),
    }
}

/// The collector may have removed the file while we waited; then others do not see our lock.
fn is_current(file: &File, path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| file.metadata().is_ok_and(|ours| same(&ours, &there)))
}

fn same(a: &fs::Metadata, b: &fs::Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

pub(crate) fn explained(error: io::Error) -> io::Error {
    let has_none = [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS].map(|errno| Some(errno.raw_os_error()));
    if error.kind() != io::ErrorKind::Unsupported && !has_none.contains(&error.raw_os_error()) {
        return error;
    }
    let text = "the file system of the cache has no file locks; choose a directory on a local file system";
    io::Error::new(io::ErrorKind::Unsupported, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// K16, K21
    #[test]
    fn a_holder_without_a_sign_of_life_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let patience = Duration::from_millis(300);
        let held = store.lock("name").unwrap();
        assert!(store.lock_within("name", patience).unwrap().is_none());
        let start = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.lock_within("name", patience).unwrap().is_some());
            while start.elapsed() < 3 * patience {
                std::thread::sleep(patience / 10);
                held.beat();
            }
            drop(held);
            assert!(waiting.join().unwrap(), "one that works was waited for");
        });
    }

    #[test]
    fn a_lock_is_held_alone_or_together() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let lock = |hold| store.try_lock("name", hold).unwrap();
        let (one, two) = (lock(Hold::Together).unwrap(), lock(Hold::Together).unwrap());
        drop(one);
        assert!(lock(Hold::Alone).is_none());
        drop(two);
        let alone = lock(Hold::Alone).unwrap();
        assert!(lock(Hold::Together).is_none() && lock(Hold::Alone).is_none());
        drop(alone);
        assert!(lock(Hold::Alone).is_some());
    }

    /// K16
    #[test]
    fn a_file_system_without_locks_is_named() {
        for errno in [Errno::NOLCK, Errno::NOTSUP, Errno::NOSYS] {
            assert!(explained(errno.into()).to_string().contains("no file locks"));
        }
        assert!(!explained(Errno::IO.into()).to_string().contains("no file locks"));
    }
}
