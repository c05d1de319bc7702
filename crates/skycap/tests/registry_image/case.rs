//! One case: its world is built, the program is run, and what came of it is compared.
//!
//! `command.txt` has these lines, all optional: `host NAME=URL` (the command that takes flags is run instead of the installed
//! program, with `--host`), `environment NAME=VALUE`, `arguments WORD…` (instead of the directory), `exit N`, `explain [WORD…]`
//! (`skycap registry-image explain` is run with the request).
//!
//! With `SKYCAP_CASES_WRITE=1` what came of a case is written over what it expects: read the difference before it is kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use skycap_concourse::encode;

use crate::folders;
use crate::listing::{listing, sorted};
use crate::names::Names;
use crate::standin::StandIn;
use crate::state::words;
use crate::{sources, state, tls};

const SKYCAP: &str = env!("CARGO_BIN_EXE_skycap");

/// What `skycap install registry-image` wrote, once for all cases.
pub struct Installed(tempfile::TempDir);

impl Installed {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let installed =
            Command::new(SKYCAP).args(["install", "registry-image"]).arg(directory.path()).output().unwrap();
        assert!(installed.status.success(), "{installed:?}");
        Self(directory)
    }

    /// `check`, `in` or `out`.
    pub fn program(&self, script: &str) -> PathBuf {
        self.0.path().join(script)
    }
}

/// A folder that was read.
pub struct Case {
    folder: PathBuf,
    script: &'static str,
}

/// What came of it.
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    files: String,
    requests: Vec<String>,
    pushed: String,
}

impl Case {
    pub fn open(folder: &Path) -> Self {
        let scripts = ["check", "in", "out"];
        let script = scripts.into_iter().find(|script| folder.join(format!("{script}.json")).exists()).unwrap();
        Self { folder: folder.to_owned(), script }
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// Runs the case; what differs comes back, in words.
    pub fn run(&self, installed: &Installed) -> Vec<String> {
        let world = tempfile::tempdir().unwrap();
        let (directory, mut names) = (world.path().join("volume"), Names::default());
        fs::create_dir(&directory).unwrap();
        names.add("directory", directory.to_str().unwrap());
        names.add("ca", tls::AUTHORITY);
        names.add("cosign", include_str!("../shared/tls/cosign.pub"));
        let servers = state::parse(&self.read("registry.txt").unwrap_or_default(), &mut names);
        sources::make(&self.read("sources.txt").unwrap_or_default(), &directory, &mut names);
        let servers: BTreeMap<String, StandIn> =
            servers.into_iter().map(|(name, server)| (name, StandIn::start(server))).collect();
        for (name, server) in &servers {
            names.add(name, &server.address());
        }
        for server in servers.values() {
            server.know(&names);
        }
        let outcome = self.outcome(installed, world.path(), &directory, &names, &servers);
        if std::env::var_os("SKYCAP_CASES_WRITE").is_some() {
            self.write(&outcome);
            return Vec::new();
        }
        self.compare(&outcome)
    }

    fn outcome(
        &self,
        installed: &Installed,
        world: &Path,
        directory: &Path,
        names: &Names,
        servers: &BTreeMap<String, StandIn>,
    ) -> Outcome {
        let mut command = self.command(installed, directory, names);
        fs::create_dir_all(world.join("tmp")).unwrap();
        command.env("TMPDIR", world.join("tmp")).current_dir(world);
        let request = names.fill(&self.read(&format!("{}.json", self.script)).unwrap());
        let before = if self.script == "in" { String::new() } else { listing(directory) };
        let output = skycap_testkit::process::run_with(&mut command, request.as_bytes());
        // A manifest that the put has made gets a name of its own.
        let mut names = names.clone();
        let known = |digest: &skycap_image::Digest| names.knows(*digest);
        let made: Vec<_> = servers.values().flat_map(StandIn::pushed).filter(|digest| !known(digest)).collect();
        for digest in made {
            names.add_digest("digest:made", digest);
        }
        let names = &names;
        let left: Vec<_> = fs::read_dir(world.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let mut stderr = names.hide(&String::from_utf8_lossy(&output.stderr));
        if !left.is_empty() {
            let _ = writeln!(stderr, "left in the temporary directory: {left:?}");
        }
        let after = listing(directory);
        let files = if self.script == "in" { after } else { after.replace(&before, "") };
        let requests = servers.iter().flat_map(|(name, server)| {
            let of = if name == "registry" { String::new() } else { format!("{name} ") };
            server.requests().into_iter().map(move |line| format!("{of}{line}"))
        });
        let pushed = servers.values().map(StandIn::changes).collect::<String>();
        Outcome {
            code: output.status.code(),
            stdout: names.hide(&String::from_utf8_lossy(&output.stdout)),
            stderr,
            files: sorted(&names.hide(&files)),
            requests: requests.map(|line| names.hide(&line)).collect(),
            pushed: sorted_manifests(&names.hide(&pushed)),
        }
    }

    /// The process that Concourse would start; its environment is nearly empty.
    fn command(&self, installed: &Installed, directory: &Path, names: &Names) -> Command {
        let text = names.fill(&self.read("command.txt").unwrap_or_default());
        let lines: Vec<Vec<String>> = text.lines().map(words).collect();
        let all = |verb: &str| -> Vec<&[String]> {
            lines.iter().filter(|line| line.first().is_some_and(|word| word == verb)).map(|line| &line[1..]).collect()
        };
        let by_hand = !all("host").is_empty() || !all("explain").is_empty();
        let mut command = if by_hand {
            let mut command = Command::new(SKYCAP);
            command.arg("registry-image");
            for host in all("host") {
                command.arg("--host").args(host);
            }
            command
        } else {
            Command::new(installed.program(self.script))
        };
        if let Some(more) = all("explain").first() {
            command.arg("explain").args(*more);
        } else {
            if by_hand {
                command.arg(self.script);
            }
            match all("arguments").first() {
                Some(arguments) => drop(command.args(*arguments)),
                None if self.script != "check" => drop(command.arg(directory)),
                None => {}
            }
        }
        command.env_clear().env("TEST", "true");
        for pair in all("environment") {
            let (name, value) = pair[0].split_once('=').unwrap();
            command.env(name, value);
        }
        command
    }

    fn compare(&self, outcome: &Outcome) -> Vec<String> {
        let mut differences = Vec::new();
        let mut differs = |what: &str, expected: &str, found: &str| {
            if expected.trim_end() != found.trim_end() {
                differences.push(format!("-- {what}: expected\n{expected}\n-- but found\n{found}"));
            }
        };
        let error = self.read("error.txt");
        let exit = self
            .read("command.txt")
            .and_then(|text| text.lines().find_map(|line| line.strip_prefix("exit ")?.parse().ok()));
        let code = exit.unwrap_or(i32::from(error.is_some()));
        if outcome.code != Some(code) {
            differs(
                "exit code",
                &code.to_string(),
                &format!("{:?}\n{}\n{}", outcome.code, outcome.stdout, outcome.stderr),
            );
        }
        match (&error, self.read("answer.json"), self.read("answer.txt")) {
            (Some(error), ..) => {
                differs("standard output", "", &outcome.stdout);
                differs("the failure", error, outcome.failure());
            }
            (None, Some(answer), _) => differs("standard output", &compact(&answer), &outcome.stdout),
            (None, None, Some(answer)) => differs("standard output", &answer, &outcome.stdout),
            (None, None, None) => {}
        }
        for line in self.read("stderr.txt").unwrap_or_default().lines() {
            let (count, text) = match (line.strip_prefix("not: "), line.strip_prefix("once: ")) {
                (Some(text), _) => (Some(0), text),
                (None, Some(text)) => (Some(1), text),
                (None, None) => (None, line),
            };
            let found = outcome.stderr.matches(text).count();
            if count.map_or(found == 0, |count| found != count) {
                differs("standard error", line, &outcome.stderr);
            }
        }
        if outcome.stderr.contains("left in the temporary directory") || outcome.stderr.contains("panicked") {
            differs("standard error", "nothing left, no panic", &outcome.stderr);
        }
        if let Some(files) = self.read("files.txt") {
            differs("files", &files, &outcome.files);
        }
        if let Some(expected) = self.read("requests.txt") {
            differs("requests", &expected, &folders::requests_like(&outcome.requests, &expected));
        }
        if let Some(pushed) = self.read("pushed.txt") {
            differs("what is in the registry", &pushed, &outcome.pushed);
        }
        differences
    }

    fn write(&self, outcome: &Outcome) {
        let put = |name: &str, text: &str| fs::write(self.folder.join(name), format!("{}\n", text.trim_end())).unwrap();
        let drop_file = |name: &str| drop(fs::remove_file(self.folder.join(name)));
        if outcome.code == Some(0) || !outcome.stdout.is_empty() {
            drop_file("error.txt");
            match serde_json::from_str::<Value>(&outcome.stdout) {
                Ok(value) => put("answer.json", &pretty(&value)),
                Err(_) => put("answer.txt", &outcome.stdout),
            }
        } else {
            put("error.txt", outcome.failure());
        }
        if self.folder.join("files.txt").exists() || self.script == "in" && outcome.code == Some(0) {
            put("files.txt", &outcome.files);
        }
        if let Some(expected) = self.read("requests.txt") {
            put("requests.txt", &folders::requests_like(&outcome.requests, &expected));
        }
        if self.folder.join("pushed.txt").exists() || self.script == "out" && outcome.code == Some(0) {
            put("pushed.txt", &outcome.pushed);
        }
    }
}

impl Outcome {
    /// The message of the line that the original's logger would have written last.
    fn failure(&self) -> &str {
        let last = self.stderr.lines().last().unwrap_or_default();
        let Some(rest) = last.strip_prefix("\x1b[31mERRO\x1b[0m[") else { return &self.stderr };
        let (seconds, message) = rest.split_once("] ").unwrap_or_default();
        let is_time = seconds.len() == 4 && seconds.bytes().all(|b| b.is_ascii_digit());
        if is_time && message.chars().count() >= 45 && message.ends_with(' ') {
            message.trim_end()
        } else {
            &self.stderr
        }
    }
}

/// The way answers are written, whatever white space the file has.
fn compact(json: &str) -> String {
    let value: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error} in {json}"));
    encode(&value) + "\n"
}

/// One line for each version or field.
fn pretty(value: &Value) -> String {
    let list = |list: &[Value]| {
        let lines: Vec<String> = list.iter().map(|value| format!("  {}", encode(value))).collect();
        if lines.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", lines.join(",\n")) }
    };
    match (value, value.get("metadata")) {
        (Value::Array(versions), _) => list(versions),
        (_, Some(Value::Array(fields))) => {
            format!("{{\"version\": {},\n\"metadata\": {}}}", encode(&value["version"]), list(fields))
        }
        _ => encode(value),
    }
}

/// The same where a line that is indented belongs to the one before it.
fn sorted_manifests(text: &str) -> String {
    sorted(&text.replace("\n  ", "\u{1}")).replace('\u{1}', "\n  ")
}
