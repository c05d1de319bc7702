//! Builds whose sources are on servers: loopback web servers and git repositories of the test.

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
        eprintln!("skipped: {test}: there is no program git");
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

/// Section 4, ADD over http(s): the name is the last part of the path, mode 0600, the time is the server's.
#[test]
fn a_file_of_a_server_is_added_as_buildkit_does() {
    let (place, web) = (Place::new(), Web::start(files).unwrap());
    let url = web.url();
    for (line, expected) in [
        (format!("ADD {url}/dir/file.txt /to/"), "directory to 0755 0:0\nfile to/file.txt 0600 0:0 @784111777 hello\n"),
        (format!("ADD {url}/dir/file.txt?x=y#z /name"), "file name 0600 0:0 @784111777 hello\n"),
        (format!("ADD {url}/ /"), "file __unnamed__ 0600 0:0 @784111777 hello\n"),
        (format!("ADD {url}/bare /"), "file bare 0600 0:0 @0 bare\n"),
        (format!("ADD --chmod=u+x,go=r {url}/bare /"), "file bare 0744 0:0 @0 bare\n"),
        (format!("ADD --chown=5:6 {url}/bare /"), "file bare 0600 5:6 @0 bare\n"),
        (format!("ADD --link {url}/bare /a/"), "directory a 0755 0:0\nfile a/bare 0600 0:0 @0 bare\n"),
        (format!("ARG U={url}\nADD $U/bare /"), "file bare 0600 0:0 @0 bare\n"),
        (format!("ADD --unpack {url}/a.tar /"), "directory in 0755 0:0\nfile in/x 0644 0:0 @0 x\n"),
        (format!("ADD --unpack {url}/bare /"), "file bare 0600 0:0 @0 bare\n"),
    ] {
        assert_eq!(place.layers(&line), [expected], "{line}");
    }
    let whole = place.layers(&format!("ADD {url}/a.tar /"));
    assert!(whole[0].starts_with("file a.tar 0600 0:0 @0"), "a remote archive is not unpacked unasked: {whole:?}");
    let copied = place.layers(&format!("ADD --unpack=false {url}/a.tar /"));
    assert_eq!(copied, whole);
}

/// Section 11: the content counts. A server that can say that nothing changed is asked for that only.
#[test]
fn a_file_that_did_not_change_is_cached() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = Arc::clone(&version);
    let place = Place::new();
    let web = Web::start(move |question| {
        let version = now.load(Ordering::Relaxed);
        match question.target.as_str() {
            "/tagged" if question.header("if-none-match") == Some(&format!("\"{version}\"")) => Answer::status(304),
            "/tagged" => Answer::ok(format!("v{version}")).with("ETag", &format!("\"{version}\"")),
            "/dated" if question.header("if-modified-since") == Some(MODIFIED) => Answer::status(304),
            "/dated" => Answer::ok("dated").with("Last-Modified", MODIFIED),
            _ => Answer::ok("plain"),
        }
    });
    let web = web.unwrap();
    for name in ["tagged", "dated", "plain"] {
        let line = format!("ADD {}/{name} /", web.url());
        assert_eq!(place.outcome(&line), Outcome::Done, "{name}");
        assert_eq!(place.outcome(&line), Outcome::Cached, "{name}");
    }
    let line = format!("ADD {}/tagged /", web.url());
    web.forget();
    assert_eq!(place.outcome(&line), Outcome::Cached);
    let asked = web.asked();
    assert_eq!((asked.len(), asked[0].header("if-none-match")), (1, Some("\"1\"")));
    version.store(2, Ordering::Relaxed);
    assert_eq!(place.outcome(&line), Outcome::Done);
    assert!(place.layers(&line)[0].ends_with("v2\n"));
    assert_eq!(place.outcome(&line), Outcome::Cached);
}

/// Section 3, `ADD --checksum`.
#[test]
fn a_checksum_is_compared_and_spares_the_question() {
    let (mut place, web) = (Place::new(), Web::start(files).unwrap());
    let url = format!("{}/bare", web.url());
    let (right, wrong) = (Digest::sha256(b"bare"), Digest::sha256(b"other"));
    let error = place.error(&format!("ADD --checksum={wrong} {url} /"));
    assert!(error.contains(&wrong.to_string()) && error.contains(&right.to_string()), "{error}");
    assert!(error.starts_with("Dockerfile:2: digest mismatch"), "{error}");
    let line = format!("ARG C={right}\nADD --checksum=$C {url} /");
    assert_eq!(place.layers(&line), ["file bare 0600 0:0 @0 bare\n"]);
    web.forget();
    assert_eq!(place.outcome(&line), Outcome::Cached);
    assert!(web.asked().is_empty(), "what is known by its digest is not asked for");
    place.no_cache = true;
    assert_eq!(place.outcome(&line), Outcome::Done);
    assert_eq!(web.asked().len(), 1);
    for (line, expected) in [
        (format!("ADD --checksum={right} {url} {url} /"), "checksum can't be specified for multiple sources"),
        (format!("ADD --checksum={right} file /"), "checksum requires HTTP(S) or Git sources"),
        (format!("ADD --checksum=md5:00 {url} /"), "invalid checksum \"md5:00\""),
        (format!("COPY {url} /"), "source can't be a URL for COPY"),
        ("COPY https://h/x.git /".to_owned(), "source can't be a git ref for COPY"),
        ("COPY git@h:x /".to_owned(), "source can't be a git ref for COPY"),
        (format!("ADD {url} {url} /x"), "the destination must be a directory"),
        (format!("ADD {}/none /", web.url()), "404"),
        ("ADD --keep-git-dir dir/none /x".to_owned(), "needs a git source"),
    ] {
        let error = place.error(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

/// Section 4: several sources of one instruction make one layer, wherever they are. S25.
#[test]
fn sources_of_all_kinds_make_one_layer() {
    if !has_git("sources_of_all_kinds_make_one_layer") {
        return;
    }
    let (place, web) = (Place::new(), Web::start(files).unwrap());
    place.file("local", b"local");
    place.file("l.tar", &archive(&[("unpacked", "u")]));
    place.repository("r.git", &[&[("tracked", "t")]]);
    let url = web.url();
    let line = format!("ADD {url}/bare local https://git.example/r.git l.tar <<E /d/\ntext\nE");
    let expected = "directory d 0755 0:0\nfile d/E 0644 0:0 text\\n\nfile d/bare 0600 0:0 @0 bare\n\
                    file d/local 0644 0:0 local\nfile d/tracked 0644 0:0 t\nfile d/unpacked 0644 0:0 @0 u\n";
    assert_eq!(place.layers(&line), [expected]);
    let built = place.build(&format!("FROM scratch\n{line}\n")).unwrap();
    let by = built.image.config().history.last().unwrap().created_by.clone().unwrap_or_default();
    assert_eq!(by, format!("ADD {url}/bare local https://git.example/r.git l.tar <<E /d/ # buildkit"));
}

/// R30 to R33, M33: credentials are for one host, and a redirect does not carry them to another.
#[test]
fn credentials_stay_with_their_host() {
    let elsewhere = Web::start(|_| Answer::ok("moved")).unwrap();
    let target = elsewhere.url();
    let web = Web::start(move |question| match question.header("authorization") {
        Some("Bearer hunter2-token" | "hunter2 header") if question.target == "/moved" => {
            Answer::status(302).with("Location", &format!("{target}/x"))
        }
        Some("Bearer hunter2-token" | "hunter2 header") => Answer::ok("secret"),
        _ => Answer::status(401),
    });
    let web = web.unwrap();
    let mut place = Place::new();
    let error = place.error(&format!("ADD {}/a /", web.url()));
    assert!(error.contains("401") && error.contains("needs the secret HTTP_AUTH_TOKEN_"), "{error}");
    for (name, value) in [("HTTP_AUTH_TOKEN", "hunter2-token"), ("HTTP_AUTH_HEADER", "hunter2 header")] {
        place.secrets = BTreeMap::from([(format!("{name}_{}", web.authority()), SecretBytes::new(value))]);
        assert!(place.layers(&format!("ADD {}/a /", web.url()))[0].ends_with("secret\n"));
        place.secrets = BTreeMap::from([(format!("{name}_127.0.0.1"), SecretBytes::new(value))]);
        let moved = place.layers(&format!("ADD {}/moved /", web.url()));
        assert_eq!(moved, ["file moved 0600 0:0 @0 moved\n"]);
        assert!(elsewhere.asked().iter().all(|question| question.header("authorization").is_none()));
        place.secrets = BTreeMap::from([(format!("{name}_other"), SecretBytes::new(value))]);
        assert!(place.error(&format!("ADD {}/b /", web.url())).contains("401"));
    }
    // A secret in the URL itself is shown to the server and to nobody else.
    let plain = Web::start(|_| Answer::ok("x")).unwrap();
    let built = place.build(&format!("FROM scratch\nADD http://u:hunter2-x@{}/b /\n", plain.authority())).unwrap();
    assert_not_shown_in("the configuration", built.image.config_bytes());
    built.steps.iter().for_each(|step| assert_not_shown_in("a step", step.label.as_bytes()));
    let error = place.error(&format!("ADD http://u:hunter2-x@{}/b?t=hunter2-y /", web.authority()));
    assert!(error.contains("401"), "{error}");
    assert!(web.asked().last().unwrap().header("authorization").is_some_and(|value| value.starts_with("Basic ")));
}

/// R40: a body that breaks off is asked for again; a server that fails for a moment, too.
#[test]
fn what_passes_is_tried_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let web = Web::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => Answer { cut: Some(3), ..Answer::ok("whole content") },
        1 => Answer::status(503),
        _ => Answer::ok("whole content"),
    });
    let web = web.unwrap();
    assert!(Place::new().layers(&format!("ADD {}/f /", web.url()))[0].ends_with("whole content\n"));
    assert_eq!(tries.load(Ordering::Relaxed), 3);
}

/// Section 4, ADD of git: every way to say what is wanted.
#[test]
fn trees_of_repositories_are_added() {
    if !has_git("trees_of_repositories_are_added") {
        return;
    }
    let place = Place::new();
    let first: &[(&str, &str)] = &[("a", "1"), ("sub/b", "b")];
    let ids = place.repository("r.git", &[first, &[("a", "2")]]);
    let url = "https://git.example/r.git";
    let of = |a: &str| format!("file a 0644 0:0 {a}\ndirectory sub 0755 0:0\nfile sub/b 0644 0:0 b\n");
    for (line, expected) in [
        (format!("ADD {url} /"), of("2")),
        (format!("ADD {url}#main /"), of("2")),
        (format!("ADD {url}#v1 /"), of("1")),
        (format!("ADD {url}?tag=v1 /"), of("1")),
        (format!("ADD {url}?branch=main /"), of("2")),
        (format!("ADD {url}?ref=refs/tags/v1 /"), of("1")),
        (format!("ADD {url}#{} /", ids[0]), of("1")),
        (format!("ADD {url}?checksum={} /", ids[0]), of("1")),
        (format!("ADD --checksum={} {url}#v1 /", ids[0]), of("1")),
        (format!("ADD --checksum={} {url}#v1 /", &ids[0][..9]), of("1")),
        (format!("ADD {url}?ref=main&commit={}&fetch-by-commit=true /", ids[0]), of("1")),
        (format!("ADD {url}#v1:sub /"), "file b 0644 0:0 b\n".to_owned()),
        (format!("ADD {url}?subdir=sub&ref=v1 /"), "file b 0644 0:0 b\n".to_owned()),
        ("ADD git@git.example:r.git#v1:sub /to".to_owned(), "directory to 0755 0:0\nfile to/b 0644 0:0 b\n".to_owned()),
        (format!("ADD --keep-git-dir=false {url}#:sub /"), "file b 0644 0:0 b\n".to_owned()),
        (format!("ADD --exclude=a {url} /"), "directory sub 0755 0:0\nfile sub/b 0644 0:0 b\n".to_owned()),
        (format!("ADD --chmod=600 --chown=7 {url}#:sub /x/"), "directory x 0755 7:7\nfile x/b 0600 7:7 b\n".to_owned()),
    ] {
        assert_eq!(place.layers(&line), [expected], "{line}");
    }
    for (line, expected) in [
        (format!("ADD {url}#v9 /"), "does not contain ref v9"),
        (format!("ADD --checksum={} {url}#main /", ids[0]), "expected checksum to match"),
        (format!("ADD {url}#{} /", "1".repeat(40)), "1111"),
        (format!("ADD {url}#:none /"), "has no directory \"none\""),
        (format!("ADD {url}#:a /"), "has no directory \"a\""),
        (format!("ADD {url}#:.git /"), "has no directory \".git\""),
        (format!("ADD --keep-git-dir=true {url}?keep-git-dir=false /"), "inconsistent keep-git-dir configuration"),
        (format!("ADD --checksum={} {url}?checksum={} /", ids[0], ids[1]), "checksum mismatch"),
        ("ADD https://git.example/none.git /".to_owned(), "cannot look up https://git.example/none.git"),
    ] {
        let error = place.error(&line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

/// Section 4: `mtime=commit`; otherwise files have the time of all files of a context.
#[test]
fn files_of_a_repository_may_have_its_time() {
    if !has_git("files_of_a_repository_may_have_its_time") {
        return;
    }
    let place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let line = "ADD https://git.example/r.git?mtime=commit /";
    assert_eq!(place.layers(line), ["file a 0644 0:0 @1700000000 1\n"]);
}

/// Section 11: the commit counts; a branch that moved is another source, and one that did not is not fetched.
#[test]
fn a_commit_that_is_known_is_cached() {
    if !has_git("a_commit_that_is_known_is_cached") {
        return;
    }
    let place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let line = "ADD https://git.example/r.git#main /";
    assert_eq!(place.outcome(line), Outcome::Done);
    assert_eq!(place.outcome(line), Outcome::Cached);
    place.repository("r.git", &[]);
    fs::write(place.path("srv/r.git/a"), "2").unwrap();
    git(&place.path("srv/r.git"), &["commit", "--quiet", "-a", "-m", "y"]);
    assert_eq!(place.outcome(line), Outcome::Done);
    assert_eq!(place.layers(line), ["file a 0644 0:0 2\n"]);
}

/// Section 3, `--keep-git-dir`: what is kept is the same every time, and a repository.
#[test]
fn a_kept_git_directory_is_the_same_every_time() {
    if !has_git("a_kept_git_directory_is_the_same_every_time") {
        return;
    }
    let digests: Vec<Digest> = (0..2)
        .map(|_| {
            let place = Place::new();
            place.repository("module.git", &[&[("m", "m")]]);
            let ids = place.repository("r.git", &[&[("a", "1")], &[("a", "2")]]);
            add_submodule(&place);
            let line = "ADD --keep-git-dir https://git.example/r.git /";
            let layers = place.layers(line);
            assert!(layers[0].contains("file .git/HEAD 0644"), "{layers:?}");
            assert!(!layers[0].contains(".git/logs") && !ids.is_empty(), "{layers:?}");
            place.build(&format!("FROM scratch\n{line}\n")).unwrap().image.layers()[0].diff_id
        })
        .collect();
    assert_eq!(digests[0], digests[1]);
}

fn add_submodule(place: &Place) {
    let path = place.path("srv/r.git");
    fs::write(path.join(".gitmodules"), "[submodule \"m\"]\n\tpath = m\n\turl = https://git.example/module.git\n")
        .unwrap();
    let id = git(&place.path("srv/module.git"), &["rev-parse", "HEAD"]);
    git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{id},m")]);
    git(&path, &["add", ".gitmodules"]);
    git(&path, &["commit", "--quiet", "-m", "module"]);
}

/// Section 4: submodules are filled unless told otherwise, and their `.git` is dropped as well.
#[test]
fn submodules_are_filled() {
    if !has_git("submodules_are_filled") {
        return;
    }
    let place = Place::new();
    place.repository("module.git", &[&[("in", "m")]]);
    place.repository("r.git", &[&[("a", "1")]]);
    add_submodule(&place);
    let filled = place.layers("ADD --exclude=.gitmodules https://git.example/r.git /");
    assert_eq!(filled, ["file a 0644 0:0 1\ndirectory m 0755 0:0\nfile m/in 0644 0:0 m\n"]);
    let empty = place.layers("ADD --exclude=.gitmodules https://git.example/r.git?submodules=false /");
    assert_eq!(empty, ["file a 0644 0:0 1\ndirectory m 0755 0:0\n"]);
}

/// S24, M42: what a repository or an address could abuse.
#[test]
fn hostile_repositories_and_addresses_run_nothing() {
    if !has_git("hostile_repositories_and_addresses_run_nothing") {
        return;
    }
    let place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let path = place.path("srv/r.git");
    std::os::unix::fs::symlink("/etc", path.join("out")).unwrap();
    std::os::unix::fs::symlink("..", path.join("up")).unwrap();
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "-m", "links"]);
    let canary = place.path("canary");
    let upload = format!("ADD https://git.example/r.git#--upload-pack=touch${{IFS}}{} /", canary.display());
    for (line, expected) in [
        ("ADD https://git.example/r.git#:out /", "has no directory \"out\""),
        ("ADD https://git.example/r.git#:up/r.git /", "has no directory"),
        ("ADD https://git.example/r.git#:../../../etc /", "has no directory"),
        ("ADD ssh://-oProxyCommand=touch/r.git /", "cannot look up"),
        ("ADD --keep-git-dir https://git.example/r.git#:out /", "has no directory \"out\""),
        (upload.as_str(), "is no name of a branch"),
    ] {
        let error = place.error(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
    // A path, not a repository: nothing outside the context is looked at.
    for line in ["ADD file:///etc/passwd /", "ADD ext::touch /"] {
        assert!(place.error(line).contains("not found"), "{line}");
    }
    // Links are content; they are copied as links.
    let added = place.layers("ADD https://git.example/r.git /");
    assert_eq!(added, ["file a 0644 0:0 1\nsymlink out 0777 0:0 -> /etc\nsymlink up 0777 0:0 -> ..\n"]);
    assert!(!canary.exists());
}

/// S24: a submodule cannot name a directory of this machine, nor a program.
#[test]
fn submodules_cannot_name_what_is_on_this_machine() {
    if !has_git("submodules_cannot_name_what_is_on_this_machine") {
        return;
    }
    for form in ["file://REPO", "REPO", "ext::sh -c 'touch canary'"] {
        let mut place = Place::new();
        place.repository("r.git", &[&[("a", "1")]]);
        place.repository("private.git", &[&[("a", "1")]]);
        let path = place.path("srv/r.git");
        let url = form.replace("REPO", &place.path("srv/private.git").display().to_string());
        fs::write(path.join(".gitmodules"), format!("[submodule \"m\"]\n\tpath = m\n\turl = {url}\n")).unwrap();
        git(&path, &["update-index", "--add", "--cacheinfo", &format!("160000,{},m", "1".repeat(40))]);
        git(&path, &["add", ".gitmodules"]);
        git(&path, &["commit", "--quiet", "-m", "module"]);
        let web = backend(place.path("srv"), None);
        place.hosts.clear();
        let error = place.error(&format!("ADD {}/r.git /", web.url()));
        assert!(error.contains("not allowed") || error.contains("transport"), "{url}: {error}");
    }
}

/// A git server over HTTP; with an authorization that it wants.
fn backend(root: PathBuf, wanted: Option<&'static str>) -> Web {
    Web::start(move |question| {
        if let Some(wanted) = wanted
            && question.header("authorization") != Some(wanted)
        {
            return Answer::status(401).with("WWW-Authenticate", "Basic realm=\"git\"");
        }
        serve_git(&root, question)
    })
    .unwrap()
}

fn serve_git(root: &Path, question: &Question) -> Answer {
    let (path, query) = question.target.split_once('?').unwrap_or((&question.target, ""));
    let mut child = Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", PATH)
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("REQUEST_METHOD", &question.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", question.header("content-type").unwrap_or_default())
        .env("CONTENT_LENGTH", question.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", question.header("content-encoding").unwrap_or_default())
        .env("GIT_PROTOCOL", question.header("git-protocol").unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&question.body).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|part| part == b"\r\n\r\n").unwrap_or(0);
    let mut answer = Answer::ok(&output[(end + 4).min(output.len())..]);
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        match line.split_once(": ") {
            Some(("Status", status)) => answer.status = status[..3].parse().unwrap_or(500),
            Some((name, value)) => answer = answer.with(name, value),
            None => {}
        }
    }
    answer
}

/// Section 4: `GIT_AUTH_TOKEN` and `GIT_AUTH_HEADER`, for all hosts or for one.
#[test]
fn private_repositories_are_asked_with_the_request_s_secrets() {
    if !has_git("private_repositories_are_asked_with_the_request_s_secrets") {
        return;
    }
    let mut place = Place::new();
    let ids = place.repository("r.git", &[&[("a", "1")], &[("a", "2")]]);
    place.hosts.clear();
    // `x-access-token:hunter2-token`
    let token = "Basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMi10b2tlbg==";
    for (name, value, wanted) in
        [("GIT_AUTH_TOKEN", "hunter2-token", token), ("GIT_AUTH_HEADER", "hunter2 header", "hunter2 header")]
    {
        let web = backend(place.path("srv"), Some(wanted));
        let line = format!("ADD {}/r.git#{} /", web.url(), ids[0]);
        place.secrets.clear();
        place.no_cache = true;
        let error = place.error(&line);
        assert!(error.contains("cannot check out") && error.contains("needs the secret GIT_AUTH_TOKEN"), "{error}");
        for name in [name.to_owned(), format!("{name}.127.0.0.1"), format!("{name}.{}", web.authority())] {
            place.secrets = BTreeMap::from([(name, SecretBytes::new(value))]);
            assert_eq!(place.layers(&line), ["file a 0644 0:0 1\n"]);
            assert_eq!(place.layers(&format!("ADD {}/r.git#main /", web.url())), ["file a 0644 0:0 2\n"]);
        }
        place.secrets = BTreeMap::from([(format!("{name}.elsewhere"), SecretBytes::new(value))]);
        assert!(place.error(&line).contains("cannot check out"));
    }
}

/// R33: a server that leads elsewhere does not get there with the header.
#[test]
fn a_header_for_git_follows_no_redirect() {
    if !has_git("a_header_for_git_follows_no_redirect") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    place.hosts.clear();
    let elsewhere = backend(place.path("srv"), None);
    let target = elsewhere.url();
    let web = Web::start(move |question| Answer::status(301).with("Location", &format!("{target}{}", question.target)));
    let web = web.unwrap();
    place.secrets = BTreeMap::from([("GIT_AUTH_HEADER".to_owned(), SecretBytes::new("hunter2 header"))]);
    place.error(&format!("ADD {}/r.git /", web.url()));
    assert!(elsewhere.asked().is_empty());
    place.secrets = BTreeMap::from([("GIT_AUTH_TOKEN".to_owned(), SecretBytes::new("hunter2-token"))]);
    assert_eq!(place.layers(&format!("ADD {}/r.git /", web.url())), ["file a 0644 0:0 1\n"]);
    assert!(elsewhere.asked().iter().all(|question| question.header("authorization").is_none()));
}

/// Section 9: a named context of every kind, for `FROM`, `COPY --from` and in the place of a stage.
#[test]
fn named_contexts_take_the_place_of_stages_and_images() {
    if !has_git("named_contexts_take_the_place_of_stages_and_images") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "git")]]);
    let web = Web::start(files).unwrap();
    let directory = place.path("other");
    fs::create_dir(&directory).unwrap();
    for (name, content) in [("a", "dir"), ("hidden", "x")] {
        fs::write(directory.join(name), content).unwrap();
    }
    let ignore = skycap_build::ignore::Ignore::parse(b"hidden\n").unwrap();
    place.contexts = BTreeMap::from([
        ("repo".to_owned(), NamedContext::Git("https://git.example/r.git#main".to_owned())),
        ("dir".to_owned(), NamedContext::Directory { path: directory, ignore }),
        ("tar".to_owned(), NamedContext::Http(format!("{}/a.tar", web.url()))),
        ("file".to_owned(), NamedContext::Http(format!("{}/bare", web.url()))),
        ("stage::linux/none".to_owned(), NamedContext::Git("https://git.example/none.git".to_owned())),
        ("alpine".to_owned(), NamedContext::Git("https://git.example/r.git".to_owned())),
        ("scratch".to_owned(), NamedContext::Git("https://git.example/none.git".to_owned())),
    ]);
    for (dockerfile, expected) in [
        ("FROM scratch\nCOPY --from=repo /a /\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM scratch\nCOPY --from=dir . /d/\n", vec!["directory d 0755 0:0\nfile d/a 0644 0:0 dir\n"]),
        ("FROM scratch\nCOPY --from=tar /in/x /\n", vec!["file x 0644 0:0 @0 x\n"]),
        ("FROM scratch\nCOPY --from=file /context /\n", vec!["file context 0600 0:0 @0 bare\n"]),
        ("FROM repo\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM dir\nCOPY --from=dir a /b\n", vec!["file a 0644 0:0 dir\n", "file b 0644 0:0 dir\n"]),
        ("FROM docker.io/library/alpine:latest\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM nothing AS repo\nRUN false\nFROM repo\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM nothing AS repo\nRUN false\nFROM scratch\nCOPY --from=0 a /\n", vec!["file a 0644 0:0 git\n"]),
        ("FROM scratch AS stage\nCOPY --from=dir a /\nFROM stage\n", vec!["file a 0644 0:0 dir\n"]),
    ] {
        let built = place.build(dockerfile).unwrap_or_else(|error| panic!("{dockerfile}: {error}"));
        let layers: Vec<String> = built.image.layers().iter().map(list).collect();
        assert_eq!(layers, expected, "{dockerfile}");
        let told = built.image.config().history.iter().filter(|line| !line.empty_layer).count();
        assert_eq!(told, layers.len(), "{dockerfile}");
    }
    let error = place.build("FROM scratch\nCOPY --from=dir hidden /\n").err().unwrap();
    assert!(error.contains("\"/hidden\": not found"), "{error}");
}

/// Section 6: `SOURCE_DATE_EPOCH` names a stage or a context at a server.
#[test]
fn the_epoch_is_that_of_a_source() {
    if !has_git("the_epoch_is_that_of_a_source") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    let web = Web::start(files).unwrap();
    let file = format!("{}/dir/file.txt", web.url());
    place.contexts = BTreeMap::from([
        ("repo".to_owned(), NamedContext::Git("https://git.example/r.git".to_owned())),
        ("page".to_owned(), NamedContext::Http(file.clone())),
        ("timeless".to_owned(), NamedContext::Http(format!("{}/bare", web.url()))),
    ]);
    let stages = format!(
        "ARG U={file}\nFROM scratch AS src\nARG U\nADD ${{U}} /\nFROM scratch AS tree\nADD https://git.example/r.git /\n\
         FROM scratch AS two\nADD {file} /\nADD {file} /\nFROM scratch AS other\nADD {file} /\nCOPY x /\n\
         FROM scratch AS local\nADD x /\nFROM src AS based\nADD {file} /\nFROM scratch\nARG SOURCE_DATE_EPOCH\n\
         LABEL t=$SOURCE_DATE_EPOCH\n"
    );
    for (name, expected) in [
        ("repo", Ok("1700000000")),
        ("page", Ok("784111777")),
        ("src", Ok("784111777")),
        ("SRC", Ok("784111777")),
        ("tree", Ok("1700000000")),
        ("5", Ok("5")),
        ("timeless", Err("does not say when it changed")),
        ("two", Err("Dockerfile:7: SOURCE_DATE_EPOCH stage must contain exactly one remote ADD")),
        ("other", Err("unsupported COPY instruction")),
        ("local", Err("must be a single HTTP(S) or Git ADD")),
        ("based", Err("must use FROM scratch")),
        ("nobody", Err("invalid SOURCE_DATE_EPOCH: nobody")),
        ("context", Err("the build context is a directory")),
    ] {
        place.build_args = BTreeMap::from([("SOURCE_DATE_EPOCH".to_owned(), name.to_owned())]);
        match (place.build(&stages), expected) {
            (Ok(built), Ok(seconds)) => {
                assert_eq!(built.image.config().config.labels["t"], seconds, "{name}");
                let time: i64 = seconds.parse().unwrap();
                let created = built.image.config().created.clone().unwrap_or_default();
                assert_eq!(created.parse::<jiff::Timestamp>().unwrap().as_second(), time, "{name}");
            }
            (Err(error), Err(why)) => assert!(error.contains(why), "{name}: {error}"),
            (Ok(_), Err(why)) => panic!("{name} was taken, not {why}"),
            (Err(error), Ok(_)) => panic!("{name}: {error}"),
        }
    }
}

/// Section 9: a main context that is a repository, an archive or a Dockerfile at a URL, or an archive from elsewhere.
#[test]
fn main_contexts_are_fetched() {
    if !has_git("main_contexts_are_fetched") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("Dockerfile", "FROM scratch\n"), ("sub/Dockerfile", "FROM scratch\n")]]);
    let packed = archive(&[("Dockerfile", "FROM scratch\n"), ("../../out", "x")]);
    let sound = archive(&[("Dockerfile", "FROM scratch\n")]);
    let web = Web::start(move |question| match question.target.as_str() {
        "/a.tar" => Answer::ok(sound.clone()).with("Last-Modified", MODIFIED),
        "/hostile.tar" => Answer::ok(packed.clone()),
        "/Dockerfile" => Answer::ok("FROM scratch\n"),
        _ => Answer::status(404),
    });
    let web = web.unwrap();
    let names = |directory: &Path| {
        let mut names: Vec<String> =
            fs::read_dir(directory).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    for (address, kept, expected, time) in [
        ("https://git.example/r.git".to_owned(), "", vec!["Dockerfile", "sub"], Some(1_700_000_000)),
        ("https://git.example/r.git#main:sub".to_owned(), "", vec!["Dockerfile"], Some(1_700_000_000)),
        ("https://git.example/r.git".to_owned(), "1", vec![".git", "Dockerfile", "sub"], Some(1_700_000_000)),
        (format!("{}/a.tar", web.url()), "", vec!["Dockerfile"], Some(784_111_777)),
        (format!("{}/Dockerfile", web.url()), "", vec!["context"], None),
    ] {
        place.build_args = BTreeMap::from([("BUILDKIT_CONTEXT_KEEP_GIT_DIR".to_owned(), kept.to_owned())]);
        let found = place.main_context(&address).unwrap().unwrap();
        assert_eq!((names(&found.directory), found.time), (expected.iter().map(ToString::to_string).collect(), time));
        assert_eq!(found.dockerfile.is_some(), address.ends_with("/Dockerfile"), "{address}");
    }
    assert!(place.main_context("some/directory").unwrap().is_none());
    for (address, why) in [
        (format!("{}/hostile.tar", web.url()), "out"),
        (format!("{}/none", web.url()), "404"),
        ("https://git.example/r.git#:none".to_owned(), "has no directory"),
    ] {
        let error = place.main_context(&address).err().unwrap();
        assert!(error.contains(why), "{address}: {error}");
    }
    place.build_args = BTreeMap::from([("BUILDKIT_CONTEXT_KEEP_GIT_DIR".to_owned(), "maybe".to_owned())]);
    assert!(place.main_context("https://git.example/r.git").err().unwrap().contains("neither true nor false"));
}

/// Section 4: git over SSH asks the request's agent, and nobody else; a machine without git says so.
#[test]
fn ssh_asks_the_agent_that_was_given() {
    use std::os::unix::fs::PermissionsExt as _;
    if !has_git("ssh_asks_the_agent_that_was_given") {
        return;
    }
    let mut place = Place::new();
    place.repository("r.git", &[&[("a", "1")]]);
    place.hosts.clear();
    let (tools, log) = (place.path("tools"), place.path("log"));
    fs::create_dir(&tools).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$SSH_AUTH_SOCK\" >> {}\n\
         case \"$*\" in *BatchMode=yes*\\ -F\\ none\\ -o\\ IdentityFile=none*) ;; *) exit 1 ;; esac\n\
         eval last=\\${{$#}}\ncd {}\nexec sh -c \"$last\"\n",
        log.display(),
        place.path("srv").display()
    );
    fs::write(tools.join("ssh"), script).unwrap();
    fs::set_permissions(tools.join("ssh"), fs::Permissions::from_mode(0o755)).unwrap();
    place.tools = Some(format!("{}:{}", tools.display(), PATH));
    place.ssh = BTreeMap::from([("default".to_owned(), SshSource::Agent("/run/agent.sock".into()))]);
    assert_eq!(place.layers("ADD git@git.example:r.git#main /"), ["file a 0644 0:0 1\n"]);
    let asked = fs::read_to_string(&log).unwrap();
    assert!(asked.lines().all(|line| line == "/run/agent.sock") && asked.lines().count() > 1, "{asked}");
    fs::remove_file(&log).unwrap();
    (place.ssh, place.no_cache) = (BTreeMap::new(), true);
    place.layers("ADD git@git.example:r.git#main /");
    let asked = fs::read_to_string(&log).unwrap();
    assert!(asked.lines().all(str::is_empty) && asked.lines().count() > 1, "the user's own agent was asked: {asked}");
    place.tools = Some(tools.display().to_string());
    let error = place.error("ADD https://git.example/other.git /");
    assert!(error.contains("cannot run git") && error.contains("install it"), "{error}");
}
