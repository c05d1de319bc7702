//! Watching: what Concourse's scheduler does, for one machine, one build at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use super::{CHECKS, NotReady, Report, Runner, RunnerError, gets, preflight};
use crate::Outcome;
use crate::config::{CheckEvery, Named, Resource};
use crate::inputs::Chosen;
use crate::plan::plan;
use crate::run::parallel;
use crate::run::stop::Stop;

/// Concourse's default interval.
const INTERVAL: Duration = Duration::from_mins(1);
/// How often to look whether to stop.
const LOOK: Duration = Duration::from_millis(50);

pub(super) fn watch(runner: &Runner, stop: &Stop, ran: &mut dyn FnMut(&Report)) -> Result<(), RunnerError> {
    let engine = &runner.engine;
    for job in &engine.config.jobs {
        let plan = plan(&engine.config, &job.name).map_err(|error| RunnerError::new(error.message))?;
        preflight::check(engine, &job.name, &plan)
            .map_err(|error| RunnerError { message: format!("job '{}': {}", job.name, error.message), ..error })?;
    }
    let mut checks = Checks::new(runner);
    let mut told = Told::new();
    while !stop.is_cancelled() {
        checks.run_due(runner, stop);
        if run_ready(runner, stop, &mut told, ran)? {
            continue;
        }
        let until = checks.next_due();
        while !stop.is_cancelled() && until.is_none_or(|until| Instant::now() < until) {
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

/// When each resource is due.
struct Checks<'r> {
    due: Vec<(&'r Resource, Duration, Instant)>,
}

impl<'r> Checks<'r> {
    /// The resources that jobs get; those that are never checked are not.
    fn new(runner: &'r Runner) -> Self {
        let config = &runner.engine.config;
        let used: BTreeSet<String> = config
            .jobs
            .iter()
            .flat_map(|job| gets(config, &job.name))
            .filter(|get| !runner.engine.options.inputs.contains_key(&get.name))
            .map(|get| get.resource_name().to_owned())
            .collect();
        let now = Instant::now();
        let due = config
            .resources
            .iter()
            .filter(|resource| used.contains(&resource.name))
            .filter_map(|resource| match resource.check_every {
                CheckEvery::Never => None,
                CheckEvery::Default => Some((resource, INTERVAL, now)),
                CheckEvery::Every(interval) => Some((resource, interval, now)),
            })
            .collect();
        Self { due }
    }

    fn run_due(&mut self, runner: &Runner, stop: &Stop) {
        let now = Instant::now();
        let due: Vec<&Resource> =
            self.due.iter().filter(|(_, _, at)| *at <= now).map(|(resource, ..)| *resource).collect();
        // What goes wrong has been shown; the next look may go better.
        let _ = parallel::all(due.len(), CHECKS, false, stop, &|index, stop| {
            let Some(resource) = due.get(index) else { return Outcome::Succeeded };
            let pins: Vec<_> = runner.engine.pin(resource).into_iter().collect();
            runner.engine.check_resource(resource, &pins, stop)
        });
        for (_, interval, at) in self.due.iter_mut().filter(|(_, _, at)| *at <= now) {
            *at = Instant::now() + (*interval).max(LOOK);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.due.iter().map(|(.., at)| *at).min()
    }
}

/// What is wrong with which job, as far as it has been said: it is looked at again and again, and said once.
type Told = BTreeMap<String, String>;

/// Runs each job that has something new, in the pipeline's order. Says whether one ran.
fn run_ready(runner: &Runner, stop: &Stop, told: &mut Told, ran: &mut dyn FnMut(&Report)) -> Result<bool, RunnerError> {
    let engine = &runner.engine;
    let mut any = false;
    for job in &engine.config.jobs {
        let chosen = match runner.choose(&job.name, false) {
            Ok(chosen) => chosen,
            // A job that has to wait for a version holds nobody up, and one that is broken neither.
            Err(NotReady::Waits(_)) => continue,
            Err(NotReady::Broken(error)) => {
                if told.insert(job.name.clone(), error.message.clone()).as_ref() != Some(&error.message) {
                    engine.log("job", &job.name).note(&format!("the job's inputs cannot be chosen: {error}"));
                }
                continue;
            }
        };
        told.remove(&job.name);
        if stop.is_cancelled() || !is_ready(runner, &job.name, &chosen) {
            continue;
        }
        let plan = plan(&engine.config, &job.name).map_err(|error| RunnerError::new(error.message))?;
        let report = runner.build(&job.name, &plan, chosen, stop, true)?;
        ran(&report);
        any = true;
    }
    Ok(any)
}

/// Whether a triggering input has a version that this job never used under this name.
fn is_ready(runner: &Runner, job: &str, chosen: &Chosen) -> bool {
    let triggers: BTreeMap<String, bool> =
        gets(&runner.engine.config, job).into_iter().map(|get| (get.name, get.trigger)).collect();
    runner.engine.state.builds(|builds| {
        chosen
            .inputs
            .iter()
            .filter(|(name, _)| triggers.get(*name) == Some(&true))
            .any(|(name, used)| !builds.counting(job).any(|build| build.inputs.get(name) == Some(used)))
    })
}
