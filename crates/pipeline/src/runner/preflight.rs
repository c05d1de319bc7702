//! What can be known to go wrong before anything runs: a local user should not wait for a build to find out.

use std::collections::BTreeSet;

use super::RunnerError;
use crate::config::{Named, StepConfig};
use crate::plan::Plan;
use crate::run::engine::Engine;
use crate::run::types::TypeChain;
use crate::vars::{Lookup, Reference, references};
use crate::yaml::{Node, Value};
use crate::{Options, Puts};

pub(super) fn check(engine: &Engine, job: &str, plan: &Plan) -> Result<(), RunnerError> {
    let Some(job) = engine.config.job(job) else { return Ok(()) };
    let step = job.step();
    puts(engine, &step)?;
    let mut unsupported = Vec::new();
    step.visit(&mut |step| {
        if let StepConfig::SetPipeline(step) = step {
            unsupported.push(format!("set_pipeline: {} is not supported by this runner", step.name));
        }
    });
    if !unsupported.is_empty() {
        return Err(RunnerError::new(unsupported.join("\n"))
            .with_hint("run a job without set_pipeline, or set that pipeline with fly"));
    }
    vars(engine, &step)?;
    types(engine, &step)?;
    tell_differences(engine, plan);
    Ok(())
}

/// A put changes the world: it needs somebody's word.
fn puts(engine: &Engine, step: &StepConfig) -> Result<(), RunnerError> {
    let mut refused = Vec::new();
    step.visit(&mut |step| {
        let StepConfig::Put(put) = step else { return };
        let allowed = match &engine.options.puts {
            Puts::Allow | Puts::Skip => true,
            Puts::Refuse => false,
            Puts::Only(names) => names.contains(&put.name),
        };
        if !allowed {
            refused.push(put.name.clone());
        }
    });
    if refused.is_empty() {
        return Ok(());
    }
    Err(RunnerError::new(format!("this job puts to {}, which was not allowed", refused.join(", ")))
        .with_hint("allow its puts, or skip them"))
}

/// Vars that nobody will know: all of them at once, and not one by one as steps meet them.
fn vars(engine: &Engine, step: &StepConfig) -> Result<(), RunnerError> {
    let mut wanted = BTreeSet::new();
    let mut resources = BTreeSet::new();
    step.visit(&mut |step| {
        for node in nodes(step, &engine.options) {
            wanted.extend(references(&node));
        }
        resources.extend(resource_of(step, &engine.options));
    });
    let mut types: Vec<&str> = Vec::new();
    for resource in engine.config.resources.iter().filter(|resource| resources.contains(&resource.name)) {
        wanted.extend(references(&resource.source));
        types.push(&resource.kind);
    }
    let mut seen = BTreeSet::new();
    while let Some(kind) = types.pop() {
        if let Some(found) = engine.config.resource_type(kind).filter(|_| seen.insert(kind)) {
            for node in [&found.source, &found.defaults, &found.params] {
                wanted.extend(references(node));
            }
            types.push(&found.kind);
        }
    }
    let lookup = engine.late_vars();
    let mut undefined = Vec::new();
    for name in wanted {
        match Reference::parse(&name) {
            Ok(reference) if reference.is_local() => {}
            Ok(reference) => match lookup.get(&reference) {
                Ok(Some(_)) => {}
                Ok(None) => undefined.push(name),
                Err(error) => return Err(RunnerError::new(error.to_string())),
            },
            Err(error) => return Err(RunnerError::new(error.to_string())),
        }
    }
    if undefined.is_empty() {
        return Ok(());
    }
    Err(RunnerError::new(format!("undefined vars: {}", undefined.join(", ")))
        .with_hint("give them in a file of secrets, which plays the cluster's credential manager, or as vars"))
}

/// What a step says that is filled in when it runs.
fn nodes(step: &StepConfig, options: &Options) -> Vec<Node> {
    match step {
        StepConfig::Get(get) if options.inputs.contains_key(&get.name) => Vec::new(),
        StepConfig::Get(get) => vec![get.params.clone()],
        StepConfig::Put(_) if options.puts == Puts::Skip => Vec::new(),
        StepConfig::Put(put) => vec![put.params.clone(), put.get_params.clone()],
        StepConfig::Task(task) => {
            let mut nodes = vec![task.vars.clone(), Node::of(Value::Map(task.params.clone()))];
            nodes.extend(task.config.as_ref().map(|config| config.node.clone()));
            nodes.extend(task.file.as_ref().map(|file| Node::text(file.as_str())));
            nodes
        }
        StepConfig::LoadVar(step) => step.file.iter().map(|file| Node::text(file.as_str())).collect(),
        StepConfig::Across(across) => across.vars.iter().map(|var| var.values.clone()).collect(),
        _ => Vec::new(),
    }
}

/// The resource that a step really uses.
fn resource_of(step: &StepConfig, options: &Options) -> Option<String> {
    match step {
        StepConfig::Get(get) if !options.inputs.contains_key(&get.name) => Some(get.resource_name().to_owned()),
        StepConfig::Put(put) if options.puts != Puts::Skip => Some(put.resource_name().to_owned()),
        _ => None,
    }
}

/// A cluster would wait for ever for a worker that knows the type.
fn types(engine: &Engine, step: &StepConfig) -> Result<(), RunnerError> {
    let mut faults = Vec::new();
    let mut look = |kind: &str| {
        if let Err(error) = TypeChain::resolve(&engine.config, &engine.rules(), kind, &engine.late_vars())
            && !faults.contains(&error)
        {
            faults.push(error);
        }
    };
    step.visit(&mut |step| {
        if let Some(resource) = resource_of(step, &engine.options).and_then(|name| engine.config.resource(&name)) {
            look(&resource.kind);
        }
        let StepConfig::Task(task) = step else { return };
        let image = task.config.as_ref().and_then(|config| config.decoded.image_resource.as_ref());
        if let Some(image) = image.filter(|image| task.image.is_none() && !image.kind.contains("((")) {
            look(&image.kind);
        }
    });
    if faults.is_empty() {
        return Ok(());
    }
    Err(RunnerError::new(faults.join("\n"))
        .with_hint("name an image for a base type of your cluster, as in NAME=IMAGE"))
}

/// Where this runner does something else than a cluster, and the result may differ.
fn tell_differences(engine: &Engine, plan: &Plan) {
    if engine.options.puts == Puts::Skip && plan.has_puts() {
        engine.log("job", "puts").note("puts are skipped: this run does less than a cluster would");
    }
}
