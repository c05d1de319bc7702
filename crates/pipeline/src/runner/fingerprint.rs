//! What a build would do, versions aside, as a hash: a job whose last success has another one has changed.
//!
//! Everything counts that a build reads besides its inputs. Where it is not known before the build what it will read, the
//! whole of it counts: a task file may name any resource type and any secret. To run once too often is harmless, to leave a
//! run out is not. Where names of hosts lead to does not count: it says where things are and not what they are.

use serde_json::json;
use skycap_image::Digest;

use crate::config::{Named, Resource, StepConfig};
use crate::run::engine::Engine;
use crate::vars::Vars;

/// The hash of a job, in hexadecimal. Secrets go in as hashes of their own.
pub(super) fn of(engine: &Engine, job: &str) -> String {
    let (config, options) = (&engine.config, &engine.options);
    let step = config.job(job).map(crate::config::Job::step);
    let given = options.var_sources.iter().map(|(name, vars)| (name, hash(vars)));
    let everything = json!({
        "resources": step.as_ref().map(|step| resources(engine, step)),
        "step": step,
        "resource_types": config.resource_types,
        "var_sources": config.var_sources,
        "given_var_sources": given.collect::<Vec<_>>(),
        "secrets": hash(&options.secrets),
        "native": options.native,
        "base_types": options.base_types,
        "pipeline": options.pipeline,
        "external_url": options.external_url,
    });
    Digest::sha256(everything.to_string().as_bytes()).hex()
}

/// The resources that a step gets or puts, in the pipeline's order.
fn resources<'e>(engine: &'e Engine, step: &StepConfig) -> Vec<&'e Resource> {
    let mut names = Vec::new();
    step.visit(&mut |step| match step {
        StepConfig::Get(get) => names.push(get.resource_name().to_owned()),
        StepConfig::Put(put) => names.push(put.resource_name().to_owned()),
        _ => {}
    });
    engine.config.resources.iter().filter(|resource| names.contains(&resource.name)).collect()
}

fn hash(vars: &Vars) -> String {
    Digest::sha256(json!(vars).to_string().as_bytes()).hex()
}
