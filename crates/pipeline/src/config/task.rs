//! A task's configuration (`atc/task.go`).

use serde::Serialize;

use super::decode::{DecodeError, Decoded, Fields};
use super::duration::parse_duration;
use crate::yaml::{Map, Node, Position, Value};

/// What a task runs, in what and on what.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TaskConfig {
    /// Must be `linux` here.
    pub platform: String,
    /// The image as a URI; only some old runtimes have it.
    pub rootfs_uri: String,
    /// The image as a resource.
    pub image_resource: Option<ImageResource>,
    /// What it may use.
    pub limits: ContainerLimits,
    /// Environment; values become texts when it runs.
    pub params: Map,
    /// The program.
    pub run: Run,
    /// Artifacts it reads.
    pub inputs: Vec<Input>,
    /// Artifacts it makes.
    pub outputs: Vec<Output>,
    /// Directories that outlive a build.
    pub caches: Vec<Cache>,
}

/// `image_resource`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ImageResource {
    /// Its name; `image` if empty.
    pub name: String,
    /// Its resource type.
    pub kind: String,
    /// What the type is told.
    pub source: Node,
    /// The version; without one there is a check.
    pub version: Option<Vec<(String, String)>>,
    /// Get params.
    pub params: Node,
}

/// `run`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Run {
    /// The program; empty for the image's own.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where, below the working directory.
    pub dir: String,
    /// As whom.
    pub user: String,
}

/// An input.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Where, if not below its name.
    pub path: String,
    /// Whether it may be missing.
    pub optional: bool,
}

/// An output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where, if not below its name.
    pub path: String,
}

/// A directory that outlives a build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    /// Where.
    pub path: String,
    /// How old it may get.
    pub ttl: Option<std::time::Duration>,
}

/// `container_limits`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct ContainerLimits {
    /// Shares.
    pub cpu: Option<u64>,
    /// Bytes.
    pub memory: Option<u64>,
}

impl TaskConfig {
    /// Reads a configuration; unknown keys of the top level are handed back, because a pipeline and a file report them
    /// with different texts.
    pub fn decode(node: &Node) -> Decoded<(Self, Vec<(String, Position)>)> {
        let mut fields = Fields::of(node, "TaskConfig")?;
        let config = Self {
            platform: fields.string("platform")?,
            rootfs_uri: fields.string("rootfs_uri")?,
            image_resource: fields.take("image_resource").map(image_resource).transpose()?,
            limits: fields.take("container_limits").map(ContainerLimits::decode).transpose()?.unwrap_or_default(),
            params: fields.map("params", "atc.TaskEnv")?.cloned().unwrap_or_default(),
            run: fields.take("run").map(run).transpose()?.unwrap_or_default(),
            inputs: fields.each("inputs", "[]atc.TaskInputConfig", input)?,
            outputs: fields.each("outputs", "[]atc.TaskOutputConfig", output)?,
            caches: fields.each("caches", "[]atc.TaskCacheConfig", cache)?,
        };
        Ok((config, fields.left()))
    }

    /// Concourse's `TaskConfig.Validate`.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.platform.is_empty() {
            faults.push("missing 'platform'".to_owned());
        }
        let unnamed = |name: &str| name.is_empty();
        for (index, _) in self.inputs.iter().enumerate().filter(|(_, input)| unnamed(&input.name)) {
            faults.push(format!("  input in position {index} is missing a name"));
        }
        for (index, _) in self.outputs.iter().enumerate().filter(|(_, output)| unnamed(&output.name)) {
            faults.push(format!("  output in position {index} is missing a name"));
        }
        faults
    }
}

fn image_resource(node: &Node) -> Decoded<ImageResource> {
    let mut fields = Fields::of(node, "ImageResource")?;
    fields.strings("tags")?;
    let mapping = |node: Option<&Node>| node.cloned().unwrap_or_default();
    let image = ImageResource {
        name: fields.string("name")?,
        kind: fields.string("type")?,
        source: mapping(fields.take("source")),
        version: fields
            .take("version")
            .map(|node| super::step::version_map(node, "ImageResource.version"))
            .transpose()?,
        params: mapping(fields.take("params")),
    };
    fields.finish().map(|()| image)
}

fn run(node: &Node) -> Decoded<Run> {
    let mut fields = Fields::of(node, "TaskRunConfig")?;
    let run = Run {
        path: fields.string("path")?,
        args: fields.strings("args")?,
        dir: fields.string("dir")?,
        user: fields.string("user")?,
    };
    fields.finish().map(|()| run)
}

fn input(node: &Node) -> Decoded<Input> {
    let mut fields = Fields::of(node, "TaskInputConfig")?;
    let input =
        Input { name: fields.string("name")?, path: fields.string("path")?, optional: fields.bool("optional")? };
    fields.finish().map(|()| input)
}

fn output(node: &Node) -> Decoded<Output> {
    let mut fields = Fields::of(node, "TaskOutputConfig")?;
    let output = Output { name: fields.string("name")?, path: fields.string("path")? };
    fields.finish().map(|()| output)
}

fn cache(node: &Node) -> Decoded<Cache> {
    let mut fields = Fields::of(node, "TaskCacheConfig")?;
    let ttl = fields.optional_string("ttl")?.map(|ttl| cache_ttl(&ttl, node.at)).transpose()?;
    let cache = Cache { path: fields.string("path")?, ttl };
    fields.finish().map(|()| cache)
}

fn cache_ttl(ttl: &str, at: Position) -> Decoded<std::time::Duration> {
    match parse_duration(ttl) {
        Err(error) => Err(DecodeError::new(at, format!("invalid cache ttl '{ttl}': {error}"))),
        Ok(duration) if duration.as_secs() < 1 => {
            Err(DecodeError::new(at, format!("cache ttl must be at least 1s, got '{ttl}'")))
        }
        Ok(duration) => Ok(duration),
    }
}

impl ContainerLimits {
    pub(super) fn decode(node: &Node) -> Decoded<Self> {
        let mut fields = Fields::of(node, "ContainerLimits")?;
        let cpu = fields.take("cpu").map(cpu).transpose()?;
        let memory = fields.take("memory").map(memory).transpose()?;
        fields.finish().map(|()| Self { cpu, memory })
    }
}

fn cpu(node: &Node) -> Decoded<u64> {
    Some(node)
        .filter(|node| node.json_kind() == "number")
        .and_then(|node| node.env_text().parse().ok())
        .ok_or_else(|| DecodeError::new(node.at, "cpu limit must be an integer"))
}

fn memory(node: &Node) -> Decoded<u64> {
    let fail = || DecodeError::new(node.at, "could not parse container memory limit");
    match &node.value {
        Value::String(text) => memory_text(text).ok_or_else(fail),
        _ if node.json_kind() == "number" => node.env_text().parse().map_err(|_| fail()),
        _ => Err(fail()),
    }
}

/// `(?i)^([0-9]+)(([KMG])(i)?B?)?$`, always in binary multiples.
fn memory_text(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit {
        "" => 0,
        "k" | "kb" | "ki" | "kib" => 10,
        "m" | "mb" | "mi" | "mib" => 20,
        "g" | "gb" | "gi" | "gib" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_are_binary_multiples() {
        for (text, expected) in [
            ("1gb", Some(1 << 30)),
            ("10MB", Some(10 << 20)),
            ("1GiB", Some(1 << 30)),
            ("5k", Some(5 << 10)),
            ("7", Some(7)),
            ("7b", None),
            ("k", None),
            ("1tb", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(memory_text(text), expected, "{text}");
        }
    }
}
