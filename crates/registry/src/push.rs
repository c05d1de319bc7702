//! An artifact into a repository: blobs first and several at once, then manifests, children before parents, tags last.
//! Whoever reads meanwhile never finds a name whose parts are missing.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use skycap_image::progress::Task;
use skycap_image::{Artifact, BlobSource, Descriptor, Digest, Event, Image, Kind, Name, RawManifest, SourceError};

use crate::blob::label;
use crate::client::lock;
use crate::error::Failure;
use crate::manifests::escaped;
use crate::remote::{Call, Remote};
use crate::upload::check_digest;

/// Indexes inside indexes beyond this are refused.
const DEEPEST: usize = 8;

/// Everything that a push sends, in order.
#[derive(Default)]
struct Parts {
    blobs: Vec<(Descriptor, Source)>,
    /// Children before parents, the root last.
    manifests: Vec<RawManifest>,
    seen: HashSet<Digest>,
}

enum Source {
    Place(Arc<dyn BlobSource>),
    Bytes(Arc<[u8]>),
}

impl Source {
    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read + Send>, SourceError> {
        match self {
            Self::Place(place) => Ok(Box::new(place.open(blob)?)),
            Self::Bytes(bytes) => Ok(Box::new(Cursor::new(Arc::clone(bytes)))),
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
        self.send_blobs(&parts.blobs)?;
        let (root_manifest, children) = parts
            .manifests
            .split_last()
            .ok_or_else(|| SourceError::new(Kind::Other, "an artifact without manifest"))?;
        self.inner.block_on(async {
            for child in children {
                self.put_manifest(child, &Name::Digest(child.descriptor.digest)).await?;
            }
            let tags: Vec<&Name> = names.iter().filter(|name| matches!(name, Name::Tag(_))).collect();
            if tags.is_empty() {
                self.put_manifest(root_manifest, &Name::Digest(root.digest)).await?;
            }
            for tag in tags {
                // Registries with immutable tags refuse even the same manifest a second time.
                let there = self.find(tag).await.ok().flatten();
                if there.is_some_and(|there| there.digest == root.digest) {
                    let note = format!("{}:{tag} is {} already", self.repository, root.digest);
                    self.progress.event(Event::Debug(&note));
                } else {
                    self.put_manifest(root_manifest, tag).await?;
                }
            }
            Ok::<(), Failure>(())
        })?;
        Ok(root)
    }

    fn send_blobs(&self, blobs: &[(Descriptor, Source)]) -> Result<(), SourceError> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let first_error = Mutex::new(None);
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && let Some((blob, source)) = blobs.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if let Err(error) = self.send_blob(blob, source) {
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

    fn send_blob(&self, blob: &Descriptor, source: &Source) -> Result<(), SourceError> {
        let task = Task::start(&*self.progress, &format!("push {}", label(blob)), Some(blob.size));
        let outcome = self.upload(blob, &|| source.open(blob), &task)?;
        self.inner.mounts.saw(blob.digest, &self.repository);
        task.finish(outcome);
        Ok(())
    }

    async fn put_manifest(&self, raw: &RawManifest, name: &Name) -> Result<(), Failure> {
        let mut call = Call::new(Method::PUT, format!("manifests/{}", escaped(name)));
        let media_type = HeaderValue::from_str(raw.descriptor.media_type.as_str())
            .map_err(|_| Failure::lasting(Kind::Corrupt, "a media type that no header can hold"))?;
        call.headers.insert(CONTENT_TYPE, media_type);
        call.body = Some(raw.bytes.clone().into());
        let response = self.send(&call).await?;
        check_digest(&Method::PUT, &response, raw.descriptor.digest)
    }
}

fn collect(artifact: &Artifact, depth: usize, parts: &mut Parts) -> Result<(), SourceError> {
    match artifact {
        Artifact::Image(image) => collect_image(image, parts),
        Artifact::Index(index) => {
            if depth == 0 {
                let what = format!("index {} is nested more than {DEEPEST} deep", index.raw().descriptor.digest);
                return Err(SourceError::new(Kind::Corrupt, what));
            }
            for child in index.manifests() {
                if parts.seen.insert(child.digest) {
                    collect(&index.child(child)?, depth - 1, parts)?;
                }
            }
        }
    }
    parts.manifests.push(artifact.raw().clone());
    Ok(())
}

fn collect_image(image: &Image, parts: &mut Parts) {
    for layer in &image.manifest().layers {
        // Registries need not hold these, and their owners asked not to copy them.
        if !layer.media_type.is_foreign_layer() && parts.seen.insert(layer.digest) {
            parts.blobs.push((layer.clone(), Source::Place(Arc::clone(image.blobs()))));
        }
    }
    let config = &image.manifest().config;
    if parts.seen.insert(config.digest) {
        parts.blobs.push((config.clone(), Source::Bytes(image.config_bytes().into())));
    }
}
