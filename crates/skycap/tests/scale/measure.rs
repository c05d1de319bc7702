//! Running the binary and watching how much memory it takes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What any command may take, whatever the size of what it works on: 64 MiB. `SKYCAP_TEST_BOUND` is another number of MiB,
/// to measure all of what would otherwise end at the first excess.
pub fn bound() -> u64 {
    std::env::var("SKYCAP_TEST_BOUND").map_or(64, |text| text.parse().unwrap()) << 20
}

/// Whether the real sizes are wanted.
pub fn full() -> bool {
    skycap_testkit::wants_everything()
}

/// The real size or a sample of it.
pub fn size<T>(full_size: T, sample: T) -> T {
    if full() { full_size } else { sample }
}

/// One test at a time: figures of two at once mean nothing, and disks are not endless.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory that is removed whatever is in it: trees deeper than a path is long, too.
pub struct Room(Option<TempDir>);

impl Room {
    pub fn new() -> Self {
        Self(Some(tempfile::tempdir().unwrap()))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.as_ref().unwrap().path().join(name)
    }

    /// How many bytes its file system has left.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path("")).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Frees the space of one thing in it.
    pub fn remove(&self, name: &str) {
        remove(&self.path(name));
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        remove(&self.0.take().unwrap().keep());
    }
}

fn remove(path: &Path) {
    assert!(Command::new("rm").arg("-rf").arg(path).status().unwrap().success());
}

/// How a command ended.
pub struct Ran {
    pub success: bool,
    pub stderr: String,
    pub stdout: PathBuf,
    pub peak: u64,
    pub time: Duration,
}

/// A command under way.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    start: Instant,
    peak: u64,
}

pub fn start(room: &Room, name: &str, arguments: &[&str]) -> Running {
    let binary = std::env::var_os("SKYCAP_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_skycap").into());
    let (stdout, stderr) = (room.path(&format!("{name}.out")), room.path(&format!("{name}.err")));
    let mut command = Command::new(binary);
    command
        .args(arguments)
        .env_clear()
        .env("HOME", room.path("home"))
        .env("TMPDIR", room.path(""))
        .stdin(Stdio::null());
    command.stdout(std::fs::File::create(&stdout).unwrap()).stderr(std::fs::File::create(&stderr).unwrap());
    Running { child: command.spawn().unwrap(), stdout, stderr, start: Instant::now(), peak: 0 }
}

impl Running {
    /// Waits for the end. The kernel's own high-water mark is read until then.
    pub fn end(mut self) -> Ran {
        let status = loop {
            self.look();
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(4));
        };
        let stderr = String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap()).into_owned();
        let (peak, time) = (self.peak, self.start.elapsed());
        Ran { success: status.success(), stderr, stdout: self.stdout, peak, time }
    }

    fn look(&mut self) {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())) else { return };
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        self.peak = self.peak.max(peak.unwrap_or(0_u64) * 1024);
    }
}

impl Ran {
    /// Fails the test unless the command succeeded within the bound; prints what it took.
    #[track_caller]
    pub fn within(self, what: &str) -> Self {
        let sampled = if full() { "scale" } else { "sampled" };
        let (time, peak) = (self.time.as_secs_f64(), self.peak >> 20);
        eprintln!("{sampled}: {what}: {time:.2} s, peak {peak} MiB");
        assert!(self.success, "{what}: {}", self.stderr);
        assert!(self.peak <= bound(), "{what} took {peak} MiB");
        self
    }
}

/// Runs a command to its end.
pub fn skycap(room: &Room, arguments: &[&str]) -> Ran {
    start(room, "skycap", arguments).end()
}

/// Fetches an image's files into `root`, without a store.
pub fn pull(room: &Room, image: &str) -> Ran {
    let root = room.path("root");
    skycap(room, &["pull", "--insecure", "--no-cache", image, "--rootfs", root.to_str().unwrap()])
}

/// Copies an image from place to place.
pub fn copy(room: &Room, from: &str, to: &str) -> Ran {
    skycap(room, &["copy", "--insecure", from, to])
}

/// How many entries of any kind are below a directory, which may be deeper than a path is long.
pub fn count(path: &Path) -> u64 {
    let output = Command::new("find").arg(path).args(["-mindepth", "1", "-printf", "."]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.len() as u64
}
