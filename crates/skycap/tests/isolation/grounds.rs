//! The places to stand on: each rung, as machines and Concourse's workers have them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::probes::PROBES;
use crate::stood::Place;

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where Concourse would put a task.
const TASK: &str = "/tmp/build/0a1b2c3d";

pub struct Ground {
    pub name: &'static str,
    pub rung: Rung,
    /// All probes are tried every time: it differs most from the others.
    pub in_full: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    Privileged,
    Nested,
    /// The same, where parts of `/proc` are hidden, so that RUNs see the processes of each other.
    Masked,
    Subordinate,
    Single,
    Takeover,
}

enum Kind {
    /// On the machine itself, as a user with these subordinate ids, started by a program.
    Machine { user: u32, subordinate: &'static str, starter: &'static [&'static str] },
    /// In a container that `runc` makes from one of Concourse's configurations.
    Container { configuration: &'static str },
}

pub const GROUNDS: &[Ground] = &[
    Ground { in_full: true, ..container("concourse-unprivileged", Rung::Takeover, "unprivileged") },
    machine("privileged", Rung::Privileged, 0, "", &[]),
    machine("nested", Rung::Nested, 0, "", &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]),
    machine("single-id", Rung::Single, 65534, "", &[]),
    machine("subordinate-ids", Rung::Subordinate, 54321, "anna:600100000:65536\n", &[]),
    container("masked-proc", Rung::Masked, "unprivileged-on-fuse-only-worker"),
    container("concourse-privileged", Rung::Privileged, "privileged"),
    container("concourse-fuse-only", Rung::Nested, "unprivileged-on-fuse-only-worker"),
];

const fn machine(
    name: &'static str,
    rung: Rung,
    user: u32,
    subordinate: &'static str,
    starter: &'static [&'static str],
) -> Ground {
    Ground { name, rung, in_full: false, kind: Kind::Machine { user, subordinate, starter } }
}

const fn container(name: &'static str, rung: Rung, configuration: &'static str) -> Ground {
    Ground { name, rung, in_full: false, kind: Kind::Container { configuration } }
}

/// What stands in the way of making grounds here.
pub fn missing() -> Option<String> {
    let held = rustix::thread::capabilities(None).unwrap().effective;
    if !rustix::process::geteuid().is_root() || !held.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
        return Some("we are not root with CAP_SYS_ADMIN".to_owned());
    }
    let programs = ["busybox", "runc", "newuidmap", "setpriv", "unshare", "mount", "install"];
    programs.into_iter().find(|program| find(program).is_none()).map(|program| format!("there is no {program} here"))
}

pub fn find(program: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

impl Ground {
    /// Lays out the contexts of all wanted probes, and what builds them.
    pub fn make(&'static self, wanted: &str) -> Place {
        let room = tempfile::Builder::new().prefix("isolation").tempdir().unwrap();
        let above = room.path().to_owned();
        fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
        let task = above.join("task");
        for name in ["out", "home/.docker", "tmp", "contexts", "victim", "odd"] {
            fs::create_dir_all(task.join(name)).unwrap();
        }
        install(&find("busybox").unwrap(), &task.join("contexts/busybox"));
        let mut place = Place::new(self, room, task.clone());
        for probe in PROBES.iter().filter(|probe| probe.is_wanted(wanted)) {
            (probe.lay)(&mut place);
        }
        let skycap = Path::new(env!("CARGO_BIN_EXE_skycap"));
        let command = match &self.kind {
            Kind::Machine { user, subordinate, starter } => {
                install(skycap, &above.join("skycap"));
                place.write_script(&above.join("skycap"), &task);
                own(&task, *user);
                on_the_machine(&above, *user, subordinate, starter)
            }
            Kind::Container { configuration } => {
                place.write_script(Path::new("/bin/skycap"), Path::new(TASK));
                in_a_container(&above, configuration, self.rung)
            }
        };
        place.started_by(command);
        place
    }
}

/// As another user, in a mount namespace with `/etc/passwd` and the subordinate ids of our choice.
fn on_the_machine(above: &Path, user: u32, subordinate: &str, starter: &[&str]) -> Command {
    fs::write(above.join("ids"), subordinate).unwrap();
    fs::write(above.join("passwd"), "root:x:0:0::/root:/bin/sh\nanna:x:54321:54321::/:/bin/sh\n").unwrap();
    let script = "mount --bind ../passwd /etc/passwd && mount --bind ../ids /etc/subuid && mount --bind ../ids /etc/subgid && \
                  exec setpriv --reuid \"$0\" --regid \"$0\" --clear-groups \"$@\" busybox sh script";
    let mut unshare = command("unshare");
    unshare.args(["--mount", "sh", "-c", script]).arg(user.to_string()).args(starter).current_dir(above.join("task"));
    unshare
}

fn in_a_container(bundle: &Path, configuration: &str, rung: Rung) -> Command {
    let (root, scratch, task) = (bundle.join("rootfs"), bundle.join("scratch"), bundle.join("task"));
    for directory in ["bin", "proc", "dev", "sys", "etc", "scratch", &TASK[1..]] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::create_dir(&scratch).unwrap();
    fs::write(root.join("etc/resolv.conf"), "").unwrap();
    let path = format!("{}/testdata/concourse/{configuration}.json", env!("CARGO_MANIFEST_DIR"));
    let mut config: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    config["process"]["args"] = json!(["/bin/busybox", "sh", "script"]);
    config["process"]["cwd"] = json!(TASK);
    config["process"]["terminal"] = json!(false);
    config["process"]["env"] = json!(["PATH=/bin"]);
    let mounts = config["mounts"].as_array_mut().unwrap();
    let is_missing = |mount: &Value| {
        mount["type"] == "bind" && mount["source"].as_str().is_some_and(|source| !bundle.join(source).exists())
    };
    mounts.retain(|mount| mount["type"] != "cgroup" && mount["destination"] != "/scratch" && !is_missing(mount));
    for (source, target) in [(&scratch, "/scratch"), (&task, TASK)] {
        mounts.push(json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", "rw"]}));
    }
    // Control groups are no part of this, and differ between machines.
    let linux = config["linux"].as_object_mut().unwrap();
    linux.remove("resources");
    linux.remove("cgroupsPath");
    linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "cgroup");
    if rung == Rung::Masked {
        linux.insert("maskedPaths".to_owned(), json!(["/proc/keys", "/proc/interrupts"]));
    }
    install(Path::new(env!("CARGO_BIN_EXE_skycap")), &root.join("bin/skycap"));
    install(&find("busybox").unwrap(), &root.join("bin/busybox"));
    // The container's root is the host's highest id: it must own what it works on.
    if let Some(id) = config["linux"]["uidMappings"][0]["hostID"].as_u64() {
        for path in [&root, &scratch, &task] {
            own(path, u32::try_from(id).unwrap());
        }
    }
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let mut runc = command("runc");
    runc.arg("--root").arg(bundle.join("runc")).args(["run", "--bundle"]).arg(bundle);
    runc.arg(format!("skycap-isolation-{}-{rung:?}-{configuration}", std::process::id()).to_lowercase());
    runc
}

/// Not by this process: another thread's child would hold the open file for a moment, and it could not be run.
pub fn install(program: &Path, to: &Path) {
    succeed(command("install").args(["-m", "755"]).arg(program).arg(to));
}

fn own(directory: &Path, id: u32) {
    lchown(directory, Some(id), Some(id)).unwrap();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            own(&entry.path(), id);
        } else {
            lchown(entry.path(), Some(id), Some(id)).unwrap();
        }
    }
}

pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", PATH).stdin(Stdio::null());
    command
}

pub fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
