//! Which directory of a task is what: inputs, outputs and caches by their paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Task;
use crate::config::TaskConfig;
use crate::run::container::{Contents, Volume, resolve_path, working_dir};
use crate::run::engine::{Trouble, during, make};
use crate::run::files;
use crate::run::scope::Artifact;
use crate::state;

/// What stands where, by path; a parent comes before what lies in it.
pub(super) struct Layout {
    pub places: BTreeMap<PathBuf, Place>,
}

/// One path.
#[derive(Clone, Default, Debug)]
pub(super) struct Place {
    /// The artifact that is shown.
    pub input: Option<PathBuf>,
    /// The artifacts that it becomes. With an input too, they share one directory.
    pub outputs: Vec<String>,
    /// Where the cache lives in between, and how old it may get.
    pub cache: Option<Cache>,
}

/// A task's cache between builds.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    dir: PathBuf,
    ttl: Option<Duration>,
}

impl Layout {
    /// Whether all paths lie below the working directory.
    pub fn is_relative(config: &TaskConfig) -> bool {
        let inputs = config.inputs.iter().map(|input| &input.path);
        let outputs = config.outputs.iter().map(|output| &output.path);
        let caches = config.caches.iter().map(|cache| &cache.path);
        !inputs.chain(outputs).chain(caches).chain([&config.run.dir]).any(|path| path.starts_with('/'))
    }

    pub fn new(task: &Task<'_>) -> Result<Self, Trouble> {
        let root = working_dir(&task.step.name);
        let mut places: BTreeMap<PathBuf, Place> = BTreeMap::new();
        let at = |path: &str, name: &str| resolve_path(&root, if path.is_empty() { name } else { path });
        let mapped = |mapping: &[(String, String)], name: &str| {
            mapping
                .iter()
                .find(|(own, _)| own == name)
                .map_or_else(|| name.to_owned(), |(_, artifact)| artifact.clone())
        };
        let mut missing = BTreeSet::new();
        for input in &task.config.inputs {
            let artifact = mapped(&task.step.input_mapping, &input.name);
            match task.cx.scope.artifact(&artifact) {
                Some(found) => places.entry(at(&input.path, &input.name)).or_default().input = Some(found.dir),
                None if input.optional => {}
                None => drop(missing.insert(artifact)),
            }
        }
        if !missing.is_empty() {
            let names: Vec<String> = missing.into_iter().collect();
            return Err(Trouble::Errored(format!("missing inputs: {}", names.join(", "))));
        }
        for output in &task.config.outputs {
            let artifact = mapped(&task.step.output_mapping, &output.name);
            places.entry(at(&output.path, &output.name)).or_default().outputs.push(artifact);
        }
        for cache in &task.config.caches {
            let dir = task.build.engine.state.task_cache(task.build.job, &task.step.name, &cache.path);
            places.entry(at(&cache.path, "")).or_default().cache = Some(Cache { dir, ttl: cache.ttl });
        }
        Ok(Self { places })
    }

    /// Makes the directories for a container.
    pub fn prepare(self, task: &Task<'_>) -> Result<Prepared, Trouble> {
        let engine = task.build.engine;
        let fresh = || engine.fresh("volume").map_err(during("make a volume"));
        let root = working_dir(&task.step.name);
        let mut volumes = BTreeMap::new();
        volumes.insert(PathBuf::from("/scratch"), Contents::Fresh(fresh()?));
        volumes.insert(root, Contents::Fresh(fresh()?));
        for (path, place) in &self.places {
            let contents = match place {
                Place { input: Some(input), outputs, .. } if outputs.is_empty() => Contents::Copy(input.clone()),
                Place { input: Some(input), .. } => {
                    let dir = fresh()?;
                    files::copy(input, &dir).map_err(during("copy an input"))?;
                    Contents::Own(dir)
                }
                Place { cache: Some(cache), .. } => {
                    let dir = fresh()?;
                    cache.take(&dir)?;
                    Contents::Own(dir)
                }
                Place { .. } => Contents::Fresh(fresh()?),
            };
            volumes.insert(path.clone(), contents);
        }
        Ok(Prepared { layout: self, volumes })
    }
}

/// Directories ready for a container.
pub(super) struct Prepared {
    layout: Layout,
    volumes: BTreeMap<PathBuf, Contents>,
}

impl Prepared {
    pub fn volumes(&self) -> Vec<Volume> {
        self.volumes
            .iter()
            .map(|(target, contents)| Volume { target: target.clone(), contents: contents.clone() })
            .collect()
    }

    /// Registers the outputs and puts the caches back.
    pub fn keep(self, task: &Task<'_>) -> Result<(), Trouble> {
        for (path, place) in &self.layout.places {
            let Some(Contents::Fresh(dir) | Contents::Own(dir)) = self.volumes.get(path) else { continue };
            for output in &place.outputs {
                task.cx.scope.add_artifact(output, Artifact { dir: dir.clone() });
            }
            if let Some(cache) = place.cache.as_ref().filter(|_| place.outputs.is_empty()) {
                cache.put_back(dir)?;
            }
        }
        Ok(())
    }
}

impl Cache {
    /// Moves the content into place. A build that is killed loses it, which a cache bears.
    pub fn take(&self, dir: &Path) -> Result<(), Trouble> {
        let age = fs::metadata(self.stamp()).and_then(|stamp| stamp.modified()).map(|kept| kept.elapsed());
        let is_stale = self.ttl.is_some_and(|ttl| !matches!(age, Ok(Ok(age)) if age < ttl));
        if is_stale {
            state::remove(&self.dir).map_err(during("remove a task's cache that is too old"))?;
        }
        match fs::rename(&self.dir, dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(during("take a task's cache")),
        }
    }

    /// Keeps what the task left for the next build.
    pub fn put_back(&self, dir: &Path) -> Result<(), Trouble> {
        let what = "keep a task's cache";
        state::remove(&self.dir).map_err(during(what))?;
        if let Some(parent) = self.dir.parent() {
            make(parent)?;
        }
        fs::write(self.stamp(), b"").map_err(during(what))?;
        fs::rename(dir, &self.dir).map_err(during(what))
    }

    /// A file whose age is the cache's.
    fn stamp(&self) -> PathBuf {
        self.dir.with_extension("kept")
    }
}
