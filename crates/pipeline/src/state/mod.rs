//! What outlives a run: the versions found, the builds and what they used, caches. One directory per pipeline, and one
//! process at a time in it.
//!
//! ```text
//! lock                 held while a runner lives
//! versions.v1.json     resource -> versions, oldest check order first
//! builds.v1.json       job -> builds
//! caches.v1/KEY/       what a get fetched: artifact/ and answer.json, which is written last
//! tasks.v1/KEY/        what a task's cache directory held
//! work/                the running build's directories; emptied at every start
//! ```
//!
//! The directories that hold trees are closed to other users. Each file is replaced whole, so a kill at any moment leaves the last complete state. A build that was running then is
//! found again as interrupted: its inputs count as not used, so it runs again. Files that cannot be read are put aside and
//! begun afresh: the worst that can happen is work done twice.

mod book;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;
use skycap_image::{Digest, Staged};

pub(crate) use book::{Begun, BuildRecord, Builds, Ended, Used, Versions};

use crate::run::interpret::Version;

/// Fetched artifacts that nobody used for so long are removed.
const UNUSED: Duration = Duration::from_hours(720);

/// How the names of files begin that are being written.
const STAGED: &str = ".staged-";
/// The mode of directories that hold trees.
const PRIVATE: u32 = 0o700;

/// The state of one pipeline, locked.
pub(crate) struct State {
    dir: PathBuf,
    versions: Mutex<Versions>,
    builds: Mutex<Builds>,
    lock: File,
}

impl Drop for State {
    /// A program that is being started has a copy of every descriptor until it runs: closing ours is not enough.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl State {
    /// Opens the directory, made if it is missing. Fails with `WouldBlock` if another process holds it. `rehearses` says
    /// whether rehearsals count as builds that used their versions.
    pub fn open(dir: &Path, rehearses: bool) -> io::Result<Self> {
        make_private(dir)?;
        let dir = fs::canonicalize(dir)?;
        let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
        let versions = read(&dir.join("versions.v1.json"))?;
        let mut builds: Builds = read(&dir.join("builds.v1.json"))?;
        builds.interrupt_running();
        builds.rehearses = rehearses;
        let state = Self { dir, versions: Mutex::new(versions), builds: Mutex::new(builds), lock };
        state.sweep()?;
        Ok(state)
    }

    /// A fresh directory for a build's work.
    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    /// The directory of a fetched artifact by its key.
    pub fn cache(&self, key: &Digest) -> PathBuf {
        self.dir.join("caches.v1").join(key.hex())
    }

    /// The directory that a task's cache lives in between builds.
    pub fn task_cache(&self, job: &str, step: &str, path: &str) -> PathBuf {
        let key = Digest::sha256(serde_json::json!([job, step, path]).to_string().as_bytes());
        self.dir.join("tasks.v1").join(key.hex())
    }

    /// The versions of a resource, oldest check order first. Versions of another source count for nothing.
    pub fn versions(&self, resource: &str, scope: &str) -> Vec<Version> {
        lock(&self.versions).of(resource, scope)
    }

    /// Keeps what a check or a put answered.
    pub fn save_versions(&self, resource: &str, scope: &str, found: &[Version]) -> io::Result<()> {
        let mut versions = lock(&self.versions);
        if versions.save(resource, scope, found) {
            write(&self.dir.join("versions.v1.json"), &*versions)?;
        }
        Ok(())
    }

    /// Looks at the builds.
    pub fn builds<T>(&self, look: impl FnOnce(&Builds) -> T) -> T {
        look(&lock(&self.builds))
    }

    /// Changes the builds, durably.
    pub fn change_builds<T>(&self, change: impl FnOnce(&mut Builds) -> T) -> io::Result<T> {
        let mut builds = lock(&self.builds);
        let result = change(&mut builds);
        write(&self.dir.join("builds.v1.json"), &*builds)?;
        Ok(result)
    }

    /// Empties the work directory: what a build made for itself is of no use to another one.
    pub fn clear_work(&self) -> io::Result<()> {
        let work = self.work();
        remove(&work)?;
        make_private(&work)?;
        close(&work)
    }

    /// Left-overs of a killed run, and artifacts that nobody needs any more.
    fn sweep(&self) -> io::Result<()> {
        self.clear_work()?;
        for part in ["caches.v1", "tasks.v1"] {
            let dir = self.dir.join(part);
            make_private(&dir)?;
            close(&dir)?;
        }
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // Nobody else writes here as long as we hold the lock.
            if entry.file_name().as_encoded_bytes().starts_with(STAGED.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        for entry in fs::read_dir(self.dir.join("caches.v1"))? {
            let path = entry?.path();
            let used = fs::metadata(path.join("answer.json")).and_then(|answer| answer.modified());
            let stale = match used {
                Ok(used) => used.elapsed().is_ok_and(|age| age > UNUSED),
                Err(_) => true,
            };
            if stale {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

/// Makes a directory that only we may enter: below it lie setuid files of images and what private repositories hold.
fn make_private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE).create(dir)
}

/// Closes a directory to others. One that is not ours is its owner's business.
fn close(dir: &Path) -> io::Result<()> {
    match fs::set_permissions(dir, Permissions::from_mode(PRIVATE)) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Removes a directory if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Writes a document so that it is there whole or as it was.
pub(crate) fn write(path: &Path, document: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut staged = Staged::create(directory, STAGED)?;
    staged.write_all(&serde_json::to_vec(document)?)?;
    staged.commit(path, 0o600)?;
    File::open(directory)?.sync_all()
}

/// Reads a document; what cannot be read is put aside.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path) -> io::Result<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(error) => return Err(error),
    };
    if let Ok(document) = serde_json::from_slice(&bytes) {
        Ok(document)
    } else {
        fs::rename(path, path.with_extension("damaged"))?;
        Ok(T::default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tag: &str) -> Version {
        Version::from([("tag".to_owned(), tag.to_owned())])
    }

    #[test]
    fn one_process_at_a_time_and_what_it_kept_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), false).unwrap();
        assert_eq!(State::open(dir.path(), false).map(|_| ()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        state.save_versions("r", "s", &[version("1"), version("2")]).unwrap();
        state.change_builds(|builds| builds.start("j", Begun::default())).unwrap();
        fs::create_dir_all(state.work().join("left/over")).unwrap();
        drop(state);
        let state = State::open(dir.path(), false).unwrap();
        assert_eq!(state.versions("r", "s"), [version("1"), version("2")]);
        assert_eq!(state.builds(|builds| builds.of("j")[0].ended), Ended::Interrupted);
        assert!(!state.work().join("left").exists());
    }

    #[test]
    fn nobody_else_enters_what_holds_trees() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let (given, new) = (dir.path().join("given"), dir.path().join("new"));
        fs::create_dir_all(given.join("caches.v1")).unwrap();
        for path in [&given, &given.join("caches.v1")] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        for top in [&given, &new] {
            State::open(top, false).unwrap();
            for part in ["work", "caches.v1", "tasks.v1"] {
                assert_eq!(mode(&top.join(part)), 0o700, "{part}");
            }
        }
        assert_eq!(mode(&new), 0o700);
        assert_eq!(mode(&given), 0o755, "a directory that somebody else made may hold more than ours");
    }

    #[test]
    fn what_a_killed_writer_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(".staged-1-0");
        fs::write(&left, b"half").unwrap();
        State::open(dir.path(), false).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("builds.v1.json"), b"{\"next").unwrap();
        let state = State::open(dir.path(), false).unwrap();
        assert!(state.builds(|builds| builds.of("j").is_empty()));
        assert!(dir.path().join("builds.v1.damaged").exists());
    }

    #[test]
    fn an_artifact_without_an_answer_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let (half, whole) = (Digest::sha256(b"half"), Digest::sha256(b"whole"));
        let state = State::open(dir.path(), false).unwrap();
        for key in [&half, &whole] {
            fs::create_dir_all(state.cache(key).join("artifact")).unwrap();
        }
        fs::write(state.cache(&whole).join("answer.json"), b"{}").unwrap();
        drop(state);
        let state = State::open(dir.path(), false).unwrap();
        assert!(!state.cache(&half).exists() && state.cache(&whole).exists());
    }
}
