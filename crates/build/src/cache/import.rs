//! What other builds made: the records of every cache that was named, and their layers when they are needed.
//!
//! Nothing of it is needed to build. What is not there or cannot be read is told and passed over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_image::{Artifact, Digest, Event, Image, Kind, Layer, Progress, SourceError};
use skycap_store::Store;

use super::{CacheSource, Made, record};
use crate::assemble;

/// A step that another build did.
#[derive(Clone)]
pub(crate) struct Imported {
    /// What it made, as a record of this store.
    pub made: Made,
    /// Where the layer is.
    pub layer: Layer,
    /// What messages call the cache.
    pub label: String,
}

/// Steps by their keys.
pub(crate) type Imports = BTreeMap<Digest, Imported>;

/// Reads the records of every cache; those that come first count. No layer is read.
pub(crate) fn read(sources: &[CacheSource], progress: &dyn Progress) -> Imports {
    let mut imports = Imports::new();
    for source in sources {
        let label = &source.label;
        match steps(source) {
            Ok(steps) if steps.is_empty() => {
                progress.event(Event::Note(&format!("cache {label} holds no steps that this version can use")));
            }
            Ok(steps) => {
                progress.event(Event::Debug(&format!("cache {label}: {} steps", steps.len())));
                for (key, step) in steps {
                    imports.entry(key).or_insert(step);
                }
            }
            Err(error) if error.kind == Kind::NotFound => {
                progress.event(Event::Note(&format!("there is no cache {label} yet")));
            }
            Err(error) => {
                progress.event(Event::Note(&format!("cache {label} is not used: {}", chain(&error))));
            }
        }
    }
    imports
}

fn steps(source: &CacheSource) -> Result<Vec<(Digest, Imported)>, SourceError> {
    let mut steps = Vec::new();
    match source.place.get(&source.name)? {
        Artifact::Image(image) => add(&image, &source.label, &mut steps),
        Artifact::Index(index) => {
            // What is attested of images is no image, and neither is it a reason not to use the others.
            for child in index.manifests() {
                if let Ok(Artifact::Image(image)) = index.child(child) {
                    add(&image, &source.label, &mut steps);
                }
            }
        }
    }
    Ok(steps)
}

fn add(image: &Image, label: &str, steps: &mut Vec<(Digest, Imported)>) {
    let layers = image.layers();
    for (step, layer) in record::steps(image.config()).into_iter().filter_map(|step| {
        let layer = layers.get(step.layer)?.clone();
        Some((step, layer))
    }) {
        let blob = assemble::with_media_type(&layer.descriptor, false);
        let made = Made { blob, diff_id: layer.diff_id, created: step.created, since: step.since };
        steps.push((step.key, Imported { made, layer, label: label.to_owned() }));
    }
}

/// Copies layers into the store, several at once. Those that cannot be had are told.
pub(crate) fn fetch(wanted: &[(Digest, Imported)], store: &Store, threads: usize, progress: &dyn Progress) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((key, step)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Listing it compares what it unpacks to with what the cache says of it.
            match store.keep_layer(&step.layer).and_then(|_| store.layer_index(&step.layer)) {
                Ok(_) => super::keep(store, key, &step.made),
                Err(error) => {
                    let (digest, label) = (step.layer.descriptor.digest, &step.label);
                    let why = chain(&error);
                    progress.event(Event::Note(&format!("layer {digest} of cache {label} is not used: {why}")));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(wanted.len()) {
            scope.spawn(work);
        }
        work();
    });
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
