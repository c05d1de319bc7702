//! How outcomes flow: what `atc/exec` does around its core steps.

use std::sync::Arc;

use super::parallel::{all, several};
use super::scope::Scope;
use super::stop::Stop;
use crate::Outcome;
use crate::config::{
    Across, Get, Hook, LoadVar, MaxInFlight, RunPrototype, SetPipeline, Step, TaskStep, parse_duration,
};
use crate::plan::{Plan, PutPlan};
use crate::vars::{Lookup, Missing, Reference, VarError, interpolate};
use crate::yaml::{Node, Value};

/// A version of a resource, as texts.
pub(crate) type Version = std::collections::BTreeMap<String, String>;

/// Does what is not the interpreter's business. Every method reports its own beginning, log and end.
pub(crate) trait Executor: Sync {
    fn get(&self, get: &Get, cx: &Context) -> Outcome;
    /// The put alone; the version if it succeeded.
    fn put(&self, put: &PutPlan, cx: &Context) -> (Outcome, Option<Version>);
    /// The get after a put.
    fn get_after(&self, put: &PutPlan, params: &Node, version: &Version, cx: &Context) -> Outcome;
    fn task(&self, task: &TaskStep, cx: &Context) -> Outcome;
    fn load_var(&self, step: &LoadVar, cx: &Context) -> Outcome;
    fn set_pipeline(&self, step: &SetPipeline, cx: &Context) -> Outcome;
    fn run(&self, step: &RunPrototype, cx: &Context) -> Outcome;
    /// Fills a value in with everything that is known at this point.
    fn fill(&self, value: &Node, cx: &Context) -> Result<Node, VarError>;
    /// Says something about the build as a whole.
    fn note(&self, text: &str);
}

/// Where a step runs.
#[derive(Clone)]
pub(crate) struct Context {
    pub scope: Arc<Scope>,
    /// Cancelled when this step should end.
    pub stop: Stop,
    /// The parent of fresh tokens for hooks that run after an abort.
    pub kill: Stop,
    /// `BUILD_STATUS` inside hooks.
    pub status: Option<&'static str>,
}

impl Context {
    fn stopped_by(&self, stop: Stop) -> Self {
        Self { stop, ..self.clone() }
    }

    /// For a hook: it knows how its step ended, and an abort of the step is not its own.
    fn hook(&self, outcome: &Outcome) -> Self {
        let stop = if self.stop.is_cancelled() { self.kill.child() } else { self.stop.clone() };
        Self { stop, status: Some(outcome.word()), ..self.clone() }
    }
}

/// Runs a plan.
pub(crate) fn run(plan: &Plan, executor: &dyn Executor, cx: &Context) -> Outcome {
    if cx.stop.is_cancelled() {
        return Outcome::Aborted;
    }
    match plan {
        Plan::Do(steps) => {
            for step in steps {
                let outcome = run(step, executor, cx);
                if outcome != Outcome::Succeeded {
                    return outcome;
                }
            }
            Outcome::Succeeded
        }
        Plan::InParallel { steps, limit, fail_fast } => {
            all(steps.len(), *limit, *fail_fast, &cx.stop, &|index, stop| {
                steps.get(index).map_or(Outcome::Succeeded, |step| run(step, executor, &cx.stopped_by(stop.clone())))
            })
        }
        Plan::Across(across) => across_all(across, executor, cx),
        Plan::Get(get) => executor.get(get, cx),
        Plan::Put(put) => put_and_get(put, executor, cx),
        Plan::Task(task) => executor.task(task, cx),
        Plan::Run(step) => executor.run(step, cx),
        Plan::LoadVar(step) => executor.load_var(step, cx),
        Plan::SetPipeline(step) => executor.set_pipeline(step, cx),
        Plan::Hooked { step, on, then } => hooked(step, *on, then, executor, cx),
        Plan::Retry { attempts, step } => retry(*attempts, step, executor, cx),
        Plan::Timeout { timeout, step } => limited(Some(timeout), executor, cx, |cx| run(step, executor, cx)),
        Plan::Try(step) => match run(step, executor, cx) {
            Outcome::Aborted => Outcome::Aborted,
            _ => Outcome::Succeeded,
        },
    }
}

fn retry(attempts: u64, step: &Plan, executor: &dyn Executor, cx: &Context) -> Outcome {
    let mut outcome = Outcome::Succeeded;
    for attempt in 1..=attempts {
        if attempt > 1 {
            executor.note(&format!("attempt {attempt} of {attempts}"));
        }
        outcome = run(step, executor, cx);
        if matches!(outcome, Outcome::Succeeded | Outcome::Aborted) {
            break;
        }
    }
    outcome
}

fn put_and_get(put: &PutPlan, executor: &dyn Executor, cx: &Context) -> Outcome {
    let mut version = None;
    let outcome = limited(put.timeout.as_ref(), executor, cx, |cx| {
        let (outcome, made) = executor.put(put, cx);
        version = made;
        outcome
    });
    match (outcome, &put.get, version) {
        (Outcome::Succeeded, Some(params), Some(version)) => {
            limited(put.timeout.as_ref(), executor, cx, |cx| executor.get_after(put, params, &version, cx))
        }
        (outcome, _, _) => outcome,
    }
}

/// A step that takes too long has failed, which is neither an error nor an abort.
fn limited(
    timeout: Option<&String>,
    executor: &dyn Executor,
    cx: &Context,
    body: impl FnOnce(&Context) -> Outcome,
) -> Outcome {
    let Some(timeout) = timeout else { return body(cx) };
    let limit = match parse_duration(timeout) {
        Ok(limit) => limit,
        Err(error) => {
            let message = format!("parse timeout: {error}");
            executor.note(&message);
            return Outcome::Errored(message);
        }
    };
    let inner = cx.stopped_by(cx.stop.child());
    let (outcome, expired) = inner.stop.deadline(limit, || body(&inner));
    if expired && outcome == Outcome::Aborted && !cx.stop.is_cancelled() {
        executor.note("timeout exceeded");
        return Outcome::Failed;
    }
    outcome
}

fn hooked(step: &Plan, on: Hook, then: &Plan, executor: &dyn Executor, cx: &Context) -> Outcome {
    let outcome = run(step, executor, cx);
    let hook = || run(then, executor, &cx.hook(&outcome));
    match (on, &outcome) {
        (Hook::OnSuccess, Outcome::Succeeded) => hook(),
        (Hook::OnFailure, Outcome::Failed) => match hook() {
            // An error of the hook is worse than the failure; its failure is not.
            result @ (Outcome::Errored(_) | Outcome::Aborted) => result,
            Outcome::Succeeded | Outcome::Failed => Outcome::Failed,
        },
        (Hook::OnError, Outcome::Errored(error)) => {
            let mut errors = vec![error.clone()];
            if let Outcome::Errored(error) = hook() {
                errors.push(error);
            }
            Outcome::Errored(several(&errors))
        }
        (Hook::OnAbort, Outcome::Aborted) => {
            hook();
            Outcome::Aborted
        }
        (Hook::Ensure, _) => ensured(outcome.clone(), cx.stop.is_cancelled(), hook()),
        (Hook::OnSuccess | Hook::OnFailure | Hook::OnError | Hook::OnAbort, _) => outcome,
    }
}

fn ensured(outcome: Outcome, cancelled: bool, hook: Outcome) -> Outcome {
    if cancelled || outcome == Outcome::Aborted {
        return Outcome::Aborted;
    }
    let errors: Vec<String> = [&outcome, &hook]
        .into_iter()
        .filter_map(|outcome| if let Outcome::Errored(error) = outcome { Some(error.clone()) } else { None })
        .collect();
    match (outcome, hook) {
        _ if !errors.is_empty() => Outcome::Errored(several(&errors)),
        (_, Outcome::Aborted) => Outcome::Aborted,
        (Outcome::Succeeded, Outcome::Succeeded) => Outcome::Succeeded,
        _ => Outcome::Failed,
    }
}

/// Values are known now: one leaf for each combination, the last var fastest, each var with its own limit.
fn across_all(across: &Across, executor: &dyn Executor, cx: &Context) -> Outcome {
    let mut vars = Vec::new();
    for var in &across.vars {
        if cx.scope.var(&var.var).is_some() {
            executor.note(&format!("WARNING: across step shadows local var '{}'", var.var));
        }
        let error = match executor.fill(&var.values, cx) {
            Ok(values) => match Node::from_json(&values.to_json()).value {
                Value::List(values) => {
                    vars.push(AcrossValues { name: &var.var, values, limit: limit(var.max_in_flight) });
                    continue;
                }
                _ => format!("values of across var '{}' must be a list, not {}", var.var, values.json_kind()),
            },
            Err(error) => error.to_string(),
        };
        executor.note(&error);
        return Outcome::Errored(error);
    }
    leaves(across, &vars, &[], executor, cx)
}

struct AcrossValues<'a> {
    name: &'a str,
    values: Vec<Node>,
    limit: usize,
}

fn limit(limit: Option<MaxInFlight>) -> usize {
    match limit {
        None => 1,
        Some(MaxInFlight::All) => 0,
        Some(MaxInFlight::Limit(limit)) => usize::try_from(limit).unwrap_or(1),
    }
}

fn leaves(
    across: &Across,
    vars: &[AcrossValues<'_>],
    chosen: &[(&str, &Node)],
    executor: &dyn Executor,
    cx: &Context,
) -> Outcome {
    let Some((var, rest)) = vars.split_first() else { return leaf(across, chosen, executor, cx) };
    all(var.values.len(), var.limit, across.fail_fast, &cx.stop, &|index, stop| {
        let Some(value) = var.values.get(index) else { return Outcome::Succeeded };
        let mut chosen = chosen.to_vec();
        chosen.push((var.name, value));
        leaves(across, rest, &chosen, executor, &cx.stopped_by(stop.clone()))
    })
}

fn leaf(across: &Across, chosen: &[(&str, &Node)], executor: &dyn Executor, cx: &Context) -> Outcome {
    let scope = Scope::child(&cx.scope);
    for (name, value) in chosen {
        scope.set_var(name, (*value).clone());
    }
    let chosen = Chosen(chosen);
    let step = interpolate(&across.template, &chosen, Missing::Keep)
        .map_err(|error| error.to_string())
        .and_then(|template| Step::decode(&template).map_err(|error| error.message));
    match step {
        Ok(step) => {
            let inner = Context { scope: Arc::new(scope), ..cx.clone() };
            run(&Plan::of(&step.config), executor, &inner)
        }
        Err(error) => {
            executor.note(&error);
            Outcome::Errored(error)
        }
    }
}

/// The vars of one leaf alone: what else the step refers to is filled in when it runs.
struct Chosen<'a>(&'a [(&'a str, &'a Node)]);

impl Lookup for Chosen<'_> {
    fn get(&self, reference: &Reference) -> Result<Option<Node>, VarError> {
        if !reference.is_local() {
            return Ok(None);
        }
        let found = self.0.iter().rev().find(|(name, _)| *name == reference.path);
        found.map(|(_, value)| crate::vars::traverse(value, reference)).transpose()
    }
}

#[cfg(test)]
mod tests;
