//! A root file system of busybox, and commands run in it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_sandbox::{Cancel, Exit, Output, Root, RunError, RunSpec, Sandbox, Stdin};

/// What the cases share: the sandbox, and a lower directory with busybox in it.
pub struct World {
    pub sandbox: Sandbox,
    pub scratch: PathBuf,
    pub busybox: PathBuf,
    pub lower: PathBuf,
    count: AtomicUsize,
}

impl World {
    pub fn new(sandbox: Sandbox, scratch: &Path, busybox: &Path) -> Self {
        let lower = scratch.join("lower");
        for directory in ["bin", "etc", "tmp", "root", "home/dir"] {
            fs::create_dir_all(lower.join(directory)).unwrap();
        }
        fs::set_permissions(lower.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(busybox, lower.join("bin/busybox")).unwrap();
        fs::set_permissions(lower.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
        let list = std::process::Command::new(busybox).arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", lower.join("bin").join(applet)).unwrap();
        }
        fs::write(lower.join("etc/passwd"), "root::0:0:root:/root:/bin/sh\nuser::1000:1000::/home:/bin/sh\n").unwrap();
        fs::write(lower.join("etc/group"), "root:x:0:\ntty:x:5:\nuser:x:1000:\n").unwrap();
        fs::write(lower.join("home/dir/old"), "old\n").unwrap();
        fs::write(lower.join("home/file"), "file\n").unwrap();
        fs::write(lower.join("no-program"), "").unwrap();
        let scratch = scratch.to_owned();
        Self { sandbox, scratch, busybox: busybox.to_owned(), lower, count: AtomicUsize::new(0) }
    }

    /// Whether we stand in a filter of somebody else's, so that no further one can listen.
    pub fn is_filtered() -> bool {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        !status.contains("Seccomp_filters:\t0\n")
    }

    /// A new empty directory.
    pub fn directory(&self) -> PathBuf {
        let path = self.scratch.join(format!("d{}", self.count.fetch_add(1, Ordering::SeqCst)));
        fs::create_dir(&path).unwrap();
        path
    }

    /// An overlay over the busybox layer, and where its writes go.
    pub fn overlay(&self) -> (Root, PathBuf) {
        let directory = self.directory();
        let (upper, work) = (directory.join("upper"), directory.join("work"));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        (Root::Overlay { lowers: vec![self.lower.clone()], upper: upper.clone(), work }, upper)
    }

    /// A shell script on a new overlay, and where its writes will go.
    pub fn script(&self, script: &str) -> (RunSpec, PathBuf) {
        let (root, upper) = self.overlay();
        let mut spec = RunSpec::new(root, ["sh", "-c", script]);
        spec.env.push(("PATH".into(), "/bin".into()));
        (spec, upper)
    }

    pub fn run(&self, spec: &RunSpec) -> Ran {
        self.try_run(spec).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub fn try_run(&self, spec: &RunSpec) -> Result<Ran, RunError> {
        self.run_with(spec, Stdin::Empty)
    }

    pub fn run_with(&self, spec: &RunSpec, stdin: Stdin) -> Result<Ran, RunError> {
        let mut output = Collected::default();
        let exit = self.sandbox.run(spec, stdin, &mut output, &Cancel::new())?;
        Ok(Ran { exit, output })
    }

    /// The output of a script that must succeed.
    pub fn sh(&self, script: &str) -> String {
        let ran = self.run(&self.script(script).0);
        assert_eq!(ran.exit, Exit::Code(0), "{script}: {:?}", ran.output);
        ran.stdout()
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

pub struct Ran {
    pub exit: Exit,
    pub output: Collected,
}

impl Ran {
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }
}

#[derive(Default)]
pub struct Collected {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }
}

impl Output for Collected {
    fn stdout(&mut self, bytes: &[u8]) {
        self.stdout.extend_from_slice(bytes);
    }

    fn stderr(&mut self, bytes: &[u8]) {
        self.stderr.extend_from_slice(bytes);
    }
}

/// Every path below a directory, relative and sorted.
pub fn listing(directory: &Path) -> Vec<String> {
    fn walk(base: &Path, directory: &Path, into: &mut Vec<String>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            into.push(entry.path().strip_prefix(base).unwrap().display().to_string());
            if entry.file_type().unwrap().is_dir() {
                walk(base, &entry.path(), into);
            }
        }
    }
    let mut all = Vec::new();
    walk(directory, directory, &mut all);
    all.sort();
    all
}

/// Whether a process with this argument lives, as far as we can see.
pub fn lives(argument: &str) -> bool {
    let wanted = OsString::from(argument);
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|text| text.split(|byte| *byte == 0).any(|field| field == wanted.as_encoded_bytes()))
    })
}
