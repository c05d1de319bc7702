//! Programs under `strace`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{World, skip};

/// Calls that change something on disk, or make or pass on a descriptor.
pub const CHANGING: &str = "write,writev,pwrite64,pwritev,pwritev2,openat,creat,mkdir,mkdirat,mknodat,rename,renameat,\
renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,fsync,fdatasync,syncfs,sync_file_range,fchmod,fchmodat,\
?fchmodat2,chmod,fchown,fchownat,lchown,utimensat,ftruncate,fallocate,setxattr,fsetxattr,lsetxattr,copy_file_range,\
sendfile,splice,openat2,flock,close";

/// What happens to one call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The program is killed.
    Kill,
    /// The call fails with this error and does nothing.
    Error(&'static str),
}

/// The Nth call of a kind, in whichever thread comes to it first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Point {
    pub call: String,
    pub when: usize,
}

/// One line of a log: a call with its arguments and what it returned.
#[derive(Clone, Debug)]
pub struct Line {
    pub thread: u32,
    pub call: String,
    pub text: String,
}

/// Whether programs can be traced here; prints a reason if not.
pub fn can_trace(test: &str) -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "-e", "trace=none", "true"]).output();
    match tried {
        Ok(output) if output.status.success() => true,
        Ok(_) => {
            skip(test, "strace may not trace here");
            false
        }
        Err(_) => {
            skip(test, "there is no strace here");
            false
        }
    }
}

/// A program under `strace`, which writes these calls with their paths to a log.
pub fn logged(world: &World, calls: &str, log: &Path, program: &Path, arguments: &[OsString]) -> Command {
    traced(world, &["-e".into(), format!("trace={calls}")], log, program, arguments)
}

/// A program under `strace`, which does something to one call. The log has only that kind of call.
pub fn injected(
    world: &World,
    point: &Point,
    fault: Fault,
    log: &Path,
    program: &Path,
    arguments: &[OsString],
) -> Command {
    let what = match fault {
        Fault::Kill => "signal=KILL".to_owned(),
        Fault::Error(name) => format!("error={name}"),
    };
    let Point { call, when } = point;
    let flags = ["-e".into(), format!("trace={call}"), "-e".into(), format!("inject={call}:{what}:when={when}")];
    traced(world, &flags, log, program, arguments)
}

/// A program under `strace` with any flags.
pub fn traced(world: &World, flags: &[String], log: &Path, program: &Path, arguments: &[OsString]) -> Command {
    let mut command = world.command("strace");
    command.args(["-f", "-qq", "-y", "-s", "64", "-o"]).arg(log);
    // Quicker, because other calls do not stop; but then no signal can be sent.
    if !flags.iter().any(|flag| flag.contains("signal=")) {
        command.arg("--seccomp-bpf");
    }
    command.args(flags);
    command.arg(program).args(arguments);
    command
}

/// Reads a log.
pub fn lines(log: &Path) -> Vec<Line> {
    let text = String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned();
    text.lines().filter_map(line).collect()
}

fn line(text: &str) -> Option<Line> {
    let (thread, rest) = text.split_once(' ')?;
    let rest = rest.trim_start();
    let (call, _) = rest.split_once('(')?;
    let is_call = !call.is_empty() && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_call.then(|| Line { thread: thread.parse().unwrap_or(0), call: call.to_owned(), text: rest.to_owned() })
}

/// The points of all calls that matter, in the order of their kinds.
pub fn points(lines: &[Line], matters: impl Fn(&Line) -> bool) -> Vec<Point> {
    let mut seen: BTreeMap<(u32, &str), usize> = BTreeMap::new();
    let mut points = std::collections::BTreeSet::new();
    for line in lines {
        let when = seen.entry((line.thread, &line.call)).or_default();
        *when += 1;
        if matters(line) {
            points.insert(Point { call: line.call.clone(), when: *when });
        }
    }
    points.into_iter().collect()
}

/// The calls that a fault was injected into, if it came to it: one of each thread at most.
pub fn hits(log: &Path) -> Vec<Line> {
    let is_hit = |line: &Line| line.text.contains("(INJECTED)") || line.text.ends_with("= ?");
    lines(log).into_iter().filter(is_hit).collect()
}

/// A file for a log.
pub fn log_file(directory: &Path) -> PathBuf {
    directory.join("strace.log")
}
