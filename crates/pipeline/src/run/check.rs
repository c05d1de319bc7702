//! Looking for versions of the pipeline's resources.

use std::collections::BTreeMap;

use serde_json::json;
use skycap_image::Digest;

use super::build::metadata_env;
use super::engine::{Engine, Trouble};
use super::interpret::Version;
use super::resource::Caller;
use super::scope::Scope;
use super::stop::Stop;
use crate::Outcome;
use crate::config::{Resource, parse_duration};
use crate::inputs::satisfies;

/// Concourse's limit for a check.
const CHECK_TIMEOUT: &str = "1h";

impl Engine {
    /// What versions of a resource are versions of: another source has others.
    pub fn scope_of(&self, resource: &Resource) -> Result<String, Trouble> {
        let chain = self.chain(&resource.kind)?;
        let source = chain.source(&self.fill(&resource.source, &Scope::default())?);
        Ok(Digest::sha256(json!([chain.identity(), source]).to_string().as_bytes()).hex())
    }

    /// Every known version, oldest check order first.
    pub fn versions_of(&self, resource: &Resource) -> Result<Vec<Version>, Trouble> {
        Ok(self.state.versions(&resource.name, &self.scope_of(resource)?))
    }

    /// What the pipeline or the options pin a resource to.
    pub fn pin(&self, resource: &Resource) -> Option<Vec<(String, String)>> {
        let outside = self.options.pins.get(&resource.name);
        outside.map(|pin: &BTreeMap<_, _>| pin.clone().into_iter().collect()).or_else(|| resource.version.clone())
    }

    /// Checks a resource and keeps what it answers. `pins` are versions that someone wants and nobody may have seen.
    pub fn check_resource(&self, resource: &Resource, pins: &[Vec<(String, String)>], stop: &Stop) -> Outcome {
        let log = self.log("check", &resource.name);
        log.initializing();
        let limit = resource.check_timeout.as_deref().unwrap_or(CHECK_TIMEOUT);
        let outcome = match parse_duration(limit) {
            Err(error) => Outcome::Errored(format!("parse timeout: {error}")),
            Ok(limit) => {
                let own = stop.child();
                let (result, expired) = own.deadline(limit, || {
                    let env = metadata_env(&self.options.external_url, &self.options.pipeline);
                    self.check_and_save(resource, pins, &Caller { engine: self, log: &log, stop: &own, env: &env })
                });
                if expired && result == Err(Trouble::Aborted) && !stop.is_cancelled() {
                    log.note("timeout exceeded");
                    Outcome::Failed
                } else {
                    result.map_or_else(Outcome::from, |()| Outcome::Succeeded)
                }
            }
        };
        log.finished(outcome)
    }

    fn check_and_save(
        &self,
        resource: &Resource,
        pins: &[Vec<(String, String)>],
        caller: &Caller<'_>,
    ) -> Result<(), Trouble> {
        let chain = self.chain(&resource.kind)?;
        let source = chain.source(&self.fill(&resource.source, &Scope::default())?);
        let scope = self.scope_of(resource)?;
        let known = self.state.versions(&resource.name, &scope);
        let found = caller.check(&chain, &source, known.last())?;
        self.state.save_versions(&resource.name, &scope, &found)?;
        for pin in pins {
            let known = self.state.versions(&resource.name, &scope);
            if !known.iter().any(|version| satisfies(version, pin)) {
                let pin: Version = pin.iter().cloned().collect();
                let found = caller.check(&chain, &source, Some(&pin))?;
                self.state.save_versions(&resource.name, &scope, &found)?;
            }
        }
        Ok(())
    }
}
