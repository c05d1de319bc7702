//! What the kernel is asked to do by a whole build, as `strace` sees it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::stood::BASE;
use crate::workers::{command, find, install, missing};

/// Programs that builders start elsewhere, or that libraries load. They leave a mark if they are ever run.
const PLANTED: [&str; 12] =
    ["tar", "gzip", "xz", "zstd", "git", "newuidmap", "newgidmap", "mount", "modprobe", "getent", "ldconfig", "skycap"];

/// One line of a trace: the process, and the call with its arguments.
fn calls<'t>(trace: &'t str, name: &str) -> Vec<&'t str> {
    let begins = format!("{name}(");
    trace.lines().filter(|line| line.contains(&begins) && !line.contains(" = -1 ")).collect()
}

/// S15: of the image's programs only the command of RUN is run. S04: no file gets a secret's bytes.
#[test]
fn s15_nothing_of_the_image_is_executed_but_run() {
    const TEST: &str = "s15_nothing_of_the_image_is_executed_but_run";
    if let Some(why) = missing(&[]) {
        skycap_testkit::skipped!("{TEST}: {why}");
        return;
    }
    if find("strace").is_none() {
        skycap_testkit::skipped!("{TEST}: there is no strace here");
        return;
    }
    if !command("strace").args(["-o", "/dev/null", "true"]).status().is_ok_and(|status| status.success()) {
        skycap_testkit::skipped!("{TEST}: strace may not trace here");
        return;
    }
    for starter in [
        &[][..],
        &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    ] {
        traced(starter);
    }
}

fn traced(starter: &[&str]) {
    let room = tempfile::tempdir().unwrap();
    let context = room.path().join("context");
    fs::create_dir(&context).unwrap();
    let mut dockerfile = format!("{BASE}FROM base\nCOPY planted /planted\nRUN mkdir -p /usr/bin /sbin /etc");
    fs::write(context.join("planted"), "#!/bin/sh\ntouch /planted-was-run\n").unwrap();
    for name in PLANTED {
        let _ = write!(
            dockerfile,
            " && cp /planted /usr/bin/{name} && cp /planted /sbin/{name} && chmod 755 /usr/bin/{name} /sbin/{name}"
        );
    }
    dockerfile += "; echo /evil.so > /etc/ld.so.preload; for p in tar gzip mount; do ln -sf ../usr/bin/$p /bin/$p; done; true\n\
        COPY --chown=app planted /x/\nWORKDIR /made\nUSER app\n\
        RUN --mount=type=secret,id=s,mode=444 [\"/bin/cat\", \"/etc/passwd\", \"/run/secrets/s\"]\n\
        FROM scratch\nCOPY --from=1 / /\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    install(&find("busybox").unwrap(), &context.join("busybox"));
    fs::write(room.path().join("secret"), "hunter2-traced").unwrap();
    install(Path::new(env!("CARGO_BIN_EXE_skycap")), &room.path().join("skycap"));
    if starter.iter().any(|word| word.contains("65534")) {
        crate::workers::succeed(command("chown").args(["-R", "65534:65534"]).arg(room.path()));
    }
    let mut strace = command("strace");
    strace.current_dir(room.path()).env("HOME", room.path()).env("TMPDIR", room.path());
    strace.args(["-f", "-y", "-s", "4096", "-e", "trace=execve,execveat,write,pwrite64,writev,sendto,sendmsg", "-o"]);
    strace.arg(room.path().join("trace")).args(starter).arg(room.path().join("skycap"));
    strace.args([
        "build",
        "--store",
        "store",
        "--secret",
        "id=s,src=secret",
        "-o",
        "type=tar,dest=image.tar",
        "context",
    ]);
    let output = strace.output().unwrap();
    assert!(output.status.success(), "{starter:?}: {}", String::from_utf8_lossy(&output.stderr));
    let trace = fs::read(room.path().join("trace")).unwrap();
    let trace = String::from_utf8_lossy(&trace);
    let ours = |line: &str| {
        ["\"/proc/self/exe\", [\"skycap-sandbox-child\"]", "skycap\", [", "bin/setpriv\""]
            .iter()
            .any(|known| line.contains(known))
    };
    let run = calls(&trace, "execve");
    // A second execve in a process is that of the first one's children: the shell of RUN runs what its line says.
    let foreign: Vec<&str> = run.iter().copied().filter(|line| !ours(line)).collect();
    let of_run = |line: &str| {
        [
            "\"/bin/busybox\"",
            "\"/bin/sh\"",
            "\"/bin/cat\"",
            "\"/bin/cp\"",
            "\"/bin/mkdir\"",
            "\"/bin/chmod\"",
            "\"/bin/ln\"",
            "\"/bin/true\"",
        ]
        .iter()
        .any(|known| line.contains(&format!("execve({known}")))
    };
    let others: Vec<&&str> = foreign.iter().filter(|line| !of_run(line)).collect();
    assert!(others.is_empty(), "{starter:?}: {others:?}");
    assert!(
        foreign.iter().any(|line| line.contains("[\"/bin/cat\", \"/etc/passwd\", \"/run/secrets/s\"]")),
        "{foreign:?}"
    );
    assert!(!room.path().join("planted-was-run").exists());
    // S04: sockets, pipes and memory may get it; the command's own output is a pipe, too.
    for name in ["write", "pwrite64", "writev", "sendto", "sendmsg"] {
        for line in calls(&trace, name).into_iter().filter(|line| line.contains("hunter2-traced")) {
            let (_, descriptor) = line.split_once('<').unwrap();
            let is_memory =
                ["socket:", "pipe:", "UNIX", "/memfd:", "anon_inode:"].iter().any(|kind| descriptor.starts_with(kind));
            // What stands on the stage is a tmpfs of the sandbox's own.
            assert!(is_memory || !descriptor.starts_with(room.path().to_str().unwrap()), "{starter:?}: {line}");
        }
    }
    assert!(trace.contains("hunter2-traced"), "nothing was seen");
}
