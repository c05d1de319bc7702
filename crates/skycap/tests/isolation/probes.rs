//! The probes: what each builds, and what must have become of it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use skycap_image::{Digest, tar};

use crate::grounds::Rung;
use crate::secrets;
use crate::stood::Place;

pub struct Probe {
    pub name: &'static str,
    /// Adds builds.
    pub lay: fn(&mut Place),
    /// Looks at what became of them.
    pub check: fn(&Place),
}

impl Probe {
    pub fn is_wanted(&self, wanted: &str) -> bool {
        self.name.contains(wanted)
    }
}

const fn probe(name: &'static str, lay: fn(&mut Place), check: fn(&Place)) -> Probe {
    Probe { name, lay, check }
}

pub const PROBES: &[Probe] = &[
    probe("secrets", secrets::lay, |place| {
        secrets::s01_a_secret_is_nowhere_afterwards(place);
        secrets::s03_no_step_sees_the_secret_of_another(place);
        secrets::s08_a_secret_that_is_printed_is_masked(place);
    }),
    probe("contract", lay_contract, |place| {
        s02_what_run_sees_of_the_host_s_environment(place);
        s05_what_run_reaches_of_the_builder(place);
        s16_what_run_may_do(place);
        s17_programs_of_the_builder_cannot_be_written(place);
        s29_files_of_the_network_are_not_in_the_layer(place);
        s33_setuid_files_and_devices_are_kept_or_refused(place);
        s34_how_run_begins(place);
        s35_children_that_are_left_are_killed(place);
    }),
    probe("directories", lay_directories, s10_working_directories_stay_inside),
    probe("users", lay_users, |place| {
        s12_tables_of_users_are_read_inside_and_bounded(place);
        s13_users_that_cannot_be_are_errors(place);
    }),
    probe("configurations", lay_configurations, s14_a_configuration_sets_nothing_of_the_host),
    probe("limits", lay_limits, s19_a_step_that_takes_all_it_can_fails_alone),
    probe("mounts", lay_mounts, |place| {
        s20_sources_and_ids_of_mounts_stay_where_they_belong(place);
        s21_stubs_are_removed_only_where_they_were_made(place);
    }),
    probe("rights", lay_rights, s22_rights_are_refused_before_anything_runs),
    probe("links", lay_links, s27_links_that_run_has_made_are_followed_inside_only),
    probe("network", lay_network, s28_no_network_is_none),
    probe("twice", lay_twice, |place| {
        s31_the_same_build_gives_the_same_image(place);
        s32_files_of_every_kind_survive(place);
    }),
];

const CONTRACT: &str = r#"FROM base
COPY hosts /etc/hosts
RUN env | sort > /env
RUN ls -l /proc/self/fd | tail -n +2 | wc -l > /descriptors; \
    for p in /proc/[0-9]*; do case "$(tr '\0' ' ' < $p/cmdline)" in *timeout*|*busybox*|sh*) ;; *skycap*) \
        echo > /builders; for f in environ mem maps auxv fd/0; do head -c 1 $p/$f > /dev/null 2>&1 && echo $p/$f; done; for f in root/ cwd/; do ls $p/$f > /dev/null 2>&1 && echo $p/$f; done; readlink $p/fd/*;; \
    esac; done > /first; \
    cat /proc/keys 2> /dev/null | grep -v _ses | grep -c skycap > /keys; \
    find / -path /proc -prune -o -path /sys -prune -o -path /builder -prune -o -type f -print | xargs grep -l hunt[e]r2 2> /dev/null | grep -v /.skycap- > /builder; true
RUN grep -E '^(Cap(Inh|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | tr -d ' \t' > /status; \
    try() { "$@" > /dev/null 2>&1 && echo "$*"; }; \
    { try mount -t tmpfs none /tmp; try mount --bind /root /tmp; try umount /proc; try unshare -m true; try unshare -U true; try hostname other; \
      try sysctl -w kernel.core_pattern=x; try swapon /root; try insmod /root; try mknod /disk b 8 0 && head -c 1 /disk; try dmesg -c; \
      try chroot /proc/1/root true; try nsenter -t 1 -m true; try sh -c 'echo s > /proc/sysrq-trigger'; } > /could; rm -f /disk; true
RUN for p in /proc/[0-9]*; do readlink $p/exe > /dev/null 2>&1; echo x 2> /dev/null >> $p/exe && echo $p; done 2> /dev/null > /written; \
    for f in /proc/[0-9]*/mem /proc/[0-9]*/environ; do case $f in /proc/$$/*) ;; *) head -c 1 $f > /dev/null 2>&1 && echo $f;; esac; done > /opened; true
RUN cat /etc/hosts > /hosts; echo x >> /etc/hosts; echo y > /etc/resolv.conf; echo z > /etc/hostname; true
RUN cp /bin/busybox /tool && chmod 4755 /tool && mknod /device c 1 3 2> /dev/null && echo made > /mknod || echo refused > /mknod
RUN umask > /begins; cat | wc -c >> /begins; tty >> /begins; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | tr -d ' \t' >> /begins
RUN sleep 4567 & sh -c 'trap "" TERM HUP; setsid sleep 4568' & exit 0
RUN pgrep -f 'sleep 456[78]' > /left; true
"#;

fn lay_contract(place: &mut Place) {
    place.add("contract", CONTRACT, "", "");
    place.file("contract", "hosts", "10.9.8.7 of-the-image\n");
    let config = place.task.join("home/.docker/config.json");
    fs::write(config, r#"{"auths":{"registry.example.org":{"auth":"aHVudGVyMi1hdXRo","password":"hunter2-auth"}}}"#)
        .unwrap();
}

fn s02_what_run_sees_of_the_host_s_environment(place: &Place) {
    let env = place.built("contract").text("env");
    let own: Vec<&str> = env.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("SHLVL=")).collect();
    assert_eq!(own, ["HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]);
}

/// Descriptors, key rings, the first process, and every file that has a credential in it. In a takeover the builder's own files lie
/// in one directory that root can find; what it holds in memory it cannot.
fn s05_what_run_reaches_of_the_builder(place: &Place) {
    let files = place.built("contract");
    // Three, and the directory itself.
    assert_eq!(files.text("descriptors"), "4\n");
    assert!(files.has("builders"), "no process of the builder was found");
    assert_eq!(files.text("first"), "", "of the builder's processes");
    assert_eq!(files.text("keys"), "0\n");
    assert_eq!(files.text("builder"), "");
}

fn s16_what_run_may_do(place: &Place) {
    let files = place.built("contract");
    let seccomp = "Seccomp:2\n";
    let capabilities =
        "CapInh:0000000000000000\nCapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nCapAmb:0000000000000000\n";
    assert_eq!(files.text("status"), format!("{capabilities}NoNewPrivs:0\n{seccomp}"));
    let could = files.text("could");
    let harmless = if place.is(Rung::Takeover) { "chroot" } else { "chroot /proc/1/root true" };
    let bad: Vec<&str> =
        could.lines().filter(|line| !line.starts_with(harmless) && !line.starts_with("mknod")).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

fn s17_programs_of_the_builder_cannot_be_written(place: &Place) {
    let files = place.built("contract");
    assert_eq!(files.text("written"), "");
    let opened = files.text("opened");
    // Its own children come and go.
    assert!(opened.lines().count() <= 2, "{opened}");
}

fn s29_files_of_the_network_are_not_in_the_layer(place: &Place) {
    let files = place.built("contract");
    assert!(files.text("hosts").contains("localhost") && !files.text("hosts").contains("of-the-image"));
    assert_eq!(files.text("etc/hosts"), "10.9.8.7 of-the-image\n");
    assert!(!files.has("etc/resolv.conf") && !files.has("etc/hostname"));
}

fn s33_setuid_files_and_devices_are_kept_or_refused(place: &Place) {
    let files = place.built("contract");
    assert_eq!(files.header("tool").mode & 0o7777, 0o4755);
    if place.is(Rung::Single) {
        assert!(!files.has("device"));
        return assert!(place.log("contract").contains("no device can be made; these are missing: /device"));
    }
    match files.text("mknod").as_str() {
        "made\n" => assert_eq!(files.header("device").kind, tar::Kind::CharacterDevice),
        _ => assert!(!files.has("device")),
    }
    assert_eq!(files.text("mknod") == "made\n", place.is(Rung::Privileged));
}

fn s34_how_run_begins(place: &Place) {
    let none = "0000000000000000";
    let begins = place.built("contract").text("begins");
    assert_eq!(begins, format!("0022\n0\nnot a tty\nSigBlk:{none}\nSigIgn:{none}\nSigCgt:{none}\n"));
}

fn s35_children_that_are_left_are_killed(place: &Place) {
    assert_eq!(place.built("contract").text("left"), "");
}

const DIRECTORIES: [&str; 8] = [
    "/proc/self/fd/3",
    "/proc/self/fd/5",
    "/proc/self/fd/8",
    "/proc/self/fd/11",
    "/proc/self/cwd/../../..",
    "/proc/1/root",
    "/proc/1/cwd",
    "/../../../..",
];

fn lay_directories(place: &mut Place) {
    let mut dockerfile = String::from("FROM base\n");
    for directory in &DIRECTORIES[..4] {
        // Each in a build of its own: most are errors.
        let name = format!("directory-{}", directory.rsplit('/').next().unwrap());
        let run = format!(
            "FROM base\nWORKDIR {directory}\nRUN ls -a . ..; pwd; ls /proc/self/cwd/; cat victim/canary ../victim/canary\n"
        );
        place.add(&name, &run, "exec 3<. 4<. 5<. 6<. 7<. 8<. 9<.", "");
    }
    for (number, directory) in DIRECTORIES[4..].iter().enumerate() {
        let _ = writeln!(
            dockerfile,
            "WORKDIR {directory}\nRUN ls -a . ..; cat ./*/canary victim/canary; echo {number}\nWORKDIR /"
        );
    }
    place.add("directories", &dockerfile, "", "");
    fs::write(place.task.join("victim/canary"), "canary-of-the-host").unwrap();
}

/// CVE-2024-21626
fn s10_working_directories_stay_inside(place: &Place) {
    for name in ["directory-3", "directory-5", "directory-8", "directory-11", "directories"] {
        let log = place.log(name);
        // A RUN of a takeover could go itself where another process of the container works.
        let others = place.is(Rung::Takeover) && name == "directories";
        assert!(!log.contains("canary-of-the-host") || others, "{name}: {log}");
    }
}

const USERS: [&str; 5] = ["4294967295", "-1", "4294967296", "0x0", "root:4294967295"];

const TABLES: [(&str, &str); 5] = [
    ("link", "ln -sf VICTIM/passwd /etc/passwd"),
    ("climbing", "ln -sf ../../../../../../../..VICTIM/passwd /etc/passwd"),
    ("fifo", "rm /etc/passwd && mkfifo /etc/passwd"),
    ("large", "rm /etc/passwd && truncate -s 20M /etc/passwd && echo outsider:x:0:0::/:/bin/sh >> /etc/passwd"),
    ("line", "head -c 3000000 /dev/zero | tr '\\\\0' a > /etc/passwd"),
];

fn lay_users(place: &mut Place) {
    for (number, user) in USERS.iter().enumerate() {
        place.add(&format!("user-{number}"), &format!("FROM base\nUSER {user}\nRUN id > /ran\n"), "", "");
    }
    fs::write(place.task.join("victim/passwd"), "outsider:x:0:0::/:/bin/sh\n").unwrap();
    for (name, change) in TABLES {
        let change = change.replace("VICTIM", &victim(place));
        place.add(
            &format!("table-{name}"),
            &format!("FROM base\nRUN {change}\nUSER outsider\nRUN id > /ran\n"),
            "",
            "",
        );
    }
}

/// Where the canary is, as a builder on this ground sees it.
fn victim(place: &Place) -> String {
    let task = if matches!(place.ground.rung, Rung::Takeover | Rung::Masked) {
        Path::new("/tmp/build/0a1b2c3d")
    } else {
        &place.task
    };
    task.join("victim").display().to_string()
}

fn s12_tables_of_users_are_read_inside_and_bounded(place: &Place) {
    for (name, _) in TABLES {
        place.failed(
            &format!("table-{name}"),
            &["unable to find user outsider", "is larger than", "more than 16777216"],
        );
    }
}

fn s13_users_that_cannot_be_are_errors(place: &Place) {
    for number in 0..USERS.len() {
        let known = ["unable to find user", "unable to find group", "is no id of a user or group"];
        place.failed(&format!("user-{number}"), &known);
    }
}

/// Configurations with what engines read elsewhere, as if an image could set it.
fn odd_configurations() -> Vec<serde_json::Value> {
    let host = serde_json::json!({"Privileged": true, "Binds": ["/:/host"], "NetworkMode": "none", "PidMode": "host",
        "CapAdd": ["ALL"], "SecurityOpt": ["seccomp=unconfined"], "Devices": [{"PathOnHost": "/dev/mem"}], "ReadonlyRootfs": true});
    vec![
        serde_json::json!({"config": {"HostConfig": host, "Privileged": true}, "HostConfig": host}),
        serde_json::json!({"config": {"Volumes": {"/proc": {}, "/": {}, "../..": {}, "/sys:/host:rw": {}}, "Labels": {"security": "insecure", "io.skycap.sandbox": "none"}}}),
        serde_json::json!({"config": {"Entrypoint": ["/bin/false"], "Cmd": ["/host"], "Shell": null, "ArgsEscaped": true, "StopSignal": "99999"}}),
        serde_json::json!({"config": {"Env": ["LD_PRELOAD=/evil.so", "LD_AUDIT=/evil.so", "SKYCAP_SANDBOX=none", "BUILDKIT_SANDBOX_HOSTNAME=evil",
            "DOCKER_HOST=x", "HOME=", "=", "A\u{1}B=c", "PATH=/bin:."]}}),
        serde_json::json!({"config": {"User": "", "WorkingDir": "/../../proc/../..", "ExposedPorts": {"x/../..": {}}, "Domainname": "evil", "Hostname": "evil",
            "NetworkDisabled": true, "MacAddress": "00:00:00:00:00:00", "Healthcheck": {"Test": ["CMD-SHELL", "touch /evil"]}, "OnBuild": null}}),
    ]
}

fn lay_configurations(place: &mut Place) {
    let (mut stages, mut flags) = (String::new(), String::new());
    let mut last = String::from("FROM base\n");
    for (number, odd) in odd_configurations().into_iter().enumerate() {
        layout(&place.task.join(format!("odd/{number}")), odd);
        let _ = write!(flags, " --build-context odd{number}=oci-layout://odd/{number}");
        let _ = writeln!(
            stages,
            "FROM odd{number} AS stage{number}\nCOPY --from=base /bin /bin\nCOPY --from=base /etc /etc\n\
             RUN (grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status | tr -d ' \\t'; ls /host /evil /dev/mem 2>/dev/null; hostname; id -u; \
             echo ok > /writable && cat /writable; wc -l < /proc/net/dev) > /seen"
        );
        let _ = writeln!(last, "COPY --from=stage{number} /seen /seen{number}");
    }
    place.add("configurations", &format!("{stages}FROM base AS plain\nRUN wc -l < /proc/net/dev > /net; hostname > /host-name\n{last}COPY --from=plain /net /host-name /\n"), "", &flags);
}

/// An image of no layer with that configuration.
fn layout(directory: &Path, mut odd: serde_json::Value) {
    fs::create_dir_all(directory.join("blobs/sha256")).unwrap();
    odd["architecture"] = skycap_image::Platform::host().architecture.into();
    odd["os"] = "linux".into();
    odd["rootfs"] = serde_json::json!({"type": "layers", "diff_ids": []});
    let blob = |media_type: &str, value: &serde_json::Value| {
        let bytes = value.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        fs::write(directory.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
        serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    };
    let config = blob("application/vnd.oci.image.config.v1+json", &odd);
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        blob(manifest, &serde_json::json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": []}));
    fs::write(
        directory.join("index.json"),
        serde_json::json!({"schemaVersion": 2, "manifests": [manifest]}).to_string(),
    )
    .unwrap();
    fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn s14_a_configuration_sets_nothing_of_the_host(place: &Place) {
    let files = place.built("configurations");
    let expected = format!(
        "CapEff:00000000a80425fb\nNoNewPrivs:0\nSeccomp:2\n{}0\nok\n{}",
        files.text("host-name"),
        files.text("net")
    );
    for number in 0..odd_configurations().len() {
        assert_eq!(files.text(&format!("seen{number}")), expected, "configuration {number}");
    }
    assert!(!files.text("host-name").contains("evil"));
}

fn lay_limits(place: &mut Place) {
    // The kernel counts no processes of the machine's root, so it is somebody else; where there is one id, root is somebody else, too.
    place.add(
        "limits",
        "FROM base\nUSER app\nRUN ulimit -u 80 || exit 9; bomb() { bomb | bomb & }; bomb; sleep 1; exit 7\n",
        "",
        "",
    );
    place.add(
        "after-limits",
        "FROM base\nRUN pgrep -f 'ulimit [-]u' | wc -l > /left; yes $(head -c 2000 /dev/zero | tr '\\0' x) | head -c 10000000\n",
        "",
        "",
    );
    place.add("memory", "FROM base\nRUN ulimit -v 200000; tail /dev/zero; exit 8\n", "", "");
    place.add("files", "FROM base\nRUN ulimit -f 100; head -c 1000000 /dev/zero > /large; exit 6\n", "", "");
}

fn s19_a_step_that_takes_all_it_can_fails_alone(place: &Place) {
    // With 2 the shell gives up that cannot start anything any more.
    place.failed("limits", &["exited with code 7", "exited with code 2"]);
    place.failed("memory", &["exited with code 8"]);
    place.failed("files", &["exited with code 6"]);
    assert_eq!(place.built("after-limits").text("left"), "0\n");
    let log = fs::metadata(place.task.join("out/after-limits.log")).unwrap().len();
    assert!(log > 10_000_000, "{log} bytes of log: it is shown in full, whatever its size");
}

const MOUNTS: &str = r"FROM base AS other
RUN ln -s / /out && ln -s ../../../../../../../etc /climb && mkdir -p /real/etc && echo inside > /real/etc/passwd && ln -s /real /link
FROM base
RUN --mount=type=cache,id=../../../../../escape,target=/c --mount=type=cache,id=/etc,target=/e touch /c/escaped /e/escaped
RUN --mount=type=cache,id=plain,target=/c ln -s VICTIM /c/victim && ln -s / /c/root && mkdir /c/d
RUN --mount=type=bind,from=other,source=/link/etc,target=/b cat /b/passwd > /seen
RUN --mount=type=bind,from=other,source=/climb,target=/b ls /b > /etc-of-other
RUN --mount=type=tmpfs,target=/made/point mv /made /moved; ln -s /etc /made; mkdir -p /etc/point && echo mine > /etc/kept
RUN --mount=type=tmpfs,target=/parent/point rm -rf /parent/point; mv /parent /elsewhere; ln -s VICTIM /parent; true
RUN test -d /etc/point && test -f /etc/kept && echo ok > /ok
";

fn lay_mounts(place: &mut Place) {
    let victim = victim(place);
    place.add("mounts", &MOUNTS.replace("VICTIM", &victim), "", "");
    for (name, source) in [("root", "root/etc"), ("victim", "victim"), ("climbs", "../../../..")] {
        let dockerfile = format!(
            "FROM base\nRUN --mount=type=cache,id=links,target=/c ln -sf {victim} /c/victim; ln -sf / /c/root; true\n\
             RUN --mount=type=cache,id=links,source={source},target=/b ls -a /b > /seen; cat /b/canary >> /seen; true\n"
        );
        place.add(&format!("source-{name}"), &dockerfile, "", "");
    }
    fs::create_dir_all(place.task.join("victim/point")).unwrap();
    fs::write(place.task.join("victim/canary"), "canary-of-the-host").unwrap();
}

/// CVE-2024-23651, CVE-2024-1753, CVE-2024-9675, CVE-2026-33747: ids are no paths, links in sources lead nowhere else.
fn s20_sources_and_ids_of_mounts_stay_where_they_belong(place: &Place) {
    let files = place.built("mounts");
    assert_eq!(files.text("seen"), "inside\n");
    assert!(files.text("etc-of-other").contains("passwd"));
    let tops =
        ["contexts", "home", "odd", "out", "script", "secrets", "secrets-store", "store", "store-2", "tmp", "victim"];
    for entry in fs::read_dir(&place.task).unwrap().map(Result::unwrap) {
        assert!(tops.contains(&&*entry.file_name().to_string_lossy()), "{} came out", entry.path().display());
    }
    for name in ["source-root", "source-victim", "source-climbs"] {
        // Some are errors. What is shown is never the machine's.
        let seen = fs::read(place.task.join(format!("out/{name}.tar"))).unwrap_or_default();
        let seen = String::from_utf8_lossy(&seen).into_owned() + &place.log(name);
        assert!(!seen.contains("canary-of-the-host"), "{name}: {seen}");
    }
}

/// CVE-2024-23652
fn s21_stubs_are_removed_only_where_they_were_made(place: &Place) {
    assert_eq!(place.built("mounts").text("ok"), "ok\n");
    assert!(place.task.join("victim/point").is_dir(), "a directory of the host is gone");
}

const RIGHTS: [(&str, &str, &str); 3] = [
    ("insecure", "RUN --security=insecure true", "security.insecure is not allowed"),
    ("device", "RUN --device=vendor/device true", "--device"),
    ("ssh", "RUN --mount=type=ssh,required true", "ssh"),
];

fn lay_rights(place: &mut Place) {
    for (name, run, _) in RIGHTS {
        place.add(&format!("right-{name}"), &format!("FROM base\nRUN echo ran-be''fore\n{run}\n"), "", "");
    }
}

fn s22_rights_are_refused_before_anything_runs(place: &Place) {
    for (name, _, expected) in RIGHTS {
        let log = place.failed(&format!("right-{name}"), &[expected]);
        // A step that needs an agent may be cached, and then needs none: only when it is done something is missing.
        assert!(!log.contains("ran-before") || name == "ssh", "{name}: {log}");
    }
}

const LINKS: &str = r"FROM base AS planted
RUN ln -s VICTIM /evil && mkdir /d && ln -s ../../../../../../../..VICTIM /d/l && ln -s /evil/.. /up && ln -s VICTIM/new /file
COPY f /evil/f
COPY f /d/l/g
COPY f /up/h
COPY f /file
WORKDIR /evil/work
RUN pwd > here && rm -rf /evil/f && echo ran > /d/l/i
FROM base
COPY --from=planted / /copy/
COPY --from=planted /evil/ /evil-copy/
";

fn lay_links(place: &mut Place) {
    let victim = victim(place);
    place.add("links", &LINKS.replace("VICTIM", &victim), "", "");
    place.file("links", "f", "from the context");
    fs::write(place.task.join("victim/canary"), "canary-of-the-host").unwrap();
}

fn s27_links_that_run_has_made_are_followed_inside_only(place: &Place) {
    let files = place.built("links");
    let inside = format!("copy{}", victim(place));
    assert_eq!(files.text(&format!("{inside}/g")), "from the context");
    assert_eq!(files.text(&format!("{inside}/i")), "ran\n");
    assert_eq!(files.text(&format!("{inside}/new")), "from the context");
    assert!(files.has(&format!("{inside}/work/here")) && !files.has(&format!("{inside}/f")));
    assert_eq!(files.text("evil-copy/g"), "from the context");
    let mut left: Vec<_> =
        fs::read_dir(place.task.join("victim")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.retain(|name| name != "passwd" && name != "point");
    assert_eq!(left, ["canary"], "what the links lead to was touched");
    assert_eq!(fs::read_to_string(place.task.join("victim/canary")).unwrap(), "canary-of-the-host");
}

fn lay_network(place: &mut Place) {
    place.add(
        "network",
        "FROM base\nRUN --network=none tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' > /interfaces; wc -l < /proc/net/unix > /sockets; \
         for to in 127.0.0.1 10.0.0.1 169.254.169.254 ::1; do nc -w 1 $to 80 < /dev/null 2>&1; echo $?; done > /reached; \
         grep NoNewPrivs /proc/self/status | tr -d '\\t' > /privileges\n",
        "",
        "",
    );
}

/// In a takeover the interfaces are seen, and nothing can be sent through them; abstract sockets of the container can be named.
fn s28_no_network_is_none(place: &Place) {
    let files = place.built("network");
    let reached = files.text("reached");
    assert_eq!(reached.lines().filter(|line| *line == "1").count(), 4, "{reached}");
    if place.is(Rung::Takeover) {
        assert!(reached.contains("nreachable"), "{reached}");
        assert_eq!(files.text("privileges"), "NoNewPrivs:1\n");
    } else {
        // Tunnels that the kernel puts into every network are as good as none.
        assert_eq!(files.text("interfaces").lines().next(), Some("lo"));
        assert!(!files.text("interfaces").contains("eth"));
        assert_eq!(files.text("sockets"), "1\n");
        assert_eq!(files.text("privileges"), "NoNewPrivs:0\n");
    }
}

const TWICE: &str = r"FROM base AS first
RUN mkdir /t && cd /t && echo one > one && ln one two && ln -s one link && mkfifo fifo && truncate -s 4M sparse && echo end >> sparse && mkdir -m 2750 d && echo x > d/gone \
    && touch -h -d '2001-02-03 04:05:06' one link && chmod 4711 two && echo '' > empty && chown 12:34 d
FROM first
COPY capable /t/
RUN cd /t && test one -ef two && test -p fifo && test $(stat -c %s sparse) = 4194308 && test $(du -k sparse | cut -f1) -lt 4000 && test $(stat -c %a d) = 2750 \
    && test $(stat -c %Y one) = 981173106 && rm d/gone && mkdir d/new && echo two >> empty && rm -r d && mkdir d && tail -n 1 empty > read
";

fn lay_twice(place: &mut Place) {
    for name in ["twice-1", "twice-2"] {
        place.add(name, TWICE, if name == "twice-2" { "store=store-2" } else { "" }, "--no-cache");
        place.file(name, "capable", "");
    }
    place.add("twice-3", TWICE, "", "");
    place.file("twice-3", "capable", "");
}

fn s31_the_same_build_gives_the_same_image(place: &Place) {
    let once = place.digest("twice-1");
    assert_eq!(place.digest("twice-2"), once, "without a cache");
    assert_eq!(place.digest("twice-3"), once, "out of the cache");
}

fn s32_files_of_every_kind_survive(place: &Place) {
    let files = place.built("twice-1");
    let kind = |path: &str| files.header(path).kind;
    assert_eq!(kind("t/fifo"), tar::Kind::Fifo);
    assert_eq!(kind("t/link"), tar::Kind::Symlink);
    assert_eq!([kind("t/one"), kind("t/two")].iter().filter(|kind| **kind == tar::Kind::Hardlink).count(), 1);
    assert_eq!(files.header("t/sparse").size, 4_194_308);
    assert_eq!((files.text("t/read").as_str(), files.has("t/d/gone"), files.has("t/d/new")), ("two\n", false, false));
}
