//! RUN where nothing is permitted: the container's own root file system changes places with the image's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use skycap_testkit::process::patience;

use crate::container::{BY_TAKEOVER, Container, EPOCH, SECRET, digest, for_container, kill, own_files};
use crate::workers::TASK;
use crate::world::{World, run};

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
        if !for_container(&world, test, EVERYTHING) {
            return;
        }
        let variables = [sandbox, SECRET, EPOCH];
        let variables = if sandbox.is_empty() { &variables[1..] } else { &variables[..] };
        let container = Container { configuration, variables, ..BY_TAKEOVER };
        let ran = run(container.command(&world)).ok();
        assert!(ran.stderr.contains(rung), "{rung} is not named:\n{}", ran.stderr);
        digests.push(digest(&world.path("task")));
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
    for name in ["rootfs", "scratch", "task/cache"] {
        grep.arg(world.path(name));
    }
    grep.output().unwrap().stdout
}

#[test]
fn a_takeover_that_fails_leaves_the_container_as_it_was() {
    let test = "a_takeover_that_fails_leaves_the_container_as_it_was";
    let world = World::new();
    let script = "FROM scratch\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"exit 0\"]\nRUN echo x > /x; exit 7\n";
    if !for_container(&world, test, script) {
        return;
    }
    let command = BY_TAKEOVER.command(&world);
    let before = own_files(&world);
    let ran = run(command).fails(1, "Dockerfile:4");
    assert!(ran.stderr.contains("exited with code 7"), "{}", ran.stderr);
    assert_eq!(own_files(&world), before);
    assert!(!world.path("task/image/image.tar").exists());
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
    if !for_container(&world, test, script) {
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
    if !for_container(&world, test, EVERYTHING) {
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
        if !for_container(&world, test, "FROM scratch\nCOPY busybox /bin/sh\nRUN rm -rf /tmp/* /opt/*\n") {
            return;
        }
        let ran = run(on_overlay(&world, &Container { directory, ..BY_TAKEOVER })).fails(1, "Dockerfile:3");
        for text in ["redirect_dir", directory] {
            assert!(ran.stderr.contains(text), "{text} is missing:\n{}", ran.stderr);
        }
        assert!(world.path("task/Dockerfile").exists() && world.path("task/busybox").exists());
        for name in ["bin", "etc", "opt"] {
            let changed = world.path("over/upper").join(name);
            assert!(changed.symlink_metadata().is_err(), "{} was moved", changed.display());
        }
    }
}

/// One of the container's own files cannot be moved: those that were moved before it come back.
#[test]
fn a_takeover_that_cannot_begin_leaves_the_container_as_it_was() {
    let test = "a_takeover_that_cannot_begin_leaves_the_container_as_it_was";
    let world = World::new();
    if !for_container(&world, test, "FROM scratch\nCOPY busybox /bin/sh\nRUN exit 0\n") {
        return;
    }
    let command = BY_TAKEOVER.command(&world);
    for number in 0..20 {
        world.file(&format!("rootfs/own-{number}/file"), "own");
    }
    let stuck = world.file("rootfs/stuck", "");
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
        if !for_container(&world, test, &format!("{base}{line}\n")) {
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

/// Two would exchange the same root. The second is told so, and the first goes on.
#[test]
fn of_two_takeovers_of_one_container_the_second_is_refused() {
    let test = "of_two_takeovers_of_one_container_the_second_is_refused";
    let script = "skycap oci-build & first=$!
        until test -e /dev/shm/begun; do kill -0 $first || exit 9; busybox sleep 0.1; done
        /.skycap-*/own/bin/skycap oci-build; echo second $?
        : > /dev/shm/go; wait $first; echo first $?; skycap oci-build; echo third $?";
    let dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
        RUN : > /dev/shm/begun; until test -e /dev/shm/go; do sleep 0.1; done\n";
    for variables in [BY_TAKEOVER.variables, &[]] {
        let world = World::new();
        if !for_container(&world, test, dockerfile) {
            return;
        }
        let arguments = &["/bin/busybox", "sh", "-c", script];
        let ran = run(Container { variables, arguments, ..BY_TAKEOVER }.command(&world)).ok();
        assert_eq!(ran.stdout, "second 1\nfirst 0\nthird 0\n", "{}", ran.stderr);
        for text in ["another build has taken this container over (/.skycap-", "hint: one build at a time"] {
            assert!(ran.stderr.contains(text), "{text} is missing:\n{}", ran.stderr);
        }
    }
}

/// The container's root as an overlay that does not rename directories of its lower layer.
fn on_overlay(world: &World, container: &Container<'_>) -> Command {
    let started_by = container.command(world);
    let script = r#"cd "$0" && mkdir -p over/upper over/work && chown --reference=rootfs over/upper && mv rootfs lower && mkdir rootfs &&
        mount -t overlay overlay -o lowerdir=lower,upperdir=over/upper,workdir=over/work,redirect_dir=nofollow,metacopy=off rootfs && exec "$@""#;
    let mut command = world.command("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(world.path(""));
    command.arg("runc").args(started_by.get_args());
    command
}

/// K01 for a takeover: killed while a RUN runs, there is no output.
#[test]
fn a_takeover_that_is_killed_leaves_no_output() {
    let test = "a_takeover_that_is_killed_leaves_no_output";
    let world = World::new();
    let script = "FROM scratch\nCOPY busybox /bin/sleep\nRUN [\"/bin/sleep\", \"4242\"]\n";
    if !for_container(&world, test, script) {
        return;
    }
    let mut command = BY_TAKEOVER.command(&world);
    let mut child = command.spawn().unwrap();
    let until = Instant::now() + patience();
    while !world.path("rootfs/.skycap-1/own/bin").exists() {
        assert!(Instant::now() < until, "the RUN did not begin");
        assert!(child.try_wait().unwrap().is_none(), "the build ended");
        sleep(Duration::from_millis(20));
    }
    run(kill(&world, &command)).ok();
    assert!(!child.wait().unwrap().success());
    let left: Vec<_> = fs::read_dir(world.path("task/image")).unwrap().collect();
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
    if !for_container(&world, test, CACHED) {
        return;
    }
    // Steps are known by what went into them, so every round has its own.
    let start = |round: u32| {
        let round = format!("BUILD_ARG_ROUND={round}");
        let variables = &["SKYCAP_SANDBOX=takeover", EPOCH, &round];
        Container { variables, ..BY_TAKEOVER }.command(&world)
    };
    run(start(0)).ok();
    let begun = Instant::now();
    run(start(u32::MAX)).ok();
    let whole = begun.elapsed();
    assert_eq!(cache(&world), Some(2));
    let mut stopped = 0;
    for round in 1..=kills {
        let last = cache(&world);
        let mut command = start(round);
        let mut child = command.spawn().unwrap();
        sleep(whole * round / kills);
        let mut kill = kill(&world, &command);
        // It may not have begun, or have ended.
        kill.output().unwrap();
        if child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(20));
            kill.output().unwrap();
        }
        stopped += u32::from(!child.wait().unwrap().success());
        let now = cache(&world);
        assert!(now == last || now == last.map(|used| used + 1), "round {round}: {last:?} became {now:?}");
        let mut delete = world.command("runc");
        delete.arg("--root").arg(world.path("runc")).args(["delete", "--force"]).args(command.get_args().last());
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
    let number = |path: &Path| fs::read_to_string(path).unwrap().trim().parse::<u32>().unwrap();
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
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let has = |process: &PathBuf| fs::read_to_string(process.join("mountinfo")).is_ok_and(|text| text.contains(&name));
    processes.filter(has).map(|process| process.display().to_string()).collect()
}

/// Copies that were not finished.
fn run_find(world: &World) -> String {
    let mut find = world.command("find");
    find.arg(world.path("task/cache")).args(["-name", ".new-*"]);
    String::from_utf8(find.output().unwrap().stdout).unwrap()
}
