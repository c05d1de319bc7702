//! One build: the interpreter's [`Executor`] for real steps.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde_json::Value as Json;

use super::engine::{Engine, Trouble};
use super::files::read_in;
use super::interpret::{Context, Executor, Version};
use super::log::StepLog;
use super::resource::{Answer, Caller, Request};
use super::scope::Artifact;
use super::types::repository;
use crate::config::{Get, LoadVar, Named, PutInputs, Resource, RunPrototype, SetPipeline, TaskStep, extension};
use crate::plan::{PutPlan, detected};
use crate::state::Used;
use crate::vars::VarError;
use crate::yaml::{Map, Node, Position, Value};
use crate::{Outcome, Puts};

/// A file that becomes a var may be this large.
const VAR_LIMIT: u64 = 16 << 20;

/// What a get used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetReport {
    /// The step's name.
    pub name: String,
    /// The resource's name.
    pub resource: String,
    /// The version, or `None` where a local directory stood in.
    pub version: Option<BTreeMap<String, String>>,
}

/// What a put made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PutReport {
    /// The step's name.
    pub name: String,
    /// The resource's name.
    pub resource: String,
    /// The resource's type.
    pub kind: String,
    /// `source.repository`, where there is one.
    pub repository: Option<String>,
    /// The version, or `None` if the put was skipped.
    pub version: Option<BTreeMap<String, String>>,
    /// What the resource says about it.
    pub metadata: Vec<(String, String)>,
}

/// One build of a job.
pub(crate) struct Build<'b> {
    pub engine: &'b Engine,
    pub job: &'b str,
    pub id: u64,
    pub name: String,
    /// Versions by the name of the get.
    pub inputs: BTreeMap<String, Used>,
    pub gets: Mutex<Vec<GetReport>>,
    pub puts: Mutex<Vec<PutReport>>,
    pub log: StepLog,
}

impl Build<'_> {
    /// What resource scripts learn about the build.
    fn env(&self, resource: Option<&Resource>, status: Option<&str>) -> Vec<(String, String)> {
        let options = &self.engine.options;
        let (url, pipeline) = (&options.external_url, &options.pipeline);
        let mut env = metadata_env(url, pipeline);
        env.extend(
            [
                ("BUILD_ID", self.id.to_string()),
                ("BUILD_NAME", self.name.clone()),
                ("BUILD_JOB_NAME", self.job.to_owned()),
                ("BUILD_JOB_ID", "1".to_owned()),
                ("BUILD_URL", format!("{url}/teams/main/pipelines/{pipeline}/jobs/{}/builds/{}", self.job, self.name)),
                ("BUILD_URL_SHORT", format!("{url}/builds/{}", self.id)),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if let Some(status) = status {
            env.push(("BUILD_STATUS".to_owned(), status.to_owned()));
        }
        if resource.is_some_and(|resource| resource.expose_build_created_by) {
            env.push(("BUILD_CREATED_BY".to_owned(), "local".to_owned()));
        }
        env
    }

    fn resource(&self, name: &str) -> Result<&Resource, Trouble> {
        self.engine.config.resource(name).ok_or_else(|| Trouble::Errored(format!("unknown resource '{name}'")))
    }

    fn get_step(&self, get: &Get, cx: &Context, log: &StepLog) -> Result<(), Trouble> {
        if let Some(dir) = self.engine.options.inputs.get(&get.name) {
            let dir = fs::canonicalize(dir)
                .ok()
                .filter(|dir| dir.is_dir())
                .ok_or_else(|| Trouble::Errored(format!("{} is not a directory", dir.display())))?;
            log.note(&format!("using the local directory {} instead of a version", dir.display()));
            cx.scope.add_artifact(&get.name, Artifact { dir });
            self.report_get(get.resource_name(), &get.name, None);
            return Ok(());
        }
        let used = self.inputs.get(&get.name);
        let used = used.ok_or_else(|| Trouble::Errored(format!("version for input {} not provided", get.name)))?;
        self.fetch(&get.name, get.resource_name(), &get.params, &used.version, cx, log)
    }

    fn fetch(
        &self,
        name: &str,
        resource: &str,
        params: &Node,
        version: &Version,
        cx: &Context,
        log: &StepLog,
    ) -> Result<(), Trouble> {
        let resource = self.resource(resource)?;
        let chain = self.engine.chain(&resource.kind)?;
        let source = chain.source(&self.engine.fill(&resource.source, &cx.scope)?);
        let params = self.engine.fill(params, &cx.scope)?.to_json();
        let env = self.env(Some(resource), cx.status);
        let caller = Caller { engine: self.engine, log, stop: &cx.stop, env: &env };
        let fetched = caller.get(&Request { chain: &chain, source: &source, params: &params, version })?;
        log.metadata(&fetched.answer.metadata);
        cx.scope.add_artifact(name, Artifact { dir: fetched.dir });
        cx.scope.set_var(name, metadata_var(&fetched.answer.metadata));
        self.report_get(&resource.name, name, Some(fetched.answer.version));
        Ok(())
    }

    fn report_get(&self, resource: &str, name: &str, version: Option<Version>) {
        let report = GetReport { name: name.to_owned(), resource: resource.to_owned(), version };
        self.gets.lock().unwrap_or_else(PoisonError::into_inner).push(report);
    }

    fn put_step(&self, put: &PutPlan, cx: &Context, log: &StepLog) -> Result<Option<Version>, Trouble> {
        let resource = self.resource(&put.resource)?;
        let chain = self.engine.chain(&resource.kind)?;
        let mut report = PutReport {
            name: put.name.clone(),
            resource: resource.name.clone(),
            kind: resource.kind.clone(),
            repository: None,
            version: None,
            metadata: Vec::new(),
        };
        if self.engine.options.puts == Puts::Skip {
            log.note("skipped: nothing was put, and nothing is fetched back; a cluster would do both");
            self.puts.lock().unwrap_or_else(PoisonError::into_inner).push(report);
            return Ok(None);
        }
        let own = self.engine.fill(&resource.source, &cx.scope)?;
        report.repository = repository(&own).map(|repository| repository.to_string());
        let params = self.engine.fill(&put.params, &cx.scope)?;
        let inputs = put_inputs(&put.inputs, &params, cx)?;
        let env = self.env(Some(resource), cx.status);
        let caller = Caller { engine: self.engine, log, stop: &cx.stop, env: &env };
        let Answer { version, metadata } = caller.put(&chain, &chain.source(&own), &params.to_json(), &inputs)?;
        log.metadata(&metadata);
        let state = &self.engine.state;
        let scope = self.engine.scope_of(resource)?;
        state.save_versions(&resource.name, &scope, std::slice::from_ref(&version))?;
        let output = Used { resource: resource.name.clone(), version: version.clone() };
        state.change_builds(|builds| builds.add_output(self.job, self.id, output))?;
        report.version = Some(version.clone());
        report.metadata = metadata;
        self.puts.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        Ok(Some(version))
    }

    fn load_var_step(&self, step: &LoadVar, cx: &Context, log: &StepLog) -> Result<(), Trouble> {
        let file = self.engine.fill(&Node::text(step.file.as_deref().unwrap_or_default()), &cx.scope)?;
        let path = file.as_str().unwrap_or_default().to_owned();
        let (artifact, inner) = file_in(&path, cx, "file")?;
        let missing = |_| {
            Trouble::Errored(format!(
                "file '{inner}' not found within artifact '{}'",
                path.split('/').next().unwrap_or_default()
            ))
        };
        let bytes = read_in(&artifact.dir, inner, VAR_LIMIT).map_err(missing)?;
        log.note(&format!("var {} fetched.", step.name));
        let value = var_value(&bytes, &path, step.format.as_deref()).map_err(Trouble::Errored)?;
        if !step.reveal {
            self.engine.redactor.track(&value);
        }
        cx.scope.set_var(&step.name, value);
        log.note(&format!("added var {} to build.", step.name));
        Ok(())
    }
}

impl Executor for Build<'_> {
    fn get(&self, get: &Get, cx: &Context) -> Outcome {
        let log = self.engine.log("get", &get.name);
        reported(&log, || self.get_step(get, cx, &log)).0
    }

    fn put(&self, put: &PutPlan, cx: &Context) -> (Outcome, Option<Version>) {
        let log = self.engine.log("put", &put.name);
        let (outcome, version) = reported(&log, || self.put_step(put, cx, &log));
        (outcome, version.flatten())
    }

    fn get_after(&self, put: &PutPlan, params: &Node, version: &Version, cx: &Context) -> Outcome {
        let log = self.engine.log("get", &put.name);
        reported(&log, || self.fetch(&put.name, &put.resource, params, version, cx, &log)).0
    }

    fn task(&self, task: &TaskStep, cx: &Context) -> Outcome {
        let log = self.engine.log("task", &task.name);
        reported(&log, || super::task::run(self, task, cx, &log)).0
    }

    fn load_var(&self, step: &LoadVar, cx: &Context) -> Outcome {
        let log = self.engine.log("load_var", &step.name);
        reported(&log, || self.load_var_step(step, cx, &log)).0
    }

    fn set_pipeline(&self, step: &SetPipeline, _: &Context) -> Outcome {
        let log = self.engine.log("set_pipeline", &step.name);
        reported(&log, || Err::<(), _>(Trouble::Errored("set_pipeline is not supported by this runner".to_owned()))).0
    }

    fn run(&self, step: &RunPrototype, _: &Context) -> Outcome {
        let log = self.engine.log("run", &step.message);
        reported(&log, || {
            log.note("the run step is not yet implemented");
            log.note(&format!("pretending to run {} on prototype {}...", step.message, step.kind));
            Ok(())
        })
        .0
    }

    fn fill(&self, value: &Node, cx: &Context) -> Result<Node, VarError> {
        self.engine.fill(value, &cx.scope)
    }

    fn note(&self, text: &str) {
        self.log.note(text);
    }
}

/// Runs a step between its first and its last event.
fn reported<T>(log: &StepLog, body: impl FnOnce() -> Result<T, Trouble>) -> (Outcome, Option<T>) {
    log.initializing();
    let (outcome, value) = match body() {
        Ok(value) => (Outcome::Succeeded, Some(value)),
        Err(trouble) => (trouble.into(), None),
    };
    (log.finished(outcome), value)
}

/// An artifact's directory and the path inside it, from `artifact/path`.
pub(crate) fn file_in<'p>(path: &'p str, cx: &Context, what: &str) -> Result<(Artifact, &'p str), Trouble> {
    let (artifact, file) = path
        .split_once('/')
        .ok_or_else(|| Trouble::Errored(format!("{what} '{path}' does not specify where the file lives")))?;
    let found = cx.scope.artifact(artifact);
    let found = found
        .ok_or_else(|| Trouble::Errored(format!("unknown artifact source: '{artifact}' in file path '{path}'")))?;
    Ok((found, file))
}

/// What every check, get and put learns about the pipeline.
pub(crate) fn metadata_env(external_url: &str, pipeline: &str) -> Vec<(String, String)> {
    [
        ("ATC_EXTERNAL_URL", external_url),
        ("BUILD_TEAM_ID", "1"),
        ("BUILD_TEAM_NAME", "main"),
        ("BUILD_PIPELINE_ID", "1"),
        ("BUILD_PIPELINE_NAME", pipeline),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// A get's metadata as the var `((.:NAME.field))`.
fn metadata_var(metadata: &[(String, String)]) -> Node {
    let mut map = Map::default();
    for (name, value) in metadata {
        map.insert(name.clone(), Position::default(), Node::text(value.clone()));
    }
    Node::of(Value::Map(map))
}

fn put_inputs(inputs: &PutInputs, params: &Node, cx: &Context) -> Result<Vec<(String, PathBuf)>, Trouble> {
    let artifacts = cx.scope.artifacts();
    let all = artifacts.into_iter().map(|(name, artifact)| (name, artifact.dir));
    match inputs {
        PutInputs::All => Ok(all.collect()),
        PutInputs::Detect => {
            let named = detected(params);
            Ok(all.filter(|(name, _)| named.contains(name)).collect())
        }
        PutInputs::List(names) => {
            let all: BTreeMap<String, PathBuf> = all.collect();
            names
                .iter()
                .map(|name| {
                    let dir = all.get(name).ok_or_else(|| Trouble::Errored(format!("input not found: {name}")))?;
                    Ok((name.clone(), dir.clone()))
                })
                .collect()
        }
    }
}

/// What a file's content is as a var (`load_var_step.go`).
fn var_value(bytes: &[u8], path: &str, format: Option<&str>) -> Result<Node, String> {
    let known = |format: &&str| ["json", "yaml", "yml", "trim", "raw"].contains(format);
    let format = match format.filter(|format| !format.is_empty()) {
        Some(format) if known(&format) => format,
        Some(format) => return Err(format!("invalid format {format}")),
        None => Some(extension(path)).filter(known).unwrap_or("trim"),
    };
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match format {
        "raw" => Ok(Node::text(text())),
        "json" => {
            let fail = |why: String| format!("failed to parse {path} in format json: {why}");
            let mut values = serde_json::Deserializer::from_slice(bytes).into_iter::<Json>();
            let value = match values.next() {
                Some(Ok(value)) => value,
                Some(Err(error)) => return Err(fail(error.to_string())),
                None => return Err(fail("EOF".to_owned())),
            };
            match values.next() {
                None => Ok(Node::from_json(&value)),
                Some(_) => Err(fail("invalid json: characters found after top-level value".to_owned())),
            }
        }
        "yaml" | "yml" => {
            let document = crate::yaml::parse(bytes)
                .map_err(|error| format!("failed to parse {path} in format yaml: {}", error.message))?;
            Ok(Node::from_json(&document.root.to_json()))
        }
        _ => Ok(Node::text(text().trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_become_vars_by_format_or_extension() {
        for (path, format, content, expected) in [
            ("a/tag", None, " 3.4.0-alpine\n", Ok(r#""3.4.0-alpine""#)),
            ("a/x.txt", None, " x\n", Ok(r#""x""#)),
            ("a/x.json", None, r#"{"n": 1.50}"#, Ok(r#"{"n":1.5}"#)),
            ("a/x.json", Some("raw"), "1\n", Ok("\"1\\n\"")),
            ("a/x.yml", None, "on: [010]", Ok(r#"{"true":[8]}"#)),
            ("a/x", Some("toml"), "", Err("invalid format toml")),
            (
                "a/x.json",
                None,
                "1 2",
                Err("failed to parse a/x.json in format json: invalid json: characters found after top-level value"),
            ),
        ] {
            let found = var_value(content.as_bytes(), path, format).map(|node| node.to_json().to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned), "{path} {format:?}");
        }
    }
}
