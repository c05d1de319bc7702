//! An artifact into a repository: blobs first and several at once, then manifests, children before parents, tags last.
//! Whoever reads meanwhile never finds a name whose parts are missing.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};
use skycap_image::progress::Task;
use skycap_image::{Artifact, BlobSource, Descriptor, Digest, Event, Image, Kind, Name, RawManifest, SourceError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::blob::label;
use crate::client::lock;
use crate::error::Failure;
use crate::manifests::escaped;
use crate::place::SMALL_PER_BLOB;
use crate::remote::{Call, Remote};
use crate::upload::check_digest;

/// Indexes inside indexes beyond this are refused.
const DEEPEST: usize = 8;

/// Everything that a push sends.
#[derive(Default)]
struct Parts {
    blobs: Vec<Blob>,
    /// By how far they are from the leaves, so that children come before parents; the root is the last of all.
    manifests: Vec<Vec<RawManifest>>,
    seen: HashSet<Digest>,
}

struct Blob {
    descriptor: Descriptor,
    source: Source,
}

enum Source {
    Place(Arc<dyn BlobSource>),
    Bytes(Arc<[u8]>),
}

impl Blob {
    fn open(&self) -> Result<Box<dyn Read + Send>, SourceError> {
        match &self.source {
            Source::Place(place) => Ok(Box::new(place.open(&self.descriptor)?)),
            Source::Bytes(bytes) => Ok(Box::new(Cursor::new(Arc::clone(bytes)))),
        }
    }
}

impl Remote {
    /// Sends an artifact and names it.
    pub fn put(&self, artifact: &Artifact, names: &[Name]) -> Result<Descriptor, SourceError> {
        let root = artifact.descriptor().clone();
        for name in names {
            if matches!(name, Name::Digest(digest) if *digest != root.digest) {
                let what = format!("cannot push {} under the name {name}: its digest is another", root.digest);
                return Err(SourceError::new(Kind::Other, what));
            }
        }
        let mut parts = Parts::default();
        collect(artifact, DEEPEST, &mut parts)?;
        let missing = self.missing(&parts.blobs)?;
        self.send_blobs(&missing)?;
        if let Err(failure) = self.drive(self.put_manifests(&parts, names)) {
            // The registry looked closer than its answer to HEAD, or has lost something since.
            let lost = self.lost(&parts.blobs, &failure)?;
            if lost.is_empty() {
                return Err(failure.into());
            }
            self.progress.event(Event::Note(&format!("{}; sending again what is missing", failure.what)));
            self.send_blobs(&lost)?;
            self.drive(self.put_manifests(&parts, names))?;
        }
        Ok(root)
    }

    /// Which blobs the repository does not have yet.
    fn missing<'b>(&self, blobs: &'b [Blob]) -> Result<Vec<&'b Blob>, SourceError> {
        let asked = self.drive(self.at_once(blobs.iter().map(|blob| {
            let (remote, descriptor) = (self.clone(), blob.descriptor.clone());
            async move { remote.has(&descriptor).await }
        })))?;
        let mut missing = Vec::new();
        for (blob, is_there) in blobs.iter().zip(asked) {
            if is_there {
                let (label, size) = (format!("push {}", label(&blob.descriptor)), Some(blob.descriptor.size));
                Task::start(&*self.progress, &label, size).finish("exists");
                self.inner.mounts.saw(blob.descriptor.digest, &self.repository);
            } else {
                missing.push(blob);
            }
        }
        Ok(missing)
    }

    /// Runs small requests, many at once; their answers in order, or the first failure.
    async fn at_once<T, F>(&self, requests: impl Iterator<Item = F>) -> Result<Vec<T>, Failure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(self.inner.settings.concurrency.max(1) * SMALL_PER_BLOB));
        let mut under_way = JoinSet::new();
        for (at, request) in requests.enumerate() {
            let place = Arc::clone(&places).acquire_owned().await;
            under_way.spawn(async move {
                let _place = place;
                (at, request.await)
            });
        }
        let mut answers = Vec::new();
        while let Some(done) = under_way.join_next().await {
            let (at, answer) = done.map_err(|_| Failure::lasting(Kind::Other, "a network thread ended"))?;
            answers.push((at, answer?));
        }
        answers.sort_by_key(|(at, _)| *at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }

    fn send_blobs(&self, blobs: &[&Blob]) -> Result<(), SourceError> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let first_error = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Err(error) = self.send_blob(blob) {
                    stop.store(true, Ordering::Relaxed);
                    lock(&first_error).get_or_insert(error);
                }
            }
        };
        let threads = self.inner.settings.concurrency.max(1).min(blobs.len());
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        lock(&first_error).take().map_or(Ok(()), Err)
    }

    fn send_blob(&self, blob: &Blob) -> Result<(), SourceError> {
        let Blob { descriptor, .. } = blob;
        let task = Task::start(&*self.progress, &format!("push {}", label(descriptor)), Some(descriptor.size));
        let outcome = self.upload(descriptor, &|| blob.open(), &task)?;
        self.inner.mounts.saw(descriptor.digest, &self.repository);
        task.finish(outcome);
        Ok(())
    }

    /// The blobs without which the registry does not take a manifest: those that it names, else those that it now says not
    /// to have.
    fn lost<'b>(&self, blobs: &'b [Blob], failure: &Failure) -> Result<Vec<&'b Blob>, SourceError> {
        if !failure.codes.iter().any(|code| code == "MANIFEST_BLOB_UNKNOWN" || code == "BLOB_UNKNOWN") {
            return Ok(Vec::new());
        }
        let named: Vec<&Blob> = blobs.iter().filter(|blob| failure.digests.contains(&blob.descriptor.digest)).collect();
        if named.is_empty() { self.missing(blobs) } else { Ok(named) }
    }

    /// Children before parents, then the root under its first name, then all other names.
    async fn put_manifests(&self, parts: &Parts, names: &[Name]) -> Result<(), Failure> {
        let Some((roots, below)) = parts.manifests.split_last() else { return Ok(()) };
        for level in below {
            Box::pin(self.at_once(level.iter().map(|child| {
                let (remote, child) = (self.clone(), child.clone());
                async move { remote.put_manifest(&child, &Name::Digest(child.descriptor.digest)).await }
            })))
            .await?;
        }
        for root in roots {
            let mut tags = names.iter().filter(|name| matches!(name, Name::Tag(_)));
            match tags.next() {
                None => self.put_manifest(root, &Name::Digest(root.descriptor.digest)).await?,
                Some(first) => self.tag(root, first).await?,
            }
            Box::pin(self.at_once(tags.map(|tag| {
                let (remote, root, tag) = (self.clone(), root.clone(), tag.clone());
                async move { remote.tag(&root, &tag).await }
            })))
            .await?;
        }
        Ok(())
    }

    /// Registries with immutable tags refuse even the same manifest a second time.
    async fn tag(&self, root: &RawManifest, tag: &Name) -> Result<(), Failure> {
        let there = self.find(tag).await.ok().flatten();
        if there.is_some_and(|there| there.digest == root.descriptor.digest) {
            let note = format!("{}:{tag} is {} already", self.repository, root.descriptor.digest);
            self.progress.event(Event::Debug(&note));
            return Ok(());
        }
        self.put_manifest(root, tag).await
    }

    async fn put_manifest(&self, raw: &RawManifest, name: &Name) -> Result<(), Failure> {
        let response = self.put_raw(raw, name).await?;
        self.keep_referrer(raw, &response).await
    }

    /// Sends a manifest under a name.
    pub async fn put_raw(&self, raw: &RawManifest, name: &Name) -> Result<Response, Failure> {
        let mut call = Call::new(Method::PUT, format!("manifests/{}", escaped(name)));
        let media_type = HeaderValue::from_str(raw.descriptor.media_type.as_str())
            .map_err(|_| Failure::lasting(Kind::Corrupt, "a media type that no header can hold"))?;
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = Some(raw.bytes.clone().into());
        let response = self.send(&call).await?;
        check_digest(&Method::PUT, &response, raw.descriptor.digest)?;
        Ok(response)
    }
}

/// Adds an artifact with everything below it; answers how far it is from the leaves.
fn collect(artifact: &Artifact, depth: usize, parts: &mut Parts) -> Result<usize, SourceError> {
    let mut height = 0;
    match artifact {
        Artifact::Image(image) => collect_image(image, parts),
        Artifact::Index(index) => {
            if depth == 0 {
                let what = format!("index {} is nested more than {DEEPEST} deep", index.raw().descriptor.digest);
                return Err(SourceError::new(Kind::Corrupt, what));
            }
            for child in index.manifests() {
                // One that was met before lies where it must, as only an equal document has that digest.
                if parts.seen.insert(child.digest) {
                    height = height.max(1 + collect(&index.child(child)?, depth - 1, parts)?);
                } else {
                    height = height.max(1 + parts.height_of(child.digest));
                }
            }
        }
    }
    if parts.manifests.len() <= height {
        parts.manifests.resize_with(height + 1, Vec::new);
    }
    parts.manifests[height].push(artifact.raw().clone());
    Ok(height)
}

impl Parts {
    fn height_of(&self, manifest: Digest) -> usize {
        let holds = |level: &Vec<RawManifest>| level.iter().any(|raw| raw.descriptor.digest == manifest);
        self.manifests.iter().position(holds).unwrap_or_default()
    }
}

fn collect_image(image: &Image, parts: &mut Parts) {
    for layer in &image.manifest().layers {
        // Registries need not hold these, and their owners asked not to copy them.
        if !layer.media_type.is_foreign_layer() && parts.seen.insert(layer.digest) {
            let source = Source::Place(Arc::clone(image.blobs()));
            parts.blobs.push(Blob { descriptor: layer.clone(), source });
        }
    }
    let config = &image.manifest().config;
    if parts.seen.insert(config.digest) {
        let source = Source::Bytes(image.config_bytes().into());
        parts.blobs.push(Blob { descriptor: config.clone(), source });
    }
}
