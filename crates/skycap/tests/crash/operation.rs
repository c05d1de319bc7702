//! What is interrupted: a get, a put, a build; and how to tell whether what is left is right.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use skycap_store::Store;

use crate::fixture::{Fixture, State, source, words};
use crate::trace::{CHANGING, Line};
use crate::world::{Ran, World, listing, noise, run, with_stdin};

/// Something that the binary does, again and again in places of its own.
pub trait Operation: Sync {
    fn name(&self) -> String;

    /// A place where it was not done yet.
    fn site(&self) -> Site;

    fn arguments(&self, site: &Site) -> Vec<OsString>;

    /// What it reads.
    fn input(&self, _: &Site) -> String {
        String::new()
    }

    /// What is run.
    fn program(&self) -> PathBuf {
        crate::binary().clone()
    }

    /// What else the program is given: variables, another working directory.
    fn dress(&self, _: &Site, _: &mut Command) {}

    /// The calls at which it is interrupted.
    fn calls(&self) -> &'static str {
        CHANGING
    }

    /// Whether a call of this operation is about something that must not be lost. Others are tried too, but nothing is
    /// asked of the message.
    fn matters(&self, site: &Site, line: &Line) -> bool {
        line.text.contains(&site.root())
    }

    /// Fails if something is taken for whole that is not.
    fn check_left(&self, site: &Site, what: &str);

    /// Fails unless everything is there and nothing else.
    fn check_done(&self, site: &Site, ran: &Ran, what: &str);

    /// Fails if anything temporary is left by somebody who could have tidied up.
    fn check_tidy(&self, site: &Site, what: &str) {
        State::of(&site.world.path("out")).has_nothing_temporary(what);
        site.is_tidy(what);
    }

    /// Does it undisturbed.
    fn run(&self, site: &Site) -> Ran {
        with_stdin(self.command(site), self.input(site).as_bytes())
    }

    /// How it is run undisturbed.
    fn command(&self, site: &Site) -> Command {
        let mut command = site.world.command(self.program());
        command.args(self.arguments(site));
        self.dress(site, &mut command);
        command
    }
}

/// A world and a number of its own.
pub struct Site {
    pub world: World,
    pub number: usize,
}

impl Site {
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        Self { world: World::new(), number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    pub fn root(&self) -> String {
        self.world.path("").display().to_string()
    }

    /// Fails if a home or a directory for temporary files holds anything.
    #[track_caller]
    pub fn is_tidy(&self, what: &str) {
        for name in ["tmp", "home"] {
            assert_eq!(listing(&self.world.dir(name)), "", "left over in {name}: {what}");
        }
    }
}

/// Standard output is a whole JSON document or nothing.
#[track_caller]
pub fn is_json_or_nothing(stdout: &str, what: &str) {
    assert!(stdout.is_empty() || serde_json::from_str::<Value>(stdout).is_ok(), "{stdout:?}: {what}");
}

/// `in` of registry-image.
pub struct Get<'f> {
    pub fixture: &'f Fixture,
    pub format: &'static str,
    pub good: State,
}

impl<'f> Get<'f> {
    pub fn new(fixture: &'f Fixture, format: &'static str) -> Self {
        Self { fixture, format, good: fixture.good(format) }
    }
}

impl Operation for Get<'_> {
    fn name(&self) -> String {
        format!("get {}", self.format)
    }

    fn site(&self) -> Site {
        Site::new()
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let mut arguments = words(["registry-image", "in"]);
        arguments.push(site.world.path("out").into());
        arguments
    }

    fn input(&self, _: &Site) -> String {
        self.fixture.get_request(self.format)
    }

    fn check_left(&self, site: &Site, what: &str) {
        State::of(&site.world.path("out")).is_whole_as_far_as_it_goes(&self.good, what);
    }

    fn check_done(&self, site: &Site, ran: &Ran, what: &str) {
        assert_eq!(ran.json()["version"], self.fixture.version, "{what}");
        assert_eq!(State::of(&site.world.path("out")), self.good, "{what}");
        site.is_tidy(what);
    }
}

/// `out` of registry-image, each time to a repository of its own.
pub struct Put<'f> {
    pub fixture: &'f Fixture,
    pub image: &'static str,
}

impl Put<'_> {
    fn repository(site: &Site) -> String {
        format!("put-{}-{}", std::process::id(), site.number)
    }
}

impl Operation for Put<'_> {
    fn name(&self) -> String {
        format!("put {}", self.image)
    }

    fn site(&self) -> Site {
        Site::new()
    }

    fn arguments(&self, _: &Site) -> Vec<OsString> {
        let mut arguments = words(["registry-image", "out"]);
        arguments.push(self.fixture.world.path("").into());
        arguments
    }

    fn input(&self, site: &Site) -> String {
        let repository = format!("{}/{}", self.fixture.server.address(), Self::repository(site));
        json!({"source": {"repository": repository, "tag": "1"}, "params": {"image": self.image}}).to_string()
    }

    fn matters(&self, site: &Site, line: &Line) -> bool {
        let input = self.fixture.world.path(self.image).display().to_string();
        line.text.contains(&input) || line.text.contains(&site.root())
    }

    fn check_left(&self, site: &Site, what: &str) {
        has_no_tag_without_its_parts(self.fixture.server.address(), &Self::repository(site), what);
    }

    fn check_done(&self, site: &Site, ran: &Ran, what: &str) {
        ran.json();
        let found = has_no_tag_without_its_parts(self.fixture.server.address(), &Self::repository(site), what);
        assert!(found, "no tag: {what}");
        site.is_tidy(what);
    }
}

/// `build` of a few files on top of the image, with a store.
pub struct Build<'f> {
    pub fixture: &'f Fixture,
    pub good: String,
}

impl<'f> Build<'f> {
    pub fn new(fixture: &'f Fixture) -> Self {
        let base = format!("{}/app:1", fixture.server.address());
        fixture.world.file("context/Dockerfile", format!("FROM {base}\nCOPY tree /tree\nCOPY big /big\n"));
        for number in 0..20 {
            fixture.world.file(&format!("context/tree/{number}"), format!("{number}\n"));
        }
        fixture.world.file("context/big", noise(100_000));
        let mut build = Self { fixture, good: String::new() };
        let site = build.site();
        build.good = build.run(&site).ok().stdout;
        build
    }
}

impl Operation for Build<'_> {
    fn name(&self) -> String {
        "build".to_owned()
    }

    fn site(&self) -> Site {
        Site::new()
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let mut arguments = words(["build", "--store"]);
        arguments.push(site.world.path("store").into());
        arguments.push("-o".into());
        arguments.push(format!("oci:{}", site.world.path("layout").display()).into());
        arguments.push("--build-arg".into());
        arguments.push("SOURCE_DATE_EPOCH=1600000000".into());
        arguments.push(self.fixture.world.path("context").into());
        arguments
    }

    fn check_left(&self, site: &Site, what: &str) {
        let layout = site.world.path("layout");
        if layout.join("index.json").exists() {
            let found = skycap_image::layout::Layout::open(&layout).unwrap().artifacts().unwrap();
            assert!(found.len() <= 1, "{what}");
        }
        if site.world.path("store/sessions-1").exists() {
            let store = Store::open(&site.world.path("store")).unwrap();
            let damaged = store.audit(&mut |_| {}).unwrap().damaged;
            // A record is not synced, and need not be: its checksum tells.
            assert!(damaged.is_empty(), "{damaged:?}: {what}");
        }
    }

    fn check_done(&self, site: &Site, ran: &Ran, what: &str) {
        assert_eq!(ran.stdout, self.good, "{what}");
        let sessions = site.world.path("store/sessions-1");
        assert_eq!(std::fs::read_dir(sessions).unwrap().count(), 0, "{what}");
        assert_eq!(listing(&site.world.dir("tmp")), "", "{what}");
        let names = State::of(&site.world.path("layout"));
        names.has_nothing_temporary(what);
    }
}

/// Whether a repository has the tag `1`. Fails if it has, but not all that it stands for.
#[track_caller]
pub fn has_no_tag_without_its_parts(address: SocketAddr, repository: &str, what: &str) -> bool {
    is_whole_if_there(address, repository, "1", what)
}

/// The same for any tag.
#[track_caller]
pub fn is_whole_if_there(address: SocketAddr, repository: &str, tag: &str, what: &str) -> bool {
    let (status, body) = ask(address, "GET", &format!("/v2/{repository}/manifests/{tag}"));
    if status == 404 {
        return false;
    }
    assert_eq!(status, 200, "{what}");
    for (kind, digest) in parts(&body) {
        let (status, body) = ask(address, "GET", &format!("/v2/{repository}/{kind}/{digest}"));
        assert_eq!(status, 200, "{digest} is not there and the tag is: {what}");
        assert_eq!(skycap_image::Digest::sha256(&body).to_string(), digest, "{what}");
        for (kind, digest) in if kind == "manifests" { parts(&body) } else { Vec::new() } {
            let (status, _) = ask(address, "HEAD", &format!("/v2/{repository}/{kind}/{digest}"));
            assert_eq!(status, 200, "{digest} is not there and the tag is: {what}");
        }
    }
    true
}

/// What a manifest or an index names.
pub fn parts(document: &[u8]) -> Vec<(&'static str, String)> {
    let document: Value = serde_json::from_slice(document).unwrap();
    let list = |field: &str| document[field].as_array().cloned().unwrap_or_default();
    let blobs = list("layers").into_iter().chain([document["config"].clone()]).map(|blob| ("blobs", blob));
    let all = blobs.chain(list("manifests").into_iter().map(|child| ("manifests", child)));
    all.filter_map(|(kind, part)| Some((kind, part["digest"].as_str()?.to_owned()))).collect()
}

/// A bare request.
pub fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    let accept =
        "accept: application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, */*";
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{accept}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap() <= 2 {
            break;
        }
    }
    let mut body = Vec::new();
    reader.read_to_end(&mut body).unwrap();
    (status, body)
}

/// A check, for what only asks.
pub fn check(fixture: &Fixture) -> Ran {
    let request = json!({"source": source(fixture.server.address())});
    let mut command = fixture.world.skycap(["registry-image", "check"]);
    command.current_dir(fixture.world.path(""));
    with_stdin(command, request.to_string().as_bytes())
}

/// Runs without input.
pub fn plain(site: &Site, arguments: &[OsString]) -> Ran {
    let mut command = site.world.command(crate::binary());
    command.args(arguments);
    run(command)
}
