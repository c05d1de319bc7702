//! A hermetic world: a registry on disk, perhaps with a script in front of it, a host and directories.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use skycap_concourse::{Environment, Failure, Host, Kind, Retries, Settings, resource};
use skycap_image::{Artifact, Event, Progress, Repository};
use skycap_registry::server::{Options, Server};
use skycap_registry::{Access, Client, Place};
use skycap_testkit::listing::{self, Style};
use tempfile::TempDir;

/// An image with a bit of everything that a get writes down.
pub const IMAGE: &str = "
    env PATH=/bin A=<b>&c
    user app
    cmd sh -c true
    label org.example.one=1
    label org.example.two=<2>
    label other=3
    annotation org.example.note=n
    created 2024-01-02T03:04:05Z
    layer
      dir  etc      0755 0:0
      file etc/motd 0644 0:0 \"hello\\n\"
      file gone     0644 0:0 \"x\"
    layer
      whiteout gone
      file big      0600 0:0 size=200000
";

pub struct World {
    pub root: TempDir,
    pub server: Server,
    pub host: Host,
    pub log: Arc<Log>,
}

/// Keeps notes, warnings and what was started.
#[derive(Default)]
pub struct Log(Mutex<Vec<String>>);

impl Progress for Log {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Note(line) | Event::Warning(line) => self.0.lock().unwrap().push(line.to_owned()),
            Event::Started { label, .. } => self.0.lock().unwrap().push(format!("started {label}")),
            _ => {}
        }
    }
}

impl Log {
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn has(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.contains(text))
    }
}

pub fn settings() -> Settings {
    Settings {
        retries: Retries {
            first: Duration::from_millis(5),
            attempts: 3,
            limit: Duration::from_secs(1),
            ..Retries::default()
        },
        ..Settings::default()
    }
}

impl World {
    pub fn new() -> Self {
        Self::with_settings(|_| settings())
    }

    /// A world whose settings may name the registry's address.
    pub fn with_settings(settings: impl FnOnce(SocketAddr) -> Settings) -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["registry", "scratch", "out", "src"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let server =
            Server::start(([127, 0, 0, 1], 0).into(), &root.path().join("registry"), Options::default()).unwrap();
        let environment: Environment = [("TEST", "true")].into_iter().collect();
        let log = Arc::new(Log::default());
        let scratch = root.path().join("scratch");
        let host = Host::new(settings(server.address()), environment, scratch, log.clone()).unwrap();
        Self { root, server, host, log }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// An empty directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// The full name of a repository in the registry.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.server.address())
    }

    pub fn place(&self, repository: &str) -> Place {
        let client = Client::new(settings(), self.log.clone()).unwrap();
        let repository: Repository = self.name(repository).parse().unwrap();
        client.place(repository, Access { push: true, ..Access::default() }).unwrap()
    }

    /// Puts a listing's image into the registry and says its digest.
    pub fn push(&self, repository: &str, listing: &str, tags: &[&str]) -> (Artifact, String) {
        let artifact = listing::put(&self.place(repository), listing, Style::default(), tags);
        let digest = artifact.descriptor().digest.to_string();
        (artifact, digest)
    }

    pub fn check(&self, kind: Kind, request: &Value) -> Result<Value, Failure> {
        resource(kind).check(request.to_string().as_bytes(), &self.host)
    }

    pub fn get(&self, kind: Kind, request: &Value, to: &str) -> Result<Value, Failure> {
        resource(kind).get(request.to_string().as_bytes(), &self.directory(to), &self.host)
    }

    pub fn put(&self, request: &Value) -> Result<Value, Failure> {
        resource(Kind::RegistryImage).put(request.to_string().as_bytes(), &self.path("src"), &self.host)
    }

    /// A put in the process of somebody whose files are not the put's.
    pub fn put_confined(&self, request: &Value) -> Result<Value, Failure> {
        let source = self.path("src");
        let host = self.host.clone().confined_to(&source);
        resource(Kind::RegistryImage).put(request.to_string().as_bytes(), &source, &host)
    }

    /// Fetches an image of the registry.
    pub fn get_image(&self, repository: &str, digest: &str, params: &Value, to: &str) -> Result<Value, Failure> {
        let request = json!({
            "source": {"repository": self.name(repository)},
            "params": params,
            "version": {"tag": "1", "digest": digest},
        });
        self.get(Kind::RegistryImage, &request, to)
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}
