//! Uploads under way: a file each, whose name says which repository it is for. It is open only while a request brings
//! bytes, so uploads that wait cost no descriptors, and locked meanwhile, so that of two requests one is told to wait. All
//! that is kept in memory is the hash of what a file holds; where that is missing, because the server was started again or
//! because another one took the last bytes, the file is hashed once more at the end.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use skycap_image::{Algorithm, Digest, Hasher};
use tempfile::TempPath;

use super::answer::Refusal;
use super::repository::Repository;
use super::route::RepositoryName;
use crate::client::lock;

/// An upload that nobody goes on with is given up after this time.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// Uploads at once; more are a client gone wild.
const MOST: usize = 10_000;
/// How often uploads are counted and old ones given up.
const SWEEP: Duration = Duration::from_mins(10);

/// The uploads of one server.
pub(super) struct Uploads {
    directory: PathBuf,
    hashes: Mutex<HashMap<String, Hashed>>,
    count: Mutex<Count>,
}

/// The hash of so many bytes.
struct Hashed {
    hasher: Hasher,
    length: u64,
}

#[derive(Default)]
struct Count {
    swept: Option<Instant>,
    uploads: usize,
}

/// Bytes on their way in, while a request brings some.
pub(super) struct Upload<'u> {
    uploads: &'u Uploads,
    pub id: String,
    staged: Option<TempPath>,
    /// Whether it is left for a later request.
    stays: bool,
    file: File,
    hasher: Option<Hasher>,
    pub length: u64,
}

impl Uploads {
    /// The uploads whose files are in a directory.
    pub fn new(directory: PathBuf) -> io::Result<Self> {
        let uploads = Self { directory, hashes: Mutex::default(), count: Mutex::default() };
        uploads.sweep()?;
        Ok(uploads)
    }

    /// Starts one. It is given up when it is dropped, unless it is left for a later request.
    pub fn begin(&self, repository: &RepositoryName) -> Result<Upload<'_>, Refusal> {
        self.sweep()?;
        {
            let mut count = lock(&self.count);
            if count.uploads >= MOST {
                return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many uploads"));
            }
            count.uploads += 1;
        }
        let random = || RandomState::new().build_hasher().finish();
        let id = format!("{:016x}{:016x}", random(), random());
        let path = self.path(repository, &id);
        let file = File::options().create_new(true).append(true).read(true).open(&path)?;
        file.lock()?;
        let staged = Some(TempPath::try_from_path(path)?);
        let hasher = Some(Hasher::new(Algorithm::Sha256));
        Ok(Upload { uploads: self, id, staged, stays: false, file, hasher, length: 0 })
    }

    /// Goes on with one. It stays when it is dropped.
    pub fn open(&self, repository: &RepositoryName, id: &str) -> Result<Upload<'_>, Refusal> {
        let path = self.path(repository, id);
        let file = match File::options().append(true).read(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(unknown()),
            other => other?,
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(busy()),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        // Whoever held the lock before may have finished.
        let metadata = file.metadata()?;
        if fs::metadata(&path).map_or(true, |named| named.ino() != metadata.ino()) {
            return Err(unknown());
        }
        let staged = Some(TempPath::try_from_path(path)?);
        let length = metadata.len();
        let known = lock(&self.hashes).remove(id).filter(|hashed| hashed.length == length);
        let hasher = match known {
            Some(hashed) => Some(hashed.hasher),
            None if length == 0 => Some(Hasher::new(Algorithm::Sha256)),
            None => None,
        };
        Ok(Upload { uploads: self, id: id.to_owned(), staged, stays: true, file, hasher, length })
    }

    /// Nobody goes on with an upload in another repository: it has another name there.
    fn path(&self, repository: &RepositoryName, id: &str) -> PathBuf {
        let repository = Digest::sha256(repository.as_str().as_bytes()).hex();
        self.directory.join(format!("{id}-{}", repository.get(..32).unwrap_or_default()))
    }

    /// Gives up what is old and counts the rest, now and then.
    fn sweep(&self) -> io::Result<()> {
        let mut count = lock(&self.count);
        if count.swept.is_some_and(|time| time.elapsed() < SWEEP) && count.uploads < MOST {
            return Ok(());
        }
        (count.uploads, _) = remove_older(&self.directory, FORGOTTEN)?;
        count.swept = Some(Instant::now());
        Ok(())
    }
}

/// Removes staged files that nobody has touched for so long; how many stay and how many went.
pub(super) fn remove_older(directory: &std::path::Path, than: Duration) -> io::Result<(usize, usize)> {
    let (mut stay, mut went) = (0, 0);
    for entry in fs::read_dir(directory)?.flatten() {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .map(|time| SystemTime::now().duration_since(time));
        // One that cannot be looked at has just got its name.
        if age.is_ok_and(|age| age.is_ok_and(|age| age >= than)) && fs::remove_file(entry.path()).is_ok() {
            went += 1;
        } else {
            stay += 1;
        }
    }
    Ok((stay, went))
}

impl Upload<'_> {
    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // A part of them may be there: what there is counts.
            self.hasher = None;
            self.length = self.file.metadata()?.len();
            return Err(error);
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(bytes);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Leaves it for the next request.
    pub fn leave(&mut self) {
        self.stays = true;
    }

    /// Removes it.
    pub fn give_up(mut self) {
        self.stays = false;
    }

    /// Checks the bytes and takes them in. If they are wrong, all of them are given up.
    pub fn finish(mut self, repository: &Repository, digest: Digest) -> Result<(), Refusal> {
        self.stays = false;
        let found = match self.hasher.take() {
            Some(hasher) if digest.algorithm() == Algorithm::Sha256 => hasher.finish(),
            _ => self.hash_again(digest.algorithm())?,
        };
        if found != digest {
            let message = format!("provided digest did not match uploaded content: {found}, not {digest}");
            return Err(Refusal::bad("DIGEST_INVALID", message));
        }
        let Some(staged) = self.staged.take() else { return Err(unknown()) };
        Ok(repository.keep_blob(digest, &self.file, staged)?)
    }

    fn hash_again(&self, algorithm: Algorithm) -> io::Result<Digest> {
        let mut hasher = Hasher::new(algorithm);
        let path = self.staged.as_deref().ok_or(io::ErrorKind::NotFound)?;
        io::copy(&mut File::open(path)?, &mut Hashing(&mut hasher))?;
        Ok(hasher.finish())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        if !self.stays {
            return;
        }
        if let Some(staged) = &mut self.staged {
            staged.disable_cleanup(true);
        }
        if let Some(hasher) = self.hasher.take() {
            let mut hashes = lock(&self.uploads.hashes);
            // They can be made again; what is kept must not grow with uploads that nobody goes on with.
            if hashes.len() >= MOST {
                hashes.clear();
            }
            hashes.insert(self.id.clone(), Hashed { hasher, length: self.length });
        }
    }
}

struct Hashing<'h>(&'h mut Hasher);

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unknown() -> Refusal {
    Refusal::missing("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}

/// Somebody else is writing to it.
fn busy() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "another request is writing to this upload")
}
