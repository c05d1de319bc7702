//! Content trust beside Debian's `notary` and `notary-server`: what we publish, the client verifies; what the client made,
//! we extend.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skycap_image::{Digest, Event, Kind, Progress, Repository, Secret, Silent, SourceError};
use skycap_registry::notary::{ContentTrust, Target};
use skycap_registry::{Client, Credentials, Retries, Settings};
use skycap_testkit::registry::{Reply, Scripted};
use tempfile::TempDir;

const GUN: &str = "registry.example/team/app";
const PASSPHRASE: &str = "hunter2-targets";
/// The name under which everybody knows the server.
const SERVER: &str = "https://notary.example";

/// Remembers warnings.
#[derive(Default)]
struct Ear(Mutex<Vec<String>>);

impl Progress for Ear {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

/// A server of Debian's and a directory of its client's.
struct Notary {
    dir: TempDir,
    server: Child,
    url: String,
}

impl Drop for Notary {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Notary {
    /// `None` where Debian's notary is not installed.
    fn start() -> Option<Self> {
        let found = |program: &str| Command::new(program).arg("-h").output().is_ok();
        if !found("notary") || !found("notary-server") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = dir.path().join("server.json");
        let text = format!(
            r#"{{"server":{{"http_addr":"{address}"}},"trust_service":{{"type":"local"}},"logging":{{"level":"error"}},"storage":{{"backend":"memory"}}}}"#
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("notary-server");
        command.arg("-config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        let notary = Self { dir, server, url: format!("http://{address}") };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Some(notary);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("notary-server does not listen");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("notary");
        command.args(["-s", &self.url, "-d"]).arg(self.dir.path().join("trust")).args(arguments);
        for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
            command.env(format!("NOTARY_{role}_PASSPHRASE"), PASSPHRASE);
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// A repository as `docker trust` makes them: the server signs snapshots.
    fn initialise(&self) {
        self.ok(&["init", GUN, "-p"]);
        self.ok(&["key", "rotate", GUN, "snapshot", "-r"]);
    }

    /// What the client finds, after it has verified everything: name, digest in hex, size, role.
    fn listed(&self) -> BTreeMap<String, (String, u64, String)> {
        let fresh = self.dir.path().join("fresh");
        let _ = fs::remove_dir_all(&fresh);
        let output =
            Command::new("notary").args(["-s", &self.url, "-d"]).arg(fresh).args(["list", GUN]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = rows.filter(|row| row.len() == 4 && row[1].len() == 64);
        rows.map(|row| (row[0].to_owned(), (row[1].to_owned(), row[2].parse().unwrap(), row[3].to_owned()))).collect()
    }

    /// The private key of a role, with its id.
    fn key(&self, role: &str) -> (String, Secret) {
        let found = fs::read_dir(self.dir.path().join("trust/private")).unwrap().map(|entry| entry.unwrap().path());
        let is_of = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(&format!("\nrole: {role}\n"));
        let path = found.into_iter().find(is_of).unwrap();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (id, Secret::new(fs::read_to_string(path).unwrap()))
    }

    /// A role's document, as the server has it.
    fn document(&self, role: &str) -> Vec<u8> {
        let client = Client::new(Settings::default(), Arc::new(Silent)).unwrap();
        let url = format!("{}/v2/{GUN}/_trust/tuf/{role}.json", self.url);
        client.get(&url, &[], &Credentials::Anonymous).unwrap().body
    }

    fn settings(&self) -> Settings {
        Settings {
            hosts: BTreeMap::from([("notary.example".to_owned(), self.url.clone())]),
            retries: Retries { first: Duration::from_millis(5), attempts: 3, ..Retries::default() },
            ..Settings::default()
        }
    }

    fn sign(&self, trust: ContentTrust, targets: &[Target]) -> Result<Vec<String>, SourceError> {
        let ear = Arc::new(Ear::default());
        let progress: Arc<dyn Progress> = ear.clone();
        let repository: Repository = GUN.parse().unwrap();
        trust.open()?.sign(&self.settings(), &progress, &repository, targets)?;
        Ok(ear.0.lock().unwrap().clone())
    }
}

fn trust(key: (String, Secret)) -> ContentTrust {
    ContentTrust {
        server: Some(SERVER.to_owned()),
        key_id: key.0,
        key: key.1,
        passphrase: Secret::new(PASSPHRASE),
        client_certificate: None,
        actions: "push,pull".to_owned(),
        credentials: Credentials::Anonymous,
    }
}

fn target(name: &str, bytes: &[u8]) -> Target {
    Target { name: name.to_owned(), digest: Digest::sha256(bytes), size: bytes.len() as u64 }
}

macro_rules! notary_or_skip {
    ($test:literal) => {
        match Notary::start() {
            Some(notary) => notary,
            None => return eprintln!("skipped: {}: notary is not installed", $test),
        }
    };
}

#[test]
fn what_the_client_made_is_extended_and_the_client_verifies_it() {
    let notary = notary_or_skip!("what_the_client_made_is_extended_and_the_client_verifies_it");
    notary.initialise();
    let file = notary.dir.path().join("file");
    fs::write(&file, "made by the client").unwrap();
    notary.ok(&["add", GUN, "by-client", file.to_str().unwrap(), "-p"]);

    let key = notary.key("targets");
    let targets = [target("1.0.0", b"a manifest"), target("latest", b"a manifest")];
    assert_eq!(notary.sign(trust(key.clone()), &targets).unwrap(), [""; 0]);
    let listed = notary.listed();
    let expected = (Digest::sha256(b"a manifest").hex(), 10, "targets".to_owned());
    assert_eq!((&listed["1.0.0"], &listed["latest"]), (&expected, &expected));
    assert_eq!(listed["by-client"].0, Digest::sha256(b"made by the client").hex());

    // A tag that moves, and the client after us.
    notary.sign(trust(key), &[target("latest", b"another manifest")]).unwrap();
    assert_eq!(notary.listed()["latest"].0, Digest::sha256(b"another manifest").hex());
    notary.ok(&["remove", GUN, "by-client", "-p"]);
    assert_eq!(notary.listed().into_keys().collect::<Vec<_>>(), ["1.0.0", "latest"]);
}

#[test]
fn signing_the_same_again_publishes_nothing() {
    let notary = notary_or_skip!("signing_the_same_again_publishes_nothing");
    notary.initialise();
    let version = || {
        let document: serde_json::Value = serde_json::from_slice(&notary.document("targets")).unwrap();
        document["signed"]["version"].as_u64().unwrap()
    };
    let before = version();
    for _ in 0..2 {
        notary.sign(trust(notary.key("targets")), &[target("1", b"x")]).unwrap();
    }
    assert_eq!(version(), before + 1);
}

#[test]
fn an_empty_server_gets_a_repository_that_the_client_verifies() {
    let notary = notary_or_skip!("an_empty_server_gets_a_repository_that_the_client_verifies");
    let elsewhere = Notary::start().unwrap();
    elsewhere.initialise();
    let key = elsewhere.key("targets");
    let warnings = notary.sign(trust(key.clone()), &[target("1.0.0", b"a manifest")]).unwrap();
    assert!(warnings[0].contains("a root key was made for it and is kept nowhere"), "{warnings:?}");
    assert_eq!(notary.listed()["1.0.0"].0, Digest::sha256(b"a manifest").hex());
    // And is extended like any other.
    assert_eq!(notary.sign(trust(key), &[target("2.0.0", b"b")]).unwrap(), [""; 0]);
    assert_eq!(notary.listed().len(), 2);
}

#[test]
fn a_delegations_key_signs_the_delegation() {
    let notary = notary_or_skip!("a_delegations_key_signs_the_delegation");
    notary.initialise();
    notary.ok(&[
        "key",
        "generate",
        "ecdsa",
        "--role",
        "ci",
        "--output",
        notary.dir.path().join("ci").to_str().unwrap(),
    ]);
    let pem = fs::read_to_string(notary.dir.path().join("ci-key.pem")).unwrap();
    let public = notary.dir.path().join("ci.pem");
    notary.ok(&["delegation", "add", GUN, "targets/releases", public.to_str().unwrap(), "--all-paths", "-p"]);
    let listing = notary.ok(&["delegation", "list", GUN]);
    let id = listing.split_whitespace().find(|word| word.len() == 64).unwrap().to_owned();
    notary.sign(trust((id, Secret::new(pem))), &[target("1", b"x")]).unwrap();
    assert_eq!(notary.listed()["1"].2, "targets/releases");
}

#[test]
fn a_key_that_cannot_be_used_is_said_before_anybody_is_asked() {
    let notary = notary_or_skip!("a_key_that_cannot_be_used_is_said_before_anybody_is_asked");
    notary.initialise();
    let (id, key) = notary.key("targets");
    let wrong = |trust: ContentTrust| trust.open().err().unwrap().to_string();
    let good = || trust((id.clone(), key.clone()));
    let text = wrong(ContentTrust { passphrase: Secret::new("hunter2-wrong"), ..good() });
    assert_eq!(text, "content_trust: the key cannot be used: the passphrase does not open it");
    let text = wrong(ContentTrust { key_id: "abc".to_owned(), ..good() });
    assert_eq!(text, format!("content_trust: repository_key has the id {id}, not abc"));
    let text = wrong(ContentTrust { key: Secret::new("hunter2-nonsense"), ..good() });
    assert!(text.contains("there is no -----BEGIN") && !text.contains("hunter2"), "{text}");
    for server in ["http://notary.example", "notary.example"] {
        let trust = ContentTrust { server: Some(server.to_owned()), ..good() };
        let error = notary.sign(trust, &[target("1", b"x")]).unwrap_err().to_string();
        assert!(error.contains("is not a URL that begins with https://"), "{error}");
    }
}

#[test]
fn a_key_that_signs_nothing_there_is_refused() {
    let notary = notary_or_skip!("a_key_that_signs_nothing_there_is_refused");
    notary.initialise();
    let (id, key) = notary.key("root");
    let error = notary.sign(trust((id, key)), &[target("1", b"x")]).unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert!(error.to_string().contains("may sign neither the targets nor a delegation of them"), "{error}");
    assert!(notary.listed().is_empty());
}

#[test]
fn a_snapshot_key_that_the_server_does_not_hold_is_explained() {
    let notary = notary_or_skip!("a_snapshot_key_that_the_server_does_not_hold_is_explained");
    notary.ok(&["init", GUN, "-p"]);
    let error = notary.sign(trust(notary.key("targets")), &[target("1", b"x")]).unwrap_err().to_string();
    assert!(error.contains("notary key rotate GUN snapshot -r"), "{error}");
    assert!(notary.listed().is_empty());
}

/// Whoever stands between us and the server, or owns it, cannot make us sign on top of what is not the root's.
#[test]
fn documents_that_were_changed_are_not_extended() {
    let notary = notary_or_skip!("documents_that_were_changed_are_not_extended");
    notary.initialise();
    notary.sign(trust(notary.key("targets")), &[target("1", b"x")]).unwrap();
    let roles = ["root", "timestamp", "snapshot", "targets"];
    for role in roles {
        let documents = roles.map(|role| (role, String::from_utf8(notary.document(role)).unwrap()));
        let proxy = Scripted::start(move |request| {
            let file = request.path.rsplit('/').next().unwrap();
            let found = documents.iter().find(|(name, _)| file.starts_with(&format!("{name}.")));
            let body = found.map(|(_, text)| text.clone()).unwrap_or_default();
            let is_it = file.starts_with(&format!("{role}."));
            let later = body.replacen("\"expires\":\"20", "\"expires\":\"21", 1);
            Reply::status(200).body(if is_it { later } else { body })
        });
        let proxy = proxy.unwrap();
        let mut settings = notary.settings();
        settings.hosts.insert("notary.example".to_owned(), format!("http://{}", proxy.address()));
        let signer = trust(notary.key("targets")).open().unwrap();
        let progress: Arc<dyn Progress> = Arc::new(Ear::default());
        let error = signer.sign(&settings, &progress, &GUN.parse().unwrap(), &[target("2", b"y")]).unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{role}: {error}");
        assert!(!proxy.lines().iter().any(|line| line.starts_with("POST ")), "{role}: {:?}", proxy.lines());
    }
    assert_eq!(notary.listed().len(), 1);
}
