//! What a run tells whoever shows it. Secrets are already redacted.

use skycap_image::Event;

use crate::Outcome;

/// Which step an event is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Its kind as written in a pipeline: `get`, `put`, `task`, `load_var`, `set_pipeline`, `check`, `image`, `job`.
    pub kind: &'static str,
    /// Its name: what to prefix lines with.
    pub name: String,
}

/// Where a line was printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// A task's terminal, or a resource's standard error: the build log.
    Stdout,
    /// The runner's own remarks, which Concourse prints on standard error.
    Stderr,
}

/// Something that happened in a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepEvent<'a> {
    /// The step begins (`initializing` in fly).
    Initializing,
    /// A resource is checked (`initializing check: NAME` in fly).
    Check(&'a str),
    /// A program starts: its path and arguments.
    Running(&'a str, &'a [String]),
    /// Output of a program, or a remark of the runner.
    Log(Stream, &'a [u8]),
    /// What something that runs in this process reports: transfers, build steps.
    Progress(Event<'a>),
    /// The metadata of a version that was fetched or made: names and values.
    Metadata(&'a [(String, String)]),
    /// The error with which the step errored.
    Error(&'a str),
    /// The step ended.
    Finished(&'a Outcome),
}

/// Receives what happens, from any thread.
pub trait Events: Send + Sync {
    /// Takes one event. It must be quick and cannot fail.
    fn event(&self, step: &Step, event: StepEvent<'_>);
}

/// Ignores everything.
#[derive(Clone, Copy, Default, Debug)]
pub struct Mute;

impl Events for Mute {
    fn event(&self, _: &Step, _: StepEvent<'_>) {}
}
