//! Several processes, some of which are killed. A child is this test program again, running the ignored test `child`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skycap_image::{Descriptor, Digest, MediaType, Silent};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_store::Store;
use skycap_testkit::listing::image;

use crate::files;

const FILES: usize = 30;

/// An image whose layers depend on a number.
fn listing(number: usize) -> String {
    let files: Vec<String> = (0..FILES).map(|file| format!("file d/{number}-{file} size=3000")).collect();
    format!("layer\ndir d\n{}\n", files.join("\n"))
}

fn work(dir: &Path, round: usize) {
    let store = Store::open(dir).unwrap();
    let layer = &image(&listing(round)).layers()[0];
    store.lower(layer, &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    let bytes = round.to_le_bytes().repeat(20_000);
    store.ingest(&Descriptor::of(MediaType::OciLayer, &bytes), &bytes[..]).unwrap();
    store.set_record("step", &round.to_string(), &bytes).unwrap();
    fs::write(store.scratch().unwrap().path().join("file"), &bytes).unwrap();
}

/// Works until it is killed. The directory comes on its standard input.
#[test]
#[ignore = "the child of other tests"]
fn child() {
    let mut dir = String::new();
    std::io::stdin().read_line(&mut dir).unwrap();
    println!("\nready");
    for round in 0..usize::MAX {
        work(Path::new(dir.trim()), round % 7);
        if round % 3 == 2 {
            Store::open(Path::new(dir.trim())).unwrap().gc(100_000, Duration::MAX).unwrap();
        }
    }
}

/// Does everything once. The directory comes on its standard input.
#[test]
#[ignore = "the child of other tests"]
fn child_once() {
    let mut dir = String::new();
    std::io::stdin().read_line(&mut dir).unwrap();
    work(Path::new(dir.trim()), 0);
}

/// Runs `child_once` under strace, which does something to its Nth call that changes files. `None` with a printed reason
/// if that cannot be done here.
fn tampered_child(test: &str, dir: &Path, what: &str, call: usize) -> Option<bool> {
    const CALLS: &str = "write,openat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,fsync,syncfs,fchmod";
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={CALLS}"), "-e"]);
    command.arg(format!("inject={CALLS}:{what}:when={call}")).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", "processes::child_once"]);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: {test}: no strace: {error}");
            return None;
        }
    };
    // The child may be dead before it reads.
    let _ = writeln!(child.stdin.take().unwrap(), "{}", dir.display());
    Some(child.wait().unwrap().success())
}

/// Every so many calls, which gives a few dozen points; all of them with `SKYCAP_ALL_POINTS`.
fn step() -> usize {
    #[allow(clippy::disallowed_methods, reason = "a test may look at its own environment")]
    let all = std::env::var_os("SKYCAP_ALL_POINTS").is_some();
    if all { 1 } else { 13 }
}

fn tamper_everywhere(test: &str, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    match tampered_child(test, dir.path(), what, 1_000_000) {
        None => return,
        Some(false) => return eprintln!("skipped: {test}: strace may not trace here"),
        Some(true) => {}
    }
    let mut points = 0;
    for call in (1..).step_by(step()) {
        let dir = tempfile::tempdir().unwrap();
        let Some(unharmed) = tampered_child(test, dir.path(), what, call) else { return };
        if unharmed && call > 300 {
            break;
        }
        assert!(call < 3000, "it never gets through");
        points += 1;
        if !dir.path().join("sessions-1").exists() {
            continue;
        }
        check(dir.path());
        work(dir.path(), 0);
        check(dir.path());
        assert_eq!(fs::read_dir(dir.path().join("sessions-1")).unwrap().count(), 0, "call {call}");
    }
    assert!(points > 20, "only {points} points");
}

#[test]
fn a_kill_at_any_call_leaves_nothing_that_is_taken_for_whole() {
    tamper_everywhere("a_kill_at_any_call_leaves_nothing_that_is_taken_for_whole", "signal=KILL");
}

#[test]
fn a_full_disk_at_any_call_leaves_nothing_that_is_taken_for_whole() {
    tamper_everywhere("a_full_disk_at_any_call_leaves_nothing_that_is_taken_for_whole", "error=ENOSPC");
}

fn spawn(dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "processes::child"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{}", dir.display()).unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"), "the child did not start");
    child
}

fn check(dir: &Path) {
    for blob in files(&dir.join("blobs")) {
        let digest = Digest::sha256(&fs::read(&blob).unwrap());
        assert_eq!(digest.hex(), blob.file_name().unwrap().to_str().unwrap());
    }
    for lower in fs::read_dir(dir.join("lowers-2")).unwrap() {
        let root = lower.unwrap().path().join("root");
        let found = files(&root);
        assert_eq!(found.len(), FILES, "{}", root.display());
        assert!(found.iter().all(|file| fs::metadata(file).unwrap().len() == 3000));
    }
}

#[test]
fn a_killed_process_leaves_nothing_that_is_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    for _ in 0..50 {
        let mut child = spawn(dir.path());
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        std::thread::sleep(Duration::from_micros(state % 40_000));
        child.kill().unwrap();
        child.wait().unwrap();
        check(dir.path());
    }
    // The next one works without help and leaves nothing but what it wants to keep.
    for round in 0..7 {
        work(dir.path(), round);
    }
    check(dir.path());
    assert!(files(&dir.path().join("sessions-1")).is_empty());
    assert_eq!(fs::read_dir(dir.path().join("sessions-1")).unwrap().count(), 0);
}

#[test]
fn several_processes_share_a_store_while_some_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..3).map(|_| spawn(dir.path())).collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let mut killed = children.remove(0);
        std::thread::sleep(Duration::from_millis(50));
        assert!(killed.try_wait().unwrap().is_none(), "a child failed");
        killed.kill().unwrap();
        killed.wait().unwrap();
        children.push(spawn(dir.path()));
        work(dir.path(), 3);
    }
    for mut child in children {
        assert!(child.try_wait().unwrap().is_none(), "a child failed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    check(dir.path());
}
