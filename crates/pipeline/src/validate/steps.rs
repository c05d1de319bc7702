//! Steps (`atc/step_validator.go`).

use std::collections::BTreeSet;

use super::{Findings, glob};
use crate::config::{
    Across, Config, Get, Job, LoadVar, MaxInFlight, Named, Put, RunPrototype, SetPipeline, Step, StepConfig, TaskStep,
    parse_duration,
};
use crate::yaml::Position;

/// Walks a job's steps, keeping the context that messages begin with.
pub(super) struct StepValidator<'v> {
    config: &'v Config,
    findings: &'v mut Findings,
    context: String,
    at: Position,
    gets: BTreeSet<String>,
    /// Local vars by scope, outermost first.
    vars: Vec<BTreeSet<String>>,
}

impl<'v> StepValidator<'v> {
    pub fn new(config: &'v Config, findings: &'v mut Findings, context: String) -> Self {
        Self { config, findings, context, at: Position::default(), gets: BTreeSet::new(), vars: vec![BTreeSet::new()] }
    }

    pub fn job(&mut self, job: &Job) {
        self.at = job.at;
        self.step_config(&job.step(), false);
    }

    fn step(&mut self, step: &Step) {
        let before = std::mem::replace(&mut self.at, step.at);
        if let Some((_, at)) = step.unknown.first() {
            let names: Vec<String> = step.unknown.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.at = *at;
            self.error(&format!("unknown fields [{}]", names.join(" ")));
            self.at = step.at;
        }
        self.step_config(&step.config, false);
        self.at = before;
    }

    /// `across` says whether the step stands directly below an across, whose vars may be part of its name.
    fn step_config(&mut self, step: &StepConfig, across: bool) {
        match step {
            StepConfig::Hooked { on, step, hook } => {
                self.step_config(step, across);
                self.within(&format!(".{}", on.key()), |this| this.step(hook));
            }
            StepConfig::Across(step) => self.across(step),
            StepConfig::Attempts { attempts, step } => {
                self.step_config(step, across);
                if *attempts <= 0 {
                    self.within(".attempts", |this| this.error("must be greater than 0"));
                }
            }
            StepConfig::Timeout { timeout, step } => {
                self.step_config(step, across);
                if parse_duration(timeout).is_err() {
                    self.within(".timeout", |this| this.error(&format!("invalid duration '{timeout}'")));
                }
            }
            StepConfig::Get(get) => self.within(&format!(".get({})", get.name), |this| this.get(get)),
            StepConfig::Put(put) => self.within(&format!(".put({})", put.name), |this| this.put(put)),
            StepConfig::Task(task) => self.within(&format!(".task({})", task.name), |this| this.task(task, across)),
            StepConfig::Run(run) => {
                self.within(&format!(".run({}.{})", run.kind, run.message), |this| this.run(run));
            }
            StepConfig::SetPipeline(step) => {
                self.within(&format!(".set_pipeline({})", step.name), |this| this.set_pipeline(step, across));
            }
            StepConfig::LoadVar(step) => {
                self.within(&format!(".load_var({})", step.name), |this| this.load_var(step));
            }
            StepConfig::Try(step) => self.within(".try", |this| this.step(step)),
            StepConfig::Do(steps) => self.steps(".do", steps),
            StepConfig::InParallel(parallel) => self.steps(".in_parallel.steps", &parallel.steps),
        }
    }

    fn steps(&mut self, context: &str, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            self.within(&format!("{context}[{index}]"), |this| this.step(step));
        }
    }

    fn across(&mut self, step: &Across) {
        self.vars.push(BTreeSet::new());
        if step.vars.is_empty() {
            self.within(".across", |this| this.error("no vars specified"));
        }
        for (index, var) in step.vars.iter().enumerate() {
            self.within(&format!(".across[{index}]"), |this| {
                this.name(&var.var);
                this.declare(&var.var);
                if matches!(var.max_in_flight, Some(MaxInFlight::Limit(limit)) if limit <= 0) {
                    this.within(".max_in_flight", |this| this.error("must be greater than 0"));
                }
            });
        }
        self.step_config(&step.step, true);
        self.vars.pop();
    }

    fn get(&mut self, get: &Get) {
        self.name(&get.name);
        if !self.gets.insert(get.name.clone()) {
            self.error("repeated name");
        }
        self.resource(get.resource_name());
        self.within(".passed", |this| {
            for pattern in &get.passed {
                this.passed(pattern, get.resource_name());
            }
        });
    }

    fn passed(&mut self, pattern: &str, resource: &str) {
        let jobs: Vec<&Job> = match glob(pattern) {
            Ok(matches) => self.config.jobs.iter().filter(|job| matches(&job.name)).collect(),
            Err(_) => Vec::new(),
        };
        if jobs.is_empty() {
            self.error(&format!("no matching job(s) for '{pattern}'"));
        }
        for job in jobs {
            let mut found = false;
            job.step().visit(&mut |step| match step {
                StepConfig::Get(get) => found |= get.resource_name() == resource,
                StepConfig::Put(put) => found |= put.resource_name() == resource,
                _ => {}
            });
            if !found {
                self.error(&format!("job '{}' does not interact with resource '{resource}'", job.name));
            }
        }
    }

    fn put(&mut self, put: &Put) {
        self.name(&put.name);
        self.resource(put.resource_name());
    }

    fn resource(&mut self, name: &str) {
        if self.config.resource(name).is_none() {
            self.error(&format!("unknown resource '{name}'"));
        }
    }

    fn task(&mut self, task: &TaskStep, across: bool) {
        if !across {
            self.name(&task.name);
        }
        match (&task.config, &task.file) {
            (None, None) => self.error("must specify either `file:` or `config:`"),
            (Some(_), Some(_)) => self.error("must specify one of `file:` or `config:`, not both"),
            _ => {}
        }
        if task.hermetic {
            self.warning("specifies `hermetic:` only works against worker containerd runtime");
        }
        let Some(config) = &task.config else { return };
        let has_image = config.decoded.image_resource.is_some() || !config.decoded.rootfs_uri.is_empty();
        if has_image && task.image.is_some() {
            self.warning(
                "specifies image: on the step but also specifies an image under config: - the image: on the step takes precedence",
            );
        }
        self.within(".config", |this| {
            if let Some((_, at)) = config.unknown.first() {
                let names: Vec<String> = config.unknown.iter().map(|(name, _)| format!("{name:?}")).collect();
                this.findings.error(*at, format!("{}: unknown fields [{}]", this.context, names.join(" ")));
            }
            for fault in config.decoded.faults() {
                this.error(&fault);
            }
        });
    }

    fn run(&mut self, run: &RunPrototype) {
        for name in [&run.kind, &run.message] {
            match super::identifier::check(name) {
                Ok(()) => {}
                Err(None) => self.error("identifier cannot be an empty string"),
                Err(Some(why)) => self.error(&format!("'{name}' is not a valid identifier: {why}")),
            }
        }
        if !self.config.prototypes.iter().any(|prototype| prototype.name == run.kind) {
            self.error(&format!("unknown prototype '{}'", run.kind));
        }
    }

    fn set_pipeline(&mut self, step: &SetPipeline, across: bool) {
        if !across {
            self.name(&step.name);
        }
        if step.file.as_deref().unwrap_or_default().is_empty() {
            self.error("no file specified");
        }
    }

    fn load_var(&mut self, step: &LoadVar) {
        self.name(&step.name);
        self.declare(&step.name);
        if step.file.as_deref().unwrap_or_default().is_empty() {
            self.error("no file specified");
        }
    }

    fn declare(&mut self, var: &str) {
        let Some((scope, outer)) = self.vars.split_last_mut() else { return };
        let shadows = outer.iter().any(|scope| scope.contains(var));
        let repeated = !scope.insert(var.to_owned());
        if repeated {
            self.error("repeated var name");
        }
        if shadows {
            self.warning(&format!("shadows local var '{var}'"));
        }
    }

    fn name(&mut self, name: &str) {
        self.findings.name(self.at, &self.context, name);
    }

    fn error(&mut self, message: &str) {
        self.findings.error(self.at, format!("{}: {message}", self.context));
    }

    fn warning(&mut self, message: &str) {
        self.findings.warning(self.at, format!("{}: {message}", self.context));
    }

    fn within(&mut self, part: &str, body: impl FnOnce(&mut Self)) {
        let length = self.context.len();
        self.context.push_str(part);
        body(self);
        self.context.truncate(length);
    }
}
