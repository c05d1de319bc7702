//! Programs that tests start: each ends, whatever happens to it, so that a test that hangs says what hung.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// What a program printed, and whether it had to be killed because it went on for too long.
pub struct Finished {
    /// Its status and what it printed.
    pub output: Output,
    /// Whether it was ended.
    pub hung: bool,
}

/// Longer than any program of a test runs that does not hang, on a busy machine too.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_mins(if crate::wants_everything() { 60 } else { 4 })
}

/// Runs a program, whose stdin is what the command says, to its end.
///
/// # Panics
/// If it cannot be started, or is still running after [`patience`].
pub fn run(command: &mut Command) -> Output {
    let finished = collect(command, None, patience());
    in_time(command, finished)
}

/// Runs a program with these bytes on its stdin, to its end.
///
/// # Panics
/// If it cannot be started, or is still running after [`patience`].
pub fn run_with(command: &mut Command, input: &[u8]) -> Output {
    let finished = finish(command, input, patience());
    in_time(command, finished)
}

fn in_time(command: &Command, finished: Finished) -> Output {
    let Finished { output, hung } = finished;
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(!hung, "{command:?} hangs; so far it printed:\n{stdout}\n{stderr}");
    output
}

/// Runs a program with these bytes on its stdin. After this time it is ended, with the programs that it started.
///
/// # Panics
/// If it cannot be started.
pub fn finish(command: &mut Command, input: &[u8], limit: Duration) -> Finished {
    command.stdin(Stdio::piped());
    collect(command, Some(input), limit)
}

fn collect(command: &mut Command, input: Option<&[u8]>, limit: Duration) -> Finished {
    let end = Instant::now() + limit;
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (Reader::new(child.stdout.take().unwrap()), Reader::new(child.stderr.take().unwrap()));
    feed(&mut child, input.unwrap_or_default());
    let ended = stdout.ends_by(end) && stderr.ends_by(end);
    let status = if ended { wait(&mut child, end) } else { None };
    let hung = status.is_none();
    let status = status.unwrap_or_else(|| kill(&mut child));
    Finished { output: Output { status, stdout: stdout.bytes(), stderr: stderr.bytes() }, hung }
}

/// Writes from another thread: a program may print much before it reads, or never read.
fn feed(child: &mut Child, input: &[u8]) {
    if let Some(mut stdin) = child.stdin.take() {
        let input = input.to_vec();
        std::thread::spawn(move || stdin.write_all(&input));
    }
}

/// `None` if time is up.
fn wait(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn kill(child: &mut Child) -> ExitStatus {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let _ = group.map(|group| kill_process_group(group, Signal::KILL));
    child.wait().unwrap()
}

/// What a program prints, read as it comes, by a thread.
struct Reader {
    bytes: Arc<Mutex<Vec<u8>>>,
    ended: Receiver<()>,
}

impl Reader {
    fn new(mut from: impl Read + Send + 'static) -> Self {
        let (end, ended) = channel();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bytes);
        std::thread::spawn(move || {
            let mut block = [0; 1 << 13];
            while let Ok(count @ 1..) = from.read(&mut block) {
                kept.lock().unwrap().extend_from_slice(&block[..count]);
            }
            drop(end);
        });
        Self { bytes, ended }
    }

    /// Whether nothing more comes, as is known by then.
    fn ends_by(&self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        matches!(self.ended.recv_timeout(left), Err(RecvTimeoutError::Disconnected))
    }

    fn bytes(&self) -> Vec<u8> {
        std::mem::take(&mut *self.bytes.lock().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_ends_with_all_that_it_printed() {
        let output = run_with(&mut shell("cat; echo two >&2; exit 3"), &vec![b'x'; 1 << 20]);
        assert_eq!((output.status.code(), output.stdout.len(), &output.stderr[..]), (Some(3), 1 << 20, &b"two\n"[..]));
        assert_eq!(run(shell("head -c1").stdin(Stdio::null())).stdout, b"");
    }

    #[test]
    fn a_program_that_hangs_or_leaves_one_that_does_is_ended() {
        for script in ["echo first; exec sleep 600", "sleep 600 & echo first", "trap '' TERM; echo first; sleep 600"] {
            let start = Instant::now();
            let Finished { output, hung } = finish(&mut shell(script), b"", Duration::from_millis(300));
            assert_eq!((hung, &output.stdout[..]), (true, &b"first\n"[..]), "{script}");
            assert!(start.elapsed() < Duration::from_mins(1), "{script}");
        }
    }
}
