//! The machines and Concourse's workers that tests stand on: as another user, and in a container of `runc`.

use std::fs;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Where Concourse would put a task.
pub const TASK: &str = "/tmp/build/0a1b2c3d";

/// What a place is made of.
pub enum Kind {
    /// On the machine itself, as a user with these subordinate ids, started by a program.
    Machine { user: u32, subordinate: &'static str, starter: &'static [&'static str] },
    /// In a container that `runc` makes from one of Concourse's configurations.
    Container { configuration: &'static str },
}

/// What stands in the way of making places here, where these programs are needed too.
pub fn missing(programs: &[&str]) -> Option<String> {
    let held = rustix::thread::capabilities(None).unwrap().effective;
    if !rustix::process::geteuid().is_root() || !held.contains(rustix::thread::CapabilitySet::SYS_ADMIN) {
        return Some("we are not root with CAP_SYS_ADMIN".to_owned());
    }
    let always = ["busybox", "runc", "newuidmap", "setpriv", "unshare", "mount", "install"];
    let mut all = always.iter().chain(programs);
    all.find(|program| find(program).is_none()).map(|program| format!("there is no {program} here"))
}

pub fn find(program: &str) -> Option<PathBuf> {
    PATH.split(':').map(|directory| Path::new(directory).join(program)).find(|path| path.exists())
}

/// Runs `script` in the directory `task` as another user, in a mount namespace with `/etc/passwd` and the subordinate ids
/// of our choice.
pub fn on_the_machine(above: &Path, user: u32, subordinate: &str, starter: &[&str]) -> Command {
    fs::write(above.join("ids"), subordinate).unwrap();
    fs::write(above.join("passwd"), "root:x:0:0::/root:/bin/sh\nanna:x:54321:54321::/:/bin/sh\n").unwrap();
    let script = "mount --bind ../passwd /etc/passwd && mount --bind ../ids /etc/subuid && mount --bind ../ids /etc/subgid && \
                  exec setpriv --reuid \"$0\" --regid \"$0\" --clear-groups \"$@\" busybox sh script";
    let mut unshare = command("unshare");
    unshare.args(["--mount", "sh", "-c", script]).arg(user.to_string()).args(starter).current_dir(above.join("task"));
    unshare
}

/// Runs `script` in the directory `task` of the bundle as Concourse's task would be run, with skycap and a busybox in `/bin`.
/// What else differs from Concourse's configuration, the caller changes.
pub fn in_a_container(
    bundle: &Path,
    (configuration, name): (&str, &str),
    skycap: &Path,
    change: impl FnOnce(&mut Value),
) -> Command {
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
    change(&mut config);
    // The container's root is the host's highest id: it must own what it works on.
    if let Some(id) = config["linux"]["uidMappings"][0]["hostID"].as_u64() {
        for path in [&root, &scratch, &task] {
            own(path, u32::try_from(id).unwrap());
        }
    }
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    install(skycap, &root.join("bin/skycap"));
    install(&find("busybox").unwrap(), &root.join("bin/busybox"));
    let mut runc = command("runc");
    runc.arg("--root").arg(bundle.join("runc")).args(["run", "--bundle"]).arg(bundle);
    runc.arg(format!("skycap-{name}-{}-{configuration}", std::process::id()));
    runc
}

/// Not by this process: another thread's child would hold the open file for a moment, and it could not be run.
pub fn install(program: &Path, to: &Path) {
    succeed(command("install").args(["-m", "755"]).arg(program).arg(to));
}

/// Gives a tree to a user.
pub fn own(directory: &Path, id: u32) {
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
