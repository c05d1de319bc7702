//! Builds whose sources are on servers: loopback web servers and git repositories of the test.

mod contexts;
mod files;
mod repositories;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_build::remote::{MainContext, main_context};
use skycap_build::ssh::SshSource;
use skycap_build::{BuildError, Built, NamedContext, Outcome, Request, SandboxAccess, World, build};
use skycap_image::{
    Artifact, Descriptor, Digest, Kind, Layer, Reference, Resolver, SecretBytes, Silent, SourceError, tar,
};
use skycap_registry::Settings;
use skycap_store::Store;
use skycap_testkit::secrets::assert_not_shown_in;
use skycap_testkit::web::{Answer, Question, Web};
use tempfile::TempDir;

use super::Fetcher;
use crate::{Environment, Host};

/// No images.
struct Nothing;

impl Resolver for Nothing {
    fn find(&self, _: &Reference) -> Result<Option<Descriptor>, SourceError> {
        Ok(None)
    }

    fn get(&self, reference: &Reference) -> Result<Artifact, SourceError> {
        Err(SourceError::new(Kind::NotFound, format!("no image {reference} in this test")))
    }
}

/// A machine with a store, a build context and git repositories below `https://git.example/`.
struct Place {
    root: TempDir,
    secrets: BTreeMap<String, SecretBytes>,
    contexts: BTreeMap<String, NamedContext>,
    hosts: BTreeMap<String, String>,
    build_args: BTreeMap<String, String>,
    ssh: BTreeMap<String, SshSource>,
    /// What stands for `PATH`.
    tools: Option<String>,
    no_cache: bool,
}

/// Where programs are.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["scratch", "context", "srv"] {
            fs::create_dir(root.path().join(directory)).unwrap();
        }
        let served = format!("file://{}", root.path().join("srv").display());
        let hosts = BTreeMap::from([("git.example".to_owned(), served)]);
        Self {
            root,
            secrets: BTreeMap::new(),
            contexts: BTreeMap::new(),
            hosts,
            build_args: BTreeMap::new(),
            ssh: BTreeMap::new(),
            tools: None,
            no_cache: false,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) {
        let path = self.path("context").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn host(&self) -> Host {
        let mut settings = Settings { hosts: self.hosts.clone(), ..Settings::default() };
        settings.retries.first = std::time::Duration::from_millis(1);
        let path = self.tools.clone().unwrap_or_else(|| PATH.to_owned());
        let variables = [("PATH", path.as_str()), ("SSH_AUTH_SOCK", "/run/not-for-builds.sock")];
        let environment: Environment = variables.into_iter().collect();
        Host::new(settings, environment, self.path("scratch"), Arc::new(Silent)).unwrap()
    }

    fn build(&self, dockerfile: &str) -> Result<Built, String> {
        self.with_world(dockerfile, |request, world| build(request, world).map(|mut built| built.remove(0)))
    }

    fn main_context(&self, address: &str) -> Result<Option<MainContext>, String> {
        let into = tempfile::tempdir_in(self.root.path()).unwrap().keep();
        self.with_world("", |request, world| main_context(address, request, world, &into))
    }

    fn with_world<T>(
        &self,
        dockerfile: &str,
        work: impl FnOnce(&Request, &World<'_>) -> Result<T, BuildError>,
    ) -> Result<T, String> {
        let mut request = Request::new(self.path("context"), dockerfile);
        request.secrets.clone_from(&self.secrets);
        request.contexts.clone_from(&self.contexts);
        request.build_args.clone_from(&self.build_args);
        request.ssh.clone_from(&self.ssh);
        request.no_cache = self.no_cache;
        let store = Store::open(&self.path("store")).unwrap();
        let refused = skycap_sandbox::Refused { attempts: Vec::new() };
        let remote = Fetcher::new(&self.host());
        let world = World {
            resolver: &Nothing,
            remote: &remote,
            store: &store,
            sandbox: SandboxAccess::Refused(&refused),
            progress: &Silent,
        };
        work(&request, &world).map_err(|error| {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                write!(text, ": {inner}").unwrap();
                cause = inner.source();
            }
            error.hint().into_iter().for_each(|hint| write!(text, " ({hint})").unwrap());
            assert_not_shown_in("an error", text.as_bytes());
            text
        })
    }

    /// The layers of `FROM scratch` and one line.
    fn layers(&self, line: &str) -> Vec<String> {
        let built = self.build(&format!("FROM scratch\n{line}\n")).unwrap();
        built.image.layers().iter().map(list).collect()
    }

    fn error(&self, line: &str) -> String {
        match self.build(&format!("FROM scratch\n{line}\n")) {
            Ok(built) => panic!("{line} was built: {:?}", built.image.layers().iter().map(list).collect::<Vec<_>>()),
            Err(error) => error,
        }
    }

    fn outcome(&self, line: &str) -> Outcome {
        let built = self.build(&format!("FROM scratch\n{line}\n")).unwrap();
        built.steps.last().unwrap().outcome
    }

    /// A repository with a commit for every list of files; the last is on `main`, the first is tagged `v1`.
    fn repository(&self, name: &str, commits: &[&[(&str, &str)]]) -> Vec<String> {
        let path = self.path("srv").join(name);
        fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        let mut ids = Vec::new();
        for (number, files) in commits.iter().enumerate() {
            for (name, content) in *files {
                let file = path.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
            git(&path, &["add", "--all"]);
            git(&path, &["commit", "--quiet", "--allow-empty", "-m", "x"]);
            ids.push(git(&path, &["rev-parse", "HEAD"]));
            if number == 0 {
                git(&path, &["tag", "-a", "-m", "first", "v1"]);
            }
        }
        ids
    }
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "safe.directory=*"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn has_git(test: &str) -> bool {
    let found = Command::new("git").arg("--version").output().is_ok();
    if !found {
        skycap_testkit::skipped!("{test}: there is no program git");
    }
    found
}

/// The entries of a layer, one a line: kind, path, mode, owner, time, content.
fn list(layer: &Layer) -> String {
    let mut bytes = layer.open().unwrap();
    let mut text = String::new();
    let (_, decoded) = skycap_image::compress::decoder(&mut bytes).unwrap();
    let mut reader = tar::Reader::new(decoded);
    while let Some(header) = reader.next().unwrap() {
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        let kind = format!("{:?}", header.kind).to_lowercase();
        let path = String::from_utf8_lossy(&header.path).trim_end_matches('/').to_owned();
        write!(text, "{kind} {path} {:04o} {}:{}", header.mode, header.uid, header.gid).unwrap();
        if header.mtime != 315_619_200 {
            write!(text, " @{}", header.mtime).unwrap();
        }
        if !header.link.is_empty() {
            write!(text, " -> {}", header.link.escape_ascii()).unwrap();
        }
        if header.kind == tar::Kind::File && content.len() < 100 {
            write!(text, " {}", content.escape_ascii()).unwrap();
        }
        text.push('\n');
    }
    text
}

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for (name, content) in files {
        writer.append(&tar::Header::file(*name, content.len() as u64), content.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

fn files(question: &Question) -> Answer {
    match question.target.split('?').next().unwrap_or_default() {
        "/dir/file.txt" | "/" => Answer::ok("hello").with("Last-Modified", MODIFIED),
        "/bare" => Answer::ok("bare"),
        "/a.tar" => Answer::ok(archive(&[("in/x", "x")])),
        _ => Answer::status(404),
    }
}
