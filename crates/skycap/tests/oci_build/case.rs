//! One case: its world is built, the task is run, and what came of it is compared.
//!
//! `command.txt` has these lines, all optional:
//!
//! ```text
//! outputs NAME…     # the directories that the task declares, `cache` too; without this line `image`
//! host NAME=URL     # the command that takes flags is run instead of the installed program, with `--host`
//! again [NAME VALUE]  # it is run once more, with a parameter changed; only the last run is looked at
//! busybox           # it needs a RUN: `busybox` is in the working directory, and where none can be run the case is skipped
//! ```
//!
//! `SOURCE_DATE_EPOCH` is 0 where a case does not say another. With `SKYCAP_CASES_WRITE=1` what came of a case is written over
//! what it expects: read the difference before it is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::folders;
use crate::listing::{listing, sorted};
use crate::names::Names;
use crate::standin::StandIn;
use crate::state::words;
use crate::{images, sources, state, tls};

const SKYCAP: &str = env!("CARGO_BIN_EXE_skycap");
/// A static one.
const BUSYBOX: &str = "/bin/busybox";

/// What `skycap install oci-build` wrote, once for all cases.
pub struct Installed {
    directory: tempfile::TempDir,
    /// Why no RUN can be run here, if so.
    no_run: Option<String>,
}

impl Installed {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let installed = Command::new(SKYCAP).args(["install", "oci-build"]).arg(directory.path()).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        Self { directory, no_run: no_run() }
    }

    /// `build` or `task`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Why nothing with a RUN in it can be built here, if so.
fn no_run() -> Option<String> {
    let world = tempfile::tempdir().unwrap();
    if fs::copy(BUSYBOX, world.path().join("busybox")).is_err() {
        return Some(format!("{BUSYBOX} is missing (Debian: busybox-static)"));
    }
    fs::write(world.path().join("Dockerfile"), "FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"true\"]\n").unwrap();
    let mut command = Command::new(SKYCAP);
    command.arg("oci-build").env_clear().env("TMPDIR", world.path()).current_dir(world.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then(|| format!("no RUN can be run here: {said}"))
}

/// A folder that was read.
pub struct Case {
    folder: PathBuf,
}

/// What came of it.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    images: String,
    files: String,
    requests: Vec<String>,
}

/// Where a case happens.
struct World {
    root: tempfile::TempDir,
    names: Names,
    outputs: Vec<String>,
}

impl World {
    fn work(&self) -> PathBuf {
        self.root.path().join("work")
    }
}

impl Case {
    pub fn open(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// The words of the lines of `command.txt` that begin with `verb`.
    fn lines(&self, verb: &str) -> Vec<Vec<String>> {
        let text = self.read("command.txt").unwrap_or_default();
        let lines = text.lines().map(words).filter(|line| line.first().is_some_and(|word| word == verb));
        lines.map(|line| line[1..].to_vec()).collect()
    }

    /// Runs the case; what differs comes back, in words.
    pub fn run(&self, installed: &Installed) -> Vec<String> {
        let needs_run = !self.lines("busybox").is_empty();
        if let Some(why) = installed.no_run.as_ref().filter(|_| needs_run) {
            skycap_testkit::skipped!("{}: {why}", self.folder.file_name().unwrap().display());
            return Vec::new();
        }
        let mut names = Names::default();
        let servers = state::parse(&self.read("registry.txt").unwrap_or_default(), &mut names);
        let servers: BTreeMap<String, StandIn> =
            servers.into_iter().map(|(name, server)| (name, StandIn::start(server))).collect();
        for (name, server) in &servers {
            names.add(name, &server.address());
        }
        let mut world = self.world(names);
        for server in servers.values() {
            server.know(&world.names);
        }
        let mut output = self.start(installed, &world, &[]);
        for change in self.lines("again") {
            output = self.start(installed, &world, &change);
        }
        let requests = servers.iter().flat_map(|(name, server)| {
            let of = if name == "registry" { String::new() } else { format!("{name} ") };
            server.requests().into_iter().map(move |line| format!("{of}{line}"))
        });
        let outcome = Self::outcome(&output, requests, &mut world);
        if std::env::var_os("SKYCAP_CASES_WRITE").is_some() {
            self.write(&outcome);
            return Vec::new();
        }
        self.compare(&outcome)
    }

    fn world(&self, mut names: Names) -> World {
        let root = tempfile::tempdir().unwrap();
        let declared = self.lines("outputs").into_iter().next();
        let outputs = declared.unwrap_or_else(|| vec!["image".to_owned()]);
        for name in
            ["work", "home", "tmp"].into_iter().map(str::to_owned).chain(outputs.iter().map(|o| format!("work/{o}")))
        {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let work = root.path().join("work");
        names.add("directory", work.to_str().unwrap());
        names.add("home", root.path().join("home").to_str().unwrap());
        names.add("ca", tls::AUTHORITY);
        names.add("certificate", include_str!("../shared/tls/certificate.pem"));
        names.add("key", include_str!("../shared/tls/key.pem"));
        sources::make(&self.read("sources.txt").unwrap_or_default(), &work, &mut names);
        if !self.lines("busybox").is_empty() {
            fs::copy(BUSYBOX, work.join("busybox")).unwrap();
        }
        for folder in ["work", "home"] {
            copy(&self.folder.join(folder), &root.path().join(folder), &names);
        }
        World { root, names, outputs }
    }

    /// The process that Concourse would start, with an environment that holds the parameters only.
    fn start(&self, installed: &Installed, world: &World, change: &[String]) -> Output {
        let hosts = self.lines("host");
        let request = self.read("task.json");
        let mut command = if hosts.is_empty() {
            Command::new(installed.program(if request.is_some() { "task" } else { "build" }))
        } else {
            let mut command = Command::new(SKYCAP);
            command.arg("oci-build");
            for host in hosts.concat() {
                command.args(["--host", &world.names.fill(&host)]);
            }
            command
        };
        command.env_clear().env("TEST", "true").env("TMPDIR", world.root.path().join("tmp"));
        command.env("SOURCE_DATE_EPOCH", "0").current_dir(world.work());
        let params = self.read("params.txt").unwrap_or_default();
        for line in params.lines().map(words).chain([change.to_vec()]) {
            if let Some(name) = line.first() {
                let value = line.get(1).map(|value| world.names.fill(value)).unwrap_or_default();
                command.env(name, value.replace("\\n", "\n"));
            }
        }
        let request = world.names.fill(&request.unwrap_or_default());
        skycap_testkit::process::run_with(&mut command, request.as_bytes())
    }

    fn outcome(output: &Output, requests: impl Iterator<Item = String>, world: &mut World) -> Outcome {
        let (work, mut images, mut files) = (world.work(), String::new(), String::new());
        for name in world.outputs.iter().filter(|name| *name != "cache") {
            let archive = work.join(name).join("image.tar");
            if archive.is_file() {
                images += &images::describe(name, &archive, &mut world.names);
            }
            for line in listing(&work.join(name)).lines() {
                let _ = writeln!(files, "{name}/{}", member(line));
            }
        }
        let strays = fs::read_dir(world.root.path().join("tmp")).unwrap();
        let strays: Vec<_> = strays.map(|entry| entry.unwrap().path()).collect();
        // A server that refuses a connection may close it before its refusal was read; then it is asked once more.
        let mut stderr = world.names.hide(&String::from_utf8_lossy(&output.stderr)).replace(" (tried 2 times)", "");
        if !strays.is_empty() {
            let _ = writeln!(stderr, "left in the temporary directory: {strays:?}");
        }
        let names = &world.names;
        Outcome {
            code: output.status.code(),
            stdout: names.hide(&String::from_utf8_lossy(&output.stdout)),
            stderr,
            images: names.hide(&images),
            files: sorted(&names.hide(&files)),
            requests: requests.map(|line| names.hide(&line)).collect(),
        }
    }

    fn compare(&self, outcome: &Outcome) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differs = |what: &str, expected: &str, found: &str| {
            if expected.trim_end() != found.trim_end() {
                differences.push(format!("-- {what}: expected\n{expected}\n-- but found\n{found}"));
            }
        };
        let error = self.read("error.txt");
        if outcome.code != Some(i32::from(error.is_some())) {
            let found = format!("{:?}\n{}\n{}", outcome.code, outcome.stdout, outcome.stderr);
            differs("exit code", &i32::from(error.is_some()).to_string(), &found);
        }
        differs("standard output", "", &outcome.stdout);
        if let Some(error) = error {
            differs("the failure", &error, outcome.failure());
        }
        for line in self.read("stderr.txt").unwrap_or_default().lines() {
            let (wanted, text) = line.strip_prefix("not: ").map_or((true, line), |text| (false, text));
            if outcome.stderr.contains(text) != wanted {
                differs("standard error", line, &outcome.stderr);
            }
        }
        let strange = ["left in the temporary directory", "panicked", "hunter2"];
        if strange.iter().any(|text| outcome.stderr.contains(text)) {
            differs("standard error", "nothing left, no panic, no secret", &outcome.stderr);
        }
        for (name, found) in [("images.txt", &outcome.images), ("files.txt", &outcome.files)] {
            if let Some(expected) = self.read(name) {
                differs(name, &expected, found);
            }
        }
        if let Some(expected) = self.read("requests.txt") {
            differs("requests", &expected, &folders::requests_like(&outcome.requests, &expected));
        }
        differences
    }

    fn write(&self, outcome: &Outcome) {
        let put = |name: &str, text: &str| fs::write(self.folder.join(name), format!("{}\n", text.trim_end())).unwrap();
        if outcome.code == Some(0) {
            drop(fs::remove_file(self.folder.join("error.txt")));
            let says_nothing =
                ["images.txt", "files.txt", "stderr.txt", "requests.txt"].map(|name| self.read(name).is_none());
            if self.read("images.txt").is_some() || says_nothing == [true; 4] {
                put("images.txt", &outcome.images);
            }
            if self.read("files.txt").is_some() {
                put("files.txt", &outcome.files);
            }
        } else {
            put("error.txt", outcome.failure());
        }
        if let Some(expected) = self.read("requests.txt") {
            put("requests.txt", &folders::requests_like(&outcome.requests, &expected));
        }
    }
}

impl Outcome {
    /// What is said last: the error and its hint.
    fn failure(&self) -> &str {
        let begins = |at: &usize| *at == 0 || self.stderr.as_bytes()[at - 1] == b'\n';
        let at = self.stderr.match_indices("error: ").map(|(at, _)| at).filter(begins).last();
        at.map_or(self.stderr.as_str(), |at| &self.stderr[at..])
    }
}

/// A member of an archive without its place and its digest: blobs are in the order of their digests, and what they hold is
/// told by `images.txt`.
fn member(line: &str) -> String {
    match line.split_once(" [") {
        Some((archive, rest)) if archive.ends_with("image.tar") => {
            let rest = rest.split_once("] ").map_or(rest, |(_, rest)| rest);
            format!("{archive}: {}", rest.split(" sha256:").next().unwrap_or_default())
        }
        _ => line.to_owned(),
    }
}

/// Copies a folder of the case, if it is there, with names filled in and modes kept.
fn copy(from: &Path, to: &Path, names: &Names) {
    let Ok(entries) = fs::read_dir(from) else { return };
    fs::create_dir_all(to).unwrap();
    for entry in entries.map(Result::unwrap) {
        let (source, destination) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &destination, names);
            continue;
        }
        fs::copy(&source, &destination).unwrap();
        if let Ok(text) = fs::read_to_string(&source) {
            let filled = names.fill(&text);
            // PEM comes in one line, as JSON has it.
            let filled = if ["{ca}", "{certificate}", "{key}"].contains(&text.trim()) {
                filled.replace("\\n", "\n")
            } else {
                filled
            };
            fs::write(&destination, filled).unwrap();
        }
    }
}
