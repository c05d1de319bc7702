//! Which versions a build gets (`atc/scheduler/algorithm`): a pure choice from the versions and builds that are known.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Version as Rule;
use crate::run::interpret::Version;
use crate::state::{BuildRecord, Builds, Used};

/// What a get of the job asks for.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Want {
    /// The get's name.
    pub name: String,
    pub resource: String,
    pub rule: Rule,
    /// Jobs that the version must have passed, globs resolved.
    pub passed: Vec<String>,
    pub trigger: bool,
    /// Versions of the resource, oldest check order first.
    pub versions: Vec<Version>,
}

/// What was chosen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Chosen {
    /// By the get's name.
    pub inputs: BTreeMap<String, Used>,
    /// Whether a `version: every` has more to come.
    pub has_next: bool,
    /// Gets whose `passed` could not be honoured because those jobs have not run here.
    pub unpassed: Vec<String>,
}

/// Chooses versions for a job's inputs; otherwise Concourse's reason why the build would stay pending. With `lenient`,
/// `passed` is ignored where its jobs have never succeeded here.
pub(crate) fn choose(job: &str, wants: &[Want], builds: &Builds, lenient: bool) -> Result<Chosen, String> {
    let mut chosen = Chosen::default();
    let (free, bound): (Vec<&Want>, Vec<&Want>) = wants.iter().partition(|want| want.passed.is_empty());
    for want in free {
        let version = alone(job, want, builds, &mut chosen.has_next)?;
        chosen.inputs.insert(want.name.clone(), used(want, version));
    }
    for group in groups(bound) {
        let jobs: BTreeSet<&str> = group.iter().flat_map(|want| want.passed.iter().map(String::as_str)).collect();
        let has_history = |job: &&str| builds.counting(job).any(BuildRecord::succeeded);
        if lenient && !jobs.iter().all(has_history) {
            for want in group {
                let version = alone(job, want, builds, &mut chosen.has_next)?;
                chosen.inputs.insert(want.name.clone(), used(want, version));
                chosen.unpassed.push(want.name.clone());
            }
            continue;
        }
        let jobs: Vec<&str> = jobs.into_iter().collect();
        let found = together(job, &group, &jobs, builds, &mut chosen.has_next)
            .ok_or("no satisfiable builds from passed jobs found for set of inputs")?;
        for want in group {
            let Some(version) = found.get(want.name.as_str()) else { continue };
            chosen.inputs.insert(want.name.clone(), used(want, version.clone()));
        }
    }
    Ok(chosen)
}

fn used(want: &Want, version: Version) -> Used {
    Used { resource: want.resource.clone(), version }
}

fn alone(job: &str, want: &Want, builds: &Builds, has_next: &mut bool) -> Result<Version, String> {
    let latest = || want.versions.last().cloned().ok_or_else(|| "latest version of resource not found".to_owned());
    match &want.rule {
        Rule::Latest => latest(),
        Rule::Pinned(pin) => {
            want.versions.iter().rev().find(|version| satisfies(version, pin)).cloned().ok_or_else(|| {
                let pairs: Vec<String> = pin.iter().map(|(key, value)| format!("{key}:{value}")).collect();
                format!("pinned version {} not found", pairs.join(","))
            })
        }
        Rule::Every => {
            let last = last_used(job, want, builds);
            let position = last.and_then(|last| want.versions.iter().position(|version| *version == last));
            let next = position.and_then(|position| want.versions.get(position + 1).map(|next| (position + 1, next)));
            let Some((index, next)) = next else { return latest() };
            *has_next |= index + 1 < want.versions.len();
            Ok(next.clone())
        }
    }
}

/// What the job used last under this name.
fn last_used(job: &str, want: &Want, builds: &Builds) -> Option<Version> {
    builds.counting(job).rev().find_map(|build| Some(build.inputs.get(&want.name)?.version.clone()))
}

/// Whether a version has every field of a pin.
pub(crate) fn satisfies(version: &Version, pin: &[(String, String)]) -> bool {
    pin.iter().all(|(key, value)| version.get(key) == Some(value))
}

/// Inputs that share a passed job must be chosen together.
fn groups(wants: Vec<&Want>) -> Vec<Vec<&Want>> {
    let mut groups: Vec<Vec<&Want>> = Vec::new();
    for want in wants {
        let shares =
            |group: &Vec<&Want>| group.iter().any(|other| other.passed.iter().any(|job| want.passed.contains(job)));
        let (touching, apart): (Vec<_>, Vec<_>) = groups.into_iter().partition(shares);
        groups = apart;
        let mut joined: Vec<&Want> = touching.into_iter().flatten().collect();
        joined.push(want);
        groups.push(joined);
    }
    groups
}

type Assignment<'w> = BTreeMap<&'w str, Version>;

/// One successful build of each job, so that all that share an input agree on its version; newest first. With `every`,
/// the oldest that this job has not used.
fn together<'w>(
    job: &str,
    group: &[&'w Want],
    jobs: &[&str],
    builds: &Builds,
    has_next: &mut bool,
) -> Option<Assignment<'w>> {
    let every: Vec<&&Want> = group.iter().filter(|want| want.rule == Rule::Every).collect();
    let used: Vec<BTreeMap<&str, &Version>> = builds
        .counting(job)
        .map(|build| build.inputs.iter().map(|(name, used)| (name.as_str(), &used.version)).collect())
        .collect();
    let is_new = |found: &Assignment<'_>| {
        every.iter().any(|want| {
            let version = found.get(want.name.as_str());
            !used.iter().any(|used| used.get(want.name.as_str()).copied() == version)
        })
    };
    if !every.is_empty() {
        let mut fresh = Vec::new();
        solve(group, jobs, builds, true, &Assignment::new(), &mut |found| {
            if is_new(found) && !fresh.contains(found) {
                fresh.push(found.clone());
            }
            fresh.len() == 2
        });
        *has_next |= fresh.len() == 2;
        if let Some(first) = fresh.into_iter().next() {
            return Some(first);
        }
    }
    let mut newest = None;
    solve(group, jobs, builds, false, &Assignment::new(), &mut |found| {
        newest = Some(found.clone());
        true
    });
    newest
}

/// Shows every consistent assignment to `see`, until it says that it has seen enough.
fn solve<'w>(
    group: &[&'w Want],
    jobs: &[&str],
    builds: &Builds,
    oldest_first: bool,
    sofar: &Assignment<'w>,
    see: &mut dyn FnMut(&Assignment<'w>) -> bool,
) -> bool {
    let Some((job, rest)) = jobs.split_first() else { return see(sofar) };
    let mut successes: Vec<&BuildRecord> = builds.counting(job).filter(|build| build.succeeded()).collect();
    if !oldest_first {
        successes.reverse();
    }
    successes.into_iter().any(|build| {
        extend(group, job, build, sofar).is_some_and(|next| solve(group, rest, builds, oldest_first, &next, see))
    })
}

/// What a build says about the inputs that passed its job. What it put goes before what it got.
fn extend<'w>(group: &[&'w Want], job: &str, build: &BuildRecord, sofar: &Assignment<'w>) -> Option<Assignment<'w>> {
    let mut next = sofar.clone();
    for want in group.iter().filter(|want| want.passed.iter().any(|passed| passed == job)) {
        let made = build.outputs.iter().rev().chain(build.inputs.values());
        let version = made.into_iter().find(|used| used.resource == want.resource)?.version.clone();
        let pinned_away = matches!(&want.rule, Rule::Pinned(pin) if !satisfies(&version, pin));
        let disagrees = next.get(want.name.as_str()).is_some_and(|known| *known != version);
        if pinned_away || disagrees {
            return None;
        }
        next.insert(&want.name, version);
    }
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Begun, Ended};

    fn version(tag: &str) -> Version {
        Version::from([("tag".to_owned(), tag.to_owned())])
    }

    fn want(name: &str, rule: Rule, passed: &[&str], versions: &[&str]) -> Want {
        Want {
            name: name.to_owned(),
            resource: name.to_owned(),
            rule,
            passed: passed.iter().map(|job| (*job).to_owned()).collect(),
            trigger: true,
            versions: versions.iter().map(|tag| version(tag)).collect(),
        }
    }

    fn build(builds: &mut Builds, job: &str, ended: Ended, inputs: &[(&str, &str)], outputs: &[(&str, &str)]) {
        let used = |(name, tag): &(&str, &str)| Used { resource: (*name).to_owned(), version: version(tag) };
        let inputs = inputs.iter().map(|input| (input.0.to_owned(), used(input))).collect();
        let (id, _) = builds.start(job, Begun { inputs, ..Begun::default() });
        for output in outputs {
            builds.add_output(job, id, used(output));
        }
        builds.end(job, id, ended);
    }

    fn tag(chosen: &Chosen, name: &str) -> String {
        chosen.inputs[name].version["tag"].clone()
    }

    #[test]
    fn the_newest_version_wins_unless_one_is_pinned() {
        let builds = Builds::default();
        let pin = |tag: &str| Rule::Pinned(vec![("tag".to_owned(), tag.to_owned())]);
        for (rule, versions, expected) in [
            (Rule::Latest, &["1", "2"][..], Ok("2")),
            (pin("1"), &["1", "2"], Ok("1")),
            (pin("3"), &["1", "2"], Err("pinned version tag:3 not found")),
            (Rule::Latest, &[], Err("latest version of resource not found")),
            (Rule::Every, &["1", "2"], Ok("2")),
        ] {
            let found = choose("j", &[want("r", rule.clone(), &[], versions)], &builds, false);
            assert_eq!(
                found.map(|chosen| tag(&chosen, "r")),
                expected.map(str::to_owned).map_err(str::to_owned),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn every_goes_on_from_the_version_used_last() {
        let mut builds = Builds::default();
        build(&mut builds, "j", Ended::Failed, &[("r", "1")], &[]);
        build(&mut builds, "j", Ended::Interrupted, &[("r", "2")], &[]);
        let chosen = choose("j", &[want("r", Rule::Every, &[], &["1", "2", "3"])], &builds, false).unwrap();
        assert_eq!((tag(&chosen, "r").as_str(), chosen.has_next), ("2", true), "an interrupted build is run again");
        build(&mut builds, "j", Ended::Succeeded, &[("r", "2")], &[]);
        let chosen = choose("j", &[want("r", Rule::Every, &[], &["1", "2", "3"])], &builds, false).unwrap();
        assert_eq!((tag(&chosen, "r").as_str(), chosen.has_next), ("3", false));
    }

    #[test]
    fn passed_takes_what_went_through_and_keeps_sets_together() {
        let mut builds = Builds::default();
        build(&mut builds, "unit", Ended::Succeeded, &[("a", "1"), ("b", "1")], &[]);
        build(&mut builds, "unit", Ended::Succeeded, &[("a", "2"), ("b", "1")], &[]);
        build(&mut builds, "unit", Ended::Failed, &[("a", "3"), ("b", "2")], &[]);
        build(&mut builds, "other", Ended::Succeeded, &[("a", "1")], &[]);
        let a = |passed: &[&str]| want("a", Rule::Latest, passed, &["1", "2", "3"]);
        let b = want("b", Rule::Latest, &["unit"], &["1", "2"]);
        let chosen = choose("j", &[a(&["unit"]), b.clone()], &builds, false).unwrap();
        assert_eq!((tag(&chosen, "a"), tag(&chosen, "b")), ("2".into(), "1".into()));
        let chosen = choose("j", &[a(&["unit", "other"]), b], &builds, false).unwrap();
        assert_eq!(tag(&chosen, "a"), "1", "both jobs must have used it");
    }

    #[test]
    fn what_a_job_put_goes_downstream_and_not_what_it_got() {
        let mut builds = Builds::default();
        build(&mut builds, "up", Ended::Succeeded, &[("image", "1")], &[("image", "2")]);
        let chosen = choose("j", &[want("image", Rule::Latest, &["up"], &["1", "2"])], &builds, false).unwrap();
        assert_eq!(tag(&chosen, "image"), "2");
    }

    #[test]
    fn passed_without_history_is_refused_or_ignored_and_said() {
        let builds = Builds::default();
        let wants = [want("a", Rule::Latest, &["unit"], &["1"])];
        assert!(choose("j", &wants, &builds, false).is_err());
        assert_eq!(choose("j", &wants, &builds, true).unwrap().unpassed, ["a"]);
    }

    #[test]
    fn every_with_passed_takes_the_oldest_unused() {
        let mut builds = Builds::default();
        for tag in ["1", "2", "3"] {
            build(&mut builds, "up", Ended::Succeeded, &[("a", tag)], &[]);
        }
        build(&mut builds, "j", Ended::Succeeded, &[("a", "1")], &[]);
        let chosen = choose("j", &[want("a", Rule::Every, &["up"], &["1", "2", "3"])], &builds, false).unwrap();
        assert_eq!((tag(&chosen, "a").as_str(), chosen.has_next), ("2", true));
    }
}
