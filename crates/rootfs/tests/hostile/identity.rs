//! Who unpacks. The tests run as whoever started them, and start themselves again as the others.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use skycap_rootfs::Owners;

/// What a process may do with files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Identity {
    /// Real root.
    Root,
    /// An ordinary user.
    User,
    /// Root of a user namespace with a range of ids.
    Namespace,
    /// Root of a user namespace with one id.
    Single,
}

/// Says in the environment of a process which of them it is.
const WHO: &str = "SKYCAP_HOSTILE_AS";
const NOBODY: u32 = 65534;
/// Where the range of ids of a namespace begins on the outside, and how many it has.
const FIRST: u32 = 200_000;
const COUNT: u32 = 65536;

impl Identity {
    /// This process.
    pub(crate) fn current() -> Self {
        static CURRENT: OnceLock<Identity> = OnceLock::new();
        *CURRENT.get_or_init(|| match variable(WHO).as_deref().and_then(std::ffi::OsStr::to_str) {
            Some("user") => Self::User,
            Some("namespace") => Self::Namespace,
            Some("single") => Self::Single,
            _ if !rustix::process::geteuid().is_root() => Self::User,
            _ if fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295")) => Self::Root,
            _ => Self::Namespace,
        })
    }

    /// The name in cases.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::User => "user",
            Self::Namespace => "namespace",
            Self::Single => "single",
        }
    }

    pub(crate) fn owners(self) -> Owners {
        if self.keeps_owners() { Owners::Keep } else { Owners::Squash }
    }

    pub(crate) fn keeps_owners(self) -> bool {
        matches!(self, Self::Root | Self::Namespace)
    }

    /// Device nodes, and attributes that need the real root.
    pub(crate) fn makes_devices(self) -> bool {
        self == Self::Root
    }
}

#[allow(clippy::disallowed_methods, reason = "a test may look at its own environment")]
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Whether everything is to be done, however long it takes.
pub(crate) fn is_full() -> bool {
    skycap_testkit::wants_everything()
}

/// Whether this process was started as somebody else, who need not repeat all of a sample.
pub(crate) fn is_again() -> bool {
    variable(WHO).is_some()
}

/// Runs one test of this program again as somebody else; says why not where that is impossible.
pub(crate) fn run_again(test: &str, identity: Identity) {
    if is_again() {
        return;
    }
    match start(test, identity) {
        Ok(Ok(text)) => eprint!(
            "{}",
            text.lines().filter(|line| line.starts_with("hostile:")).fold(String::new(), |all, line| all + line + "\n")
        ),
        Ok(Err(text)) => panic!("as {}:\n{text}", identity.name()),
        Err(why) => skycap_testkit::skipped!("{test} ({}): {why}", identity.name()),
    }
}

/// The outcome of the test, or why it could not be started.
fn start(test: &str, identity: Identity) -> Result<Result<String, String>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let arguments = [test, "--exact", "--nocapture", "--test-threads=1"];
    let directory = crate::room::temporary("skycap-as-");
    let is_root = Identity::current() == Identity::Root;
    let outer = if identity == Identity::User { NOBODY } else { FIRST };
    if is_root {
        chown(directory.path(), Some(outer), Some(outer)).unwrap();
    }
    let mut command = match identity {
        Identity::Root => return Err("only root is root".to_owned()),
        Identity::User if !is_root => return Err("this is one".to_owned()),
        Identity::User => Command::new(program),
        Identity::Single => {
            let mut unshare = Command::new("unshare");
            unshare.args(["-Ur", "--"]).arg(program);
            unshare
        }
        Identity::Namespace if !is_root => return Err("only one id can be mapped".to_owned()),
        Identity::Namespace => {
            let mut unshare = Command::new("unshare");
            unshare.args(["-U", "--", "sh", "-c", "echo ready; read go; exec \"$@\"", "sh"]).arg(program);
            unshare
        }
    };
    if is_root {
        command.uid(outer).gid(outer);
    }
    command.args(arguments).env(WHO, identity.name()).env("TMPDIR", directory.path()).current_dir(directory.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("unshare: {error}"))?;
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    if identity == Identity::Namespace {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        for file in ["gid_map", "uid_map"] {
            let map = format!("0 {FIRST} {COUNT}\n");
            let written = fs::write(format!("/proc/{}/{file}", child.id()), map);
            if let Err(error) = written {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("only one id can be mapped: {error}"));
            }
        }
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
    drop(child.stdin.take());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let output = child.wait_with_output().unwrap();
    let text = reader.join().unwrap().unwrap_or_default() + &String::from_utf8_lossy(&output.stderr);
    if identity == Identity::Single && text.starts_with("unshare:") {
        return Err(text);
    }
    assert!(!output.status.success() || text.contains("1 passed"), "{test} did not run:\n{text}");
    Ok(if output.status.success() { Ok(text) } else { Err(text) })
}
