//! A repository as a place: the peer of a layout, an archive or memory.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use skycap_image::{
    Artifact, BlobReader, BlobSource, Descriptor, Digest, Event, ImageSink, ImageSource, Kind, Name, RawManifest,
    Repository, SourceError, Verified, compress,
};
use tokio::task::JoinSet;
use url::Url;

use crate::RateLimit;
use crate::blob::BlobStream;
use crate::client::lock;
use crate::error::Failure;
use crate::manifests::hash;
use crate::remote::Remote;

/// Small requests under way for each blob that may be.
pub(crate) const SMALL_PER_BLOB: usize = 8;
/// Blobs up to this size are read and compared before anybody gets them.
const SMALL: u64 = 1024 * 1024;
/// A foreign layer with more addresses than this is not searched any further.
const MOST_ADDRESSES: usize = 4;

/// A repository in a registry. Clones share its session.
///
/// With a mirror, everything that reads asks the mirror first and the repository itself when the mirror fails or does not
/// know; a mirror that failed is not asked again.
#[derive(Clone)]
pub struct Place {
    origin: Remote,
    mirror: Option<Remote>,
    mirror_failed: Arc<AtomicBool>,
    /// Blobs that the mirror gave out: whoever opens one again was not content with it.
    mirrored: Arc<Mutex<HashSet<Digest>>>,
}

impl Place {
    pub(crate) fn new(origin: Remote, mirror: Option<Remote>) -> Self {
        Self { origin, mirror, mirror_failed: Arc::default(), mirrored: Arc::default() }
    }

    /// Which repository this is; never the mirror.
    pub fn repository(&self) -> &Repository {
        &self.origin.repository
    }

    /// Asks the registry whether it is there and what authentication it wants. Done by itself before the first request, and
    /// only once in the life of a client, or until [`Place::forget`].
    pub fn ping(&self) -> Result<(), SourceError> {
        let remote = &self.origin;
        Ok(remote.drive(remote.retried(|| async { remote.session.pinged().await.map(drop) }))?)
    }

    /// Forgets what the ping said and the tokens: the next request starts a new session with a new ping.
    pub fn forget(&self) {
        for remote in [Some(&self.origin), self.mirror.as_ref()].into_iter().flatten() {
            remote.inner.block_on(remote.session.forget());
        }
    }

    /// All tags, in the registry's order, without duplicates.
    pub fn tags(&self) -> Result<Vec<String>, SourceError> {
        self.read(|remote| Ok(remote.drive(remote.tags())?))
    }

    /// Finds many names at once; the answers are in the names' order.
    pub fn find_all(&self, names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>> {
        let inner = &self.origin.inner;
        let mut answers: Vec<Option<Result<Option<Descriptor>, SourceError>>> = names.iter().map(|_| None).collect();
        inner.block_on(async {
            // As many tasks as requests may be under way, not one for each name: a task with its connection is large.
            let at_once = (inner.settings.concurrency.max(1) * SMALL_PER_BLOB).min(names.len());
            let (names, next): (Arc<[Name]>, _) = (names.into(), Arc::new(AtomicUsize::new(0)));
            let mut under_way = JoinSet::new();
            for _ in 0..at_once {
                let (place, names, next) = (self.clone(), Arc::clone(&names), Arc::clone(&next));
                under_way.spawn(async move {
                    let mut found = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(name) = names.get(at) else { return found };
                        let answer = place.origin.until_stopped(place.find_here(name)).await;
                        found.push((at, answer.map_err(SourceError::from)));
                    }
                });
            }
            while let Some(done) = under_way.join_next().await {
                for (at, answer) in done.unwrap_or_default() {
                    if let Some(slot) = answers.get_mut(at) {
                        *slot = Some(answer);
                    }
                }
            }
        });
        let lost = || Err(SourceError::new(Kind::Other, "a network thread ended"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// The manifest of that name, as stored. For a tag, the digest that the registry states must be that of the bytes.
    pub fn raw(&self, name: &Name) -> Result<RawManifest, SourceError> {
        self.read(|remote| Ok(remote.drive(remote.raw(name, false))?))
    }

    /// Like [`Place::raw`], but for a tag the digest that the registry states is not looked at; the one returned is always
    /// computed from the bytes.
    pub fn raw_ignoring_header(&self, name: &Name) -> Result<RawManifest, SourceError> {
        self.read(|remote| Ok(remote.drive(remote.raw(name, true))?))
    }

    /// Deletes a tag, or a manifest with all its tags.
    pub fn delete(&self, name: &Name) -> Result<(), SourceError> {
        self.for_writing()?;
        Ok(self.origin.drive(self.origin.delete(name))?)
    }

    /// Whether this repository has the blob and lets us read it, without reading it. An answer that refuses us is an error of
    /// kind [`Kind::Denied`]. What a cache that several users share must ask before it hands out a blob that one of them
    /// brought: a manifest can name any digest, but not everybody may have what it stands for.
    pub fn has_blob(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        if let Some(mirror) = self.mirror()
            && mirror.drive(mirror.has_blob(blob)).unwrap_or(false)
        {
            return Ok(true);
        }
        Ok(self.origin.drive(self.origin.has_blob(blob))?)
    }

    /// What is said about a manifest by others (signatures, lists of contents): their descriptors, with `artifact_type` and
    /// annotations. Empty if there are none.
    pub fn referrers(&self, subject: &Digest) -> Result<Vec<Descriptor>, SourceError> {
        self.read(|remote| Ok(remote.drive(remote.referrers(*subject))?))
    }

    /// What the registry said last of how often it may be asked (`ratelimit-limit` and `ratelimit-remaining`), if it did.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.mirror().unwrap_or(&self.origin).session.limits()
    }

    fn for_writing(&self) -> Result<(), SourceError> {
        if self.origin.may_push() {
            return Ok(());
        }
        let what = format!("{} was opened for reading only", self.origin.repository);
        Err(SourceError::new(Kind::Other, what))
    }

    async fn find_here(&self, name: &Name) -> Result<Option<Descriptor>, Failure> {
        if let Some(mirror) = self.mirror() {
            match mirror.find(name).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(failure) => self.mirror_fails(mirror, &failure.into()),
            }
        }
        self.origin.find(name).await
    }

    /// Reads from the mirror, else from the repository itself.
    fn read<T>(&self, read: impl Fn(&Remote) -> Result<T, SourceError>) -> Result<T, SourceError> {
        if let Some(mirror) = self.mirror() {
            match read(mirror) {
                Ok(value) => return Ok(value),
                Err(error) => self.mirror_fails(mirror, &error),
            }
        }
        read(&self.origin)
    }

    fn mirror(&self) -> Option<&Remote> {
        self.mirror.as_ref().filter(|_| !self.mirror_failed.load(Ordering::Relaxed))
    }

    /// A mirror that lacks something may have the rest; one that fails will go on failing.
    fn mirror_fails(&self, mirror: &Remote, error: &SourceError) {
        if error.kind != Kind::NotFound {
            self.mirror_failed.store(true, Ordering::Relaxed);
        }
        let warning = format!("mirror {} failed: {error}; asking {}", mirror.repository, self.origin.repository);
        mirror.progress.event(Event::Warning(&warning));
    }
}

impl BlobSource for Place {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        if let Some(data) = &blob.data {
            let bytes = base64::engine::general_purpose::STANDARD.decode(data).map_err(|error| {
                SourceError::caused(
                    Kind::Corrupt,
                    format!("the data of descriptor {} is not base64", blob.digest),
                    error,
                )
            })?;
            return Ok(Box::new(Cursor::new(bytes)));
        }
        if let Some(mirror) = self.mirror()
            && lock(&self.mirrored).insert(blob.digest)
        {
            match open(mirror, blob) {
                Ok(reader) => return Ok(reader),
                Err(error) => self.mirror_fails(mirror, &error),
            }
        }
        open(&self.origin, blob)
    }

    fn manifest(&self, manifest: &Descriptor) -> Result<RawManifest, SourceError> {
        let raw = self.raw(&Name::Digest(manifest.digest))?;
        if raw.descriptor.size != manifest.size {
            let what = format!(
                "manifest {} of {} has {} bytes, its descriptor says {}",
                manifest.digest, self.origin.repository, raw.descriptor.size, manifest.size
            );
            return Err(SourceError::new(Kind::Corrupt, what));
        }
        Ok(RawManifest { descriptor: manifest.clone(), bytes: raw.bytes })
    }

    fn asker(&self) -> Option<String> {
        let session = &self.origin.session;
        Some(format!("{} as {}", self.origin.repository, session.credentials.fingerprint()))
    }

    fn holds(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        let found = if blob.media_type.is_manifest() || blob.media_type.is_index() {
            self.find(&Name::Digest(blob.digest)).map(|found| found.is_some())
        } else {
            self.has_blob(blob)
        };
        match found {
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::Denied) => Ok(false),
            found => found,
        }
    }
}

/// Opens a blob at one registry. A small one is read and compared at once, so that wrong bytes can be asked for again; a
/// large one is for its reader to compare.
fn open(remote: &Remote, blob: &Descriptor) -> Result<BlobReader, SourceError> {
    if blob.size > SMALL {
        return stream(remote, blob);
    }
    let bytes = whole(remote, blob)?;
    if hash(blob.digest, &bytes) == blob.digest {
        return Ok(Box::new(Cursor::new(bytes)));
    }
    let note = format!("the bytes of blob {} are not its own; trying again from the first", blob.digest);
    remote.progress.event(Event::Note(&note));
    let bytes = whole(remote, blob)?;
    // Says what is wrong with them if they are wrong again.
    Verified::new(Cursor::new(&bytes), blob).finish()?;
    Ok(Box::new(Cursor::new(bytes)))
}

/// Never more than one byte beyond the blob's size.
fn whole(remote: &Remote, blob: &Descriptor) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    stream(remote, blob)?.take(blob.size + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn stream(remote: &Remote, blob: &Descriptor) -> Result<BlobReader, SourceError> {
    let stream = match BlobStream::open(remote.clone(), blob) {
        Err(error) if error.kind == Kind::NotFound && !blob.urls.is_empty() => foreign(remote, blob, error)?,
        stream => stream?,
    };
    if !stream.is_packed() {
        return Ok(Box::new(stream));
    }
    let (_, unpacked) = compress::decoder(stream)?;
    Ok(unpacked)
}

/// What an error says of a layer that the registry lacks and may not be asked for where it is.
pub const ELSEWHERE: &str = "the layer lies elsewhere";

/// A layer that lies elsewhere, if that is allowed: the first of its addresses that answers.
fn foreign(remote: &Remote, blob: &Descriptor, missing: SourceError) -> Result<BlobStream, SourceError> {
    if !remote.inner.settings.foreign_layers {
        let why = "at an address that the manifest names; fetching it from there is not allowed";
        return Err(SourceError { what: format!("{} ({ELSEWHERE}, {why})", missing.what), ..missing });
    }
    let mut first_error = None;
    for url in blob.urls.iter().take(MOST_ADDRESSES) {
        let opened = Url::parse(url)
            .map_err(|error| {
                let what = format!("an address of the foreign layer {} is not a URL", blob.digest);
                SourceError::caused(Kind::Corrupt, what, error)
            })
            .and_then(|url| BlobStream::open_elsewhere(remote.clone(), blob, url));
        match opened {
            Ok(stream) => return Ok(stream),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or(missing))
}

impl ImageSource for Place {
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        Ok(self.origin.drive(self.find_here(name))?)
    }

    fn get(&self, name: &Name) -> Result<Artifact, SourceError> {
        Artifact::open(self.raw(name)?, Arc::new(self.clone()))
    }
}

impl ImageSink for Place {
    fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        self.for_writing()?;
        self.origin.put(artifact, names)
    }
}
