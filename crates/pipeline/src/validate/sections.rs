//! Everything but jobs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, glob};
use crate::config::{Config, Named, ResourceType, StepConfig};
use crate::yaml::Position;

const VAR_SOURCES: [&str; 5] = ["vault", "dummy", "ssm", "secretsmanager", "idtoken"];
const OTHER_CREDENTIAL_MANAGERS: [&str; 3] = ["conjur", "credhub", "kubernetes"];

pub(super) fn groups(config: &Config, findings: &mut Findings) {
    let mut counts: BTreeMap<&str, (usize, Position)> = BTreeMap::new();
    let mut grouped: BTreeSet<&str> = BTreeSet::new();
    for (index, group) in config.groups.iter().enumerate() {
        let context = if group.name.is_empty() { format!("groups[{index}]") } else { format!("groups.{}", group.name) };
        findings.name(group.at, &context, &group.name);
        counts.entry(&group.name).or_insert((0, group.at)).0 += 1;
        for pattern in &group.jobs {
            let Ok(matches) = glob(pattern) else {
                let message = format!("invalid glob expression '{pattern}' for group '{}'", group.name);
                findings.error(group.at, message);
                continue;
            };
            let before = grouped.len();
            let found: Vec<&str> =
                config.jobs.iter().map(|job| job.name.as_str()).filter(|name| matches(name)).collect();
            grouped.extend(&found);
            if before == grouped.len() && found.is_empty() {
                findings.error(group.at, format!("no jobs match '{pattern}' for group '{}'", group.name));
            }
        }
        for resource in &group.resources {
            if config.resource(resource).is_none() {
                findings.error(group.at, format!("group '{}' has unknown resource '{resource}'", group.name));
            }
        }
    }
    for (name, (count, at)) in counts {
        if count > 1 {
            let message = format!("group '{name}' appears {count} times. Duplicate names are not allowed.");
            findings.error(at, message);
        }
    }
    if !config.groups.is_empty() {
        for job in config.jobs.iter().filter(|job| !grouped.contains(job.name.as_str())) {
            findings.error(job.at, format!("job '{}' belongs to no group", job.name));
        }
    }
}

pub(super) fn resources(config: &Config, findings: &mut Findings) {
    let mut names = Names::default();
    for (index, resource) in config.resources.iter().enumerate() {
        named(findings, &mut names, "resources", index, &resource.name, resource.at);
        if resource.kind.is_empty() {
            findings.error(resource.at, format!("{} has no type", identifier("resources", index, &resource.name)));
        }
    }
    let mut used = BTreeSet::new();
    for job in &config.jobs {
        job.step().visit(&mut |step| match step {
            StepConfig::Get(get) => drop(used.insert(get.resource_name().to_owned())),
            StepConfig::Put(put) => drop(used.insert(put.resource_name().to_owned())),
            _ => {}
        });
    }
    for resource in config.resources.iter().filter(|resource| !used.contains(&resource.name)) {
        findings.error(resource.at, format!("resource '{}' is not used", resource.name));
    }
}

pub(super) fn resource_types(config: &Config, findings: &mut Findings) {
    types(&config.resource_types, "resource_types", &mut Names::default(), findings);
}

/// Prototypes and resource types share one name space.
pub(super) fn prototypes(config: &Config, findings: &mut Findings) {
    let mut names = Names::default();
    for (index, kind) in config.resource_types.iter().enumerate().filter(|(_, kind)| !kind.name.is_empty()) {
        names.entry(kind.name.clone()).or_insert(("resource_types", index));
    }
    types(&config.prototypes, "prototypes", &mut names, findings);
}

fn types(types: &[ResourceType], section: &'static str, names: &mut Names, findings: &mut Findings) {
    for (index, kind) in types.iter().enumerate() {
        named(findings, names, section, index, &kind.name, kind.at);
        if kind.kind.is_empty() {
            findings.error(kind.at, format!("{} has no type", identifier(section, index, &kind.name)));
        }
    }
}

pub(super) fn var_sources(config: &Config, findings: &mut Findings) {
    let mut names = Names::default();
    for (index, source) in config.var_sources.iter().enumerate() {
        findings.name(source.at, &identifier("var_sources", index, &source.name), &source.name);
        if OTHER_CREDENTIAL_MANAGERS.contains(&source.kind.as_str()) {
            let message = format!("credential manager type {} is not supported in pipeline yet", source.kind);
            findings.error(source.at, message);
        } else if !VAR_SOURCES.contains(&source.kind.as_str()) {
            findings.error(source.at, format!("unknown credential manager type: {}", source.kind));
        }
        twice(findings, &mut names, "var_sources", index, &source.name, source.at);
    }
}

pub(super) fn display(config: &Config, findings: &mut Findings) {
    let Some(display) = &config.display else { return };
    let url = display.background_image.as_str();
    if url.chars().any(char::is_control) {
        findings.error(Position::default(), format!("background_image is not a valid URL: {url}"));
    }
    let scheme = url.split_once(':').map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains(['/', '?', '#']));
    if !matches!(scheme, None | Some("http" | "https")) {
        findings.error(Position::default(), "background_image scheme must be either http, https or relative");
    }
}

/// The first section and index of each name.
pub(super) type Names = BTreeMap<String, (&'static str, usize)>;

pub(super) fn identifier(section: &str, index: usize, name: &str) -> String {
    if name.is_empty() { format!("{section}[{index}]") } else { format!("{section}.{name}") }
}

/// The rules for names that all lists share.
pub(super) fn named(
    findings: &mut Findings,
    names: &mut Names,
    section: &'static str,
    index: usize,
    name: &str,
    at: Position,
) {
    let identifier = identifier(section, index, name);
    findings.name(at, &identifier, name);
    twice(findings, names, section, index, name, at);
    if name.is_empty() {
        findings.error(at, format!("{identifier} has no name"));
    }
}

fn twice(findings: &mut Findings, names: &mut Names, section: &'static str, index: usize, name: &str, at: Position) {
    if name.is_empty() {
        return;
    }
    match names.get(name) {
        Some((other_section, other)) => {
            let message = format!("{other_section}[{other}] and {section}[{index}] have the same name ('{name}')");
            findings.error(at, message);
        }
        None => {
            names.insert(name.to_owned(), (section, index));
        }
    }
}
