//! What a job does, as a value: steps with their defaults settled, modifiers as wrappers in the order in which they act.
//! Printing it is the dry run, and what golden tests compare. Nothing is looked up.

mod print;

pub(crate) use print::detected;

use crate::config::{
    Across, Config, Get, Hook, LoadVar, Named, Put, PutInputs, RunPrototype, SetPipeline, Step, StepConfig, TaskStep,
};
use crate::yaml::Node;

/// What a job does.
#[derive(Clone, PartialEq, Debug)]
#[allow(missing_docs, reason = "the variants say what their fields are")]
pub enum Plan {
    /// One after the other, until one does not succeed.
    Do(Vec<Plan>),
    /// At the same time; a limit of 0 is none.
    InParallel {
        steps: Vec<Plan>,
        limit: usize,
        fail_fast: bool,
    },
    /// Once for each combination of values; the step is planned when they are known.
    Across(Across),
    Get(Get),
    Put(PutPlan),
    Task(Box<TaskStep>),
    /// What Concourse has not implemented either: it says so and succeeds.
    Run(RunPrototype),
    LoadVar(LoadVar),
    SetPipeline(SetPipeline),
    /// A step, then another if the first ended in a certain way.
    Hooked {
        step: Box<Plan>,
        on: Hook,
        then: Box<Plan>,
    },
    /// At most so many attempts, until one succeeds.
    Retry {
        attempts: u64,
        step: Box<Plan>,
    },
    /// A Go duration, read when the step begins, as Concourse does.
    Timeout {
        timeout: String,
        step: Box<Plan>,
    },
    /// Succeeds whatever the step does.
    Try(Box<Plan>),
}

/// A put, and the get that follows it.
#[derive(Clone, PartialEq, Debug)]
pub struct PutPlan {
    /// The name, also of the artifact.
    pub name: String,
    /// The resource's name.
    pub resource: String,
    /// What the resource is told.
    pub params: Node,
    /// Which artifacts it sees.
    pub inputs: PutInputs,
    /// Params of the get of the version just made; `None` if there is no get.
    pub get: Option<Node>,
    /// The time limit of each of the two.
    pub timeout: Option<String>,
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PlanError {
    /// What is missing.
    pub message: String,
    /// What there is.
    pub hint: String,
}

/// The plan of a job.
pub fn plan(config: &Config, job: &str) -> Result<Plan, PlanError> {
    let Some(found) = config.job(job) else {
        let names: Vec<&str> = config.jobs.iter().map(|job| job.name.as_str()).collect();
        return Err(PlanError {
            message: format!("the pipeline has no job '{job}'"),
            hint: format!("its jobs are {}", names.join(", ")),
        });
    };
    Ok(Plan::of(&found.step()))
}

impl Plan {
    /// The plan of a step.
    pub fn of(step: &StepConfig) -> Self {
        match step {
            StepConfig::Hooked { on, step, hook } => {
                Self::Hooked { step: Box::new(Self::of(step)), on: *on, then: Box::new(Self::of(&hook.config)) }
            }
            StepConfig::Across(across) => Self::Across(across.clone()),
            StepConfig::Attempts { attempts, step } => {
                Self::Retry { attempts: u64::try_from(*attempts).unwrap_or_default(), step: Box::new(Self::of(step)) }
            }
            StepConfig::Timeout { timeout, step } => {
                Self::Timeout { timeout: timeout.clone(), step: Box::new(Self::of(step)) }
            }
            StepConfig::Get(get) => Self::Get(get.clone()).limited(get.timeout.as_ref()),
            StepConfig::Put(put) => Self::Put(PutPlan::of(put)),
            StepConfig::Task(task) => Self::Task(Box::new(task.clone())).limited(task.timeout.as_ref()),
            StepConfig::Run(run) => Self::Run(run.clone()),
            StepConfig::SetPipeline(step) => Self::SetPipeline(step.clone()),
            StepConfig::LoadVar(step) => Self::LoadVar(step.clone()),
            StepConfig::Try(step) => Self::Try(Box::new(Self::of(&step.config))),
            StepConfig::Do(steps) => Self::Do(Self::all(steps)),
            StepConfig::InParallel(parallel) => Self::InParallel {
                steps: Self::all(&parallel.steps),
                limit: usize::try_from(parallel.limit).unwrap_or_default(),
                fail_fast: parallel.fail_fast,
            },
        }
    }

    /// Whether it puts anything, as far as that is known before it runs.
    pub fn has_puts(&self) -> bool {
        match self {
            Self::Do(steps) | Self::InParallel { steps, .. } => steps.iter().any(Self::has_puts),
            Self::Across(across) => Self::of(&across.step).has_puts(),
            Self::Put(_) => true,
            Self::Hooked { step, then, .. } => step.has_puts() || then.has_puts(),
            Self::Retry { step, .. } | Self::Timeout { step, .. } | Self::Try(step) => step.has_puts(),
            Self::Get(_) | Self::Task(_) | Self::Run(_) | Self::LoadVar(_) | Self::SetPipeline(_) => false,
        }
    }

    fn all(steps: &[Step]) -> Vec<Self> {
        steps.iter().map(|step| Self::of(&step.config)).collect()
    }

    fn limited(self, timeout: Option<&String>) -> Self {
        match timeout {
            Some(timeout) if !timeout.is_empty() => Self::Timeout { timeout: timeout.clone(), step: Box::new(self) },
            _ => self,
        }
    }
}

impl PutPlan {
    fn of(put: &Put) -> Self {
        Self {
            name: put.name.clone(),
            resource: put.resource_name().to_owned(),
            params: put.params.clone(),
            inputs: put.inputs.clone(),
            get: (!put.no_get).then(|| put.get_params.clone()),
            timeout: put.timeout.clone().filter(|timeout| !timeout.is_empty()),
        }
    }
}
