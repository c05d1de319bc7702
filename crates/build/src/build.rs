//! The whole way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skycap_image::progress::Task;
use skycap_image::{Event, Image, Layer, Platform, Progress, Reference, Resolver};
use skycap_store::Store;

use crate::assemble::{self, Parts};
use crate::context::Context;
use crate::dockerfile::{self, Dockerfile, directive};
use crate::error::{BuildError, Fault};
use crate::execute::{Engine, Executed, Tools};
use crate::graph::{Graph, NodeId, Operation};
use crate::inputs::Inputs;
use crate::key;
use crate::plan::{Images, Planner, Target, Wanted};
use crate::request::{Built, Outcome, Request, StepReport};
use crate::world::World;

/// Builds every target of a request for every platform: targets in their order, and for each the platforms in theirs.
///
/// What `FROM`, `COPY --from` and mounts name is taken from [`Request::contexts`], else from the world's resolver. Layers
/// and what was learnt about steps stay in its store.
pub fn build(request: &Request, world: &World<'_>) -> Result<Vec<Built>, BuildError> {
    let World { resolver, remote: _, store, sandbox, progress } = *world;
    check_arguments(request)?;
    let dockerfile = dockerfile::parse(&request.dockerfile, &request.dockerfile_name)?;
    let file = dockerfile.name.as_str();
    let other = |what: &str| {
        let what = what.to_owned();
        move |fault: Fault| BuildError::of_request(what, fault)
    };
    let epoch = epoch(request)?;
    let images = Registry { resolver, progress, known: Mutex::default() };
    let mut graph = Graph::default();
    let targets = plan(request, &dockerfile, &images, &mut graph, progress)?;
    let context = Context::open(&request.context, request.ignore.clone()).map_err(other("the build context"))?;
    let inputs = Inputs::read(&graph, &context, file, request.threads)?;
    let in_context = inputs.keys().map_err(other("the build context"))?;
    let keys = key::keys(&graph, &in_context, request.keep_file_times);
    let heads: Vec<NodeId> = targets.iter().map(|target| target.head).collect();
    let tools = Tools { request, context: &context, inputs: &inputs, store, sandbox, progress, file };
    let executed = Engine::new(tools, &graph, &keys, &heads).run(&heads)?;
    let finish = |target: Target| finish(target, request, store, &graph, &executed, epoch.as_deref());
    targets.into_iter().map(finish).collect()
}

fn plan(
    request: &Request,
    dockerfile: &Dockerfile,
    images: &Registry<'_>,
    graph: &mut Graph,
    progress: &dyn Progress,
) -> Result<Vec<Target>, BuildError> {
    let own = [Platform::host()];
    let platforms = if request.platforms.is_empty() { &own[..] } else { &request.platforms };
    let asked: Vec<(Option<&str>, &Platform)> =
        request.targets.iter().flat_map(|target| platforms.iter().map(|p| (target.as_deref(), p))).collect();
    let mut wanted = BTreeSet::new();
    for (target, platform) in &asked {
        wanted.extend(Planner::new(request, dockerfile, images, graph, *target, platform)?.foresee(*target));
    }
    images.look_up(wanted);
    let (mut targets, mut used) = (Vec::new(), BTreeSet::new());
    for (target, platform) in asked {
        let (planned, args) = Planner::new(request, dockerfile, images, graph, target, platform)?.plan(target)?;
        targets.push(planned);
        used.extend(args);
    }
    let unused = crate::plan::unused_build_args(request, &used);
    if !unused.is_empty() {
        progress.event(Event::Warning(&format!("no ARG asks for these build arguments: {}", unused.join(", "))));
    }
    Ok(targets)
}

/// Build arguments that stand for a directive may say what the directive may.
fn check_arguments(request: &Request) -> Result<(), BuildError> {
    let rules =
        [("BUILDKIT_SYNTAX", directive::syntax as fn(&str) -> _), ("BUILDKIT_DOCKERFILE_CHECK", directive::check)];
    for (name, check) in rules {
        let value = request.build_args.get(name).map(String::as_str).unwrap_or_default();
        if value.is_empty() {
            continue;
        }
        check(value).map_err(|refused| BuildError::Request {
            what: format!("build argument {name}: {}", refused.what),
            hint: Some(refused.hint.to_owned()),
        })?;
    }
    Ok(())
}

/// The time that the configuration states, in RFC 3339. The build argument of that name means the same.
fn epoch(request: &Request) -> Result<Option<String>, BuildError> {
    let what = |text: &str| BuildError::Request {
        what: format!("SOURCE_DATE_EPOCH is {text:?}: only a number of seconds since 1970 is supported"),
        hint: None,
    };
    let seconds = match (request.source_date_epoch, request.build_args.get("SOURCE_DATE_EPOCH")) {
        (Some(seconds), _) => seconds,
        (None, Some(text)) if !text.is_empty() => text.parse().map_err(|_| what(text))?,
        (None, _) => return Ok(None),
    };
    let time = jiff::Timestamp::from_second(seconds).map_err(|_| what(&seconds.to_string()))?;
    Ok(Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

fn finish(
    target: Target,
    request: &Request,
    store: &Store,
    graph: &Graph,
    executed: &Executed,
    epoch: Option<&str>,
) -> Result<Built, BuildError> {
    let missing = || BuildError::Request { what: "a layer of the image was not made".to_owned(), hint: None };
    let mut layers: Vec<Layer> = Vec::new();
    for id in graph.chain(target.head) {
        match &graph.node(id).operation {
            Operation::Base(base) => {
                layers.extend(base.layers.iter().map(|layer| base_layer(layer, base.is_remote, store)));
            }
            _ => layers.push(executed.made(id).ok_or_else(missing)?.layer(store)),
        }
    }
    let created = |id: NodeId| executed.made(id).map(|made| made.created.clone());
    let image = assemble::image(Parts {
        config: target.config,
        base_history: target.base_history,
        entries: target.entries.iter().map(|entry| (entry, entry.node.and_then(created))).collect(),
        layers,
        docker: request.docker_media_types,
        epoch: epoch.map(str::to_owned),
    })
    .map_err(|error| BuildError::Other { what: "the image cannot be put together".to_owned(), source: error.into() })?;
    let outcome = |node: Option<NodeId>| match node {
        None => Outcome::Config,
        Some(id) if matches!(graph.node(id).operation, Operation::Base(_)) => Outcome::Cached,
        Some(id) if executed.was_done(id) => Outcome::Done,
        Some(id) if executed.made(id).is_some() => Outcome::Cached,
        Some(_) => Outcome::Skipped,
    };
    let steps = target.steps.into_iter().map(|step| StepReport {
        outcome: outcome(step.node),
        label: step.label,
        line: step.line,
    });
    Ok(Built { target: target.name, platform: target.platform, image, steps: steps.collect() })
}

/// A base's layer as the image holds it: what comes from far away stays in the store once it was read.
fn base_layer(layer: &Layer, is_remote: bool, store: &Store) -> Layer {
    let blobs = if is_remote { store.through(Arc::clone(&layer.blobs)) } else { Arc::clone(&layer.blobs) };
    Layer { blobs, ..layer.clone() }
}

/// How many images are looked up at the same time.
const LOOKUPS: usize = 8;

/// Images of registries: each looked up once.
struct Registry<'a> {
    resolver: &'a dyn Resolver,
    progress: &'a dyn Progress,
    /// An error waits here until somebody asks for its image, so that the plan's order decides which one is told.
    known: Mutex<BTreeMap<Wanted, Result<Image, Fault>>>,
}

impl Registry<'_> {
    /// Looks images up, several at once.
    fn look_up(&self, wanted: BTreeSet<Wanted>) {
        let threads = wanted.len().min(LOOKUPS);
        let wanted = Mutex::new(wanted.into_iter());
        let next = || wanted.lock().unwrap_or_else(PoisonError::into_inner).next();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((name, platform)) = next() {
                        let found = self.fetch(&name, &platform);
                        self.known().insert((name, platform), found);
                    }
                });
            }
        });
    }

    fn fetch(&self, name: &str, platform: &Platform) -> Result<Image, Fault> {
        let reference: Reference =
            name.parse().map_err(|error| Fault::caused(format!("{name} is no image reference"), error_of(error)))?;
        let task = Task::start(self.progress, &format!("look up {name} for {platform}"), None);
        let artifact = self
            .resolver
            .get(&reference)
            .map_err(|error| Fault::caused(format!("the image {name} cannot be had"), error))?;
        let image = artifact
            .for_platform(platform)
            .map_err(|error| Fault::caused(format!("the image {name} cannot be had for {platform}"), error))?;
        task.finish("done");
        self.warn_of_other_platform(name, platform, &image);
        Ok(image)
    }

    /// An image that is in no index is taken whatever it is for, as by every builder; RUN may then fail oddly.
    fn warn_of_other_platform(&self, name: &str, platform: &Platform, image: &Image) {
        let own = image.config().platform();
        if !own.os.is_empty() && !platform.accepts(&own) {
            self.progress.event(Event::Warning(&format!("the image {name} is for {own}, not for {platform}")));
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Wanted, Result<Image, Fault>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Images for Registry<'_> {
    fn image(&self, name: &str, platform: &Platform) -> Result<Image, Fault> {
        let key = (name.to_owned(), platform.clone());
        let known = self.known().remove(&key);
        let image = known.unwrap_or_else(|| self.fetch(name, platform))?;
        self.known().insert(key, Ok(image.clone()));
        Ok(image)
    }
}

fn error_of(error: impl std::error::Error + Send + Sync + 'static) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}
