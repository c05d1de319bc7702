//! A Dockerfile with RUN on every rung of the sandbox, and a clear error where there is none.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Ran, SKYCAP, World, peer, root, run};

/// Two stages, files made by RUN with modes and a link, one of them copied on.
const DOCKERFILE: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base
RUN echo one > /one && chmod 640 /one && ln -s one /link && mkdir -p /tmp/d
RUN test "$(cat /one)" = one && test "$(id -u)" = 0 && grep -q localhost /etc/hosts && echo two > /two
"#;

/// What holds only where there are several ids.
const OTHER_USER: &str = "USER 1000:1000\nRUN ! echo three > /two\n";

/// A task's working directory with that Dockerfile as its input, and outputs.
fn task(world: &World, test: &str) -> Option<PathBuf> {
    let busybox = peer(test, "busybox")?;
    let directory = world.dir("task");
    std::fs::copy(busybox, directory.join("busybox")).unwrap();
    world.file("task/Dockerfile", format!("{DOCKERFILE}{OTHER_USER}"));
    for output in ["image", "cache"] {
        world.dir(&format!("task/{output}"));
    }
    Some(directory)
}

fn own(directory: &Path, uid: u32, gid: u32) {
    chown(directory, Some(uid), Some(gid)).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            own(&entry.path(), uid, gid);
        } else {
            chown(entry.path(), Some(uid), Some(gid)).unwrap();
        }
    }
}

/// A copy of the binary that every user can reach.
fn binary(world: &World) -> PathBuf {
    let path = world.path("skycap");
    // Not by this process: another test's child would hold the open file for a moment, and it could not be run.
    let mut copy = world.command("install");
    copy.args(["-m", "755", SKYCAP]).arg(&path);
    run(copy).ok();
    path
}

fn build_as(world: &World, mut command: Command, directory: &Path) -> Ran {
    command.current_dir(directory).arg(binary(world)).arg("oci-build");
    run(command)
}

fn layers(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("image/digest")).unwrap()
}

#[test]
fn run_works_as_root() {
    let test = "run_works_as_root";
    if !root(test) {
        return;
    }
    let world = World::new();
    let Some(directory) = task(&world, test) else { return };
    build_as(&world, world.command("env"), &directory).ok();
    assert!(layers(&directory).starts_with("sha256:"));
    assert!(directory.join("image/image.tar").exists());
}

#[test]
fn run_works_as_an_ordinary_user_without_subordinate_ids() {
    let test = "run_works_as_an_ordinary_user_without_subordinate_ids";
    let world = World::new();
    let Some(directory) = task(&world, test) else { return };
    // With one id every user is the same one.
    world.file("task/Dockerfile", DOCKERFILE);
    let mut command = world.command("env");
    if std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        own(&directory, 65534, 65534);
        own(&world.path("home"), 65534, 65534);
        world.dir("tmp");
        own(&world.path("tmp"), 65534, 65534);
        command = world.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    let ran = build_as(&world, command, &directory).ok();
    assert!(ran.stderr.contains("single"), "the rung is named:\n{}", ran.stderr);
    assert!(layers(&directory).starts_with("sha256:"));
}

#[test]
fn run_works_as_an_ordinary_user_with_subordinate_ids() {
    let test = "run_works_as_an_ordinary_user_with_subordinate_ids";
    if !root(test) || peer(test, "newuidmap").is_none() || peer(test, "useradd").is_none() {
        return;
    }
    let world = World::new();
    let Some(directory) = task(&world, test) else { return };
    let user = format!("skycap{}", std::process::id());
    let mut add = world.command("useradd");
    add.args(["--no-create-home", "--add-subids-for-system", "--system", &user]);
    run(add).ok();
    let ids = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = ids.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap().to_owned();
    let fields: Vec<&str> = line.split(':').collect();
    let (uid, gid) = (fields[2].parse().unwrap(), fields[3].parse().unwrap());
    for name in ["task", "home", "tmp"] {
        world.dir(name);
        own(&world.path(name), uid, gid);
    }
    let mut command = world.command("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"]);
    let ran = build_as(&world, command, &directory);
    let mut remove = world.command("userdel");
    remove.arg(&user);
    run(remove);
    let ran = ran.ok();
    assert!(ran.stderr.contains("subordinate"), "the rung is named:\n{}", ran.stderr);
    assert!(layers(&directory).starts_with("sha256:"));
}

/// Runs the task in a container as a Concourse worker would start it.
fn in_concourse(world: &World, configuration: &str) -> Ran {
    let bundle = world.dir("bundle");
    let rootfs = world.dir("bundle/rootfs");
    for directory in ["bin", "proc", "dev", "sys", "tmp", "etc", "scratch", "task"] {
        std::fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    let mut copy = world.command("install");
    copy.args(["-m", "755", SKYCAP]).arg(rootfs.join("bin/skycap"));
    run(copy).ok();
    let scratch = world.dir("bundle/scratch");
    std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o777)).unwrap();
    let path = format!("{}/testdata/concourse/{configuration}.json", env!("CARGO_MANIFEST_DIR"));
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    config["process"]["args"] = json!(["/bin/skycap", "oci-build"]);
    config["process"]["cwd"] = json!("/task");
    config["process"]["terminal"] = json!(false);
    config["linux"]["resources"] = json!({});
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "cgroup" && !is_missing_bind(mount, &bundle));
    let bind = |source: &Path, target: &str| json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", "rw"]});
    mounts.retain(|mount| mount["destination"] != "/scratch");
    mounts.push(bind(&scratch, "/scratch"));
    mounts.push(bind(&world.path("task"), "/task"));
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "cgroup");
    // The container's root is the host's highest id: it must own what it works on.
    if let Some(id) = config["linux"]["uidMappings"][0]["hostID"].as_u64() {
        let id = u32::try_from(id).unwrap();
        for directory in [&rootfs, &scratch, &world.path("task")] {
            own(directory, id, id);
        }
    }
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let mut runc = world.command("runc");
    runc.arg("--root").arg(world.dir("runc")).args(["run", "--bundle"]).arg(&bundle);
    runc.arg(format!("skycap-test-{}", world.path("").file_name().unwrap().to_string_lossy().trim_start_matches('.')));
    run(runc)
}

fn is_missing_bind(mount: &Value, bundle: &Path) -> bool {
    mount["type"] == "bind" && mount["source"].as_str().is_some_and(|source| !bundle.join(source).exists())
}

#[test]
fn run_works_in_a_container_that_may_only_unshare() {
    let test = "run_works_in_a_container_that_may_only_unshare";
    if !root(test) || peer(test, "runc").is_none() {
        return;
    }
    let world = World::new();
    if task(&world, test).is_none() {
        return;
    }
    let ran = in_concourse(&world, "unprivileged-on-fuse-only-worker").ok();
    assert!(ran.stderr.contains("nested"), "the rung is named:\n{}", ran.stderr);
    assert!(layers(&world.path("task")).starts_with("sha256:"));
}

#[test]
fn run_is_refused_with_the_line_the_call_and_the_ways_out_where_nothing_works() {
    let test = "run_is_refused_with_the_line_the_call_and_the_ways_out_where_nothing_works";
    if !root(test) || peer(test, "runc").is_none() {
        return;
    }
    let world = World::new();
    if task(&world, test).is_none() {
        return;
    }
    let ran = in_concourse(&world, "unprivileged").fails(1, "Dockerfile:3");
    for text in ["unshare", "EPERM", "privileged", "fuse-only"] {
        assert!(ran.stderr.contains(text), "{text} is missing:\n{}", ran.stderr);
    }
    assert!(!world.path("task/image/image.tar").exists());
}

#[test]
fn a_build_without_run_needs_no_rights_at_all() {
    let test = "a_build_without_run_needs_no_rights_at_all";
    if !root(test) || peer(test, "runc").is_none() {
        return;
    }
    let world = World::new();
    if task(&world, test).is_none() {
        return;
    }
    world.file("task/Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nWORKDIR /srv\nUSER 7\n");
    in_concourse(&world, "unprivileged").ok();
    assert!(layers(&world.path("task")).starts_with("sha256:"));
}
