//! From a Dockerfile to a graph: which stages count, where each begins, what each instruction means.
//!
//! A target pulls in the stages that it is made from, and only those: a stage is planned when something refers to it, so
//! images of other stages are never looked up. Nothing runs here; the only thing that is asked of the world is what
//! [`Images`] answers.

mod chain;
mod contexts;
mod copy;
pub(crate) mod epoch;
mod foresee;
mod instruction;
mod ports;
mod run;
mod scan;
mod scope;
mod signal;
mod stage;
pub(crate) mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use skycap_image::{Digest, History, Image, ImageConfig, Platform, suggest};

use crate::attest::Material;
use crate::dockerfile::Dockerfile;
use crate::error::{BuildError, Fault};
use crate::graph::{self, Base, From, Graph, Node, NodeId, Operation};
use crate::lint::{FromLine, Linter, Rule};
use crate::named::{self, NamedContext};
use crate::request::Request;
pub(crate) use foresee::Wanted;
pub(crate) use scan::Scan;
use scope::Variables;

/// How many bytes of expanded text a plan may hold. A real one has some thousands.
const LARGEST: usize = 256 << 20;

/// Looks images up.
pub(crate) trait Images {
    /// An image that a registry holds.
    fn image(&self, name: &str, platform: &Platform) -> Result<Image, Fault>;

    /// What the name of an image stands for that was looked up: the image, or the index that it is in.
    fn digest(&self, name: &str) -> Option<Digest>;
}

/// What a target will be.
pub(crate) struct Target {
    /// The stage as it was asked for.
    pub name: Option<String>,
    /// What it is for.
    pub platform: Platform,
    /// Its file system.
    pub head: NodeId,
    /// Its configuration, without history, layers and times.
    pub config: ImageConfig,
    /// What the base's history says.
    pub base_history: Vec<History>,
    /// What was added to it.
    pub entries: Vec<Entry>,
    /// Everything that has to be done for it.
    pub steps: Vec<Step>,
    /// What else an SBOM is to list, if one is asked for.
    pub scan: Scan,
}

/// A line of history that a build adds.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The instruction.
    pub created_by: String,
    /// The layer that it made.
    pub node: Option<NodeId>,
}

/// An instruction of a stage that counts.
#[derive(Clone)]
pub(crate) struct Step {
    /// As progress shows it.
    pub label: String,
    /// Where it stands.
    pub line: usize,
    /// The file system that it makes; none if it only changes the configuration.
    pub node: Option<NodeId>,
}

/// Plans one target.
pub(crate) struct Planner<'a> {
    request: &'a Request,
    dockerfile: &'a Dockerfile,
    images: &'a dyn Images,
    lint: &'a Linter<'a>,
    graph: &'a mut Graph,
    /// The platform that was asked for.
    platform: Platform,
    /// What FROM lines and bare ARGs see.
    globals: Variables,
    stages: BTreeMap<usize, Rc<Stage>>,
    others: BTreeMap<(String, Platform), NodeId>,
    fetches: BTreeMap<graph::Wanted, NodeId>,
    /// Build arguments that some ARG asked for.
    used_args: BTreeSet<String>,
    /// Bytes that the stages hold so far.
    held: usize,
}

/// A stage that was planned.
#[derive(Clone)]
struct Stage {
    head: NodeId,
    platform: Platform,
    config: ImageConfig,
    base_history: Vec<History>,
    entries: Vec<Entry>,
    steps: Vec<Step>,
    /// What words expand with and RUN sees.
    variables: Variables,
    /// Declared arguments and their values, in order.
    build_args: Vec<(String, Option<String>)>,
    cmd_is_set: bool,
    /// Whether a WORKDIR of this Dockerfile was there.
    workdir_is_set: bool,
    /// Further stages whose steps count.
    needs: BTreeSet<usize>,
}

impl<'a> Planner<'a> {
    /// A planner for one target and one platform.
    pub fn new(
        request: &'a Request,
        dockerfile: &'a Dockerfile,
        images: &'a dyn Images,
        lint: &'a Linter<'a>,
        graph: &'a mut Graph,
        target: Option<&str>,
        platform: &Platform,
    ) -> Result<Self, BuildError> {
        let mut used_args = BTreeSet::new();
        let globals = scope::globals(&request.build_args, dockerfile, platform, target, &mut used_args)?;
        let platform = platform.clone();
        let (stages, others, fetches) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            request,
            dockerfile,
            images,
            lint,
            graph,
            platform,
            globals,
            stages,
            others,
            fetches,
            used_args,
            held: 0,
        })
    }

    /// Plans the target and returns it with the build arguments that something asked for.
    pub fn plan(mut self, target: Option<&str>) -> Result<(Target, BTreeSet<String>), BuildError> {
        self.lint_from_lines(target);
        let number = self.find_target(target)?;
        for first in self.in_order(number) {
            self.stage(first)?;
        }
        let stage = self.stage(number)?;
        let mut config = stage.config.clone();
        config.config.labels.extend(self.request.labels.clone());
        let planned = Target {
            name: target.map(str::to_owned),
            platform: self.platform.clone(),
            head: stage.head,
            config,
            base_history: stage.base_history.clone(),
            entries: stage.entries.clone(),
            steps: self.steps(number),
            scan: self.scan(number),
        };
        Ok((planned, self.used_args))
    }

    /// Plans the target for its findings alone; without one all stages.
    pub fn check(mut self, target: Option<&str>) -> Result<(), BuildError> {
        self.lint_from_lines(target);
        let stages = match target {
            Some(_) => self.in_order(self.find_target(target)?),
            None => (0..self.dockerfile.stages.len()).collect(),
        };
        stages.into_iter().try_for_each(|number| self.stage(number).map(drop))
    }

    /// All `FROM` lines, also those of stages that do not count.
    fn lint_from_lines(&self, target: Option<&str>) {
        let globals = self.globals.to_vec().into_iter().collect();
        let declared = self.dockerfile.global_args.iter().flat_map(|args| &args.value);
        let declared: Vec<&str> = declared.map(|arg| arg.name.as_str()).collect();
        let defaults =
            scope::globals(&BTreeMap::new(), self.dockerfile, &self.platform, target, &mut BTreeSet::new()).ok();
        let defaults = defaults.map(|values| values.to_vec().into_iter().collect());
        let (escape, globals, defaults) = (self.dockerfile.directives.escape, &globals, defaults.as_ref());
        for stage in &self.dockerfile.stages {
            let line = FromLine { from: &stage.from, escape, globals, declared: &declared, defaults };
            self.lint.report_all(line.remarks());
        }
    }

    /// A base that is for another platform, which is taken all the same: RUN may then fail oddly.
    fn lint_platform(&self, name: &str, expected: &Platform, image: &Image) {
        let own = image.config().platform();
        if own.os.is_empty() || (own.os == expected.os && own.architecture == expected.architecture) {
            return;
        }
        let (own, expected) = (own.normalized().to_string(), expected.normalized().to_string());
        let message =
            format!("Base image {name} was pulled with platform {own:?}, expected {expected:?} for current build");
        self.lint.here(Rule::InvalidBaseImagePlatform, message, name);
    }

    /// By name, else by number, else the last.
    fn find_target(&self, target: Option<&str>) -> Result<usize, BuildError> {
        let stages = &self.dockerfile.stages;
        let Some(name) = target else { return Ok(stages.len().saturating_sub(1)) };
        let lower = name.to_ascii_lowercase();
        let by_name = stages.iter().rposition(|stage| stage.from.value.name.as_deref() == Some(&*lower));
        by_name.or_else(|| name.parse().ok().filter(|number| *number < stages.len())).ok_or_else(|| {
            let names: Vec<&str> = stages.iter().filter_map(|stage| stage.from.value.name.as_deref()).collect();
            let all = || (!names.is_empty()).then(|| format!("the stages of {} are {}", self.file(), names.join(", ")));
            let near = suggest::nearest(&lower, names.iter().copied()).map(|near| format!("did you mean {near}?"));
            let hint = near.or_else(all);
            BuildError::Request { what: format!("target stage \"{name}\" could not be found"), hint }
        })
    }

    /// The steps of a stage and of all that it needs, in the order of the Dockerfile.
    fn steps(&self, number: usize) -> Vec<Step> {
        let needed = self.needed(number).into_iter().filter_map(|number| self.stages.get(&number));
        needed.flat_map(|stage| stage.steps.clone()).collect()
    }

    /// A stage and all that it needs, in the order of the Dockerfile.
    fn needed(&self, number: usize) -> BTreeSet<usize> {
        let (mut needed, mut open) = (BTreeSet::new(), vec![number]);
        while let Some(number) = open.pop() {
            if needed.insert(number) {
                open.extend(self.stages.get(&number).into_iter().flat_map(|stage| stage.needs.iter().copied()));
            }
        }
        needed
    }

    /// The file system that `--from` names, for the stage `current`.
    fn source(&mut self, name: &str, current: usize, stage: &mut Stage, line: usize) -> Result<From, Fault> {
        let is_stage = self.find_stage(name, current).is_ok_and(|stage| stage.is_some());
        if !is_stage && let Some((key, context)) = named::find(&self.request.contexts, name, &stage.platform) {
            return self.context(key, context, name, &stage.platform, line);
        }
        if let Some(number) = self.find_stage(name, current)? {
            stage.needs.insert(number);
            return self.stage(number).map(|stage| From::Node(stage.head)).map_err(Fault::planned);
        }
        let image = match name {
            "scratch" => None,
            name => {
                let found = self.images.image(name, &stage.platform);
                Some((found.map_err(|fault| self.with_near_stage(fault, name, current))?, true))
            }
        };
        if let Some((image, _)) = &image {
            self.lint_platform(name, &stage.platform, image);
        }
        Ok(From::Node(self.other(name, &stage.platform.clone(), line, image)))
    }

    /// An image that cannot be had may be a stage with a slip in its name.
    fn with_near_stage(&self, fault: Fault, name: &str, current: usize) -> Fault {
        let stages = self.dockerfile.stages.iter().take(current);
        match suggest::nearest(name, stages.filter_map(|stage| stage.from.value.name.as_deref())) {
            Some(near) => fault.with_hint(format!("did you mean the stage {near}?")),
            None => fault,
        }
    }

    /// The earlier stage of that name or number; an image's name otherwise.
    fn find_stage(&self, name: &str, current: usize) -> Result<Option<usize>, Fault> {
        let stages = &self.dockerfile.stages;
        let too_late = || {
            let this = stages.get(current).and_then(|stage| stage.from.value.name.clone());
            let this = this.unwrap_or_else(|| format!("stage-{current}"));
            Fault::new(format!(
                "cannot copy from stage \"{name}\", it needs to be defined before current stage \"{this}\""
            ))
        };
        if let Ok(number) = name.parse::<usize>() {
            return match number {
                _ if number >= stages.len() => Err(Fault::new(format!("invalid stage index {number}"))),
                _ if number >= current => Err(too_late()),
                _ => Ok(Some(number)),
            };
        }
        let lower = name.to_ascii_lowercase();
        let is_named = |stage: &crate::dockerfile::Stage| stage.from.value.name.as_deref() == Some(&*lower);
        match stages.iter().take(current).rposition(is_named) {
            Some(number) => Ok(Some(number)),
            None if stages.iter().skip(current).any(is_named) => Err(too_late()),
            None => Ok(None),
        }
    }

    /// The node of an image that is only read from.
    fn other(&mut self, name: &str, platform: &Platform, line: usize, image: Option<(Image, bool)>) -> NodeId {
        let key = (name.to_owned(), platform.clone());
        if let Some(node) = self.others.get(&key) {
            return *node;
        }
        let base = image.map(|(image, is_remote)| self.base_of(name, platform, &image, is_remote)).unwrap_or_default();
        let label = format!("FROM {name}");
        let node = self.graph.add(Node { operation: Operation::Base(base), line, label, platform: platform.clone() });
        self.others.insert(key, node);
        node
    }

    /// What an image brings that the Dockerfile calls by this name.
    fn base_of(&self, name: &str, platform: &Platform, image: &Image, is_remote: bool) -> Base {
        let (name, digest) = match named::find(&self.request.contexts, name, platform).map(|(_, context)| context) {
            Some(NamedContext::Image(artifact)) => (name.to_owned(), Some(artifact.descriptor().digest)),
            Some(NamedContext::Reference(reference)) => {
                (reference.to_string(), self.images.digest(&reference.to_string()))
            }
            _ => (name.to_owned(), self.images.digest(name)),
        };
        let digest = digest.unwrap_or_else(|| image.descriptor().digest);
        Base { layers: image.layers(), is_remote, material: Some(Material::image(&name, platform, digest)) }
    }

    /// Counts what an instruction or a stage copies: few short lines can ask for the same long value again and again.
    fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        self.held += bytes;
        if self.held <= LARGEST {
            return Ok(());
        }
        Err(Fault::new(format!("up to here, the variables of the Dockerfile expand to more than {LARGEST} bytes")))
    }

    fn file(&self) -> &str {
        &self.dockerfile.name
    }
}

/// Build arguments that no ARG asked for and that mean nothing by themselves.
///
/// Each with the argument that may have been meant.
pub(crate) fn unused_build_args(request: &Request, used: &BTreeSet<String>) -> Vec<String> {
    let names = request.build_args.keys();
    let unused = names.filter(|name| !used.contains(*name) && !scope::is_built_in(name));
    let told = |name: &String| match suggest::nearest(name, used.iter().map(String::as_str)) {
        Some(near) => format!("{name} (did you mean {near}?)"),
        None => name.clone(),
    };
    unused.map(told).collect()
}

impl Stage {
    /// The bytes of its history and its variables.
    fn size(&self) -> usize {
        self.entries.iter().map(|entry| entry.created_by.len()).sum::<usize>() + self.variables.size()
    }
}

impl Fault {
    /// An error of a stage that another one needs: it keeps its own line.
    fn planned(error: BuildError) -> Self {
        Self::Elsewhere(Box::new(error))
    }
}
