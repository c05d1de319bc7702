//! A Dockerfile with RUN on every rung of the sandbox, and a clear error where there is none.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::container::{
    BY_TAKEOVER, Container, DEFAULT, DOCKERFILE, EPOCH, OTHER_USER, SECRET, digest, for_container, task,
};
use crate::workers::{TASK, install, own};
use crate::world::{Ran, SKYCAP, World, peer, root, run};

/// A copy of the binary that every user can reach.
fn binary(world: &World) -> PathBuf {
    let path = world.path("skycap");
    install(Path::new(SKYCAP), &path);
    path
}

fn build_as(world: &World, mut command: Command, directory: &Path) -> Ran {
    command.current_dir(directory).arg(binary(world)).arg("oci-build");
    run(command)
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
    assert!(digest(&directory).starts_with("sha256:"));
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
    if fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0) {
        own(&directory, 65534);
        own(&world.path("home"), 65534);
        world.dir("tmp");
        own(&world.path("tmp"), 65534);
        command = world.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    }
    let ran = build_as(&world, command, &directory).ok();
    assert!(ran.stderr.contains("single"), "the rung is named:\n{}", ran.stderr);
    assert!(digest(&directory).starts_with("sha256:"));
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
    let ids = fs::read_to_string("/etc/passwd").unwrap();
    let line = ids.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap().to_owned();
    let fields: Vec<&str> = line.split(':').collect();
    let (uid, gid): (u32, u32) = (fields[2].parse().unwrap(), fields[3].parse().unwrap());
    for name in ["task", "home", "tmp"] {
        world.dir(name);
        own(&world.path(name), uid);
    }
    let mut command = world.command("setpriv");
    command.args([&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups", "--"]);
    let ran = build_as(&world, command, &directory);
    let mut remove = world.command("userdel");
    remove.arg(&user);
    run(remove);
    let ran = ran.ok();
    assert!(ran.stderr.contains("subordinate"), "the rung is named:\n{}", ran.stderr);
    assert!(digest(&directory).starts_with("sha256:"));
}

#[test]
fn run_works_in_a_container_that_may_only_unshare() {
    let test = "run_works_in_a_container_that_may_only_unshare";
    let world = World::new();
    if !for_container(&world, test, &format!("{DOCKERFILE}{OTHER_USER}")) {
        return;
    }
    let ran = run(Container { configuration: "unprivileged-on-fuse-only-worker", ..DEFAULT }.command(&world)).ok();
    assert!(ran.stderr.contains("nested"), "the rung is named:\n{}", ran.stderr);
    assert!(digest(&world.path("task")).starts_with("sha256:"));
}

/// What the error of a build and `doctor` say of a takeover outside of a task's directory.
const NOT_BY_ITSELF: &str = "takeover: works, but has to be asked for: the oci-build task does not take it by itself, because the \
                             working directory is not /tmp/build/<8 hexadecimal digits>";

#[test]
fn run_is_refused_with_the_line_the_call_and_the_ways_out_where_nothing_works() {
    let test = "run_is_refused_with_the_line_the_call_and_the_ways_out_where_nothing_works";
    let world = World::new();
    if !for_container(&world, test, &format!("{DOCKERFILE}{OTHER_USER}")) {
        return;
    }
    let ran = run(DEFAULT.command(&world)).fails(1, "Dockerfile:3");
    for text in ["unshare", "EPERM", "privileged", "fuse-only", NOT_BY_ITSELF] {
        assert!(ran.stderr.contains(text), "{text} is missing:\n{}", ran.stderr);
    }
    assert!(!world.path("task/image/image.tar").exists());
}

#[test]
fn a_build_without_run_needs_no_rights_at_all() {
    let test = "a_build_without_run_needs_no_rights_at_all";
    let world = World::new();
    if !for_container(&world, test, "FROM scratch\nCOPY busybox /bin/sh\nWORKDIR /srv\nUSER 7\n") {
        return;
    }
    run(DEFAULT.command(&world)).ok();
    assert!(digest(&world.path("task")).starts_with("sha256:"));
}

/// Rung (d1): what was run elsewhere is only put together here.
#[test]
fn a_build_whose_runs_are_all_known_needs_no_rights() {
    let test = "a_build_whose_runs_are_all_known_needs_no_rights";
    let world = World::new();
    if !for_container(&world, test, DOCKERFILE) {
        return;
    }
    run(BY_TAKEOVER.command(&world)).ok();
    let first = digest(&world.path("task"));
    let ran = run(DEFAULT.command(&world)).ok();
    assert!(!ran.stderr.contains("sandbox:"), "nothing had to be run:\n{}", ran.stderr);
    assert_eq!(digest(&world.path("task")), first);
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
            own(&world.path(name), user);
        }
        let mut command = world.command("setpriv");
        command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
        command.env("SOURCE_DATE_EPOCH", "1000000000");
        build_as(&world, command, &directory).ok();
        digests.push(digest(&directory));
    }
    assert_eq!(digests[0], digests[1]);
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
            own(&world.path(name), user);
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
                fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).unwrap();
                own(&directory, uid);
            }
            let mut command = world.command("sh");
            command.args(["-c", "umask $0 && exec \"$@\"", umask]).args(starter).arg("env");
            command.args([SECRET, EPOCH, "OUTPUT_OCI=true"]);
            let ran = build_as(&world, command, &world.path("task")).ok();
            assert!(ran.stderr.contains(&format!("sandbox: {rung}")), "{rung}:\n{}", ran.stderr);
            digests.push((rung, umask, digest(&world.path("task"))));
        }
        let world = World::new();
        if !for_container(&world, test, OF_ANY_UMASK) {
            return;
        }
        let variables = [SECRET, EPOCH, "OUTPUT_OCI=true", "SKYCAP_SANDBOX=takeover"];
        let container =
            Container { variables: &variables, umask: u32::from_str_radix(umask, 8).unwrap(), ..BY_TAKEOVER };
        run(container.command(&world)).ok();
        digests.push(("takeover", umask, digest(&world.path("task"))));
    }
    assert!(digests.iter().all(|(_, _, digest)| *digest == digests[0].2), "{digests:#?}");
}

#[test]
fn doctor_judges_a_takeover_as_a_build_would() {
    let test = "doctor_judges_a_takeover_as_a_build_would";
    let world = World::new();
    if !for_container(&world, test, DOCKERFILE) {
        return;
    }
    let doctor = |directory, variables| {
        run(Container { directory, variables, arguments: &["/bin/skycap", "doctor"], ..BY_TAKEOVER }.command(&world))
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
