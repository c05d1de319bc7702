//! Runs jobs of one pipeline: chooses inputs, runs builds, keeps score.

mod fingerprint;
mod preflight;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use skycap_concourse::{Host, Store};
use skycap_sandbox::{Cancel, Refused, Sandbox};

use crate::config::{Config, Get, Job, Named, Resource, StepConfig, Version as Rule};
use crate::inputs::{Chosen, Want, choose};
use crate::plan::{Plan, plan};
use crate::run::build::Build;
pub use crate::run::build::{GetReport, PutReport};
use crate::run::engine::{Engine, Trouble};
use crate::run::interpret::{Context, run};
use crate::run::parallel;
use crate::run::scope::Scope;
use crate::run::stop::Stop;
use crate::state::{Begun, Ended, State};
use crate::{Events, Options, Outcome, Puts};

/// A version, or some fields of one.
type Pin = Vec<(String, String)>;

/// How many resources are checked at once.
const CHECKS: usize = 8;

/// Why nothing ran.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunnerError {
    /// What and where; several lines if there are several reasons.
    pub message: String,
    /// What the user can do.
    pub hint: Option<String>,
}

impl RunnerError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ran {
    /// A build ran.
    Build(Report),
    /// All input versions equal those of this job's last successful build, which has this name.
    Unchanged(String),
}

/// A build that ran.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The job.
    pub job: String,
    /// The build's name: its number in the job.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What it got, in the order in which the gets ended.
    pub gets: Vec<GetReport>,
    /// What it put.
    pub puts: Vec<PutReport>,
}

/// A pipeline that can be run.
pub struct Runner {
    engine: Engine,
}

impl Runner {
    /// Opens the state directory. Fails if the pipeline is not sound, another runner holds the state, or a var source
    /// cannot be reached.
    ///
    /// `host` is what resources of this process use; its environment is theirs too. Containers need a sandbox; without
    /// one, what runs in this process still runs.
    pub fn new(
        config: Config,
        host: Host,
        store: Store,
        sandbox: Arc<Result<Sandbox, Refused>>,
        options: Options,
        events: Arc<dyn Events>,
    ) -> Result<Self, RunnerError> {
        let validation = config.validate();
        if !validation.is_sound() {
            return Err(RunnerError::new(validation.to_string().trim_end()));
        }
        let rehearses = options.puts == Puts::Skip || !options.inputs.is_empty();
        let state = State::open(&options.state, rehearses).map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                RunnerError::new(format!("{} is in use", options.state.display())).with_hint(
                    "another run or watch of this pipeline is at work: wait for it, or use another state directory",
                )
            } else {
                RunnerError::new(format!("open the state in {}: {error}", options.state.display()))
            }
        })?;
        let engine = Engine::new(config, host, store, sandbox, options, state, events).map_err(RunnerError::new)?;
        Ok(Self { engine })
    }

    /// Runs a job once. `cancel` aborts it: hooks still run.
    pub fn run(&self, job: &str, cancel: &Cancel) -> Result<Ran, RunnerError> {
        self.run_unless(job, cancel, false)
    }

    /// Runs a job unless it and its inputs are those of its last successful build.
    pub fn run_if_changed(&self, job: &str, cancel: &Cancel) -> Result<Ran, RunnerError> {
        self.run_unless(job, cancel, true)
    }

    /// Checks resources at their intervals and runs jobs whose triggering inputs have new versions, until stopped. A build
    /// that is stopped with it is run again by the next watch. Each finished build is shown to `ran`.
    pub fn watch(&self, stop: &Cancel, ran: &mut dyn FnMut(&Report)) -> Result<(), RunnerError> {
        watch::watch(self, &Stop::below(stop), ran)
    }

    fn run_unless(&self, job: &str, cancel: &Cancel, unchanged: bool) -> Result<Ran, RunnerError> {
        let plan =
            plan(&self.engine.config, job).map_err(|error| RunnerError::new(error.message).with_hint(error.hint))?;
        preflight::check(&self.engine, job, &plan)?;
        let stop = Stop::below(cancel);
        self.check_inputs(job, &stop)?;
        let chosen = self.choose(job, true)?;
        if unchanged && let Some(name) = self.unchanged(job, &chosen) {
            return Ok(Ran::Unchanged(name));
        }
        self.build(job, &plan, chosen, &stop, false).map(Ran::Build)
    }

    /// The name of the last successful build, if it had the same inputs and did the same. A local directory may always
    /// have changed.
    fn unchanged(&self, job: &str, chosen: &Chosen) -> Option<String> {
        let fingerprint = (!self.has_local_inputs(job)).then(|| fingerprint::of(&self.engine, job))?;
        self.engine.state.builds(|builds| {
            let last = builds.last_success(job)?;
            (last.inputs == chosen.inputs && last.plan == fingerprint).then(|| last.name.clone())
        })
    }

    fn has_local_inputs(&self, job: &str) -> bool {
        gets(&self.engine.config, job).iter().any(|get| self.engine.options.inputs.contains_key(&get.name))
    }

    /// Checks what a job's inputs are versions of, as a manual trigger does. What has passed other jobs comes from these.
    fn check_inputs(&self, job: &str, stop: &Stop) -> Result<(), RunnerError> {
        let mut wanted: BTreeMap<&str, (&Resource, Vec<Pin>)> = BTreeMap::new();
        for want in self.wants(job)? {
            let Some(resource) = self.engine.config.resource(&want.resource) else { continue };
            let pins = &mut wanted.entry(&resource.name).or_insert((resource, Vec::new())).1;
            if let Rule::Pinned(pin) = want.rule {
                pins.push(pin);
            }
        }
        let wanted: Vec<_> = wanted.into_values().collect();
        let outcome = parallel::all(wanted.len(), CHECKS, false, stop, &|index, stop| {
            wanted
                .get(index)
                .map_or(Outcome::Succeeded, |(resource, pins)| self.engine.check_resource(resource, pins, stop))
        });
        match outcome {
            Outcome::Succeeded => Ok(()),
            Outcome::Errored(error) => {
                Err(RunnerError::new(format!("the job's inputs could not be checked: {}", error.trim_end())))
            }
            Outcome::Failed => {
                Err(RunnerError::new("the job's inputs could not be checked: a resource's check failed"))
            }
            Outcome::Aborted => Err(RunnerError::new("interrupted")),
        }
    }

    /// What each get of the job asks for, with every version that is known.
    fn wants(&self, job: &str) -> Result<Vec<Want>, RunnerError> {
        let config = &self.engine.config;
        let mut wants = Vec::new();
        for get in gets(config, job) {
            if self.engine.options.inputs.contains_key(&get.name) {
                continue;
            }
            let Some(resource) = config.resource(get.resource_name()) else { continue };
            let versions = self.engine.versions_of(resource).map_err(explain)?;
            let rule = match (&get.version, self.engine.pin(resource)) {
                (Rule::Pinned(pin), _) => Rule::Pinned(pin.clone()),
                (_, Some(pin)) => Rule::Pinned(pin),
                (rule, None) => rule.clone(),
            };
            wants.push(Want {
                name: get.name.clone(),
                resource: resource.name.clone(),
                rule,
                passed: passed(config, &get),
                trigger: get.trigger,
                versions,
            });
        }
        Ok(wants)
    }

    fn choose(&self, job: &str, lenient: bool) -> Result<Chosen, NotReady> {
        let wants = self.wants(job).map_err(NotReady::Broken)?;
        let chosen = self.engine.state.builds(|builds| choose(job, &wants, builds, lenient));
        let chosen = chosen.map_err(|why| {
            let error = RunnerError::new(format!("job '{job}' has to wait: {why}"));
            NotReady::Waits(error.with_hint("a cluster would leave the build pending until there is such a version"))
        })?;
        for name in &chosen.unpassed {
            self.engine.log("job", job).note(&format!(
                "{name}: the jobs that it must have passed have not succeeded here, so `passed` is ignored and the newest version is used"
            ));
        }
        Ok(chosen)
    }

    /// Runs one build. With `resumable` a cancelled one counts as interrupted, so that the next watch runs it again.
    fn build(
        &self,
        job: &str,
        plan: &Plan,
        chosen: Chosen,
        stop: &Stop,
        resumable: bool,
    ) -> Result<Report, RunnerError> {
        let engine = &self.engine;
        let keep = |error: io::Error| RunnerError::new(format!("keep the build's state: {error}"));
        let begun = Begun {
            inputs: chosen.inputs.clone(),
            plan: fingerprint::of(engine, job),
            rehearsal: (engine.options.puts == Puts::Skip && plan.has_puts()) || self.has_local_inputs(job),
        };
        let (id, name) = engine.state.change_builds(|builds| builds.start(job, begun)).map_err(keep)?;
        let log = engine.log("job", job);
        log.initializing();
        let build = Build {
            engine,
            job,
            id,
            name: name.clone(),
            inputs: chosen.inputs,
            gets: Mutex::default(),
            puts: Mutex::default(),
            log: log.clone(),
        };
        let kill = Stop::below(&engine.options.kill);
        let cx = Context { scope: Arc::new(Scope::default()), stop: stop.clone(), kill, status: None };
        let outcome = log.finished(run(plan, &build, &cx));
        let ended = match &outcome {
            Outcome::Succeeded => Ended::Succeeded,
            Outcome::Failed => Ended::Failed,
            Outcome::Errored(_) => Ended::Errored,
            Outcome::Aborted if resumable => Ended::Interrupted,
            Outcome::Aborted => Ended::Aborted,
        };
        engine.state.change_builds(|builds| builds.end(job, id, ended)).map_err(keep)?;
        // What cannot be removed now goes at the next start.
        let _ = engine.state.clear_work();
        let inner = |error| PoisonError::into_inner(error);
        Ok(Report {
            job: job.to_owned(),
            name,
            outcome,
            gets: build.gets.into_inner().unwrap_or_else(inner),
            puts: build.puts.into_inner().unwrap_or_else(PoisonError::into_inner),
        })
    }
}

/// Why a job has no inputs yet.
enum NotReady {
    /// There is no version that will do; a later one may.
    Waits(RunnerError),
    /// Something is wrong that no version mends.
    Broken(RunnerError),
}

impl From<NotReady> for RunnerError {
    fn from(why: NotReady) -> Self {
        match why {
            NotReady::Waits(error) | NotReady::Broken(error) => error,
        }
    }
}

fn explain(trouble: Trouble) -> RunnerError {
    match trouble {
        Trouble::Errored(error) => RunnerError::new(error),
        Trouble::Failed => RunnerError::new("a resource's script failed"),
        Trouble::Aborted => RunnerError::new("interrupted"),
    }
}

/// Every get of a job, hooks included, in the order of the plan.
fn gets(config: &Config, job: &str) -> Vec<Get> {
    let mut gets = Vec::new();
    if let Some(job) = config.job(job) {
        job.step().visit(&mut |step| {
            if let StepConfig::Get(get) = step {
                gets.push(get.clone());
            }
        });
    }
    gets
}

/// The jobs that a get's `passed` means.
fn passed(config: &Config, get: &Get) -> Vec<String> {
    let mut jobs = Vec::new();
    for pattern in &get.passed {
        let Ok(matches) = crate::validate::glob(pattern) else { continue };
        let names = config.jobs.iter().map(|job: &Job| &job.name).filter(|name| matches(name));
        jobs.extend(names.cloned());
    }
    jobs.sort();
    jobs.dedup();
    jobs
}
