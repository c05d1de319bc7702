//! A hermetic world: an empty home, a short environment, the binary under test, and other people's programs.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use skycap_registry::server::{Options, Server};
use tempfile::TempDir;

/// The path that children get.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The binary under test.
pub const SKYCAP: &str = env!("CARGO_BIN_EXE_skycap");

/// A directory tree of its own for one test.
pub struct World {
    root: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Fails the test unless the command failed with that code and says that text on stderr.
    #[track_caller]
    pub fn fails(self, code: i32, text: &str) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(text), "{text:?} is not in stderr:\n{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error} in {:?}\n{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        for printed in [&output.stdout, &output.stderr] {
            skycap_testkit::secrets::assert_not_shown_in("a command", printed);
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl World {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        // Other users take part in some tests.
        std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(root.path().join("home")).unwrap();
        Self { root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Makes a directory.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file, with its parents.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A command in this world: an empty environment but for a home and a path.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("HOME", self.path("home")).env("TMPDIR", self.dir("tmp"));
        command.current_dir(self.root.path()).stdin(Stdio::null());
        command
    }

    /// The binary under test with arguments.
    pub fn skycap<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command(SKYCAP);
        command.args(arguments);
        command
    }

    /// Runs a resource by hand.
    pub fn resource(&self, words: &[&str], directory: Option<&Path>, request: &serde_json::Value) -> Ran {
        let mut command = self.skycap(words);
        command.args(directory);
        with_stdin(command, request.to_string().as_bytes())
    }
}

/// Runs to the end.
pub fn run(mut command: Command) -> Ran {
    skycap_testkit::process::run(&mut command).into()
}

/// Runs to the end with bytes on stdin.
pub fn with_stdin(mut command: Command, input: &[u8]) -> Ran {
    skycap_testkit::process::run_with(&mut command, input).into()
}

/// The program, or a printed reason why the test is skipped.
pub fn peer(test: &str, program: &str) -> Option<PathBuf> {
    let found = PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.exists());
    if found.is_none() {
        skip(test, &format!("there is no {program} here"));
    }
    found
}

/// Whether we are root; prints a reason if not.
pub fn root(test: &str) -> bool {
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        skip(test, "needs root");
    }
    is_root
}

/// Says that a test did not run. CI fails on reasons that must not occur there.
pub fn skip(test: &str, why: &str) {
    skycap_testkit::skipped!("{test}: {why}");
}

/// An embedded registry below a directory.
pub fn registry(directory: &Path) -> Server {
    Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), directory, Options::default()).unwrap()
}

/// A program in the background that ends with the test.
pub struct Background(Child);

impl Background {
    pub fn spawn(mut command: Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
pub fn wait_for_port(port: u16) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that do not compress, the same every time.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

/// Every entry below a directory: path, type and mode, owner, size or target, and what files hold, by digest.
pub fn listing(root: &Path) -> String {
    let mut lines = Vec::new();
    list(root, Path::new(""), &mut lines);
    lines.sort();
    lines.join("\n")
}

fn list(root: &Path, below: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap().map(Result::unwrap) {
        let relative = below.join(entry.file_name());
        let path = root.join(&relative);
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let mut line = format!("{} {:o} {}:{}", relative.display(), metadata.mode(), metadata.uid(), metadata.gid());
        if metadata.is_symlink() {
            write!(line, " -> {}", std::fs::read_link(&path).unwrap().display()).unwrap();
        } else if metadata.is_file() {
            let digest = skycap_image::Digest::sha256(&std::fs::read(&path).unwrap_or_default());
            write!(line, " {} links {} {digest}", metadata.size(), metadata.nlink()).unwrap();
        }
        if metadata.is_file() || metadata.is_dir() {
            write!(line, " @{}{}", metadata.mtime(), attributes(&path)).unwrap();
        }
        lines.push(line);
        if metadata.is_dir() {
            list(root, &relative, lines);
        }
    }
}

fn attributes(path: &Path) -> String {
    let mut names: Vec<_> = xattr::list(path).map(Iterator::collect).unwrap_or_default();
    names.sort();
    names.iter().fold(String::new(), |mut text, name| {
        let value = xattr::get(path, name).ok().flatten().unwrap_or_default();
        write!(text, " {}={}", name.to_string_lossy(), skycap_image::Digest::sha256(&value).hex()).unwrap();
        text
    })
}
