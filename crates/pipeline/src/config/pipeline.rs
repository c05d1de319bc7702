//! The top level: resources, types, jobs, groups.

use std::time::Duration;

use serde::Serialize;

use super::decode::{DecodeError, Decoded, Fields};
use super::duration::parse_duration;
use super::step::{Hook, Step, StepConfig, version_map};
use crate::yaml::{Node, Position};

/// A pipeline.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Config {
    /// Filters for listings.
    pub groups: Vec<Group>,
    /// Places that late vars come from.
    pub var_sources: Vec<VarSource>,
    /// What versions are found of.
    pub resources: Vec<Resource>,
    /// Resource types beyond the base types.
    pub resource_types: Vec<ResourceType>,
    /// Prototypes: checked for form, and not used by anything that runs.
    pub prototypes: Vec<ResourceType>,
    /// What is done.
    pub jobs: Vec<Job>,
    /// How Concourse's web page looks.
    pub display: Option<Display>,
    /// Top-level keys that Concourse drops: people keep anchors there. `fly validate-pipeline --strict` refuses them.
    pub unknown: Vec<(String, Position)>,
}

/// A group of jobs on the web page.
#[derive(Clone, PartialEq, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Globs of job names.
    pub jobs: Vec<String>,
    /// Resource names.
    pub resources: Vec<String>,
    /// Where it was written.
    pub at: Position,
}

/// A place that late vars come from.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VarSource {
    /// What references call it.
    pub name: String,
    /// `vault`, `dummy`, `ssm`, `secretsmanager`, `idtoken`.
    pub kind: String,
    /// Its configuration.
    pub config: Node,
    /// Where it was written.
    #[serde(skip)]
    pub at: Position,
}

/// How often to look for versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CheckEvery {
    /// Concourse's default of one minute.
    #[default]
    Default,
    /// Only when asked.
    Never,
    /// At this interval.
    Every(Duration),
}

/// A resource.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Resource {
    /// Its name.
    pub name: String,
    /// Its type's name.
    pub kind: String,
    /// What its type is told; null if absent.
    pub source: Node,
    /// How often to look.
    #[serde(skip)]
    pub check_every: CheckEvery,
    /// How long a check may take; a Go duration, read when it is used.
    #[serde(skip)]
    pub check_timeout: Option<String>,
    /// The pinned version.
    #[serde(skip)]
    pub version: Option<Vec<(String, String)>>,
    /// Whether `BUILD_CREATED_BY` is told.
    pub expose_build_created_by: bool,
    /// Where it was written.
    #[serde(skip)]
    pub at: Position,
}

/// A resource type or a prototype.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ResourceType {
    /// Its name.
    pub name: String,
    /// The type of the resource that its image is.
    pub kind: String,
    /// Where the image is.
    pub source: Node,
    /// Source fields that every resource of this type has unless it says otherwise.
    pub defaults: Node,
    /// Whether its containers are privileged.
    pub privileged: bool,
    /// Get params for the image.
    pub params: Node,
    /// Where it was written.
    #[serde(skip)]
    pub at: Position,
}

/// A job.
#[derive(Clone, PartialEq, Debug)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// Its steps, one after the other.
    pub plan: Vec<Step>,
    /// Hooks round the plan.
    pub hooks: Hooks,
    /// One build at a time.
    pub serial: bool,
    /// One build at a time among all jobs of a group.
    pub serial_groups: Vec<String>,
    /// At most so many builds at a time.
    pub max_in_flight: Option<i64>,
    /// Deprecated form of `log_retention.builds`.
    pub build_logs_to_retain: Option<i64>,
    /// How long Concourse keeps logs.
    pub log_retention: Option<LogRetention>,
    /// Whether `fly trigger-job` refuses.
    pub disable_manual_trigger: bool,
    /// Where it was written.
    pub at: Position,
}

/// Hooks in the order in which they wrap, innermost first.
pub type Hooks = Vec<(Hook, Step)>;

/// `build_log_retention`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogRetention {
    /// How many builds.
    pub builds: i64,
    /// How many days.
    pub days: i64,
    /// How many successful builds at least.
    pub minimum_succeeded_builds: i64,
}

/// `display`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Display {
    /// A URL.
    pub background_image: String,
}

impl Config {
    pub(super) fn decode(root: &Node) -> Decoded<Self> {
        let mut fields = Fields::of(root, "Config")?;
        let config = Self {
            groups: fields.each("groups", "atc.GroupConfigs", group)?,
            var_sources: fields.each("var_sources", "atc.VarSourceConfigs", var_source)?,
            resources: fields.each("resources", "atc.ResourceConfigs", resource)?,
            resource_types: fields
                .each("resource_types", "atc.ResourceTypes", |node| resource_type(node, "ResourceType"))?,
            prototypes: fields.each("prototypes", "atc.Prototypes", |node| resource_type(node, "Prototype"))?,
            jobs: fields.each("jobs", "atc.JobConfigs", job)?,
            display: fields.take("display").map(display).transpose()?,
            unknown: Vec::new(),
        };
        fields.take_raw("user_data");
        Ok(Self { unknown: fields.left(), ..config })
    }

    /// A job by its name.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.iter().find(|job| job.name == name)
    }

    /// A resource by its name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// A resource type by its name.
    pub fn resource_type(&self, name: &str) -> Option<&ResourceType> {
        self.resource_types.iter().find(|kind| kind.name == name)
    }
}

impl Job {
    /// The plan as one step, with the job's hooks round it.
    pub fn step(&self) -> StepConfig {
        self.hooks.iter().fold(StepConfig::Do(self.plan.clone()), |inner, (on, step)| StepConfig::Hooked {
            on: *on,
            step: Box::new(inner),
            hook: Box::new(step.clone()),
        })
    }
}

/// A mapping that resources get as JSON; anything but a mapping or null is refused.
fn source(fields: &mut Fields<'_>, key: &str, go_type: &str) -> Decoded<Node> {
    match fields.take(key) {
        None => Ok(Node::default()),
        Some(node) if node.as_map().is_some() => Ok(node.clone()),
        Some(node) => Err(fields.mismatch(node, key, go_type)),
    }
}

fn group(node: &Node) -> Decoded<Group> {
    let mut fields = Fields::of(node, "GroupConfig")?;
    let group = Group {
        name: fields.string("name")?,
        jobs: fields.strings("jobs")?,
        resources: fields.strings("resources")?,
        at: node.at,
    };
    fields.finish().map(|()| group)
}

fn var_source(node: &Node) -> Decoded<VarSource> {
    let mut fields = Fields::of(node, "VarSourceConfig")?;
    let source = VarSource {
        name: fields.string("name")?,
        kind: fields.string("type")?,
        config: fields.take("config").cloned().unwrap_or_default(),
        at: node.at,
    };
    fields.finish().map(|()| source)
}

fn resource(node: &Node) -> Decoded<Resource> {
    let mut fields = Fields::of(node, "ResourceConfig")?;
    fields.optional_string("old_name")?;
    fields.bool("public")?;
    fields.optional_string("webhook_token")?;
    fields.strings("tags")?;
    fields.optional_string("icon")?;
    let resource = Resource {
        name: fields.string("name")?,
        kind: fields.string("type")?,
        source: source(&mut fields, "source", "atc.Source")?,
        check_every: check_every(&mut fields)?,
        check_timeout: fields.optional_string("check_timeout")?,
        version: fields.take("version").map(|node| version_map(node, "ResourceConfig.version")).transpose()?,
        expose_build_created_by: fields.bool("expose_build_created_by")?,
        at: node.at,
    };
    fields.finish().map(|()| resource)
}

fn resource_type(node: &Node, struct_name: &'static str) -> Decoded<ResourceType> {
    let mut fields = Fields::of(node, struct_name)?;
    fields.strings("tags")?;
    check_every(&mut fields)?;
    let kind = ResourceType {
        name: fields.string("name")?,
        kind: fields.string("type")?,
        source: source(&mut fields, "source", "atc.Source")?,
        defaults: source(&mut fields, "defaults", "atc.Source")?,
        privileged: fields.bool("privileged")?,
        params: source(&mut fields, "params", "atc.Params")?,
        at: node.at,
    };
    fields.finish().map(|()| kind)
}

fn check_every(fields: &mut Fields<'_>) -> Decoded<CheckEvery> {
    let Some(node) = fields.take("check_every") else { return Ok(CheckEvery::Default) };
    match node.as_str() {
        None => {
            Err(DecodeError::new(node.at, "non-string value provided")
                .with_hint("write an interval such as 15m, or never"))
        }
        Some("") => Ok(CheckEvery::Default),
        Some("never") => Ok(CheckEvery::Never),
        Some(text) => {
            parse_duration(text).map(CheckEvery::Every).map_err(|error| DecodeError::new(node.at, error.to_string()))
        }
    }
}

fn job(node: &Node) -> Decoded<Job> {
    let mut fields = Fields::of(node, "JobConfig")?;
    fields.optional_string("old_name")?;
    for key in ["public", "disable_reruns", "interruptible"] {
        fields.bool(key)?;
    }
    fields.strings("tags")?;
    let job = Job {
        name: fields.string("name")?,
        plan: fields.each("plan", "[]atc.Step", Step::decode)?,
        hooks: Hook::JOB_ORDER
            .into_iter()
            .filter_map(|on| Some((on, fields.take(on.key())?)))
            .map(|(on, step)| Ok((on, Step::decode(step)?)))
            .collect::<Decoded<_>>()?,
        serial: fields.bool("serial")?,
        serial_groups: fields.strings("serial_groups")?,
        max_in_flight: fields.int("max_in_flight")?,
        build_logs_to_retain: fields.int("build_logs_to_retain")?,
        log_retention: fields.take("build_log_retention").map(log_retention).transpose()?,
        disable_manual_trigger: fields.bool("disable_manual_trigger")?,
        at: node.at,
    };
    fields.finish().map(|()| job)
}

fn log_retention(node: &Node) -> Decoded<LogRetention> {
    let mut fields = Fields::of(node, "BuildLogRetention")?;
    let retention = LogRetention {
        builds: fields.int("builds")?.unwrap_or_default(),
        days: fields.int("days")?.unwrap_or_default(),
        minimum_succeeded_builds: fields.int("minimum_succeeded_builds")?.unwrap_or_default(),
    };
    fields.finish().map(|()| retention)
}

fn display(node: &Node) -> Decoded<Display> {
    let mut fields = Fields::of(node, "DisplayConfig")?;
    let display = Display { background_image: fields.string("background_image")? };
    fields.optional_string("background_filter")?;
    fields.finish().map(|()| display)
}
