//! A plan as text: one line per step, indented by what contains it.

use std::fmt::{self, Formatter};

use super::{Plan, PutPlan};
use crate::config::{
    Across, Get, LoadVar, MaxInFlight, Named, PutInputs, RunPrototype, SetPipeline, TaskConfig, TaskStep, Version,
};
use crate::yaml::{Map, Node};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Printer { out: f, depth: 0 }.plan(self)
    }
}

struct Printer<'p, 'f> {
    out: &'p mut Formatter<'f>,
    depth: usize,
}

impl Printer<'_, '_> {
    fn plan(&mut self, plan: &Plan) -> fmt::Result {
        match plan {
            Plan::Do(steps) => self.block("do", steps),
            Plan::InParallel { steps, limit, fail_fast } => {
                let limit = if *limit == 0 { String::new() } else { format!(" limit {limit}") };
                self.block(&format!("in parallel{limit}{}", word(*fail_fast, " fail fast")), steps)
            }
            Plan::Across(across) => self.across(across),
            Plan::Get(get) => self.get(get),
            Plan::Put(put) => self.put(put),
            Plan::Task(task) => self.task(task),
            Plan::Run(RunPrototype { message, kind }) => {
                self.line(&format!("run {message} of {kind} (pretended, as in Concourse)"))
            }
            Plan::LoadVar(LoadVar { name, file, format, reveal }) => self.line(&format!(
                "load_var {name} from {}{}{}",
                file.as_deref().unwrap_or_default(),
                format.as_ref().map(|format| format!(" as {format}")).unwrap_or_default(),
                word(*reveal, " revealed")
            )),
            Plan::SetPipeline(SetPipeline { name, file }) => {
                self.line(&format!("set_pipeline {name} from {}", file.as_deref().unwrap_or_default()))
            }
            Plan::Hooked { step, on, then } => {
                self.plan(step)?;
                self.nested(on.key(), then)
            }
            Plan::Retry { attempts, step } => self.nested(&format!("attempts {attempts}"), step),
            Plan::Timeout { timeout, step } => self.nested(&format!("timeout {timeout}"), step),
            Plan::Try(step) => self.nested("try", step),
        }
    }

    fn across(&mut self, across: &Across) -> fmt::Result {
        self.line(&format!("across{}", word(across.fail_fast, " fail fast")))?;
        self.deeper(|this| {
            for var in &across.vars {
                let limit = match var.max_in_flight {
                    None => String::new(),
                    Some(MaxInFlight::All) => " max in flight all".to_owned(),
                    Some(MaxInFlight::Limit(limit)) => format!(" max in flight {limit}"),
                };
                this.line(&format!("var {} in {}{limit}", var.var, var.values.to_json()))?;
            }
            this.plan(&Plan::of(&across.step))
        })
    }

    fn get(&mut self, get: &Get) -> fmt::Result {
        let resource =
            if get.resource_name() == get.name { String::new() } else { format!(" of {}", get.resource_name()) };
        self.line(&format!("get {}{resource}{}", get.name, word(get.trigger, " trigger")))?;
        self.deeper(|this| {
            match &get.version {
                Version::Latest => {}
                Version::Every => this.line("version every")?,
                Version::Pinned(version) => {
                    let pairs: Vec<String> = version.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                    this.line(&format!("version {}", pairs.join(",")))?;
                }
            }
            if !get.passed.is_empty() {
                this.line(&format!("passed {}", get.passed.join(", ")))?;
            }
            this.params("params", &get.params)
        })
    }

    fn put(&mut self, put: &PutPlan) -> fmt::Result {
        if let Some(timeout) = &put.timeout {
            self.line(&format!("timeout {timeout} for each of"))?;
        }
        let resource = if put.resource == put.name { String::new() } else { format!(" of {}", put.resource) };
        self.line(&format!("put {}{resource}", put.name))?;
        self.deeper(|this| {
            match &put.inputs {
                PutInputs::Detect => {
                    let names: Vec<String> = detected(&put.params).into_iter().collect();
                    this.line(&format!("inputs detected in params: {}", names.join(", ")))?;
                }
                PutInputs::All => this.line("inputs all")?,
                PutInputs::List(names) => this.line(&format!("inputs {}", names.join(", ")))?,
            }
            this.params("params", &put.params)?;
            match &put.get {
                Some(params) => {
                    this.line(&format!("get {} (the version just put)", put.name))?;
                    this.deeper(|this| this.params("params", params))
                }
                None => Ok(()),
            }
        })
    }

    fn task(&mut self, task: &TaskStep) -> fmt::Result {
        self.line(&format!(
            "task {}{}{}",
            task.name,
            word(task.privileged, " privileged"),
            word(task.hermetic, " hermetic")
        ))?;
        self.deeper(|this| {
            if let Some(image) = &task.image {
                this.line(&format!("image artifact {image}"))?;
            }
            if let Some(file) = &task.file {
                this.line(&format!("file {file}"))?;
            }
            if let Some(config) = &task.config {
                this.task_config(&config.decoded, task)?;
            }
            for (kind, mapping) in [("input", &task.input_mapping), ("output", &task.output_mapping)] {
                for (name, artifact) in mapping {
                    this.line(&format!("{kind} mapping {name} is artifact {artifact}"))?;
                }
            }
            this.map("step params", &task.params)
        })
    }

    fn task_config(&mut self, config: &TaskConfig, task: &TaskStep) -> fmt::Result {
        if let (Some(image), None) = (&config.image_resource, &task.image) {
            self.line(&format!("image {} {}", image.kind, image.source.to_json()))?;
        }
        for input in &config.inputs {
            let path = if input.path.is_empty() { &input.name } else { &input.path };
            self.line(&format!("input {} at {path}{}", input.name, word(input.optional, " optional")))?;
        }
        for output in &config.outputs {
            let path = if output.path.is_empty() { &output.name } else { &output.path };
            self.line(&format!("output {} at {path}", output.name))?;
        }
        for cache in &config.caches {
            self.line(&format!("cache {}", cache.path))?;
        }
        self.map("params", &config.params)?;
        let mut command: Vec<&str> = vec![&config.run.path];
        command.extend(config.run.args.iter().map(String::as_str));
        if command.iter().all(|word| word.is_empty()) {
            self.line("run the image's own program")
        } else {
            self.line(&format!("run {}", command.join(" ")))
        }
    }

    fn params(&mut self, label: &str, params: &Node) -> fmt::Result {
        params.as_map().map_or(Ok(()), |map| self.map(label, map))
    }

    fn map(&mut self, label: &str, map: &Map) -> fmt::Result {
        if map.is_empty() { Ok(()) } else { self.line(&format!("{label} {}", map.to_json())) }
    }

    fn block(&mut self, label: &str, steps: &[Plan]) -> fmt::Result {
        self.line(label)?;
        self.deeper(|this| steps.iter().try_for_each(|step| this.plan(step)))
    }

    fn nested(&mut self, label: &str, step: &Plan) -> fmt::Result {
        self.line(label)?;
        self.deeper(|this| this.plan(step))
    }

    fn deeper(&mut self, body: impl FnOnce(&mut Self) -> fmt::Result) -> fmt::Result {
        self.depth += 1;
        let result = body(self);
        self.depth -= 1;
        result
    }

    fn line(&mut self, text: &str) -> fmt::Result {
        writeln!(self.out, "{:indent$}{text}", "", indent = self.depth * 2)
    }
}

/// The artifacts that a put's params seem to name (`put_inputs.go`): the first segment of every text.
pub(crate) fn detected(params: &Node) -> std::collections::BTreeSet<String> {
    use crate::yaml::Value;
    let mut found = std::collections::BTreeSet::new();
    match &params.value {
        Value::String(text) => {
            let first = text.split('/').find(|segment| !matches!(*segment, "." | ".."));
            found.extend(first.map(str::to_owned));
        }
        Value::List(items) => items.iter().for_each(|item| found.extend(detected(item))),
        Value::Map(map) => map.iter().for_each(|entry| found.extend(detected(&entry.value))),
        _ => {}
    }
    found
}

fn word(yes: bool, text: &'static str) -> &'static str {
    if yes { text } else { "" }
}
