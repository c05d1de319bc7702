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
    let container = Container { configuration, directory: "/task", variables: &[], umask: 0o022, command: "oci-build" };
    run(container.command(world))
}

/// A container of a Concourse worker, in which the task works in a directory of our choice.
struct Container<'a> {
    configuration: &'a str,
    directory: &'a str,
    variables: &'a [&'a str],
    umask: u32,
    command: &'a str,
}

impl Container<'_> {
    fn command(&self, world: &World) -> Command {
        let bundle = bundle(world, self);
        let mut runc = world.command("runc");
        runc.arg("--root").arg(world.dir("runc")).args(["run", "--bundle"]).arg(&bundle);
        runc.arg(container_name(world));
        runc
    }
}

fn container_name(world: &World) -> String {
    let name = world.path("");
    format!("skycap-test-{}", name.file_name().unwrap().to_string_lossy().trim_start_matches('.'))
}

fn bundle(world: &World, container: &Container<'_>) -> PathBuf {
    let configuration = container.configuration;
    let bundle = world.dir("bundle");
    let rootfs = world.dir("bundle/rootfs");
    for directory in ["bin", "proc", "dev", "sys", "etc", "scratch", "task", &TASK[1..], &container.directory[1..]] {
        std::fs::create_dir_all(rootfs.join(directory)).unwrap();
    }
    let mut copy = world.command("install");
    copy.args(["-m", "755", SKYCAP]).arg(rootfs.join("bin/skycap"));
    run(copy).ok();
    world.file("bundle/rootfs/etc/resolv.conf", "");
    let scratch = world.dir("bundle/scratch");
    std::fs::set_permissions(&scratch, PermissionsExt::from_mode(0o777)).unwrap();
    let path = format!("{}/testdata/concourse/{configuration}.json", env!("CARGO_MANIFEST_DIR"));
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    config["process"]["args"] = json!(["/bin/skycap", container.command]);
    config["process"]["user"]["umask"] = json!(container.umask);
    config["process"]["cwd"] = json!(container.directory);
    let variables = config["process"]["env"].as_array_mut().unwrap();
    variables.extend(container.variables.iter().map(|variable| json!(variable)));
    config["process"]["terminal"] = json!(false);
    config["linux"]["resources"] = json!({});
    config["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    let mounts = config["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["type"] != "cgroup" && !is_missing_bind(mount, &bundle));
    let bind = |source: &Path, target: &str| json!({"destination": target, "type": "bind", "source": source, "options": ["rbind", "rw"]});
    mounts.retain(|mount| mount["destination"] != "/scratch");
    mounts.push(bind(&scratch, "/scratch"));
    mounts.push(bind(&world.path("task"), container.directory));
    let resolver = world.file("bundle/resolv.conf", "nameserver 192.0.2.1\n");
    mounts.push(bind(&resolver, "/etc/resolv.conf"));
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
    bundle
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

/// What the error of a build and `doctor` say of a takeover outside of a task's directory.
const NOT_BY_ITSELF: &str = "takeover: works, but has to be asked for: the oci-build task does not take it by itself, because the \
                             working directory is not /tmp/build/<8 hexadecimal digits>";

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
    for text in ["unshare", "EPERM", "privileged", "fuse-only", NOT_BY_ITSELF] {
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

/// With one id nothing can be given away; it is in the layer all the same.
#[test]
fn owners_that_run_gives_are_in_the_layer_with_one_id() {
    let test = "owners_that_run_gives_are_in_the_layer_with_one_id";
    let dockerfile = "FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/chown\nCOPY --chown=3:4 busybox /known\n\
        RUN [\"/bin/chown\", \"33:44\", \"/bin/sh\"]\nRUN [\"/bin/chown\", \"55:66\", \"/known\"]\n";
    let mut digests = Vec::new();
    for user in [0, 65534] {
        let world = World::new();
        if !root(test) || task(&world, test).is_none() {
            return;
        }
        world.file("task/Dockerfile", dockerfile);
        let directory = world.path("task");
        for name in ["task", "home", "tmp"] {
            world.dir(name);
            own(&world.path(name), user, user);
        }
        let mut command = world.command("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
        command.env("SOURCE_DATE_EPOCH", "1000000000");
        build_as(&world, command, &directory).ok();
        digests.push(layers(&directory));
    }
    assert_eq!(digests[0], digests[1]);
}

/// Where Concourse would put a task.
const TASK: &str = "/tmp/build/0a1b2c3d";

const BY_TAKEOVER: Container<'static> = Container {
    configuration: "unprivileged",
    directory: TASK,
    variables: &["SKYCAP_SANDBOX=takeover"],
    umask: 0o022,
    command: "oci-build",
};

/// Whether a container can be made here, and the task in it.
fn for_takeover(world: &World, test: &str, dockerfile: &str) -> bool {
    if !root(test) || peer(test, "runc").is_none() || task(world, test).is_none() {
        return false;
    }
    world.file("task/Dockerfile", dockerfile);
    true
}

/// What the container's own root file system holds, by path and content.
fn own_files(world: &World) -> Vec<(String, u64)> {
    fn walk(directory: &Path, into: &mut Vec<(String, u64)>) {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let size = if metadata.is_dir() { 0 } else { metadata.len() };
            into.push((entry.path().display().to_string(), size));
            if metadata.is_dir() {
                walk(&entry.path(), into);
            }
        }
    }
    let mut files = Vec::new();
    walk(&world.path("bundle/rootfs"), &mut files);
    files.sort();
    files
}

/// Several stages on one base, copies between them, deletions, owners, links, a mount of each kind, users.
const EVERYTHING: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN mkdir -p /etc/keep /opt/gone /tmp/x && chmod 1777 /tmp && echo keep > /etc/keep/me && echo gone > /opt/gone/a \
    && echo top > /top && echo other > /other && ln /top /hard && chown 33:44 /etc/keep/me && mkfifo /tmp/x/fifo
WORKDIR /work
COPY Dockerfile .
FROM base AS other
RUN rm -rf /opt/gone /tmp/* && echo new > /opt/new && mkdir /etc/made && rm -r /etc/keep && mkdir /etc/keep
RUN --mount=type=bind,from=base,source=/etc/keep,target=/mnt --mount=type=cache,target=/cache,id=c,uid=7 \
    --mount=type=bind,source=Dockerfile,target=/of-context --mount=type=tmpfs,target=/memory \
    --mount=type=secret,id=token,mode=440,target=/etc/made/token --mount=type=secret,id=token,target=/other \
    cat /mnt/me > /opt/from-bind && test -s /of-context && echo cached > /cache/file && echo x > /memory/x \
    && test "$(wc -c < /etc/made/token)" = 13 && cmp /etc/made/token /other && stat -c '%a %u' /cache > /opt/cache
RUN --mount=type=cache,target=/cache,id=c,uid=7 cat /cache/file > /opt/from-cache
FROM base
COPY --from=other /opt /opt2
RUN <<EOF
set -e
test -e /opt2/from-bind -a -e /opt2/from-cache -a ! -e /opt2/gone -a ! -e /cache -a ! -e /of-context
test "$(cat /other)" = other
test ! -e /etc/own -a -c /dev/null -a -e /proc/self/status
rm /hard
mv /top /moved
echo done > /etc/done
echo left > /dev/shm/left
sleep 1000 &
EOF
RUN test ! -e /dev/shm/left -a ! -e /dev/pipes && ! pgrep sleep
USER 1000:1000
RUN test "$(id -u)" = 1000 && ! touch /no && ! ls /.skycap* && echo ok > /tmp/mine
"#;

const SECRET: &str = "BUILDKIT_SECRETTEXT_token=hunter2-token";
const EPOCH: &str = "SOURCE_DATE_EPOCH=1000000000";

/// Rung (d2) of the ladder, beside (a) and (b).
#[test]
fn a_takeover_builds_the_image_that_other_rungs_build() {
    let test = "a_takeover_builds_the_image_that_other_rungs_build";
    let mut digests = Vec::new();
    for (configuration, sandbox, rung) in [
        ("privileged", "", "sandbox: privileged"),
        ("unprivileged-on-fuse-only-worker", "", "sandbox: nested"),
        ("unprivileged", "SKYCAP_SANDBOX=takeover", "sandbox: takeover"),
        // Concourse's own container is certain to be thrown away.
        ("unprivileged", "", "sandbox: takeover"),
    ] {
        let world = World::new();
        if !for_takeover(&world, test, EVERYTHING) {
            return;
        }
        let variables = [sandbox, SECRET, EPOCH];
        let variables = if sandbox.is_empty() { &variables[1..] } else { &variables[..] };
        let container = Container { configuration, directory: TASK, variables, umask: 0o022, command: "oci-build" };
        let ran = run(container.command(&world)).ok();
        assert!(ran.stderr.contains(rung), "{rung} is not named:\n{}", ran.stderr);
        digests.push(layers(&world.path("task")));
        let left: Vec<_> = own_files(&world).into_iter().filter(|(path, _)| path.contains("skycap-")).collect();
        assert!(left.is_empty(), "{left:?}");
        let found = String::from_utf8_lossy(&run_grep(&world)).into_owned();
        assert_eq!(found, "", "the secret was left behind");
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

/// S01: every file that the build has left, for the secret's bytes.
fn run_grep(world: &World) -> Vec<u8> {
    let mut grep = world.command("grep");
    grep.args(["-rl", "--exclude=config.json", "--exclude=Dockerfile", "hunter2-"]);
    for name in ["bundle/rootfs", "bundle/scratch", "task/cache"] {
        grep.arg(world.path(name));
    }
    grep.output().unwrap().stdout
}

#[test]
fn a_takeover_that_fails_leaves_the_container_as_it_was() {
    let test = "a_takeover_that_fails_leaves_the_container_as_it_was";
    let world = World::new();
    let script = "FROM scratch\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"exit 0\"]\nRUN echo x > /x; exit 7\n";
    if !for_takeover(&world, test, script) {
        return;
    }
    let command = BY_TAKEOVER.command(&world);
    let before = own_files(&world);
    let ran = run(command).fails(1, "Dockerfile:4");
    assert!(ran.stderr.contains("exited with code 7"), "{}", ran.stderr);
    assert_eq!(own_files(&world), before);
    assert!(!world.path("task/image/image.tar").exists());
}

/// Rung (d1): what was run elsewhere is only put together here.
#[test]
fn a_build_whose_runs_are_all_known_needs_no_rights() {
    let test = "a_build_whose_runs_are_all_known_needs_no_rights";
    let world = World::new();
    if !for_takeover(&world, test, DOCKERFILE) {
        return;
    }
    run(BY_TAKEOVER.command(&world)).ok();
    let first = layers(&world.path("task"));
    std::fs::remove_dir_all(world.path("bundle/rootfs")).unwrap();
    let ran = in_concourse(&world, "unprivileged").ok();
    assert!(!ran.stderr.contains("sandbox:"), "nothing had to be run:\n{}", ran.stderr);
    assert_eq!(layers(&world.path("task")), first);
}

/// S05, S17, S18 as far as they can be had: the builder's memory, environment, descriptors and program are out of reach,
/// its inputs and outputs are not where RUN cleans up, and files of another stage that RUN reaches are not believed.
#[test]
fn a_takeover_keeps_the_builder_out_of_reach() {
    let test = "a_takeover_keeps_the_builder_out_of_reach";
    let world = World::new();
    let script = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base AS one
RUN echo one > /one
RUN true
FROM base AS two
RUN rm -rf /tmp/* /usr/* /var; for f in environ mem maps fd/0 root cwd; do ls /proc/1/$f/ 2>&1; head -c 1 /proc/1/$f; done > /seen 2>&1; \
    ! grep -qv -e 'ermission denied' -e 'ot a directory' /seen && rm /seen
RUN for exe in /.skycap*/own/bin/skycap; do ! echo x >> $exe; done && for one in /.skycap*/tree*/root/one; do echo two >> $one; done; \
    mv /.skycap-* /hidden; echo two > /two
FROM one
COPY --from=two /two /two
RUN test "$(cat /one)" = one && test "$(cat /two)" = two && test ! -e /hidden
"#;
    if !for_takeover(&world, test, script) {
        return;
    }
    run(BY_TAKEOVER.command(&world)).ok();
    assert!(world.path("task/image/image.tar").exists());
}

/// A container whose root is an overlay that cannot rename directories of its lower layers, as Docker's are.
#[test]
fn a_takeover_works_where_directories_cannot_be_renamed() {
    let test = "a_takeover_works_where_directories_cannot_be_renamed";
    let world = World::new();
    if !for_takeover(&world, test, EVERYTHING) {
        return;
    }
    let variables = &["SKYCAP_SANDBOX=takeover", SECRET, EPOCH];
    let ran = run(on_overlay(&world, &Container { variables, directory: "/task", ..BY_TAKEOVER })).ok();
    assert!(ran.stderr.contains("sandbox: takeover"), "{}", ran.stderr);
}

/// There, inputs and outputs in `/tmp` could not be put out of reach of `rm -rf /tmp/*`. Nothing is moved before that is known.
#[test]
fn a_takeover_that_could_not_protect_outputs_is_refused() {
    let test = "a_takeover_that_could_not_protect_outputs_is_refused";
    for directory in [TASK, "/opt/deep/vol"] {
        let world = World::new();
        if !for_takeover(&world, test, "FROM scratch\nCOPY busybox /bin/sh\nRUN rm -rf /tmp/* /opt/*\n") {
            return;
        }
        let ran = run(on_overlay(&world, &Container { directory, ..BY_TAKEOVER })).fails(1, "Dockerfile:3");
        for text in ["redirect_dir", directory] {
            assert!(ran.stderr.contains(text), "{text} is missing:\n{}", ran.stderr);
        }
        assert!(world.path("task/Dockerfile").exists() && world.path("task/busybox").exists());
        for name in ["bin", "etc", "opt"] {
            let changed = world.path("bundle/over/upper").join(name);
            assert!(changed.symlink_metadata().is_err(), "{} was moved", changed.display());
        }
    }
}

/// One of the container's own files cannot be moved: those that were moved before it come back.
#[test]
fn a_takeover_that_cannot_begin_leaves_the_container_as_it_was() {
    let test = "a_takeover_that_cannot_begin_leaves_the_container_as_it_was";
    let world = World::new();
    if !for_takeover(&world, test, "FROM scratch\nCOPY busybox /bin/sh\nRUN exit 0\n") {
        return;
    }
    let command = BY_TAKEOVER.command(&world);
    for number in 0..20 {
        world.file(&format!("bundle/rootfs/own-{number}/file"), "own");
    }
    let stuck = world.file("bundle/rootfs/stuck", "");
    let set = |flag: &str| {
        let mut chattr = world.command("chattr");
        chattr.arg(flag).arg(&stuck);
        chattr.output().is_ok_and(|ended| ended.status.success())
    };
    if !set("+i") {
        skycap_testkit::skipped!("{test}: no file can be made immutable here");
        return;
    }
    let before = own_files(&world);
    let ran = run(command);
    let after = own_files(&world);
    assert!(set("-i"));
    let ran = ran.fails(1, "Dockerfile:3");
    assert!(ran.stderr.contains("put the container's own files aside"), "{}", ran.stderr);
    assert_eq!(after, before);
}

/// Volumes directly in `/` stay visible. What is written there would be in no layer, and other RUNs would see it.
#[test]
fn a_takeover_loses_nothing_that_is_written_to_a_volume() {
    let test = "a_takeover_loses_nothing_that_is_written_to_a_volume";
    let base = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
    let (own, task) = (TASK, "/task");
    for (directory, line, named) in [
        (own, "RUN mkdir -p /scratch/w2; echo f >/scratch/w2/out; echo x >/y", "/scratch/w2"),
        (own, "RUN chmod 700 /scratch", "/scratch"),
        (own, "WORKDIR /scratch\nRUN touch here", "/scratch/here"),
        (own, "COPY Dockerfile /scratch/\nRUN true", "the image has files in /scratch"),
        (task, "RUN echo x >> /task/Dockerfile", "/task/Dockerfile"),
        (task, "RUN rm /task/busybox", "/task/busybox"),
        // Nothing is lost.
        (task, "RUN --mount=type=cache,target=/c echo c >/c/c; echo f >/scratch/f; rm /scratch/f; echo x >/y", ""),
        (own, "RUN echo f >/scratch/f; exit 7", "exited with code 7"),
    ] {
        let world = World::new();
        if !for_takeover(&world, test, &format!("{base}{line}\n")) {
            return;
        }
        let ran = run(Container { directory, ..BY_TAKEOVER }.command(&world));
        if named.is_empty() {
            ran.ok();
            continue;
        }
        let ran = ran.fails(1, named);
        assert!(named.contains('7') || ran.stderr.contains("privileged"), "{line}: no way out:\n{}", ran.stderr);
        assert!(!world.path("task/image/image.tar").exists(), "{line}");
    }
}

/// The container's root as an overlay that does not rename directories of its lower layer.
fn on_overlay(world: &World, container: &Container<'_>) -> Command {
    let runc = container.command(world);
    let script = r#"cd "$0" && mkdir -p over/upper over/work && chown --reference=rootfs over/upper && mv rootfs lower && mkdir rootfs &&
        mount -t overlay overlay -o lowerdir=lower,upperdir=over/upper,workdir=over/work,redirect_dir=nofollow,metacopy=off rootfs && exec "$@""#;
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(world.path("bundle"));
    command.arg("runc").args(runc.get_args());
    command
}

/// K01 for a takeover: killed while a RUN runs, there is no output.
#[test]
fn a_takeover_that_is_killed_leaves_no_output() {
    let test = "a_takeover_that_is_killed_leaves_no_output";
    let world = World::new();
    let script = "FROM scratch\nCOPY busybox /bin/sleep\nRUN [\"/bin/sleep\", \"4242\"]\n";
    if !for_takeover(&world, test, script) {
        return;
    }
    let mut child = BY_TAKEOVER.command(&world).spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !world.path("bundle/rootfs/.skycap-1/own/bin").exists() {
        assert!(std::time::Instant::now() < until, "the RUN did not begin");
        assert!(child.try_wait().unwrap().is_none(), "the build ended");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let mut kill = world.command("runc");
    kill.arg("--root").arg(world.path("runc")).args(["kill", &container_name(&world), "KILL"]);
    run(kill).ok();
    assert!(!child.wait().unwrap().success());
    let left: Vec<_> = std::fs::read_dir(world.path("task/image")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Makes a cache of as many files as say how often it was used, in two stages, and copies out of it.
const CACHED: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base AS filled
ARG ROUND
RUN --mount=type=cache,target=/var/cache/k,id=k cd /var/cache/k && last=$(cat 1 2> /dev/null || echo 0) \
    && for file in $(seq 60); do echo $((last + 1)) > $file; done && echo "$ROUND" > /round
FROM base
COPY --from=filled /round /round
RUN --mount=type=cache,target=/var/cache/k,id=k test "$(cat /var/cache/k/* | sort -u | wc -l)" = 1 && echo whole > /whole
"#;

/// K01, K02, K11 for a takeover with a cache: killed at any moment, the cache is as it was or as it became, the next container
/// uses it, and the machine has no mount, container or process more.
#[test]
fn a_takeover_that_is_killed_leaves_its_caches_whole_and_nothing_behind() {
    let test = "a_takeover_that_is_killed_leaves_its_caches_whole_and_nothing_behind";
    let kills: u32 = if skycap_testkit::wants_everything() { 60 } else { 5 };
    let world = World::new();
    if !for_takeover(&world, test, CACHED) {
        return;
    }
    // Steps are known by what went into them, so every round has its own.
    let start = |round: u32| {
        for name in ["bundle", "runc"] {
            let _ = std::fs::remove_dir_all(world.path(name));
        }
        let round = format!("BUILD_ARG_ROUND={round}");
        let variables = &["SKYCAP_SANDBOX=takeover", EPOCH, &round];
        Container { variables, ..BY_TAKEOVER }.command(&world)
    };
    run(start(0)).ok();
    let begun = std::time::Instant::now();
    run(start(u32::MAX)).ok();
    let whole = begun.elapsed();
    assert_eq!(cache(&world), Some(2));
    let mut stopped = 0;
    for round in 1..=kills {
        let last = cache(&world);
        let mut child = start(round).spawn().unwrap();
        std::thread::sleep(whole * round / kills);
        let mut kill = world.command("runc");
        kill.arg("--root").arg(world.path("runc")).args(["kill", &container_name(&world), "KILL"]);
        // It may not have begun, or have ended.
        kill.output().unwrap();
        if child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(20));
            kill.output().unwrap();
        }
        stopped += u32::from(!child.wait().unwrap().success());
        let now = cache(&world);
        assert!(now == last || now == last.map(|used| used + 1), "round {round}: {last:?} became {now:?}");
        let mut delete = world.command("runc");
        delete.arg("--root").arg(world.path("runc")).args(["delete", "--force", &container_name(&world)]);
        delete.output().unwrap();
        let left = processes_with_mounts(&world);
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
    let last = cache(&world);
    run(start(kills + 1)).ok();
    assert_eq!(cache(&world), last.map(|used| used + 1));
    let left = run_find(&world);
    assert_eq!(left, "", "something half-made was left");
    eprintln!("{test}: {kills} kills, {stopped} in time, the cache was used {} times", last.unwrap_or_default());
}

/// How often the cache was used, as every one of its files says.
fn cache(world: &World) -> Option<u32> {
    let mut found = world.command("find");
    found.arg(world.path("task/cache")).args(["-path", "*/mounts-*", "-name", "1", "-not", "-path", "*/.new-*"]);
    let paths = String::from_utf8(found.output().unwrap().stdout).unwrap();
    let first = Path::new(paths.lines().next()?);
    let number = |path: &Path| std::fs::read_to_string(path).unwrap().trim().parse::<u32>().unwrap();
    let used = number(first);
    for file in 1..=60 {
        assert_eq!(number(&first.with_file_name(file.to_string())), used, "{file} of {}", first.display());
    }
    Some(used)
}

/// Processes, of whatever container, and this one, that see a mount of the world's directories.
fn processes_with_mounts(world: &World) -> Vec<String> {
    let name = world.path("");
    let name = name.file_name().unwrap().to_string_lossy().into_owned();
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has =
        |process: &PathBuf| std::fs::read_to_string(process.join("mountinfo")).is_ok_and(|text| text.contains(&name));
    processes.filter(has).map(|process| process.display().to_string()).collect()
}

/// Copies that were not finished.
fn run_find(world: &World) -> String {
    let mut find = world.command("find");
    find.arg(world.path("task/cache")).args(["-name", ".new-*"]);
    String::from_utf8(find.output().unwrap().stdout).unwrap()
}

/// Whoever is not root goes through `/`, where only root writes, and looks into what is mounted.
const OF_ANY_UMASK: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
RUN test "$(stat -c %a /)" = 755 && stat -c '%a %n' / /bin > /modes && mkdir /made && umask >> /modes
FROM base
WORKDIR /srv/work
USER 1000:1000
RUN --mount=type=bind,from=base,target=/mnt --mount=type=bind,from=base,rw,target=/rw --mount=type=bind,source=Dockerfile,target=/of-context \
    --mount=type=cache,target=/cache,id=c --mount=type=secret,id=token,mode=444,target=/run/token --mount=type=tmpfs,target=/memory \
    test "$(stat -c %a / /mnt /rw /cache | tr '\n' ' ')" = "755 755 755 755 " && test -s /run/token \
    && test -r /of-context && ls / /mnt /rw > /dev/null && echo x > /memory/x && { test "$(id -u)" = 0 || ! touch /no; }
RUN test "$(stat -c %a / /made | tr '\n' ' ')" = "755 755 "
"#;

/// S34: how files look inside does not depend on the umask of whoever builds, on any rung.
#[test]
fn the_umask_of_whoever_builds_changes_nothing() {
    let test = "the_umask_of_whoever_builds_changes_nothing";
    let mut digests = Vec::new();
    for umask in ["000", "022", "077"] {
        for (rung, uid, starter) in [
            ("privileged", 0, &[] as &[&str]),
            ("nested", 0, &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]),
            ("single", 65534, &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]),
        ] {
            let world = World::new();
            if !root(test) || task(&world, test).is_none() {
                return;
            }
            world.file("task/Dockerfile", OF_ANY_UMASK);
            for name in ["task", "home", "tmp"] {
                let directory = world.dir(name);
                std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
                own(&directory, uid, uid);
            }
            let mut command = world.command("sh");
            command.args(["-c", "umask $0 && exec \"$@\"", umask]).args(starter).arg("env");
            command.args([SECRET, EPOCH, "OUTPUT_OCI=true"]);
            let ran = build_as(&world, command, &world.path("task")).ok();
            assert!(ran.stderr.contains(&format!("sandbox: {rung}")), "{rung}:\n{}", ran.stderr);
            digests.push((rung, umask, layers(&world.path("task"))));
        }
        let world = World::new();
        if !for_takeover(&world, test, OF_ANY_UMASK) {
            return;
        }
        let variables = [SECRET, EPOCH, "OUTPUT_OCI=true", "SKYCAP_SANDBOX=takeover"];
        let container =
            Container { variables: &variables, umask: u32::from_str_radix(umask, 8).unwrap(), ..BY_TAKEOVER };
        run(container.command(&world)).ok();
        digests.push(("takeover", umask, layers(&world.path("task"))));
    }
    assert!(digests.iter().all(|(_, _, digest)| *digest == digests[0].2), "{digests:#?}");
}

#[test]
fn doctor_judges_a_takeover_as_a_build_would() {
    let test = "doctor_judges_a_takeover_as_a_build_would";
    let world = World::new();
    if !for_takeover(&world, test, DOCKERFILE) {
        return;
    }
    let doctor = |directory, variables| {
        for name in ["bundle", "runc"] {
            let _ = std::fs::remove_dir_all(world.path(name));
        }
        run(Container { directory, variables, command: "doctor", ..BY_TAKEOVER }.command(&world))
    };
    let says = |ran: &Ran, text: &str| assert!(ran.stdout.contains(text), "{text}:\n{}\n{}", ran.stdout, ran.stderr);
    says(&doctor(TASK, &[]).ok(), "takeover: works; the oci-build task takes it by itself");
    let elsewhere = doctor("/task", &[]).fails(1, "only by a takeover, which has to be asked for");
    says(&elsewhere, NOT_BY_ITSELF);
    let asked_for = doctor("/task", &["SKYCAP_SANDBOX=takeover"]).ok();
    says(&asked_for, "takeover is asked for");
    says(&asked_for, "takeover: works; this one is used");
    doctor("/task", &["SKYCAP_SANDBOX=nested"]).fails(1, "does not work here: nested user namespace");
    doctor("/task", &["SKYCAP_SANDBOX=nonsense"]).fails(2, "nonsense");
}

#[test]
fn doctor_refuses_a_rung_that_there_is_not_and_may_be_cut_short() {
    let world = World::new();
    let mut doctor = world.skycap(["doctor"]);
    doctor.env("SKYCAP_SANDBOX", "nonsense");
    run(doctor).fails(2, "nonsense");
    let mut short = world.command("sh");
    short.args(["-c", "{ \"$0\" doctor; echo ended with $? >&2; } | true", SKYCAP]);
    let ran = run(short).ok();
    assert!(ran.stderr.contains("ended with") && !ran.stderr.contains("ipe"), "{}", ran.stderr);
}

/// What docs/sandbox.md says of owners with one id: who has a new path belongs to root, who is written anew keeps its owner.
#[test]
fn with_one_id_owners_are_those_of_paths() {
    let test = "with_one_id_owners_are_those_of_paths";
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
        COPY --chown=33:44 Dockerfile /dir/\nCOPY --chown=33:44 Dockerfile /same\n\
        RUN cp -a /dir /copy && mv /dir /moved && sed -i s/FROM/from/ /same\n";
    for (user, new) in [(0, "33/44"), (65534, "0/0")] {
        let world = World::new();
        if !root(test) || task(&world, test).is_none() {
            return;
        }
        world.file("task/Dockerfile", dockerfile);
        for name in ["task", "home", "tmp"] {
            world.dir(name);
            own(&world.path(name), user, user);
        }
        let mut command = world.command("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
        command.current_dir(world.path("task")).arg(binary(&world)).args(["build", "-o", "type=tar,dest=out.tar", "."]);
        run(command).ok();
        let mut list = world.command("tar");
        list.args(["-tvf", "task/out.tar", "--numeric-owner"]);
        let listed = run(list).ok().stdout;
        for (path, owner) in [("copy/Dockerfile", new), ("moved/Dockerfile", new), ("same", "33/44")] {
            let line = listed.lines().find(|line| line.ends_with(&format!(" {path}"))).unwrap_or_default();
            assert!(line.contains(&format!(" {owner} ")), "{user}: {path}: {line}\n{listed}");
        }
    }
}
