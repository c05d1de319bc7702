//! A world of its own for each test: a registry that answers for docker.io, a web server that answers for hub.docker.com, git
//! repositories that answer for github.com, a store, a state directory.
#![allow(dead_code, reason = "not every test uses everything")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use skycap_concourse::{Environment, Host, Settings, Store};
use skycap_image::{ImageSource, Name, Silent};
use skycap_pipeline::{Events, Options, Puts, Runner, Step, StepEvent, Vars};
use skycap_registry::server::{self, Server};
use skycap_registry::{Access, Place};
use skycap_sandbox::{Refused, Sandbox};
use tempfile::TempDir;

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes down what happens, a line an event: `kind name: …`.
#[derive(Default)]
pub struct Recorder(Mutex<String>);

impl Events for Recorder {
    fn event(&self, step: &Step, event: StepEvent<'_>) {
        let text = match event {
            StepEvent::Log(_, bytes) => String::from_utf8_lossy(bytes).replace("\r\n", "\n"),
            StepEvent::Progress(skycap_image::Event::Output { bytes, .. }) => {
                String::from_utf8_lossy(bytes).trim_end().to_owned()
            }
            StepEvent::Progress(skycap_image::Event::Note(text) | skycap_image::Event::Warning(text)) => {
                text.to_owned()
            }
            StepEvent::Progress(_) => return,
            StepEvent::Initializing => "initializing".to_owned(),
            StepEvent::Check(name) => format!("checking {name}"),
            StepEvent::Running(path, args) => format!("running {path} {}", args.join(" ")),
            StepEvent::Metadata(metadata) => format!("metadata {metadata:?}"),
            StepEvent::Error(text) => format!("error {text}"),
            StepEvent::Finished(outcome) => outcome.to_string(),
        };
        let mut all = self.0.lock().unwrap();
        for line in text.lines() {
            all.extend([step.kind, " ", &step.name, ": ", line, "\n"]);
        }
    }
}

impl Recorder {
    /// Everything so far.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    #[track_caller]
    pub fn has(&self, line: &str) {
        let text = self.text();
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }

    #[track_caller]
    pub fn lacks(&self, line: &str) {
        let text = self.text();
        assert!(!text.contains(line), "{line:?} is in\n{text}");
    }
}

pub struct World {
    pub root: TempDir,
    pub events: Arc<Recorder>,
    pub sandbox: Arc<Result<Sandbox, Refused>>,
    /// Tags of library/ruby, as Docker Hub lists them.
    pub tags: Arc<Mutex<Vec<String>>>,
    hosts: BTreeMap<String, String>,
    server: Server,
}

impl World {
    pub fn new(sandbox: Result<Sandbox, Refused>) -> Self {
        Self::new_in(tempfile::tempdir().unwrap(), sandbox)
    }

    /// Lets another process find this world's servers.
    pub fn share(&self) {
        fs::write(self.path("hosts.json"), serde_json::to_vec(&self.hosts).unwrap()).unwrap();
    }

    /// The world of another process, seen from here.
    pub fn beside(dir: &Path, sandbox: Result<Sandbox, Refused>) -> Self {
        let hosts = serde_json::from_slice(&fs::read(dir.join("hosts.json")).unwrap()).unwrap();
        let root = tempfile::Builder::new().disable_cleanup(true).tempdir().unwrap();
        let world = Self::new_in(root, sandbox);
        fs::remove_dir_all(world.root.path()).unwrap();
        symlink(dir, world.root.path()).unwrap();
        Self { hosts, ..world }
    }

    fn new_in(root: TempDir, sandbox: Result<Sandbox, Refused>) -> Self {
        for part in ["scratch", "registry", "store", "git"] {
            fs::create_dir_all(root.path().join(part)).unwrap();
        }
        let server =
            Server::start("127.0.0.1:0".parse().unwrap(), &root.path().join("registry"), server::Options::default())
                .unwrap();
        let tags = Arc::new(Mutex::new(Vec::new()));
        let hosts = [
            ("docker.io", format!("http://{}", server.address())),
            ("hub.docker.com", format!("http://{}", hub(Arc::clone(&tags)))),
            ("github.com", format!("file://{}", root.path().join("git").display())),
        ];
        let hosts = hosts.map(|(host, other)| (host.to_owned(), other)).into();
        Self { root, events: Arc::default(), sandbox: Arc::new(sandbox), tags, hosts, server }
    }

    pub fn path(&self, part: &str) -> PathBuf {
        self.root.path().join(part)
    }

    pub fn host(&self) -> Host {
        let settings = Settings { hosts: self.hosts.clone(), ..Settings::default() };
        let environment: Environment = [("PATH", PATH)].into_iter().collect();
        Host::new(settings, environment, self.path("scratch"), Arc::new(Silent)).unwrap()
    }

    pub fn options(&self) -> Options {
        let mut secrets = Vars::default();
        secrets
            .add_secrets("secrets.yml", b"docker_hub_username: ann\ndocker_hub_password: hunter2-password\n")
            .unwrap();
        Options { secrets, puts: Puts::Allow, threads: 2, ..Options::new("p", self.path("state")) }
    }

    pub fn runner(&self, yaml: &str) -> Runner {
        self.runner_with(yaml, self.options())
    }

    pub fn runner_with(&self, yaml: &str, options: Options) -> Runner {
        self.try_runner(yaml, options).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn try_runner(&self, yaml: &str, options: Options) -> Result<Runner, skycap_pipeline::RunnerError> {
        let config = skycap_pipeline::load(yaml.as_bytes(), "pipeline.yml", &Vars::default())
            .unwrap_or_else(|error| panic!("{error}"));
        let store = Store::open(&self.path("store")).unwrap();
        Runner::new(config, self.host(), store, Arc::clone(&self.sandbox), options, self.events.clone())
    }

    /// A repository in the registry.
    pub fn place(&self, repository: &str) -> Place {
        let access = Access { push: true, ..Access::default() };
        self.host().client.place(repository.parse().unwrap(), access).unwrap()
    }

    /// Whether the registry has a tag.
    pub fn has_image(&self, repository: &str, tag: &str) -> bool {
        self.place(repository).find(&Name::Tag(tag.to_owned())).unwrap().is_some()
    }

    /// Makes a commit in a repository of github.com.
    pub fn commit(&self, repository: &str, files: &[(&str, &str)]) {
        let work = self.path("git").join(format!("{repository}.git"));
        if !work.exists() {
            fs::create_dir_all(&work).unwrap();
            git(&work, &["init", "--quiet", "--initial-branch=main"]);
        }
        for (path, content) in files {
            let path = work.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        git(&work, &["add", "--all"]);
        git(&work, &["commit", "--quiet", "--allow-empty", "--message=change"]);
    }
}

fn git(directory: &Path, arguments: &[&str]) {
    let status = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "safe.directory=*"])
        .args(arguments)
        .current_dir(directory)
        .status()
        .unwrap();
    assert!(status.success(), "git {arguments:?}");
}

/// Whether a program is there; otherwise says why a test is skipped.
pub fn have(test: &str, program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        skycap_testkit::skipped!("{test}: there is no program {program}");
    }
    found
}

/// Docker Hub's list of tags, one page.
fn hub(tags: Arc<Mutex<Vec<String>>>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let request = lines.next().unwrap_or_default();
            let _ = lines.find(String::is_empty);
            let entry = |tag: &str| {
                let digest = skycap_image::Digest::sha256(tag.as_bytes()).to_string();
                let image = serde_json::json!({ "digest": digest, "architecture": "amd64", "os": "linux" });
                serde_json::json!({ "name": tag, "digest": digest, "images": [image] })
            };
            let path = request.split(' ').nth(1).unwrap_or_default();
            let body = match path.split_once("/tags/") {
                Some((_, tag)) if !tag.is_empty() && !tag.starts_with('?') => entry(tag).to_string(),
                _ => {
                    let first = !path.contains("page=2");
                    let results: Vec<_> = tags.lock().unwrap().iter().filter(|_| first).map(|tag| entry(tag)).collect();
                    serde_json::json!({ "count": results.len(), "next": null, "results": results }).to_string()
                }
            };
            let _ = write!(
                &stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
    address
}
