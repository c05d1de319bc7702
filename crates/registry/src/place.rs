//! A repository as a place: the peer of a layout, an archive or memory.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use skycap_image::{
    Artifact, BlobReader, BlobSource, Descriptor, Event, ImageSink, ImageSource, Kind, Name, RawManifest, Repository,
    SourceError,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::blob::BlobStream;
use crate::remote::Remote;

/// Small requests under way for each blob that may be.
const SMALL_PER_BLOB: usize = 8;

/// A repository in a registry. Clones share its session.
///
/// With a mirror, everything that reads asks the mirror first and the repository itself when the mirror fails or does not
/// know; a mirror that failed is not asked again.
#[derive(Clone)]
pub struct Place {
    origin: Remote,
    mirror: Option<Remote>,
    mirror_failed: Arc<AtomicBool>,
}

impl Place {
    pub(crate) fn new(origin: Remote, mirror: Option<Remote>) -> Self {
        Self { origin, mirror, mirror_failed: Arc::default() }
    }

    /// Which repository this is; never the mirror.
    pub fn repository(&self) -> &Repository {
        &self.origin.repository
    }

    /// Asks the registry whether it is there and what authentication it wants. Done by itself before the first request, and
    /// only once in the life of a client, or until [`Place::forget`].
    pub fn ping(&self) -> Result<(), SourceError> {
        let remote = &self.origin;
        Ok(remote.inner.block_on(remote.retried(|| async { remote.session.pinged().await.map(drop) }))?)
    }

    /// Forgets what the ping said and the tokens: the next request starts a new session with a new ping.
    pub fn forget(&self) {
        for remote in [Some(&self.origin), self.mirror.as_ref()].into_iter().flatten() {
            remote.inner.block_on(remote.session.forget());
        }
    }

    /// All tags, in the registry's order, without duplicates.
    pub fn tags(&self) -> Result<Vec<String>, SourceError> {
        self.read(|remote| Ok(remote.inner.block_on(remote.tags())?))
    }

    /// Finds many names at once; the answers are in the names' order.
    pub fn find_all(&self, names: &[Name]) -> Vec<Result<Option<Descriptor>, SourceError>> {
        let inner = &self.origin.inner;
        let mut answers: Vec<Option<Result<Option<Descriptor>, SourceError>>> = names.iter().map(|_| None).collect();
        inner.block_on(async {
            let at_once = Arc::new(Semaphore::new(inner.settings.concurrency.max(1) * SMALL_PER_BLOB));
            let mut under_way = JoinSet::new();
            for (at, name) in names.iter().cloned().enumerate() {
                let (place, at_once) = (self.clone(), Arc::clone(&at_once));
                under_way.spawn(async move {
                    let _turn = at_once.acquire().await;
                    (at, place.find_here(&name).await)
                });
            }
            while let Some(done) = under_way.join_next().await {
                if let Ok((at, answer)) = done
                    && let Some(slot) = answers.get_mut(at)
                {
                    *slot = Some(answer);
                }
            }
        });
        let lost = || Err(SourceError::new(Kind::Other, "a network thread ended"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// The manifest of that name, as stored. For a tag, the digest that the registry states must be that of the bytes.
    pub fn raw(&self, name: &Name) -> Result<RawManifest, SourceError> {
        self.read(|remote| Ok(remote.inner.block_on(remote.raw(name, false))?))
    }

    /// Like [`Place::raw`], but for a tag the digest that the registry states is not looked at; the one returned is always
    /// computed from the bytes.
    pub fn raw_ignoring_header(&self, name: &Name) -> Result<RawManifest, SourceError> {
        self.read(|remote| Ok(remote.inner.block_on(remote.raw(name, true))?))
    }

    /// Deletes a tag, or a manifest with all its tags.
    pub fn delete(&self, name: &Name) -> Result<(), SourceError> {
        self.for_writing()?;
        Ok(self.origin.inner.block_on(self.origin.delete(name))?)
    }

    fn for_writing(&self) -> Result<(), SourceError> {
        if self.origin.may_push() {
            return Ok(());
        }
        let what = format!("{} was opened for reading only", self.origin.repository);
        Err(SourceError::new(Kind::Other, what))
    }

    async fn find_here(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        if let Some(mirror) = self.mirror() {
            match mirror.find(name).await {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(failure) => self.mirror_fails(mirror, &failure.into()),
            }
        }
        Ok(self.origin.find(name).await?)
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
        self.read(|remote| Ok(Box::new(BlobStream::open(remote.clone(), blob)?) as BlobReader))
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
}

impl ImageSource for Place {
    fn find(&self, name: &Name) -> Result<Option<Descriptor>, SourceError> {
        self.origin.inner.block_on(self.find_here(name))
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
