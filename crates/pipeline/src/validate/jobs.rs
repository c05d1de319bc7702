//! Jobs, and the order between them.

use std::collections::BTreeMap;

use super::sections::{Names, identifier, named};
use super::steps::StepValidator;
use super::{Findings, glob};
use crate::config::{Config, Job, StepConfig};

pub(super) fn jobs(config: &Config, findings: &mut Findings) {
    if config.jobs.is_empty() {
        findings.error(crate::yaml::Position::default(), "jobs: pipeline must contain at least one job");
    }
    let mut names = Names::default();
    for (index, job) in config.jobs.iter().enumerate() {
        let identifier = identifier("jobs", index, &job.name);
        named(findings, &mut names, "jobs", index, &job.name, job.at);
        retention(job, &identifier, findings);
        StepValidator::new(config, findings, format!("{identifier}.plan")).job(job);
    }
}

fn retention(job: &Job, identifier: &str, findings: &mut Findings) {
    let at = job.at;
    if let Some(count) = job.build_logs_to_retain {
        if count != 0 {
            findings.warning(
                at,
                format!("{identifier}.build_logs_to_retain is deprecated. Use build_log_retention instead."),
            );
            if job.log_retention.is_some() {
                findings.error(at, format!("{identifier} can't use both build_log_retention and build_logs_to_retain"));
            }
        }
        if count < 0 {
            findings.error(at, format!("{identifier} has negative build_logs_to_retain: {count}"));
        }
    }
    let Some(retention) = job.log_retention else { return };
    for (key, value) in [
        ("builds", retention.builds),
        ("days", retention.days),
        ("min_success_builds", retention.minimum_succeeded_builds),
    ] {
        if value < 0 {
            findings.error(at, format!("{identifier} has negative build_log_retention.{key}: {value}"));
        }
    }
    if retention.builds > 0 && retention.minimum_succeeded_builds > retention.builds {
        // Upstream names the first key twice.
        let message = format!(
            "{identifier} has build_log_retention.min_success_builds: {} greater than build_log_retention.min_success_builds: {}",
            retention.minimum_succeeded_builds, retention.builds
        );
        findings.error(at, message);
    }
}

/// `passed` must not lead back to where it began.
pub(super) fn cycle(config: &Config, findings: &mut Findings) {
    let edges: BTreeMap<&str, Vec<&str>> =
        config.jobs.iter().map(|job| (job.name.as_str(), upstream(config, job))).collect();
    let mut state: BTreeMap<&str, bool> = BTreeMap::new();
    for job in &config.jobs {
        if leads_back(&job.name, &edges, &mut state) {
            findings.error(job.at, format!("pipeline contains a cycle that starts at Job '{}'", job.name));
            return;
        }
    }
}

/// Depth first with a stack of its own: a pipeline may be one long chain. `true` in `done` means finished.
fn leads_back<'c>(start: &'c str, edges: &BTreeMap<&'c str, Vec<&'c str>>, done: &mut BTreeMap<&'c str, bool>) -> bool {
    let mut stack = vec![(start, 0usize)];
    if done.contains_key(start) {
        return false;
    }
    done.insert(start, false);
    while let Some((name, next)) = stack.pop() {
        let Some(target) = edges.get(name).and_then(|targets| targets.get(next)).copied() else {
            done.insert(name, true);
            continue;
        };
        stack.push((name, next + 1));
        match done.get(target) {
            Some(false) => return true,
            Some(true) => {}
            None => {
                done.insert(target, false);
                stack.push((target, 0));
            }
        }
    }
    false
}

fn upstream<'c>(config: &'c Config, job: &Job) -> Vec<&'c str> {
    let mut found = Vec::new();
    job.step().visit(&mut |step| {
        let StepConfig::Get(get) = step else { return };
        for pattern in &get.passed {
            let Ok(matches) = glob(pattern) else { continue };
            found.extend(config.jobs.iter().map(|job| job.name.as_str()).filter(|name| matches(name)));
        }
    });
    found
}
