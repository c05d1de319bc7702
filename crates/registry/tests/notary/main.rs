//! Content trust beside Debian's `notary` and `notary-server`: what we publish, the client verifies; what the client made,
//! we extend.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use skycap_image::{Digest, Event, Kind, Progress, Repository, Secret, Silent, SourceError};
use skycap_registry::notary::{ContentTrust, Target};
use skycap_registry::{Client, Credentials, Retries, Settings};
use skycap_testkit::notary::{Notary, PASSPHRASE};
use skycap_testkit::registry::{Reply, Scripted};

const GUN: &str = "registry.example/team/app";
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

/// A role's document, as the server has it.
fn document(notary: &Notary, role: &str) -> Vec<u8> {
    let client = Client::new(Settings::default(), Arc::new(Silent)).unwrap();
    let url = format!("{}/v2/{GUN}/_trust/tuf/{role}.json", notary.url());
    client.get(&url, &[], &Credentials::Anonymous).unwrap().body
}

fn settings(notary: &Notary) -> Settings {
    Settings {
        hosts: BTreeMap::from([("notary.example".to_owned(), notary.url().to_owned())]),
        retries: Retries { first: Duration::from_millis(5), attempts: 3, ..Retries::default() },
        ..Settings::default()
    }
}

fn sign(notary: &Notary, trust: ContentTrust, targets: &[Target]) -> Result<Vec<String>, SourceError> {
    let ear = Arc::new(Ear::default());
    let progress: Arc<dyn Progress> = ear.clone();
    let repository: Repository = GUN.parse().unwrap();
    trust.open()?.sign(&settings(notary), &progress, &repository, targets)?;
    Ok(ear.0.lock().unwrap().clone())
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
            None => return skycap_testkit::skipped!("{}: notary is not installed", $test),
        }
    };
}

#[test]
fn what_the_client_made_is_extended_and_the_client_verifies_it() {
    let notary = notary_or_skip!("what_the_client_made_is_extended_and_the_client_verifies_it");
    notary.initialise(GUN);
    let file = notary.dir().join("file");
    fs::write(&file, "made by the client").unwrap();
    notary.ok(&["add", GUN, "by-client", file.to_str().unwrap(), "-p"]);

    let key = notary.key("targets");
    let targets = [target("1.0.0", b"a manifest"), target("latest", b"a manifest")];
    assert_eq!(sign(&notary, trust(key.clone()), &targets).unwrap(), [""; 0]);
    let listed = notary.listed(GUN);
    let expected = (Digest::sha256(b"a manifest").hex(), 10, "targets".to_owned());
    assert_eq!((&listed["1.0.0"], &listed["latest"]), (&expected, &expected));
    assert_eq!(listed["by-client"].0, Digest::sha256(b"made by the client").hex());

    // A tag that moves, and the client after us.
    sign(&notary, trust(key), &[target("latest", b"another manifest")]).unwrap();
    assert_eq!(notary.listed(GUN)["latest"].0, Digest::sha256(b"another manifest").hex());
    notary.ok(&["remove", GUN, "by-client", "-p"]);
    assert_eq!(notary.listed(GUN).into_keys().collect::<Vec<_>>(), ["1.0.0", "latest"]);
}

#[test]
fn signing_the_same_again_publishes_nothing() {
    let notary = notary_or_skip!("signing_the_same_again_publishes_nothing");
    notary.initialise(GUN);
    let version = || {
        let document: serde_json::Value = serde_json::from_slice(&document(&notary, "targets")).unwrap();
        document["signed"]["version"].as_u64().unwrap()
    };
    let before = version();
    for _ in 0..2 {
        sign(&notary, trust(notary.key("targets")), &[target("1", b"x")]).unwrap();
    }
    assert_eq!(version(), before + 1);
}

#[test]
fn an_empty_server_gets_a_repository_that_the_client_verifies() {
    let notary = notary_or_skip!("an_empty_server_gets_a_repository_that_the_client_verifies");
    let elsewhere = Notary::start().unwrap();
    elsewhere.initialise(GUN);
    let key = elsewhere.key("targets");
    let warnings = sign(&notary, trust(key.clone()), &[target("1.0.0", b"a manifest")]).unwrap();
    assert!(warnings[0].contains("a root key was made for it and is kept nowhere"), "{warnings:?}");
    assert_eq!(notary.listed(GUN)["1.0.0"].0, Digest::sha256(b"a manifest").hex());
    // And is extended like any other.
    assert_eq!(sign(&notary, trust(key), &[target("2.0.0", b"b")]).unwrap(), [""; 0]);
    assert_eq!(notary.listed(GUN).len(), 2);
}

#[test]
fn a_delegations_key_signs_the_delegation() {
    let notary = notary_or_skip!("a_delegations_key_signs_the_delegation");
    notary.initialise(GUN);
    notary.ok(&["key", "generate", "ecdsa", "--role", "ci", "--output", notary.dir().join("ci").to_str().unwrap()]);
    let pem = fs::read_to_string(notary.dir().join("ci-key.pem")).unwrap();
    let public = notary.dir().join("ci.pem");
    notary.ok(&["delegation", "add", GUN, "targets/releases", public.to_str().unwrap(), "--all-paths", "-p"]);
    let listing = notary.ok(&["delegation", "list", GUN]);
    let id = listing.split_whitespace().find(|word| word.len() == 64).unwrap().to_owned();
    sign(&notary, trust((id, Secret::new(pem))), &[target("1", b"x")]).unwrap();
    assert_eq!(notary.listed(GUN)["1"].2, "targets/releases");
}

#[test]
fn a_key_that_cannot_be_used_is_said_before_anybody_is_asked() {
    let notary = notary_or_skip!("a_key_that_cannot_be_used_is_said_before_anybody_is_asked");
    notary.initialise(GUN);
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
        let error = sign(&notary, trust, &[target("1", b"x")]).unwrap_err().to_string();
        assert!(error.contains("is not a URL that begins with https://"), "{error}");
    }
}

#[test]
fn a_key_that_signs_nothing_there_is_refused() {
    let notary = notary_or_skip!("a_key_that_signs_nothing_there_is_refused");
    notary.initialise(GUN);
    let (id, key) = notary.key("root");
    let error = sign(&notary, trust((id, key)), &[target("1", b"x")]).unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
    assert!(error.to_string().contains("may sign neither the targets nor a delegation of them"), "{error}");
    assert!(notary.listed(GUN).is_empty());
}

#[test]
fn a_snapshot_key_that_the_server_does_not_hold_is_explained() {
    let notary = notary_or_skip!("a_snapshot_key_that_the_server_does_not_hold_is_explained");
    notary.ok(&["init", GUN, "-p"]);
    let error = sign(&notary, trust(notary.key("targets")), &[target("1", b"x")]).unwrap_err().to_string();
    assert!(error.contains("notary key rotate GUN snapshot -r"), "{error}");
    assert!(notary.listed(GUN).is_empty());
}

/// Whoever stands between us and the server, or owns it, cannot make us sign on top of what is not the root's.
#[test]
fn documents_that_were_changed_are_not_extended() {
    let notary = notary_or_skip!("documents_that_were_changed_are_not_extended");
    notary.initialise(GUN);
    sign(&notary, trust(notary.key("targets")), &[target("1", b"x")]).unwrap();
    let roles = ["root", "timestamp", "snapshot", "targets"];
    for role in roles {
        let documents = roles.map(|role| (role, String::from_utf8(document(&notary, role)).unwrap()));
        let proxy = Scripted::start(move |request| {
            let file = request.path.rsplit('/').next().unwrap();
            let found = documents.iter().find(|(name, _)| file.starts_with(&format!("{name}.")));
            let body = found.map(|(_, text)| text.clone()).unwrap_or_default();
            let is_it = file.starts_with(&format!("{role}."));
            let later = body.replacen("\"expires\":\"20", "\"expires\":\"21", 1);
            Reply::status(200).body(if is_it { later } else { body })
        });
        let proxy = proxy.unwrap();
        let mut settings = settings(&notary);
        settings.hosts.insert("notary.example".to_owned(), format!("http://{}", proxy.address()));
        let signer = trust(notary.key("targets")).open().unwrap();
        let progress: Arc<dyn Progress> = Arc::new(Ear::default());
        let error = signer.sign(&settings, &progress, &GUN.parse().unwrap(), &[target("2", b"y")]).unwrap_err();
        assert_eq!(error.kind, Kind::Corrupt, "{role}: {error}");
        assert!(!proxy.lines().iter().any(|line| line.starts_with("POST ")), "{role}: {:?}", proxy.lines());
    }
    assert_eq!(notary.listed(GUN).len(), 1);
}
