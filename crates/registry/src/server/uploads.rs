//! Uploads under way: a staged file, the hash of what it holds, and who may go on with it. The file is open only while a
//! request brings bytes, so uploads that wait cost no descriptors. They live in one process: after a restart a client is
//! told that its upload is unknown, and starts again.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher as _, RandomState};
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use skycap_image::{Algorithm, Digest, Hasher};
use tempfile::TempPath;

use super::answer::Refusal;
use super::route::RepositoryName;
use super::storage::Storage;
use crate::client::lock;

/// An upload that nobody goes on with is given up after this time.
const FORGOTTEN: Duration = Duration::from_hours(1);
/// Uploads at once; more are a client gone wild.
const MOST: usize = 10_000;

/// The uploads of one server.
#[derive(Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Entry>>);

struct Entry {
    repository: RepositoryName,
    touched: Instant,
    upload: Arc<tokio::sync::Mutex<Upload>>,
}

/// Bytes on their way in.
pub(super) struct Upload {
    staged: TempPath,
    hasher: Hasher,
    pub length: u64,
}

impl Upload {
    /// Starts a staged file.
    pub fn new(storage: &Storage) -> io::Result<Self> {
        let file = tempfile::Builder::new().prefix("upload-").tempfile_in(storage.uploads())?;
        Ok(Self { staged: file.into_temp_path(), hasher: Hasher::new(Algorithm::Sha256), length: 0 })
    }

    /// Opens the file for the bytes of one request.
    pub fn writer(&mut self) -> io::Result<Writer<'_>> {
        let file = File::options().append(true).open(&self.staged)?;
        Ok(Writer { upload: self, file })
    }

    /// Checks the bytes and takes them in.
    pub fn finish(self, storage: &Storage, name: &RepositoryName, digest: Digest) -> Result<(), Refusal> {
        let found = match digest.algorithm() {
            Algorithm::Sha256 => self.hasher.finish(),
            Algorithm::Sha512 => {
                let mut hasher = Hasher::new(Algorithm::Sha512);
                io::copy(&mut File::open(&self.staged)?, &mut Hashing(&mut hasher))?;
                hasher.finish()
            }
        };
        if found != digest {
            let message = format!("provided digest did not match uploaded content: {found}, not {digest}");
            return Err(Refusal::bad("DIGEST_INVALID", message));
        }
        Ok(storage.keep_blob(name, digest, self.staged)?)
    }
}

/// An upload with its file open.
pub(super) struct Writer<'u> {
    upload: &'u mut Upload,
    file: File,
}

impl Writer<'_> {
    /// Appends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.upload.hasher.update(bytes);
        self.upload.length += bytes.len() as u64;
        Ok(())
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

impl Uploads {
    /// Keeps an upload and gives it a name.
    pub fn add(&self, repository: &RepositoryName, upload: Upload) -> Result<String, Refusal> {
        let mut uploads = lock(&self.0);
        uploads.retain(|_, entry| entry.touched.elapsed() < FORGOTTEN || Arc::strong_count(&entry.upload) > 1);
        if uploads.len() >= MOST {
            return Err(Refusal::new(hyper::StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many uploads"));
        }
        let random = || RandomState::new().build_hasher().finish();
        let id = format!("{:016x}{:016x}", random(), random());
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        uploads.insert(id.clone(), Entry { repository: repository.clone(), touched: Instant::now(), upload });
        Ok(id)
    }

    /// The upload of that name in that repository.
    pub fn get(&self, repository: &RepositoryName, id: &str) -> Result<Arc<tokio::sync::Mutex<Upload>>, Refusal> {
        let mut uploads = lock(&self.0);
        let entry = uploads.get_mut(id).filter(|entry| entry.repository == *repository).ok_or_else(unknown)?;
        entry.touched = Instant::now();
        Ok(Arc::clone(&entry.upload))
    }

    /// Takes the upload out; whoever else holds it at this moment loses.
    pub fn take(&self, repository: &RepositoryName, id: &str) -> Result<Upload, Refusal> {
        let mut uploads = lock(&self.0);
        let entry = uploads.remove(id).ok_or_else(unknown)?;
        if entry.repository != *repository {
            uploads.insert(id.to_owned(), entry);
            return Err(unknown());
        }
        let upload = Arc::try_unwrap(entry.upload).map_err(|_| busy())?;
        Ok(upload.into_inner())
    }
}

fn unknown() -> Refusal {
    Refusal::missing("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
}

/// Somebody else is writing to it.
pub(super) fn busy() -> Refusal {
    Refusal::new(hyper::StatusCode::CONFLICT, "BLOB_UPLOAD_INVALID", "another request is writing to this upload")
}
