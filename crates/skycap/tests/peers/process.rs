//! Programs in the background that end with the tests, files for them, and what the client told.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use skycap_image::{Event, Progress};
use skycap_testkit::process;
use skycap_testkit::secrets::assert_not_shown_in;
use tempfile::TempDir;

/// The path that children get.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A directory for a peer: in memory where there is plenty, because what is tested here is not how disks wait.
pub fn scratch() -> TempDir {
    const PLENTY: u64 = 4 << 30;
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    let in_memory = if free >= PLENTY { tempfile::tempdir_in(memory).ok() } else { None };
    in_memory.unwrap_or_else(|| tempfile::tempdir().unwrap())
}

/// The same for what runs until this process ends, when nobody is left to remove it: a shell waits for that.
pub fn lasting() -> TempDir {
    let dir = scratch();
    let mut sweeper = Command::new("/bin/sh");
    sweeper.args(["-c", "read -r _; sleep 1; rm -rf \"$1\"", "sh"]).arg(dir.path()).stdin(Stdio::piped());
    // Its input ends with this process.
    std::mem::forget(sweeper.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    dir
}

/// Where a program is, or why the peer cannot be had.
pub fn program(name: &str) -> Result<PathBuf, String> {
    let found = PATH.split(':').map(|directory| Path::new(directory).join(name)).find(|path| path.exists());
    found.ok_or_else(|| format!("there is no {name} here"))
}

/// Runs to the end.
pub fn run(directory: &Path, name: &str, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let program = program(name)?;
    let mut command = Command::new(program);
    let output = process::run(command.args(arguments).current_dir(directory).stdin(Stdio::null()));
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("{name} failed: {:?}", output.stderr.escape_ascii().to_string()))
    }
}

/// A program that is killed when this process ends, however it ends: a shell waits for the end of its input.
pub struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

impl Background {
    pub fn start(program: &Path, arguments: &[&str], output: Stdio) -> Self {
        let script = "\"$@\" </dev/null & read -r _; kill -9 $!";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, "sh"]).arg(program).args(arguments);
        command.env_clear().env("PATH", PATH).env("HOME", "/nonexistent");
        Self(command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::null()).spawn().unwrap())
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// Waits until somebody listens.
pub fn wait_for_port(port: u16) {
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < end, "nobody listens on port {port}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A private authority (`ca.crt`) and a certificate of it for 127.0.0.1 (`tls.crt`, `tls.key`) in a directory.
pub fn certificates(directory: &Path) -> Result<(), String> {
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    run(
        directory,
        "openssl",
        &[&new[..], &["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"]].concat(),
    )?;
    let signed =
        ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    let by = ["-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "tls.key", "-out", "tls.crt"];
    run(directory, "openssl", &[&new[..], &signed, &by].concat())?;
    Ok(())
}

/// What the client told, counted by label and outcome.
#[derive(Default)]
pub struct Events(Mutex<Vec<(u64, String, String)>>);

impl Progress for Events {
    fn event(&self, event: Event<'_>) {
        assert_not_shown_in("an event", format!("{event:?}").as_bytes());
        let mut events = self.0.lock().unwrap();
        match event {
            Event::Started { id, label, .. } => events.push((id, label.to_owned(), String::new())),
            Event::Finished { id, outcome } => {
                if let Some(event) = events.iter_mut().find(|event| event.0 == id) {
                    outcome.clone_into(&mut event.2);
                }
            }
            _ => {}
        }
    }
}

impl Events {
    /// How the transfers of one of these blobs ended. Other tests use the same client.
    pub fn outcomes(&self, blobs: &[skycap_image::Digest]) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let about = |label: &str| blobs.iter().any(|blob| label.contains(&blob.hex()[..12]));
        events.iter().filter(|event| about(&event.1)).map(|event| event.2.clone()).collect()
    }
}
