//! What this build made, for others: an image whose layers are those of the steps.

use std::collections::{BTreeMap, BTreeSet};

use skycap_image::{Artifact, Digest, Event, Image, ImageConfig, Layer, Platform, Progress, SourceError};

use super::record::{self, Step};
use super::{CacheImage, Made, import};
use crate::assemble;
use crate::error::BuildError;

/// A step, and its layer with where it is.
pub(crate) struct Export {
    /// What it depends on.
    pub key: Digest,
    /// What it made.
    pub made: Made,
    /// The layer.
    pub layer: Layer,
}

/// Writes a cache. Blobs that are there already are not written again.
pub(crate) fn write(target: &CacheImage, steps: &[Export], progress: &dyn Progress) -> Result<(), BuildError> {
    let written = assemble(steps).and_then(|image| {
        target.place.put(&Artifact::Image(image), std::slice::from_ref(&target.name)).map(drop)
    });
    match written {
        Ok(()) => {
            progress.event(Event::Note(&format!("wrote {} steps to the cache {}", steps.len(), target.label)));
            Ok(())
        }
        Err(error) if target.ignore_error => {
            let why = import::chain(&error);
            progress.event(Event::Warning(&format!("the cache {} was not written: {why}", target.label)));
            Ok(())
        }
        Err(error) => {
            let what = format!("the cache {} cannot be written", target.label);
            Err(BuildError::Other { what, source: error.into() })
        }
    }
}

fn assemble(steps: &[Export]) -> Result<Image, SourceError> {
    let mut layers: Vec<&Layer> = Vec::new();
    let mut numbers: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for step in steps.iter().filter(|step| seen.insert(step.key)) {
        let number = *numbers.entry(step.layer.descriptor.digest).or_insert_with(|| {
            layers.push(&step.layer);
            layers.len() - 1
        });
        let Made { created, since, .. } = step.made.clone();
        records.push(Step { key: step.key, layer: number, created, since });
    }
    let platform = Platform::host();
    let mut config = ImageConfig { architecture: platform.architecture, os: platform.os, ..ImageConfig::default() };
    record::put(&mut config, records);
    assemble::put_together(config, layers.into_iter().cloned().collect(), false)
}
