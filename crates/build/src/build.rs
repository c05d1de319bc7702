//! The whole way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use skycap_image::progress::Task;
use skycap_image::{Digest, Event, Image, Layer, Platform, Progress, Reference, Resolver};
use skycap_store::Store;

use crate::arguments;
use crate::assemble::{self, Parts};
use crate::attest::recipe::{self, Recipe};
use crate::attest::{self, Scanned};
use crate::cache::export::Steps;
use crate::cache::{self, CacheTarget};
use crate::commit::Packing;
use crate::context::{Context, Contexts};
use crate::dockerfile::{self, Dockerfile, directive};
use crate::epoch;
use crate::error::{BuildError, Fault};
use crate::execute::{Engine, Executed, Tools};
use crate::graph::{Graph, NodeId, Operation};
use crate::ignore::Ignore;
use crate::inputs::Inputs;
use crate::key;
use crate::lint::{Finding, Linter};
use crate::missing;
use crate::named::NamedContext;
use crate::plan::{Images, Planner, Target, Wanted};
use crate::remote::resolve;
use crate::request::{Built, Outcome, Request, StepReport};
use crate::world::World;

/// The build argument that stands for the directive `check`.
const CHECK: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// Builds every target of a request for every platform: targets in their order, and for each the platforms in theirs.
///
/// What `FROM`, `COPY --from` and mounts name is taken from [`Request::contexts`], else from the world's resolver. Layers
/// and what was learnt about steps stay in its store.
pub fn build(request: &Request, world: &World<'_>) -> Result<Vec<Built>, BuildError> {
    check_arguments(request)?;
    attest::check(request)?;
    let dockerfile = dockerfile::parse(&request.dockerfile, &request.dockerfile_name)?;
    let request = &*epoch::settled(request, world, &dockerfile)?;
    let lint = Linter::new(&dockerfile, request.build_args.get(CHECK).map(String::as_str));
    let built = build_parsed(request, world, &dockerfile, &lint);
    tell(&lint.findings(), world.progress);
    built
}

/// What the checks say about a Dockerfile, by line: about all its stages, or about those that the targets of the request
/// need. Nothing is run and nothing is kept; of images only the configurations are looked at.
///
/// A Dockerfile that cannot be planned is an error; what was found until then is told as warnings.
pub fn check(request: &Request, world: &World<'_>) -> Result<Vec<Finding>, BuildError> {
    check_arguments(request)?;
    let dockerfile = dockerfile::parse(&request.dockerfile, &request.dockerfile_name)?;
    let lint = Linter::new(&dockerfile, request.build_args.get(CHECK).map(String::as_str));
    let World { resolver, progress, .. } = *world;
    let images = Registry { resolver, progress, known: Mutex::default(), digests: Mutex::default() };
    let mut graph = Graph::default();
    let mut checked = asked(request).into_iter().map(|(target, platform)| {
        Planner::new(request, &dockerfile, &images, &lint, &mut graph, target, &platform)?.check(target)
    });
    let failed = checked.find_map(Result::err);
    drop(checked);
    match failed {
        Some(error) => {
            tell(&lint.findings(), progress);
            Err(error)
        }
        None => Ok(lint.findings()),
    }
}

/// The list of findings, as BuildKit's client shows it.
fn tell(findings: &[Finding], progress: &dyn Progress) {
    let lines = findings.iter().map(|found| format!("\n - {}: {} (line {})", found.rule, found.message, found.line));
    let lines: String = lines.collect();
    match findings.len() {
        0 => {}
        1 => progress.event(Event::Warning(&format!("1 warning found:{lines}"))),
        count => progress.event(Event::Warning(&format!("{count} warnings found:{lines}"))),
    }
}

fn build_parsed(
    request: &Request,
    world: &World<'_>,
    dockerfile: &Dockerfile,
    lint: &Linter<'_>,
) -> Result<Vec<Built>, BuildError> {
    let World { resolver, remote, store, sandbox, progress } = *world;
    let file = dockerfile.name.as_str();
    let other = |what: &str| {
        let what = what.to_owned();
        move |fault: Fault| BuildError::of_request(what, fault)
    };
    let epoch = request.source_date_epoch.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let images = Registry { resolver, progress, known: Mutex::default(), digests: Mutex::default() };
    let mut graph = Graph::default();
    let targets = plan(request, dockerfile, &images, lint, &mut graph, progress)?;
    lint.verdict()?;
    let contexts = contexts(request, &graph, store.dir()).map_err(other("the build context"))?;
    resolve::resolve(&mut graph, request, world, file)?;
    let inputs = Inputs::read(&graph, &contexts, file, request)?;
    for (line, source) in missing::unmatched(&graph, &inputs) {
        progress.event(Event::Warning(&format!("{file}:{line}: nothing in the build context matches {source}")));
    }
    let in_context = inputs.keys();
    let keys = key::keys(&graph, &in_context, request.keep_file_times);
    let mut heads: Vec<NodeId> = targets.iter().map(|target| target.head).collect();
    if request.attest.sbom.is_some() {
        heads.extend(targets.iter().flat_map(|target| target.scan.stages.iter().map(|(_, head)| *head)));
    }
    let tools = Tools {
        request,
        contexts: &contexts,
        remote,
        inputs: &inputs,
        in_context: &in_context,
        store,
        sandbox,
        progress,
        file,
    };
    let executed = Engine::new(tools, &graph, &keys, &heads).run(&heads)?;
    let steps = Steps { graph: &graph, keys: &keys, executed: &executed, store };
    let finish = |target: Target| finish(target, request, &steps, epoch);
    let built = targets.into_iter().map(finish).collect::<Result<_, _>>()?;
    cache::export::write_all(request, &steps, &heads, progress)?;
    Ok(built)
}

/// The targets of a request, each with each platform.
fn asked(request: &Request) -> Vec<(Option<&str>, Platform)> {
    let own = [Platform::host()];
    let platforms = if request.platforms.is_empty() { &own[..] } else { &request.platforms };
    request.targets.iter().flat_map(|target| platforms.iter().map(|p| (target.as_deref(), p.clone()))).collect()
}

/// The directories outside that a graph reads, the build context first.
fn contexts(request: &Request, graph: &Graph, store: &Path) -> Result<Contexts, Fault> {
    let named = graph.directories().iter().filter_map(|name| match request.contexts.get(name) {
        Some(NamedContext::Directory { path, ignore }) => Some((path, ignore)),
        _ => None,
    });
    let all = std::iter::once((&request.context, &request.ignore)).chain(named);
    let open = |(path, ignore): (&PathBuf, &Ignore)| Context::open(path, ignore.clone()).map(|it| it.without(store));
    Ok(Contexts::new(all.map(open).collect::<Result<_, _>>()?))
}

fn plan(
    request: &Request,
    dockerfile: &Dockerfile,
    images: &Registry<'_>,
    lint: &Linter<'_>,
    graph: &mut Graph,
    progress: &dyn Progress,
) -> Result<Vec<Target>, BuildError> {
    let asked = asked(request);
    let mut wanted = BTreeSet::new();
    for (target, platform) in &asked {
        wanted.extend(Planner::new(request, dockerfile, images, lint, graph, *target, platform)?.foresee(*target));
    }
    images.look_up(wanted);
    let (mut targets, mut used) = (Vec::new(), BTreeSet::new());
    for (target, platform) in asked {
        let (planned, args) =
            Planner::new(request, dockerfile, images, lint, graph, target, &platform)?.plan(target)?;
        targets.push(planned);
        used.extend(args);
    }
    let unused = crate::plan::unused_build_args(request, &used);
    if !unused.is_empty() {
        progress.event(Event::Warning(&format!("no ARG asks for these build arguments: {}", unused.join(", "))));
    }
    Ok(targets)
}

/// Says whether the value of a directive can be met.
type Judge = fn(&str) -> Result<(), directive::Refused>;

/// Build arguments that stand for a directive may say what the directive may.
fn check_arguments(request: &Request) -> Result<(), BuildError> {
    arguments::check(request)?;
    let checks = |value: &str| directive::Checks::parse(value).map(drop);
    let rules: [(_, Judge); 2] = [("BUILDKIT_SYNTAX", directive::syntax), (CHECK, checks)];
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

fn finish(target: Target, request: &Request, steps: &Steps<'_>, epoch: Option<Timestamp>) -> Result<Built, BuildError> {
    let Steps { graph, executed, store, .. } = *steps;
    let layers_of = |head: NodeId| layers(head, request, store, graph, executed, epoch);
    let layers = layers_of(target.head)?;
    let of_node =
        |id: NodeId| layers.iter().filter(|(made, _)| *made == id).map(|(_, l)| l.descriptor.clone()).collect();
    let wants_recipe = request.attest.provenance.is_some();
    let recipe = if wants_recipe { recipe::record(graph, target.head, &of_node) } else { Recipe::default() };
    let wants_stages = request.attest.sbom.is_some();
    let scan = target.scan.stages.into_iter().filter(|_| wants_stages);
    let scanned =
        scan.map(|(name, head)| Ok(Scanned { name, layers: layers_of(head)?.into_iter().map(|(_, l)| l).collect() }));
    let scanned = scanned.collect::<Result<_, BuildError>>()?;
    let base_history = target.base_history.len();
    let created = |id: NodeId| executed.made(id).map(|made| made.created.clone());
    let mut config = target.config;
    if arguments::wants_inline_cache(request) || request.cache_to.iter().any(|to| matches!(to, CacheTarget::Inline)) {
        cache::record::put(&mut config, steps.inline(&layers, epoch));
    }
    let image = assemble::image(Parts {
        config,
        base_history: target.base_history,
        entries: target.entries.iter().map(|entry| (entry, entry.node.and_then(created))).collect(),
        layers: layers.into_iter().map(|(_, layer)| layer).collect(),
        docker: request.docker_media_types,
        epoch: epoch.map(|time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
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
    Ok(Built {
        target: target.name,
        platform: target.platform,
        image,
        steps: steps.collect(),
        materials: recipe::materials(graph, target.head),
        recipe,
        scanned,
        scans_context: target.scan.context,
        base_history,
    })
}

/// The layers of a file system and the nodes that they are of, lowest first.
fn layers(
    head: NodeId,
    request: &Request,
    store: &Store,
    graph: &Graph,
    executed: &Executed,
    epoch: Option<Timestamp>,
) -> Result<Vec<(NodeId, Layer)>, BuildError> {
    let not_made = || BuildError::Request { what: "a layer of the image was not made".to_owned(), hint: None };
    let mut layers: Vec<(NodeId, Layer)> = Vec::new();
    for id in graph.chain(head) {
        if let Operation::Base(base) = &graph.node(id).operation {
            layers.extend(base.layers.iter().map(|layer| (id, base_layer(layer, base.is_remote, store))));
            continue;
        }
        let made = executed.made(id).ok_or_else(not_made)?.clone();
        let made = match epoch {
            Some(epoch) => cache::timed(store, made, Packing::of(request), epoch.as_second()),
            None => Ok(made),
        };
        let line = graph.node(id).line;
        layers.push((id, made.map_err(|fault| fault.at(&request.dockerfile_name, line))?.layer(store)));
    }
    Ok(layers)
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
    /// What the names stand for: often indexes.
    digests: Mutex<BTreeMap<String, Digest>>,
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
        let digests = self.digests.lock();
        digests.unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), artifact.descriptor().digest);
        let image = artifact
            .for_platform(platform)
            .map_err(|error| Fault::caused(format!("the image {name} cannot be had for {platform}"), error))?;
        task.finish("done");
        Ok(image)
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

    fn digest(&self, name: &str) -> Option<Digest> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }
}

fn error_of(error: impl std::error::Error + Send + Sync + 'static) -> Box<dyn std::error::Error + Send + Sync> {
    Box::new(error)
}
