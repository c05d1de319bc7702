//! Signals in the middle, and readers that go away.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::building::{Everything, Grounds, Task};
use crate::fixture::Fixture;
use crate::full;
use crate::operation::{Build, Get, Operation, Put, Site, is_json_or_nothing};
use crate::world::{Ran, World};

/// How long somebody who was asked to stop may take.
const PROMPT: Duration = Duration::from_secs(2);

/// How a signalled program ended.
struct Ended {
    ran: Ran,
    /// The exit code, as a shell would say it.
    code: i32,
    took: Duration,
}

fn start(operation: &dyn Operation, site: &Site) -> std::process::Child {
    let mut command = operation.command(site);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(operation.input(site).as_bytes());
    child
}

fn signalled(operation: &dyn Operation, site: &Site, signal: Signal, after: Duration) -> Ended {
    end(start(operation, site), signal, after)
}

/// Its input, if it has one, stays open until it has ended.
fn end(mut child: Child, signal: Signal, after: Duration) -> Ended {
    std::thread::sleep(after);
    let _ = kill_process(Pid::from_child(&child), signal);
    let since = Instant::now();
    let _input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    let status = output.status;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ended { ran: output.into(), code, took: since.elapsed() }
}

pub fn signal_often(operation: &dyn Operation) {
    signal_at_times(operation, if full() { 200 } else { 8 });
}

/// At as many moments of the time that a whole run takes.
fn signal_at_times(operation: &dyn Operation, rounds: u32) {
    let site = operation.site();
    let begin = Instant::now();
    operation.run(&site).ok();
    let whole = begin.elapsed();
    let (mut stopped, mut done) = (0, 0);
    for round in 0..rounds {
        let (signal, code) = if round % 2 == 0 { (Signal::TERM, 143) } else { (Signal::INT, 130) };
        let site = operation.site();
        let ended = signalled(operation, &site, signal, whole * round / rounds);
        let what = format!("{} {signal:?} in round {round}: {:?}", operation.name(), ended.ran);
        assert!(ended.took < PROMPT, "it took {:?}: {what}", ended.took);
        if ended.code == 0 {
            done += 1;
            operation.check_done(&site, &ended.ran, &what);
            continue;
        }
        stopped += 1;
        assert_eq!(ended.code, code, "{what}");
        assert!(!ended.ran.stderr.contains("panicked"), "{what}");
        operation.check_left(&site, &what);
        operation.check_tidy(&site, &what);
        let again = operation.run(&site).ok();
        operation.check_done(&site, &again, &what);
    }
    eprintln!("{}: {stopped} stopped, {done} were faster", operation.name());
}

/// K09, R93
#[test]
fn a_get_that_is_asked_to_stop_stops_and_leaves_nothing() {
    let fixture = Fixture::new();
    for format in ["rootfs", "oci", "oci-layout"] {
        signal_often(&Get::new(&fixture, format));
    }
}

/// K09, R93
#[test]
fn a_put_that_is_asked_to_stop_stops() {
    let fixture = Fixture::new();
    signal_often(&Put { fixture: &fixture, image: "layout" });
}

/// K09
#[test]
fn a_build_that_is_asked_to_stop_stops_and_leaves_nothing() {
    let fixture = Fixture::new();
    signal_often(&Build::new(&fixture));
}

/// K09: nothing came yet, and files that take long to read.
#[test]
fn a_build_that_waits_for_its_context_or_reads_a_large_one_stops() {
    let world = World::new();
    world.dir("context");
    world.file("context/Dockerfile", "FROM scratch\nCOPY large /\n");
    std::fs::File::create(world.path("context/large")).unwrap().set_len(64 << 30).unwrap();
    for context in ["-", "context"] {
        let mut command = world.skycap(["build", "-o", "oci:image", context]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = end(child, Signal::TERM, Duration::from_secs(1));
        assert_eq!(ended.code, 143, "{context}: {:?}", ended.ran);
        assert!(ended.took < PROMPT, "{context}: it took {:?}: {:?}", ended.took, ended.ran);
        assert!(!world.path("image").exists());
    }
}

/// K09, K11: with programs under way, caches being written and outputs staged.
#[test]
fn a_build_of_everything_that_is_asked_to_stop_stops_in_every_phase() {
    let Some(grounds) = Grounds::new("a_build_of_everything_that_is_asked_to_stop_stops_in_every_phase") else {
        return;
    };
    signal_at_times(&Everything::new(&grounds), if full() { 100 } else { 4 });
    signal_at_times(&Task::new(&grounds, false), if full() { 100 } else { 4 });
}

/// K19
#[test]
fn an_answer_that_nobody_reads_is_an_error_and_no_panic() {
    let fixture = Fixture::new();
    for operation in [&Get::new(&fixture, "rootfs") as &dyn Operation, &Put { fixture: &fixture, image: "layout" }] {
        let site = operation.site();
        let mut child = start(operation, &site);
        drop(child.stdout.take());
        let ran: Ran = child.wait_with_output().unwrap().into();
        assert!(matches!(ran.code, Some(code) if code != 0), "{ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{ran:?}");
        let again = operation.run(&site).ok();
        operation.check_done(&site, &again, "after an answer that nobody read");
    }
}

/// K19: the device that is always full.
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let fixture = Fixture::new();
    let get = Get::new(&fixture, "rootfs");
    let site = get.site();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(crate::binary());
    command.args(get.arguments(&site)).stdin(Stdio::piped()).stdout(full).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(get.input(&site).as_bytes());
    let ran: Ran = child.wait_with_output().unwrap().into();
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("No space left on device") && !ran.stderr.contains("panicked"), "{ran:?}");
}

/// K19
#[test]
fn an_answer_is_whole_or_absent_however_early_a_get_dies() {
    let fixture = Fixture::new();
    let get = Get::new(&fixture, "rootfs");
    let begin = Instant::now();
    get.run(&get.site()).ok();
    let whole = begin.elapsed();
    for round in 0..if full() { 200 } else { 10 } {
        let site = get.site();
        // Most of them near the end, when it is written.
        let after = whole * (80 + round % 30) / 100;
        let ended = signalled(&get, &site, Signal::KILL, after);
        is_json_or_nothing(&ended.ran.stdout, &format!("round {round}"));
        if !ended.ran.stdout.is_empty() {
            get.check_done(&site, &ended.ran, "it had answered");
        }
    }
}
