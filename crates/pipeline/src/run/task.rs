//! Tasks (`atc/exec/task_step.go`): find the configuration, the image and the inputs, run, keep the outputs.

mod layout;
mod native;

use std::collections::BTreeMap;

use skycap_concourse::{Kind, Known, known_image};
use skycap_sandbox::{Exit, Stdin};

use super::build::{Build, file_in, metadata_env};
use super::container::{Container, resolve_path, working_dir};
use super::engine::Trouble;
use super::files::read_in;
use super::image::ImageDir;
use super::interpret::{Context, Version};
use super::log::StepLog;
use super::resource::Caller;
use super::types::{Served, repository};
use crate::config::{ImageResource, TaskConfig, TaskStep};
use crate::vars::{Missing, Vars, interpolate};
use crate::yaml::{Node, Value, parse};
use layout::Layout;

/// A task file may be this large.
const CONFIG_LIMIT: u64 = 16 << 20;

/// A task, with everything known.
struct Task<'t> {
    build: &'t Build<'t>,
    step: &'t TaskStep,
    config: TaskConfig,
    cx: &'t Context,
    log: &'t StepLog,
}

/// Runs a task step. Outputs are registered also when it fails: hooks may want them.
pub(crate) fn run(build: &Build<'_>, step: &TaskStep, cx: &Context, log: &StepLog) -> Result<(), Trouble> {
    let config = config(build, step, cx, log)?;
    supported(step, &config, log)?;
    let task = Task { build, step, config, cx, log };
    if let Some(image) = task.native_image()? {
        return native::run(&task, image);
    }
    task.run()
}

impl Task<'_> {
    /// The image resource, if it is one that this program does the work of.
    fn native_image(&self) -> Result<Option<&ImageResource>, Trouble> {
        let engine = self.build.engine;
        let Some(image) = self.config.image_resource.as_ref().filter(|_| self.step.image.is_none()) else {
            return Ok(None);
        };
        let plain =
            self.config.run.path == "build" && self.config.run.args.is_empty() && self.config.run.user.is_empty();
        if !engine.options.native || !plain || !Layout::is_relative(&self.config) {
            return Ok(None);
        }
        let served = engine.chain(&image.kind)?.served;
        let known = repository(&image.source).as_ref().and_then(known_image);
        let is_native = served == Served::Native(Kind::RegistryImage) && known == Some(Known::OciBuildTask);
        Ok(is_native.then_some(image))
    }

    fn run(&self) -> Result<(), Trouble> {
        let engine = self.build.engine;
        // Refused before anything is fetched.
        engine.sandbox()?;
        let layout = Layout::new(self)?;
        let image = self.image()?;
        let program = self.program(&image)?;
        let user = if self.config.run.user.is_empty() { &image.user } else { &self.config.run.user };
        let mut env = image.env.clone();
        env.extend(self.env());
        let prepared = layout.prepare(self)?;
        let root = working_dir(&self.step.name);
        let (path, args) = program.split_first().map_or(("", &[][..]), |(path, args)| (path.as_str(), args));
        self.log.running(path, args);
        let container = Container {
            rootfs: &image.rootfs,
            args: program.clone(),
            env,
            user,
            cwd: resolve_path(&root, &self.config.run.dir),
            volumes: prepared.volumes(),
            privileged: self.step.privileged,
            terminal: true,
            hermetic: self.step.hermetic,
        };
        let mut output = self.log.output();
        let exit = container.run(engine, Stdin::Empty, &mut output, &self.cx.stop);
        output.finish();
        prepared.keep(self)?;
        match exit? {
            Exit::Code(0) => Ok(()),
            Exit::Code(code) => {
                self.log.note(&format!("exit status {code}"));
                Err(Trouble::Failed)
            }
            Exit::Signal(signal) => {
                self.log.note(&format!("killed by signal {signal}"));
                Err(Trouble::Failed)
            }
        }
    }

    fn image(&self) -> Result<ImageDir, Trouble> {
        if let Some(name) = &self.step.image {
            let artifact = self.cx.scope.artifact(name).ok_or_else(|| {
                Trouble::Errored(format!(
                    "missing image artifact source: {name}\n\nmake sure there's a corresponding 'get' step, or a task that produces it as an output"
                ))
            })?;
            return ImageDir::of(&artifact);
        }
        let Some(image) = &self.config.image_resource else {
            return Err(Trouble::Errored(
                "No image specified for task? Make sure to specify \"image\" on your task step or \"image_resource\" in your task config. The image must be in rootfs format."
                    .to_owned(),
            ));
        };
        let engine = self.build.engine;
        let chain = engine.chain(&image.kind)?;
        let source = chain.source(&image.source);
        let env = metadata_env(&engine.options.external_url, &engine.options.pipeline);
        let caller = Caller { engine, log: self.log, stop: &self.cx.stop, env: &env };
        let name = if image.name.is_empty() { "image" } else { &image.name };
        let version = image.version.as_ref().map(|version| version.iter().cloned().collect::<Version>());
        let fetched = caller.fetch_image(name, &chain, &source, &image.params.to_json(), version.as_ref());
        ImageDir::open(&fetched.map_err(|trouble| match trouble {
            Trouble::Failed => Trouble::Errored("image fetching failed".to_owned()),
            other => other,
        })?)
    }

    /// The program and its arguments; the image's own if the task names none.
    fn program(&self, image: &ImageDir) -> Result<Vec<String>, Trouble> {
        let run = &self.config.run;
        let mut program = if run.path.is_empty() { image.program.clone() } else { vec![run.path.clone()] };
        if program.is_empty() {
            return Err(Trouble::Errored(
                "No executable defined for task. Specify an executable to run in either the task config (run.path) or as an ENTRYPOINT/CMD in the container image."
                    .to_owned(),
            ));
        }
        program.extend(run.args.iter().cloned());
        Ok(program)
    }

    /// What the process gets: its params, and where the server would be. Nothing about the build.
    fn env(&self) -> Vec<(String, String)> {
        let mut env: BTreeMap<String, String> =
            self.config.params.iter().map(|entry| (entry.key.clone(), entry.value.env_text())).collect();
        env.insert("ATC_EXTERNAL_URL".to_owned(), self.build.engine.options.external_url.clone());
        env.into_iter().collect()
    }
}

/// What cannot be done here is said before anything is done.
fn supported(step: &TaskStep, config: &TaskConfig, log: &StepLog) -> Result<(), Trouble> {
    let faults = config.faults();
    if !faults.is_empty() {
        return Err(Trouble::Errored(format!("invalid task configuration:\n{}", faults.join("\n"))));
    }
    if config.platform != "linux" {
        return Err(Trouble::Errored(format!(
            "platform {} has no worker here: a cluster without one would wait for ever",
            config.platform
        )));
    }
    if !config.rootfs_uri.is_empty() && step.image.is_none() {
        return Err(Trouble::Errored("rootfs_uri is not supported: use image_resource".to_owned()));
    }
    let limits = [step.limits, config.limits];
    if limits.iter().any(|limits| limits.cpu.is_some() || limits.memory.is_some()) {
        log.note("container_limits are not applied here: the task may use all of this machine");
    }
    Ok(())
}

/// The configuration with everything filled in: the step's params over its own.
fn config(build: &Build<'_>, step: &TaskStep, cx: &Context, log: &StepLog) -> Result<TaskConfig, Trouble> {
    let engine = build.engine;
    let fill = |node: &Node| engine.fill(node, &cx.scope);
    let mut config = match (&step.config, &step.file) {
        (Some(inline), _) => {
            TaskConfig::decode(&fill(&inline.node)?).map_err(|error| Trouble::Errored(error.message))?.0
        }
        (None, Some(file)) => {
            let file = fill(&Node::text(file.as_str()))?;
            from_file(build, step, file.as_str().unwrap_or_default(), cx)?
        }
        (None, None) => return Err(Trouble::Errored("must specify either `file:` or `config:`".to_owned())),
    };
    let Value::Map(params) = fill(&Node::of(Value::Map(step.params.clone())))?.value else { return Ok(config) };
    for entry in &params {
        if config.params.get(&entry.key).is_none() {
            log.note(&format!("[WARNING] {} was defined in pipeline but missing from task file", entry.key));
        }
        config.params.insert(entry.key.clone(), entry.at, entry.value.clone());
    }
    Ok(config)
}

/// First the step's own vars, of which some may be missing, then everything that the build knows.
fn from_file(build: &Build<'_>, step: &TaskStep, path: &str, cx: &Context) -> Result<TaskConfig, Trouble> {
    let (artifact, inner) = file_in(path, cx, "config path")?;
    let bytes = read_in(&artifact.dir, inner, CONFIG_LIMIT)
        .map_err(|_| Trouble::Errored(format!("task config '{path}' not found")))?;
    let invalid = |why: String| Trouble::Errored(format!("failed to create task config from bytes {path}: {why}"));
    let document = parse(&bytes).map_err(|error| invalid(format!("line {}: {}", error.at.line, error.message)))?;
    let undefined = |error| Trouble::Errored(format!("failed to interpolate task config: {error}"));
    let own = match build.engine.fill(&step.vars, &cx.scope)?.value {
        Value::Map(map) => Vars::of(map),
        _ => Vars::default(),
    };
    let node = interpolate(&document.root, &own, Missing::Keep).map_err(undefined)?;
    let node = build.engine.fill(&node, &cx.scope).map_err(undefined)?;
    let (config, unknown) =
        TaskConfig::decode(&node).map_err(|error| invalid(format!("line {}: {}", error.at.line, error.message)))?;
    if unknown.is_empty() {
        return Ok(config);
    }
    let names: Vec<&str> = unknown.iter().map(|(name, _)| name.as_str()).collect();
    Err(invalid(format!("unknown fields: [{}]", names.join(" "))))
}
