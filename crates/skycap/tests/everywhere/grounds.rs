//! The places to stand on: a rung each, as machines and Concourse's workers have them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::bases::{Bases, IMAGES};
use crate::case::Case;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where Concourse would put a task.
const TASK: &str = "/tmp/build/0a1b2c3d";

pub struct Ground {
    pub name: &'static str,
    /// The rung that must be taken, as it is printed.
    pub rung: &'static str,
    kind: Kind,
}

enum Kind {
    /// On the machine itself, as a user with these subordinate ids, started by a program.
    Machine { user: u32, subordinate: &'static str, starter: &'static [&'static str] },
    /// In a container that `runc` makes from one of Concourse's configurations.
    Container { configuration: &'static str },
}

/// The first is what others are compared with.
pub const GROUNDS: &[Ground] = &[
    machine("privileged", "privileged", 0, "", &[]),
    // A real root, without the one capability.
    machine("nested", "nested", 0, "", &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]),
    machine("subordinate-ids", "subordinate", 54321, "anna:600100000:65536\n", &[]),
    machine("single-id", "single", 65534, "", &[]),
    container("concourse-privileged", "privileged", "privileged"),
    container("concourse-fuse-only", "nested", "unprivileged-on-fuse-only-worker"),
    // Nothing is permitted there: what has no RUN is built as it is, all else by takeover.
    container("concourse-unprivileged", "takeover", "unprivileged"),
];

const fn machine(
    name: &'static str,
    rung: &'static str,
    user: u32,
    subordinate: &'static str,
    starter: &'static [&'static str],
) -> Ground {
    Ground { name, rung, kind: Kind::Machine { user, subordinate, starter } }
}

const fn container(name: &'static str, rung: &'static str, configuration: &'static str) -> Ground {
    Ground { name, rung, kind: Kind::Container { configuration } }
}

/// What stands in the way of making grounds here.
pub fn missing() -> Option<String> {
    let held = rustix::thread::capabilities(None).unwrap().effective;
    if !rustix::process::geteuid().is_root() || !held.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
        return Some("we are not root with CAP_SYS_ADMIN".to_owned());
    }
    let exists = |program: &str| PATH.split(':').any(|directory| Path::new(directory).join(program).exists());
    let programs = ["busybox", "runc", "newuidmap", "setpriv", "unshare", "mount", "install", "cp", "chmod"];
    programs.into_iter().find(|program| !exists(program)).map(|program| format!("there is no {program} here"))
}

/// A directory for all grounds, with the bases.
pub struct Site {
    directory: tempfile::TempDir,
    /// What Dockerfiles call a base, and its layout below `bases`.
    bases: Vec<(String, String)>,
}

/// Where one ground is, and what builds everything there.
pub struct Place {
    pub directory: PathBuf,
    pub command: Mutex<Command>,
}

impl Place {
    /// Removes all but the images that were built.
    pub fn clear(&self) {
        for name in ["cases", "home", "tmp", "store", "bases"] {
            fs::remove_dir_all(self.directory.join(name)).unwrap();
        }
    }
}

impl Site {
    /// With bases that `layouts` writes below the directory it is given: what Dockerfiles call them, and their layouts.
    pub fn make(layouts: impl FnOnce(&Path) -> Vec<(String, String)>) -> Self {
        let directory = tempfile::Builder::new().prefix("everywhere").tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path.join("bases")).unwrap();
        let bases = layouts(&path.join("bases"));
        succeed(command("chmod").args(["-R", "a+rX"]).arg(path.join("bases")));
        // Not by this process: another thread's child would hold the open file for a moment, and it could not be run.
        succeed(command("install").args(["-m", "755", env!("CARGO_BIN_EXE_skycap")]).arg(path.join("skycap")));
        Self { directory, bases }
    }

    pub fn place(&self, ground: &Ground, cases: &[Case]) -> Place {
        let above = self.directory.path().join(ground.name);
        let directory = above.join("task");
        for name in ["out", "home", "tmp", "store"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        for case in cases {
            let room = directory.join("cases").join(&case.name);
            fs::create_dir_all(&room).unwrap();
            case.lay_out(&room);
            if case.ssh {
                let mut make = self::command("ssh-keygen");
                succeed(make.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(room.join("key")));
            }
        }
        fs::write(directory.join("script"), self.script(cases)).unwrap();
        let command = match &ground.kind {
            Kind::Machine { user, subordinate, starter } => {
                own(&directory, *user);
                self.on_the_machine(&above, *user, subordinate, starter)
            }
            Kind::Container { configuration } => self.in_a_container(&above, configuration),
        };
        // The same files for all, which nobody may change.
        succeed(self::command("cp").arg("-al").arg(self.directory.path().join("bases")).arg(&directory));
        Place { directory, command: Mutex::new(command) }
    }

    /// What builds everything: the image of a case is `out/CASE`, with `out/CASE.log`, and `out/CASE.built` if it was built.
    fn script(&self, cases: &[Case]) -> String {
        let mut script = r#"umask 022
export HOME="$PWD/home" TMPDIR="$PWD/tmp" SKYCAP_STORE="$PWD/store" SOURCE_DATE_EPOCH=1700000000
build() {
    name=$1
    shift
    try "$@" && return
    # Never taken by itself here, and asked for only where nothing else is had.
    if test -n "$TAKEOVER" && grep -q fuse-only "out/$name.log"; then
        try --sandbox takeover "$@"
    fi
}
try() {
    "$SKYCAP" build --progress plain -o "oci:out/$name" "$@" "cases/$name/context" > "out/$name.log" 2>&1 && echo > "out/$name.built"
}
"#
        .to_owned();
        for case in cases {
            let room = format!("cases/{}", case.name);
            let mut words = vec!["build".to_owned(), case.name.clone(), "-f".to_owned()];
            words.push(case.dockerfile(&Path::new(&room).join("context")).display().to_string());
            for (name, layout) in &self.bases {
                words.extend(["--build-context".to_owned(), format!("{name}=oci-layout://bases/{layout}")]);
            }
            for arg in &case.args {
                words.extend(["--build-arg".to_owned(), arg.clone()]);
            }
            for (id, _) in &case.secrets {
                words.extend(["--secret".to_owned(), format!("id={id},src={room}/{id}")]);
            }
            if case.ssh {
                words.extend(["--ssh".to_owned(), format!("default={room}/key")]);
            }
            words.extend(case.target.iter().flat_map(|target| ["--target".to_owned(), target.clone()]));
            let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            let _ = writeln!(script, "{}", quoted.collect::<Vec<_>>().join(" "));
        }
        script + "exit 0\n"
    }

    /// As another user, in a mount namespace with `/etc/passwd` and the subordinate ids of our choice.
    fn on_the_machine(&self, above: &Path, user: u32, subordinate: &str, starter: &[&str]) -> Command {
        fs::write(above.join("ids"), subordinate).unwrap();
        fs::write(above.join("passwd"), "root:x:0:0::/root:/bin/sh\nanna:x:54321:54321::/:/bin/sh\n").unwrap();
        let script = "mount --bind ../passwd /etc/passwd && mount --bind ../ids /etc/subuid && mount --bind ../ids /etc/subgid && \
                      exec setpriv --reuid \"$0\" --regid \"$0\" --clear-groups \"$@\" busybox sh script";
        let mut unshare = command("unshare");
        unshare.args(["--mount", "sh", "-c", script]).arg(user.to_string()).args(starter);
        unshare.env("SKYCAP", self.directory.path().join("skycap")).current_dir(above.join("task"));
        unshare
    }

    fn in_a_container(&self, bundle: &Path, configuration: &str) -> Command {
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
        config["process"]["env"] = json!(["PATH=/bin", "SKYCAP=/bin/skycap", "TAKEOVER=yes"]);
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
        // The container's root is the host's highest id: it must own what it works on.
        if let Some(id) = config["linux"]["uidMappings"][0]["hostID"].as_u64() {
            for path in [&root, &scratch, &task] {
                own(path, u32::try_from(id).unwrap());
            }
        }
        fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        fs::hard_link(self.directory.path().join("skycap"), root.join("bin/skycap")).unwrap();
        succeed(command("install").args(["-m", "755", "/bin/busybox"]).arg(root.join("bin/busybox")));
        let mut runc = command("runc");
        runc.arg("--root").arg(bundle.join("runc")).args(["run", "--bundle"]).arg(bundle);
        runc.arg(format!("skycap-everywhere-{}-{configuration}", std::process::id()));
        runc
    }
}

/// Writes every base as a layout of its own below a directory: what Dockerfiles call it, and the layout's name.
pub fn layouts(bases: &Bases, below: &Path) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for (stage, names) in IMAGES.iter().chain([&("private", &["team/base:1"][..])]) {
        let mut build = bases.skycap();
        build.args(["build", "--target", stage, "-o"]).arg(format!("oci:{}", below.join(stage).display()));
        succeed(build.arg(bases.path("context")));
        for name in *names {
            let name = match name.split_once('/') {
                Some(("library", short)) => short.to_owned(),
                Some(("team", _)) => format!("private.example.org/{name}"),
                _ => format!("gcr.io/{name}"),
            };
            named.push((name, (*stage).to_owned()));
        }
    }
    named
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
    let output = skycap_testkit::process::run(command);
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
