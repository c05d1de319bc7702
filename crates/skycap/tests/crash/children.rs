//! What a build has started, when the build is killed.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::full;
use crate::world::{World, peer, run, skip};

/// How soon nothing must be left.
const PROMPT: Duration = Duration::from_secs(1);

/// A child, one that has cut itself loose, one that ignores requests, one that is stopped, and the step itself.
const SCRIPT: &str = "sleep 91NUM1 & setsid sleep 91NUM2 & (trap '' TERM HUP INT; sleep 91NUM3) & \
(sleep 91NUM4 & sleep 0.3; kill -STOP $!; true) & (setsid sh -c 'sleep 91NUM5 & exit' &) ; sleep 91NUM6";

/// Whether a process with this argument lives.
fn lives(argument: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.into_iter().any(|line| line.split(|&byte| byte == 0).any(|word| word == argument.as_bytes()))
}

/// Whether anything is mounted below a directory. Other tests mount elsewhere meanwhile.
fn has_mounts_below(directory: &Path) -> bool {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().any(|line| line.contains(&*directory.to_string_lossy()))
}

/// An image with a shell.
const BASE: &str = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";

/// Where [`BASE`] was built.
fn world(test: &str) -> Option<World> {
    let busybox = peer(test, "busybox")?;
    let world = World::new();
    world.dir("context");
    std::fs::copy(busybox, world.path("context/busybox")).unwrap();
    world.file("context/Dockerfile", BASE);
    let first = run(world.skycap(["build", "-o", "oci:first", "context"]));
    if first.code != Some(0) {
        skip(test, first.stderr.lines().last().unwrap_or("the build failed"));
        return None;
    }
    Some(world)
}

/// Starts a build of [`BASE`] and one more step, and waits until all these sleep.
fn start(world: &World, script: &str, sleepers: &[String]) -> Child {
    world.file("context/Dockerfile", format!("{BASE}RUN {script}\n"));
    let mut command = world.skycap(["build", "-o", "oci:second", "context"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !sleepers.iter().all(|sleeper| lives(sleeper)) {
        assert!(start.elapsed() < Duration::from_secs(30), "the step did not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    child
}

/// K09: whoever stops a build waits for ten seconds, and kills it then.
#[test]
fn a_build_whose_command_ignores_the_request_ends_all_the_same() {
    let Some(world) = world("a_build_whose_command_ignores_the_request_ends_all_the_same") else { return };
    let sleeper = format!("92{}", std::process::id());
    let mut child = start(&world, &format!("trap '' TERM; sleep {sleeper}"), std::slice::from_ref(&sleeper));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let asked = Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(asked.elapsed() < Duration::from_secs(5), "it took {:?}", asked.elapsed());
    assert!(!lives(&sleeper) && !has_mounts_below(&world.path("")));
}

/// K10, K11
#[test]
fn nothing_that_a_killed_build_started_outlives_it() {
    let Some(world) = world("nothing_that_a_killed_build_started_outlives_it") else { return };
    for round in 0..if full() { 20 } else { 3 } {
        let number = format!("{}{round:02}", std::process::id() % 1000);
        let script = SCRIPT.replace("NUM", &number);
        let sleepers: Vec<_> = (1..=6).map(|which| format!("91{number}{which}")).collect();
        let mut child = start(&world, &script, &sleepers);
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Instant::now();
        while sleepers.iter().any(|sleeper| lives(sleeper)) {
            assert!(killed.elapsed() < PROMPT, "something lives on after {PROMPT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!has_mounts_below(&world.path("")), "mounts are left");
    }
    eprintln!("{} builds killed", if full() { 20 } else { 3 });
    // And the next one needs no help.
    world.file("context/Dockerfile", BASE);
    run(world.skycap(["build", "-o", "oci:third", "context"])).ok();
}
