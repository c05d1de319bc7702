//! Debian's `notary` and `notary-server`, to publish to and to be read by.

#![allow(clippy::unwrap_used, reason = "it serves tests, which may fail loudly")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use skycap_image::Secret;
use tempfile::TempDir;

/// The passphrase of every key.
pub const PASSPHRASE: &str = "hunter2-notary";

/// A server and a client's directory; the server ends when this is dropped.
pub struct Notary {
    dir: TempDir,
    server: Child,
    url: String,
}

impl Drop for Notary {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Notary {
    /// `None` where Debian's notary is not installed.
    pub fn start() -> Option<Self> {
        let found = |program: &str| Command::new(program).arg("-h").output().is_ok();
        if !found("notary") || !found("notary-server") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = dir.path().join("server.json");
        let text = format!(
            r#"{{"server":{{"http_addr":"{address}"}},"trust_service":{{"type":"local"}},"logging":{{"level":"error"}},"storage":{{"backend":"memory"}}}}"#
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new("notary-server");
        command.arg("-config").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().unwrap();
        let notary = Self { dir, server, url: format!("http://{address}") };
        for _ in 0..200 {
            if TcpStream::connect(address).is_ok() {
                return Some(notary);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("notary-server does not listen");
    }

    /// Where the server is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A directory for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("notary");
        command.args(["-s", &self.url, "-d"]).arg(self.dir.path().join("trust")).args(arguments);
        for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
            command.env(format!("NOTARY_{role}_PASSPHRASE"), PASSPHRASE);
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Runs the client, which must succeed; what it prints.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// A repository as `docker trust` makes them: the server signs snapshots.
    pub fn initialise(&self, gun: &str) {
        self.ok(&["init", gun, "-p"]);
        self.ok(&["key", "rotate", gun, "snapshot", "-r"]);
    }

    /// What the client finds, after it has verified everything: name, digest in hex, size, role.
    pub fn listed(&self, gun: &str) -> BTreeMap<String, (String, u64, String)> {
        let fresh = self.dir.path().join("fresh");
        let _ = fs::remove_dir_all(&fresh);
        let output =
            Command::new("notary").args(["-s", &self.url, "-d"]).arg(fresh).args(["list", gun]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows = rows.filter(|row| row.len() == 4 && row[1].len() == 64);
        rows.map(|row| (row[0].to_owned(), (row[1].to_owned(), row[2].parse().unwrap(), row[3].to_owned()))).collect()
    }

    /// The private key of a role, with its id.
    pub fn key(&self, role: &str) -> (String, Secret) {
        let found = fs::read_dir(self.dir.path().join("trust/private")).unwrap().map(|entry| entry.unwrap().path());
        let is_of = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(&format!("\nrole: {role}\n"));
        let path = found.into_iter().find(is_of).unwrap();
        let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (id, Secret::new(fs::read_to_string(path).unwrap()))
    }
}
