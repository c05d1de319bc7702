//! Steps, and how a mapping with several of their keys is read (`atc/steps.go`).

use serde::Serialize;

use super::decode::{DecodeError, Decoded, Fields};
use super::task::{ContainerLimits, TaskConfig};
use crate::yaml::{Map, Node, Position, Value};

/// One mapping in a plan.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Step {
    /// What it says.
    pub config: StepConfig,
    /// Keys that it should not have.
    #[serde(skip)]
    pub unknown: Vec<(String, Position)>,
    /// Where it was written.
    #[serde(skip)]
    pub at: Position,
}

/// A step. Modifiers wrap what they modify.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[allow(missing_docs, reason = "the variants say what their fields are")]
pub enum StepConfig {
    /// A step with a hook.
    Hooked {
        on: Hook,
        step: Box<StepConfig>,
        hook: Box<Step>,
    },
    /// A step for each combination of values.
    Across(Across),
    /// A step that is tried again, at most so many times in all.
    Attempts {
        attempts: i64,
        step: Box<StepConfig>,
    },
    /// A step with a time limit, a Go duration. Core steps have theirs as a field, where it counts per attempt.
    Timeout {
        timeout: String,
        step: Box<StepConfig>,
    },
    Get(Get),
    Put(Put),
    Task(TaskStep),
    Run(RunPrototype),
    SetPipeline(SetPipeline),
    LoadVar(LoadVar),
    /// A step whose failure does not matter.
    Try(Box<Step>),
    /// Steps one after the other.
    Do(Vec<Step>),
    InParallel(InParallel),
}

impl StepConfig {
    /// Shows every step, hooks and the step below an across included, to `see`: outer steps first.
    pub fn visit(&self, see: &mut dyn FnMut(&Self)) {
        see(self);
        match self {
            Self::Hooked { step, hook, .. } => {
                step.visit(see);
                hook.config.visit(see);
            }
            Self::Across(across) => across.step.visit(see),
            Self::Attempts { step, .. } | Self::Timeout { step, .. } => step.visit(see),
            Self::Try(step) => step.config.visit(see),
            Self::Do(steps) => steps.iter().for_each(|step| step.config.visit(see)),
            Self::InParallel(parallel) => parallel.steps.iter().for_each(|step| step.config.visit(see)),
            Self::Get(_) | Self::Put(_) | Self::Task(_) | Self::Run(_) | Self::SetPipeline(_) | Self::LoadVar(_) => {}
        }
    }
}

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
pub enum Hook {
    /// After success.
    OnSuccess,
    /// After failure.
    OnFailure,
    /// After an abort.
    OnAbort,
    /// After an error.
    OnError,
    /// Always.
    Ensure,
}

impl Hook {
    /// The order in which they wrap, innermost first.
    pub const JOB_ORDER: [Self; 5] = [Self::OnSuccess, Self::OnFailure, Self::OnAbort, Self::OnError, Self::Ensure];

    /// Its key.
    pub fn key(self) -> &'static str {
        match self {
            Self::OnSuccess => "on_success",
            Self::OnFailure => "on_failure",
            Self::OnAbort => "on_abort",
            Self::OnError => "on_error",
            Self::Ensure => "ensure",
        }
    }
}

/// `get`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Get {
    /// The artifact's name.
    pub name: String,
    /// The resource, if its name is another.
    pub resource: Option<String>,
    /// Which version.
    pub version: Version,
    /// What the resource is told.
    pub params: Node,
    /// Globs of jobs that a version must have passed.
    pub passed: Vec<String>,
    /// Whether a new version starts the job.
    pub trigger: bool,
    /// A Go duration, read when it is used.
    pub timeout: Option<String>,
}

/// Which version a get takes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub enum Version {
    /// The newest.
    #[default]
    Latest,
    /// One build for each.
    Every,
    /// The newest that has these fields.
    Pinned(Vec<(String, String)>),
}

/// `put`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Put {
    /// The artifact's name.
    pub name: String,
    /// The resource, if its name is another.
    pub resource: Option<String>,
    /// What the resource is told.
    pub params: Node,
    /// Which artifacts it sees.
    pub inputs: PutInputs,
    /// What the get after it is told.
    pub get_params: Node,
    /// Whether the get after it is left out.
    pub no_get: bool,
    /// A Go duration, read when it is used.
    pub timeout: Option<String>,
}

/// Which artifacts a put sees.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub enum PutInputs {
    /// Those that its params seem to name.
    #[default]
    Detect,
    /// Every one.
    All,
    /// These.
    List(Vec<String>),
}

/// `task`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct TaskStep {
    /// Its name; part of its working directory's.
    pub name: String,
    /// A file in an artifact.
    pub file: Option<String>,
    /// The configuration itself.
    pub config: Option<Box<InlineTask>>,
    /// Vars for the file.
    pub vars: Node,
    /// Environment, over the configuration's.
    pub params: Map,
    /// The artifact to run in.
    pub image: Option<String>,
    /// Whether the container has all rights.
    pub privileged: bool,
    /// Whether it has no network.
    pub hermetic: bool,
    /// Limits, over the configuration's.
    pub limits: ContainerLimits,
    /// Input name to artifact.
    pub input_mapping: Vec<(String, String)>,
    /// Output name to artifact.
    pub output_mapping: Vec<(String, String)>,
    /// A Go duration, read when it is used.
    pub timeout: Option<String>,
}

/// A task's configuration in a pipeline: as written, because it is filled in when it runs, and as decoded now.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct InlineTask {
    /// As written.
    pub node: Node,
    /// As decoded.
    #[serde(skip)]
    pub decoded: TaskConfig,
    /// Keys that it should not have.
    #[serde(skip)]
    pub unknown: Vec<(String, Position)>,
}

/// `run`, which Concourse has not implemented.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct RunPrototype {
    /// The message.
    pub message: String,
    /// The prototype.
    pub kind: String,
}

/// `set_pipeline`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SetPipeline {
    /// The pipeline's name, or `self`.
    pub name: String,
    /// A file in an artifact.
    pub file: Option<String>,
}

/// `load_var`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LoadVar {
    /// The var's name.
    pub name: String,
    /// A file in an artifact.
    pub file: Option<String>,
    /// How to read it.
    pub format: Option<String>,
    /// Whether the value may be seen.
    pub reveal: bool,
}

/// `across`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Across {
    /// The vars; the last varies fastest.
    pub vars: Vec<AcrossVar>,
    /// Whether the first failure stops the others.
    pub fail_fast: bool,
    /// The step as decoded before its vars are known.
    pub step: Box<StepConfig>,
    /// The step as written, which is filled in with the vars and decoded again.
    pub template: Node,
}

/// One var of `across`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct AcrossVar {
    /// Its name.
    pub var: String,
    /// A list, or a reference to one.
    pub values: Node,
    /// How many of its values at a time.
    pub max_in_flight: Option<MaxInFlight>,
}

/// `max_in_flight` of an across var.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub enum MaxInFlight {
    /// All at once.
    All,
    /// So many.
    Limit(i64),
}

/// `in_parallel`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct InParallel {
    /// The steps.
    pub steps: Vec<Step>,
    /// How many at a time; 0 for all.
    pub limit: i64,
    /// Whether the first failure stops the others.
    pub fail_fast: bool,
}

/// A step with a resource behind it.
pub trait Named {
    /// The resource's name.
    fn resource_name(&self) -> &str;
}

impl Named for Get {
    fn resource_name(&self) -> &str {
        self.resource.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.name)
    }
}

impl Named for Put {
    fn resource_name(&self) -> &str {
        self.resource.as_deref().filter(|name| !name.is_empty()).unwrap_or(&self.name)
    }
}

impl Step {
    /// Reads one mapping of a plan.
    pub fn decode(node: &Node) -> Decoded<Self> {
        let mut fields = Fields::of(node, "Step")?;
        let mut modified = false;
        let config = modifiers(&mut fields, node, &mut modified)?;
        Ok(Self { config, unknown: fields.left(), at: node.at })
    }
}

/// Outermost first, then the core step.
fn modifiers(fields: &mut Fields<'_>, node: &Node, modified: &mut bool) -> Decoded<StepConfig> {
    for on in [Hook::Ensure, Hook::OnError, Hook::OnAbort, Hook::OnFailure, Hook::OnSuccess] {
        if let Some(hook) = fields.take_raw(on.key()) {
            *modified = true;
            let hook = Step::decode(hook).map_err(|error| malformed(error, on.key()))?;
            let step = modifiers(fields, node, modified)?;
            return Ok(StepConfig::Hooked { on, step: Box::new(step), hook: Box::new(hook) });
        }
    }
    if fields.has("across") {
        *modified = true;
        let vars = across_vars(fields).map_err(|error| malformed(error, "across"))?;
        fields.rename("AcrossStep");
        let fail_fast = fields.bool("fail_fast").map_err(|error| malformed(error, "across"))?;
        let step = modifiers(fields, node, modified)?;
        return Ok(StepConfig::Across(Across {
            vars,
            fail_fast,
            step: Box::new(step),
            template: across_template(node),
        }));
    }
    if fields.has("attempts") {
        *modified = true;
        fields.rename("RetryStep");
        let attempts = fields.int("attempts").map_err(|error| malformed(error, "attempts"))?.unwrap_or_default();
        let step = modifiers(fields, node, modified)?;
        return Ok(StepConfig::Attempts { attempts, step: Box::new(step) });
    }
    core(fields, node, modified)
}

fn core(fields: &mut Fields<'_>, node: &Node, modified: &mut bool) -> Decoded<StepConfig> {
    type Read = fn(&mut Fields<'_>) -> Decoded<StepConfig>;
    let first: [(&str, Read); 4] = [("run", run), ("task", task), ("put", put), ("get", get)];
    for (key, read) in first {
        if fields.has(key) {
            return read(fields).map_err(|error| malformed(error, key));
        }
    }
    if fields.has("timeout") {
        *modified = true;
        fields.rename("TimeoutStep");
        let timeout = fields.string("timeout").map_err(|error| malformed(error, "timeout"))?;
        let step = core(fields, node, modified)?;
        return Ok(StepConfig::Timeout { timeout, step: Box::new(step) });
    }
    let last: [(&str, Read); 5] = [
        ("set_pipeline", set_pipeline),
        ("load_var", load_var),
        ("try", try_step),
        ("do", do_step),
        ("in_parallel", in_parallel),
    ];
    for (key, read) in last {
        if fields.has(key) {
            return read(fields).map_err(|error| malformed(error, key));
        }
    }
    let message =
        if *modified { "no core step type declared (e.g. get, put, task, etc.)" } else { "no step configured" };
    Err(DecodeError::new(node.at, message))
}

fn malformed(error: DecodeError, key: &str) -> DecodeError {
    error.within(&format!("malformed {key} step"))
}

fn get(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("GetStep");
    fields.strings("tags")?;
    Ok(StepConfig::Get(Get {
        name: fields.string("get")?,
        resource: fields.optional_string("resource")?,
        version: fields.take("version").map(get_version).transpose()?.unwrap_or_default(),
        params: params(fields, "params")?,
        passed: fields.strings("passed")?,
        trigger: fields.bool("trigger")?,
        timeout: fields.optional_string("timeout")?,
    }))
}

fn get_version(node: &Node) -> Decoded<Version> {
    match &node.value {
        Value::String(text) if text == "every" => Ok(Version::Every),
        Value::String(_) => Ok(Version::Latest),
        Value::Map(map) => map
            .iter()
            .map(|entry| match entry.value.as_str() {
                Some(text) => Ok((entry.key.clone(), text.to_owned())),
                None => Err(DecodeError::new(
                    entry.value.at,
                    format!("the value {} of {} is not a string", entry.value.env_text(), entry.key),
                )
                .with_hint("quote it to make it a text")),
            })
            .collect::<Decoded<_>>()
            .map(Version::Pinned),
        _ => Err(DecodeError::new(node.at, "unknown type for version")),
    }
}

/// A version as resources have it: texts only.
pub(super) fn version_map(node: &Node, field: &str) -> Decoded<Vec<(String, String)>> {
    let mismatch = |node: &Node| {
        DecodeError::new(
            node.at,
            format!("json: cannot unmarshal {} into Go struct field {field} of type string", node.json_kind()),
        )
        .with_hint("quote it to make it a text")
    };
    let map = node.as_map().ok_or_else(|| mismatch(node))?;
    map.iter()
        .map(|entry| {
            let text = entry.value.as_str().ok_or_else(|| mismatch(&entry.value))?;
            Ok((entry.key.clone(), text.to_owned()))
        })
        .collect()
}

fn put(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("PutStep");
    fields.strings("tags")?;
    Ok(StepConfig::Put(Put {
        name: fields.string("put")?,
        resource: fields.optional_string("resource")?,
        params: params(fields, "params")?,
        inputs: put_inputs(fields)?,
        get_params: params(fields, "get_params")?,
        no_get: fields.bool("no_get")?,
        timeout: fields.optional_string("timeout")?,
    }))
}

fn put_inputs(fields: &mut Fields<'_>) -> Decoded<PutInputs> {
    let Some(node) = fields.take("inputs") else { return Ok(PutInputs::Detect) };
    match &node.value {
        Value::String(text) if text == "all" => Ok(PutInputs::All),
        Value::String(text) if text == "detect" => Ok(PutInputs::Detect),
        Value::List(items) => items
            .iter()
            .map(|item| {
                let text = item.as_str().ok_or_else(|| fields.mismatch(item, "inputs", "string"))?;
                Ok(text.to_owned())
            })
            .collect::<Decoded<_>>()
            .map(PutInputs::List),
        _ => Err(DecodeError::new(node.at, "unknown type for put inputs")
            .with_hint("write all, detect or a list of artifacts")),
    }
}

fn task(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("TaskStep");
    fields.strings("tags")?;
    Ok(StepConfig::Task(TaskStep {
        name: fields.string("task")?,
        file: fields.optional_string("file")?.filter(|file| !file.is_empty()),
        config: fields.take("config").map(inline_task).transpose()?,
        vars: params(fields, "vars")?,
        params: fields.map("params", "atc.TaskEnv")?.cloned().unwrap_or_default(),
        image: fields.optional_string("image")?.filter(|image| !image.is_empty()),
        privileged: fields.bool("privileged")?,
        hermetic: fields.bool("hermetic")?,
        limits: fields.take("container_limits").map(ContainerLimits::decode).transpose()?.unwrap_or_default(),
        input_mapping: fields.string_map("input_mapping")?,
        output_mapping: fields.string_map("output_mapping")?,
        timeout: fields.optional_string("timeout")?,
    }))
}

fn inline_task(node: &Node) -> Decoded<Box<InlineTask>> {
    let (decoded, unknown) = TaskConfig::decode(node)?;
    Ok(Box::new(InlineTask { node: node.clone(), decoded, unknown }))
}

fn run(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("RunStep");
    fields.strings("tags")?;
    params(fields, "params")?;
    fields.bool("privileged")?;
    fields.take("container_limits").map(ContainerLimits::decode).transpose()?;
    fields.optional_string("timeout")?;
    Ok(StepConfig::Run(RunPrototype { message: fields.string("run")?, kind: fields.string("type")? }))
}

fn set_pipeline(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("SetPipelineStep");
    params(fields, "vars")?;
    fields.strings("var_files")?;
    params(fields, "instance_vars")?;
    fields.optional_string("team")?;
    Ok(StepConfig::SetPipeline(SetPipeline {
        name: fields.string("set_pipeline")?,
        file: fields.optional_string("file")?,
    }))
}

fn load_var(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("LoadVarStep");
    Ok(StepConfig::LoadVar(LoadVar {
        name: fields.string("load_var")?,
        file: fields.optional_string("file")?,
        format: fields.optional_string("format")?,
        reveal: fields.bool("reveal")?,
    }))
}

fn try_step(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    let inner = fields.take_raw("try").map(Step::decode).transpose()?;
    inner.map(|step| StepConfig::Try(Box::new(step))).ok_or_else(|| DecodeError::new(fields.at, "no step configured"))
}

fn do_step(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("DoStep");
    fields.strings("tags")?;
    Ok(StepConfig::Do(fields.each("do", "[]atc.Step", Step::decode)?))
}

fn in_parallel(fields: &mut Fields<'_>) -> Decoded<StepConfig> {
    fields.rename("InParallelStep");
    fields.strings("tags")?;
    let node = fields.take_raw("in_parallel");
    match node.map(|node| &node.value) {
        Some(Value::List(items)) => Ok(StepConfig::InParallel(InParallel {
            steps: items.iter().map(Step::decode).collect::<Decoded<_>>()?,
            limit: 0,
            fail_fast: false,
        })),
        Some(Value::Map(map)) => {
            // Unlike everywhere else, upstream drops unknown keys here.
            let mut inner = Fields::of_map(map, fields.at, "InParallelConfig");
            Ok(StepConfig::InParallel(InParallel {
                steps: inner.each("steps", "[]atc.Step", Step::decode)?,
                limit: inner.int("limit")?.unwrap_or_default(),
                fail_fast: inner.bool("fail_fast")?,
            }))
        }
        _ => {
            let written = node.map(Node::env_text).unwrap_or_default();
            Err(DecodeError::new(fields.at, format!("wrong type for parallel config: {written}")))
        }
    }
}

fn across_vars(fields: &mut Fields<'_>) -> Decoded<Vec<AcrossVar>> {
    fields.rename("AcrossStep");
    fields.each("across", "[]atc.AcrossVarConfig", |node| {
        let mut fields = Fields::of(node, "AcrossVarConfig")?;
        let var = AcrossVar {
            var: fields.string("var")?,
            values: fields.take("values").cloned().unwrap_or_default(),
            max_in_flight: fields.take("max_in_flight").map(max_in_flight).transpose()?,
        };
        fields.finish().map(|()| var)
    })
}

fn max_in_flight(node: &Node) -> Decoded<MaxInFlight> {
    match &node.value {
        Value::String(text) if text == "all" => Ok(MaxInFlight::All),
        Value::Int(limit) => Ok(MaxInFlight::Limit(*limit)),
        Value::Number(text) if text.parse::<i64>().is_ok() => Ok(MaxInFlight::Limit(text.parse().unwrap_or_default())),
        _ => Err(DecodeError::new(node.at, format!("invalid max_in_flight {:?}", node.env_text()))),
    }
}

/// The step without what wraps `across`, and without it.
fn across_template(node: &Node) -> Node {
    let mut node = node.clone();
    if let Value::Map(map) = &mut node.value {
        for key in Hook::JOB_ORDER.map(Hook::key).into_iter().chain(["across", "fail_fast"]) {
            map.remove(key);
        }
    }
    node
}

fn params(fields: &mut Fields<'_>, key: &str) -> Decoded<Node> {
    match fields.take(key) {
        None => Ok(Node::default()),
        Some(node) if node.as_map().is_some() => Ok(node.clone()),
        Some(node) => Err(fields.mismatch(node, key, "atc.Params")),
    }
}
