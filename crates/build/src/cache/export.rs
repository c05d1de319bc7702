//! What this build made, for others: an image whose layers are those of the steps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use skycap_image::{Artifact, Digest, Event, Image, ImageConfig, Layer, Platform, Progress, SourceError};
use skycap_store::Store;

use super::record::{self, Step};
use super::{CacheImage, CacheMode, CacheTarget, Made, import};
use crate::assemble;
use crate::error::BuildError;
use crate::execute::Executed;
use crate::graph::{Graph, NodeId, Operation};
use crate::request::Request;

/// Everything that is known about the steps of a build.
pub(crate) struct Steps<'a> {
    pub graph: &'a Graph,
    pub keys: &'a [Digest],
    pub executed: &'a Executed,
    pub store: &'a Store,
}

/// A step, and its layer with where it is.
#[derive(Clone)]
struct Export {
    key: Digest,
    made: Made,
    layer: Layer,
    /// Whether the layer is in this store.
    is_own: bool,
}

impl Steps<'_> {
    /// A step that was done or that somebody knows, needed for this build or not.
    fn find(&self, id: NodeId) -> Option<Export> {
        let key = *self.keys.get(id.number())?;
        let made = self.executed.made(id).cloned().or_else(|| super::find(self.store, &key));
        if let Some(made) = made {
            let layer = made.layer(self.store);
            return Some(Export { key, made, layer, is_own: true });
        }
        let step = self.executed.imports.get(&key)?;
        Some(Export { key, made: step.made.clone(), layer: step.layer.clone(), is_own: false })
    }

    fn all(&self, heads: &[NodeId], mode: CacheMode) -> Vec<Export> {
        let ids: BTreeSet<NodeId> = match mode {
            CacheMode::Min => heads.iter().flat_map(|head| self.graph.chain(*head)).collect(),
            CacheMode::Max => self.graph.iter().map(|(id, _)| id).collect(),
        };
        let is_made = |id: &NodeId| !matches!(self.graph.node(*id).operation, Operation::Base(_));
        let mut seen = BTreeSet::new();
        let steps = ids.into_iter().filter(is_made).filter_map(|id| self.find(id));
        steps.filter(|step| seen.insert(step.key)).collect()
    }

    /// The steps that made layers of an image, for its own configuration. With an epoch they state that instead of times.
    pub fn inline(&self, layers: &[(NodeId, Layer)], epoch: Option<Timestamp>) -> Vec<Step> {
        let step = |(number, (id, _)): (usize, &(NodeId, Layer))| {
            let made = self.executed.made(*id)?;
            let created = epoch.map_or_else(|| made.created.clone(), text);
            let since = made.since.map(|since| epoch.map_or(since, Timestamp::as_second));
            Some(Step { key: *self.keys.get(id.number())?, layer: number, created, since })
        };
        layers.iter().enumerate().filter_map(step).collect()
    }
}

/// Writes every cache that was asked for.
pub(crate) fn write_all(
    request: &Request,
    steps: &Steps<'_>,
    heads: &[NodeId],
    progress: &dyn Progress,
) -> Result<(), BuildError> {
    request.cache_to.iter().try_for_each(|target| match target {
        CacheTarget::Inline => Ok(()),
        CacheTarget::Image(image) => write(image, &steps.all(heads, image.mode), progress),
    })
}

/// Writes a cache. Blobs that are there already are not written again.
fn write(target: &CacheImage, steps: &[Export], progress: &dyn Progress) -> Result<(), BuildError> {
    match put(target, steps).or_else(|error| without_others(target, steps, error)) {
        Ok(count) => {
            let steps = if count == 1 { "step" } else { "steps" };
            progress.event(Event::Note(&format!("wrote {count} {steps} to the cache {}", target.label)));
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

fn put(target: &CacheImage, steps: &[Export]) -> Result<usize, SourceError> {
    let image = assemble(steps)?;
    target.place.put(&Artifact::Image(image), std::slice::from_ref(&target.name))?;
    Ok(steps.len())
}

/// Steps that only another cache knows may be damaged there; they must not keep out those that are sound.
fn without_others(target: &CacheImage, steps: &[Export], error: SourceError) -> Result<usize, SourceError> {
    let own: Vec<Export> = steps.iter().filter(|step| step.is_own).cloned().collect();
    if own.len() == steps.len() { Err(error) } else { put(target, &own) }
}

fn assemble(steps: &[Export]) -> Result<Image, SourceError> {
    let mut layers: Vec<&Layer> = Vec::new();
    let mut numbers: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut records = Vec::new();
    for step in steps {
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

/// A time in RFC 3339.
fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
