//! Several processes, some of which are killed. A child is this test program again, running the ignored test `child`.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use skycap_image::{BlobSource, Descriptor, Digest, MediaType, Silent};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_store::Store;
use skycap_testkit::listing::image;

use crate::{files, full, random};

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
    const CALLS: &str = "write,openat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,fsync,syncfs,fchmod,\
utimensat,rmdir,flock";
    tampered("processes::child_once", CALLS, test, dir, what, call)
}

fn tampered(child: &str, calls: &str, test: &str, dir: &Path, what: &str, call: usize) -> Option<bool> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
    command.arg(format!("inject={calls}:{what}:when={call}")).arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "--test-threads=1", child]);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            skycap_testkit::skipped!("{test}: no strace: {error}");
            return None;
        }
    };
    // The child may be dead before it reads.
    let _ = writeln!(child.stdin.take().unwrap(), "{}", dir.display());
    Some(child.wait().unwrap().success())
}

/// Every so many calls, which gives a few dozen points; all of them in a full run.
fn step() -> usize {
    if full() { 1 } else { 13 }
}

fn tamper_everywhere(test: &str, what: &str) {
    let dir = tempfile::tempdir().unwrap();
    // The largest number that strace takes.
    match tampered_child(test, dir.path(), what, 65_535) {
        None => return,
        Some(false) => return skycap_testkit::skipped!("{test}: strace may not trace here"),
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

/// K12
#[test]
fn eight_processes_share_a_store_while_some_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut children: Vec<Child> = (0..8).map(|_| spawn(dir.path())).collect();
    let mut state = 3;
    let rounds = if full() { 200 } else { 20 };
    for round in 0..rounds {
        let mut killed = children.remove(random(&mut state) % children.len());
        std::thread::sleep(Duration::from_millis(random(&mut state) as u64 % 60));
        assert!(killed.try_wait().unwrap().is_none(), "a child failed in round {round}");
        killed.kill().unwrap();
        killed.wait().unwrap();
        children.push(spawn(dir.path()));
        if round % 4 == 0 {
            work(dir.path(), round % 7);
        }
    }
    for mut child in children {
        assert!(child.try_wait().unwrap().is_none(), "a child failed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    check(dir.path());
    let store = Store::open(dir.path()).unwrap();
    let audit = store.audit(&mut |_| {}).unwrap();
    assert!(audit.damaged.is_empty() && audit.checked > 0, "{audit:?}");
}

/// Collects everything. The directory comes on its standard input.
#[test]
#[ignore = "the child of other tests"]
fn child_collects() {
    let mut dir = String::new();
    std::io::stdin().read_line(&mut dir).unwrap();
    Store::open(Path::new(dir.trim())).unwrap().gc(0, Duration::ZERO).unwrap();
}

/// K15
#[test]
fn a_collection_killed_at_any_removal_takes_nothing_that_is_used() {
    const TEST: &str = "a_collection_killed_at_any_removal_takes_nothing_that_is_used";
    let dir = tempfile::tempdir().unwrap();
    let mut points = 0;
    for calls in ["rename", "unlink,unlinkat,rmdir"] {
        for call in (1..).step_by(if full() { 1 } else { 7 }) {
            (0..4).for_each(|number| work(dir.path(), number));
            let reader = Store::open(dir.path()).unwrap();
            let layer = &image(&listing(0)).layers()[0];
            let used = reader.lower(layer, &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
            assert!(reader.verify(&layer.descriptor));
            let killed = tampered("processes::child_collects", calls, TEST, dir.path(), "signal=KILL", call);
            let Some(unharmed) = killed else { return };
            points += 1;
            assert!(reader.open(&layer.descriptor).unwrap().finish().is_ok(), "{calls} {call}");
            assert_eq!(files(&used).len(), FILES, "{calls} {call}");
            assert!(files(&used).iter().all(|file| fs::metadata(file).unwrap().len() == 3000));
            check(dir.path());
            assert!(reader.audit(&mut |_| {}).unwrap().damaged.is_empty(), "{calls} {call}");
            drop(reader);
            drop(Store::open(dir.path()).unwrap());
            assert_eq!(fs::read_dir(dir.path().join("sessions-1")).unwrap().count(), 0, "{calls} {call}");
            if unharmed {
                break;
            }
            assert!(call < 3000, "it never gets through");
        }
    }
    eprintln!("{points} points");
    assert!(points > 4, "{points}");
}

/// K16: what dead processes and earlier boots left, and a lock file that says nothing.
#[test]
fn stale_locks_and_leases_block_nobody() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), 0);
    let sessions = dir.path().join("sessions-1");
    for name in ["1-00000000-5-0", "4000000-ffffffff-9-7"] {
        fs::write(sessions.join(format!("{name}.lease")), "blobs/sha256/x\n").unwrap();
        fs::create_dir(sessions.join(name)).unwrap();
        fs::write(sessions.join(name).join("blob-1-0"), "left over").unwrap();
    }
    for entry in fs::read_dir(dir.path().join("locks-1")).unwrap() {
        fs::write(entry.unwrap().path(), "pid 1").unwrap();
    }
    work(dir.path(), 0);
    assert_eq!(fs::read_dir(&sessions).unwrap().count(), 0);
}

/// K16: on a file system that has no locks.
#[test]
fn a_file_system_without_locks_is_said() {
    const TEST: &str = "a_file_system_without_locks_is_said";
    for error in ["ENOLCK", "EOPNOTSUPP"] {
        let dir = tempfile::tempdir().unwrap();
        let what = format!("error={error}");
        match tampered("processes::child_once", "flock", TEST, dir.path(), &what, 1) {
            None => return,
            Some(succeeded) => assert!(!succeeded, "it worked without locks"),
        }
        assert!(files(&dir.path().join("blobs")).is_empty());
    }
}

/// K21: a clock that jumps, and files from the future or long ago.
#[test]
fn no_time_of_a_file_blocks_or_loses_anything() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path(), 0);
    let day = Duration::from_hours(24);
    let now = std::time::SystemTime::now();
    for time in [now + day, now - day, std::time::UNIX_EPOCH, now + 10_000 * day] {
        for name in ["locks-1", "seals-1", "records-1", "sessions-1"] {
            for file in files(&dir.path().join(name)) {
                let times = fs::FileTimes::new().set_modified(time).set_accessed(time);
                fs::File::open(file).unwrap().set_times(times).unwrap();
            }
        }
        let start = Instant::now();
        work(dir.path(), 0);
        assert!(start.elapsed() < Duration::from_secs(20), "it waited for a clock");
        let store = Store::open(dir.path()).unwrap();
        assert!(store.audit(&mut |_| {}).unwrap().damaged.is_empty());
        if time > now {
            let removed = store.gc(u64::MAX, day / 2).unwrap().removed;
            assert!(removed.iter().all(|item| item.used < now), "what is from the future is young: {removed:?}");
        }
    }
}
