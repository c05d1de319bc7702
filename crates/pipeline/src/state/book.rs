//! The two documents: which versions there are, and which builds there were.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::now;
use crate::run::interpret::Version;

/// More versions of a resource than this are never needed; the oldest go first.
const MOST_VERSIONS: usize = 5_000;
/// More builds of a job are not kept, except the last successful one.
const MOST_BUILDS: usize = 200;

/// The versions of every resource.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Versions(BTreeMap<String, Found>);

#[derive(Default, Serialize, Deserialize)]
struct Found {
    /// A hash of type and source: other sources have other versions.
    scope: String,
    versions: Vec<Version>,
}

impl Versions {
    pub fn of(&self, resource: &str, scope: &str) -> Vec<Version> {
        let found = self.0.get(resource).filter(|found| found.scope == scope);
        found.map(|found| found.versions.clone()).unwrap_or_default()
    }

    /// Concourse's `SaveVersions`: if one is new, all that were returned move to the end, in the order returned. Says
    /// whether anything changed.
    pub fn save(&mut self, resource: &str, scope: &str, returned: &[Version]) -> bool {
        let found = self.0.entry(resource.to_owned()).or_default();
        if found.scope != scope {
            *found = Found { scope: scope.to_owned(), versions: Vec::new() };
        }
        if returned.iter().all(|version| found.versions.contains(version)) {
            return false;
        }
        found.versions.retain(|version| !returned.contains(version));
        for (index, version) in returned.iter().enumerate() {
            let again = returned.iter().skip(index + 1).any(|later| later == version);
            if !again {
                found.versions.push(version.clone());
            }
        }
        let surplus = found.versions.len().saturating_sub(MOST_VERSIONS);
        found.versions.drain(..surplus);
        true
    }
}

/// The builds of every job.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Builds {
    /// The last `BUILD_ID` given out.
    last_id: u64,
    jobs: BTreeMap<String, Job>,
    /// Whether this process may rehearse; what was rehearsed then counts for it.
    #[serde(skip)]
    pub(super) rehearses: bool,
}

#[derive(Default, Serialize, Deserialize)]
struct Job {
    last_number: u64,
    /// Oldest first.
    builds: VecDeque<BuildRecord>,
}

/// One build.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct BuildRecord {
    pub id: u64,
    /// The build's name: its number in its job.
    pub name: String,
    pub ended: Ended,
    /// By the name of the get.
    pub inputs: BTreeMap<String, Used>,
    /// What it put.
    pub outputs: Vec<Used>,
    /// A hash of what the job says, so that a changed job is not mistaken for a done one.
    #[serde(default)]
    pub plan: String,
    /// Whether it did less than a cluster would, or other things: it skipped puts, or used local directories.
    #[serde(default)]
    pub rehearsal: bool,
    /// Seconds since 1970.
    pub began: u64,
}

impl BuildRecord {
    pub fn succeeded(&self) -> bool {
        self.ended == Ended::Succeeded
    }
}

/// What is known of a build when it begins; the fields are those of [`BuildRecord`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Begun {
    pub inputs: BTreeMap<String, Used>,
    pub plan: String,
    pub rehearsal: bool,
}

/// How a build ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    /// It has not yet.
    Running,
    /// Its process was killed. It runs again.
    Interrupted,
    Succeeded,
    Failed,
    Errored,
    Aborted,
}

/// A version that a build used or made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Used {
    pub resource: String,
    pub version: Version,
}

impl Builds {
    /// The builds of a job, oldest first.
    pub fn of(&self, job: &str) -> &VecDeque<BuildRecord> {
        const NONE: &VecDeque<BuildRecord> = &VecDeque::new();
        self.jobs.get(job).map_or(NONE, |job| &job.builds)
    }

    /// The builds of a job that used their versions, oldest first: one that was interrupted did not, and neither did a
    /// rehearsal, except for those who rehearse themselves.
    pub fn counting(&self, job: &str) -> impl DoubleEndedIterator<Item = &BuildRecord> {
        let counts = |build: &&BuildRecord| build.ended != Ended::Interrupted && (self.rehearses || !build.rehearsal);
        self.of(job).iter().filter(counts)
    }

    /// Begins a build: its id and its name.
    pub fn start(&mut self, job: &str, begun: Begun) -> (u64, String) {
        self.last_id += 1;
        let job = self.jobs.entry(job.to_owned()).or_default();
        job.last_number += 1;
        let name = job.last_number.to_string();
        let build = BuildRecord {
            id: self.last_id,
            name: name.clone(),
            ended: Ended::Running,
            inputs: begun.inputs,
            outputs: Vec::new(),
            plan: begun.plan,
            rehearsal: begun.rehearsal,
            began: now(),
        };
        job.builds.push_back(build);
        job.trim();
        (self.last_id, name)
    }

    pub fn end(&mut self, job: &str, id: u64, ended: Ended) {
        if let Some(build) = self.find(job, id) {
            build.ended = ended;
        }
    }

    pub fn add_output(&mut self, job: &str, id: u64, output: Used) {
        if let Some(build) = self.find(job, id) {
            build.outputs.push(output);
        }
    }

    /// The last build of a job that succeeded and was no rehearsal.
    pub fn last_success(&self, job: &str) -> Option<&BuildRecord> {
        self.of(job).iter().rev().find(|build| build.succeeded() && !build.rehearsal)
    }

    pub(super) fn interrupt_running(&mut self) {
        for build in self.jobs.values_mut().flat_map(|job| &mut job.builds) {
            if build.ended == Ended::Running {
                build.ended = Ended::Interrupted;
            }
        }
    }

    fn find(&mut self, job: &str, id: u64) -> Option<&mut BuildRecord> {
        self.jobs.get_mut(job)?.builds.iter_mut().rev().find(|build| build.id == id)
    }
}

impl Job {
    fn trim(&mut self) {
        while self.builds.len() > MOST_BUILDS {
            let last_success = self.builds.iter().rposition(|build| build.succeeded() && !build.rehearsal);
            self.builds.remove(usize::from(last_success == Some(0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(tags: &[&str]) -> Vec<Version> {
        tags.iter().map(|tag| Version::from([("tag".to_owned(), (*tag).to_owned())])).collect()
    }

    #[test]
    fn the_order_follows_the_latest_check_that_found_something_new() {
        let mut book = Versions::default();
        for (returned, expected) in [
            (&["1", "2"][..], &["1", "2"][..]),
            (&["2", "1"], &["1", "2"]),
            (&["2", "3"], &["1", "2", "3"]),
            (&["1", "4"], &["2", "3", "1", "4"]),
            (&[], &["2", "3", "1", "4"]),
            (&["5", "5"], &["2", "3", "1", "4", "5"]),
        ] {
            book.save("r", "source", &versions(returned));
            assert_eq!(book.of("r", "source"), versions(expected), "{returned:?}");
        }
        book.save("r", "other source", &versions(&["9"]));
        assert_eq!(book.of("r", "other source"), versions(&["9"]));
        assert!(book.of("r", "source").is_empty());
    }

    #[test]
    fn old_builds_go_and_the_last_success_that_was_no_rehearsal_stays() {
        let mut builds = Builds::default();
        let (first, _) = builds.start("j", Begun::default());
        builds.end("j", first, Ended::Succeeded);
        for _ in 0..MOST_BUILDS + 10 {
            let (id, _) = builds.start("j", Begun { rehearsal: true, ..Begun::default() });
            builds.end("j", id, Ended::Succeeded);
        }
        assert_eq!(builds.of("j").len(), MOST_BUILDS);
        assert_eq!(builds.last_success("j").map(|build| build.id), Some(first));
        assert_eq!(builds.counting("j").count(), 1);
        builds.rehearses = true;
        assert_eq!(builds.counting("j").count(), MOST_BUILDS);
    }
}
