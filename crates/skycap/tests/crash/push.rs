//! A push that is interrupted between and in its requests.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use skycap_testkit::registry::{Reply, Scripted};

use crate::fixture::{Fixture, words};
use crate::full;
use crate::operation::{Operation, Put, ask, has_no_tag_without_its_parts, parts};
use crate::points::sample;
use crate::trace::{Point, lines, log_file, logged, points};
use crate::world::{Ran, World, with_stdin};

/// The calls by which a program talks.
const TALK: &str = "connect,socket,sendto,sendmsg,write,writev,recvfrom,recvmsg,read,pread64,openat,shutdown,close";

/// All points of a put's talk and reading.
pub fn talk(put: &Put<'_>) -> Vec<Point> {
    let site = put.site();
    let log = log_file(&site.world.path(""));
    let command = logged(&site.world, TALK, &log, crate::binary(), &put.arguments(&site));
    with_stdin(command, put.input(&site).as_bytes()).ok();
    points(&lines(&log), |line| {
        line.text.contains("socket:[") || line.text.contains("TCP:") || put.matters(&site, line)
    })
}

/// A push through a server that counts requests, and that can kill who pushes.
struct Counted {
    world: World,
    server: Scripted,
    requests: Arc<AtomicUsize>,
    /// The request at which the program is killed, and whether the registry still gets it.
    deadly: Arc<Mutex<Option<(usize, bool)>>>,
    victim: Arc<AtomicU32>,
}

impl Counted {
    fn new(fixture: &Fixture) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let deadly: Arc<Mutex<Option<(usize, bool)>>> = Arc::default();
        let victim = Arc::new(AtomicU32::new(0));
        let shared = (Arc::clone(&requests), Arc::clone(&deadly), Arc::clone(&victim));
        let upstream = fixture.server.address();
        let server = Scripted::in_front_of(upstream, move |request| {
            let (requests, deadly, victim) = &shared;
            let number = requests.fetch_add(1, Ordering::SeqCst);
            let Some((_, reaches)) = deadly.lock().unwrap().filter(|(at, _)| *at == number) else {
                return Reply::forward();
            };
            // A request that is passed on although nobody hears the answer.
            kill(victim.load(Ordering::SeqCst));
            let _ = request;
            if reaches { Reply::forward() } else { Reply::hang_up() }
        });
        Self { world: World::new(), server: server.unwrap(), requests, deadly, victim }
    }

    fn push(&self, fixture: &Fixture, repository: &str, kill_at: Option<(usize, bool)>) -> Ran {
        self.requests.store(0, Ordering::SeqCst);
        *self.deadly.lock().unwrap() = kill_at;
        let mut command = self.world.command(crate::binary());
        command.args(words(["registry-image", "out"])).arg(fixture.world.path(""));
        let repository = format!("{}/{repository}", self.server.address());
        let request = json!({"source": {"repository": repository, "tag": "1"}, "params": {"image": "layout"}});
        let (child, ran) = start(command, &request.to_string(), &self.victim);
        drop(child);
        ran
    }
}

/// Runs a program whose number others must know while it runs.
fn start(mut command: Command, input: &str, victim: &AtomicU32) -> (Option<Child>, Ran) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    victim.store(child.id(), Ordering::SeqCst);
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes());
    (None, child.wait_with_output().unwrap().into())
}

fn kill(process: u32) {
    let process = rustix::process::Pid::from_raw(process.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
}

/// Uploads of whole blobs that reached the registry, by digest.
fn uploads(server: &Scripted, from: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for request in server.requests().into_iter().skip(from) {
        let digest = request.query.split('&').find_map(|pair| pair.strip_prefix("digest="));
        if let ("PUT" | "POST", Some(digest)) = (request.method.as_str(), digest) {
            *found.entry(digest.replace("%3A", ":")).or_default() += 1;
        }
    }
    found
}

/// K17
#[test]
fn a_push_killed_at_any_request_shows_no_tag_too_early_and_sends_nothing_twice() {
    let fixture = Fixture::new();
    let counted = Counted::new(&fixture);
    counted.push(&fixture, "count", None).ok();
    let count = counted.requests.load(Ordering::SeqCst);
    assert!(count >= 8, "{count} requests");
    let all: Vec<_> = (0..count).flat_map(|at| [(at, false), (at, true)]).collect();
    let chosen = sample(all.iter().map(|(at, reaches)| Point { call: reaches.to_string(), when: *at }).collect(), 40);
    let address = fixture.server.address();
    let mut killed = 0;
    for (number, point) in chosen.iter().enumerate() {
        let kill_at = (point.when, point.call == "true");
        let repository = format!("killed-{number}");
        let what = format!("killed at request {} of {count}, which reached the registry: {}", kill_at.0, kill_at.1);
        let before = counted.server.requests().len();
        let ran = counted.push(&fixture, &repository, Some(kill_at));
        killed += usize::from(ran.code.is_none());
        // What was under way reaches the registry or does not.
        std::thread::sleep(Duration::from_millis(if full() { 50 } else { 20 }));
        has_no_tag_without_its_parts(address, &repository, &what);
        let whole = blobs_of(address, &repository);
        let middle = counted.server.requests().len();
        counted.push(&fixture, &repository, None).ok();
        assert!(has_no_tag_without_its_parts(address, &repository, &what), "{what}");
        let first = uploads(&counted.server, before);
        for digest in uploads(&counted.server, middle).keys() {
            assert!(!whole.contains(digest), "{digest} was there and was sent again: {what}\n{first:?}");
        }
    }
    eprintln!("{count} requests, {} points, {killed} kills", chosen.len());
    assert!(killed * 10 >= chosen.len() * 9, "{killed} of {}", chosen.len());
}

/// The blobs of the image that a repository has already.
fn blobs_of(address: std::net::SocketAddr, repository: &str) -> Vec<String> {
    let (_, top) = ask(address, "GET", "/v2/app/manifests/1");
    let mut found: Vec<_> = parts(&top);
    for (_, manifest) in parts(&top).into_iter().filter(|(kind, _)| *kind == "manifests") {
        found.extend(parts(&ask(address, "GET", &format!("/v2/app/manifests/{manifest}")).1));
    }
    let is_there = |digest: &String| ask(address, "HEAD", &format!("/v2/{repository}/blobs/{digest}")).0 == 200;
    let blobs: Vec<_> = found.into_iter().filter(|(kind, _)| *kind == "blobs").map(|(_, digest)| digest).collect();
    assert!(blobs.len() >= 4, "{blobs:?}");
    blobs.into_iter().filter(is_there).collect()
}
