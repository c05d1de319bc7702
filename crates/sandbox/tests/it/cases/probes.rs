//! Isolation probes by their number in the list of what must hold (S01 to S35): what a hostile image or RUN tries.
//!
//! Here are those that only need a sandbox; some are the older cases beside this file: S03 `a_secret_is_in_memory_only`, S20
//! `sources_are_resolved_within_their_directory`, S28 `no_network_is_only_a_loopback`, S29
//! `files_of_the_network_are_provided_and_not_kept`, S35 `leftover_processes_are_killed`. Those about contexts, keys, secrets in caches
//! and frontends are with the build, S12 and S13 with its users.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use skycap_sandbox::{Exit, Filter, Mount, Root, RunSpec, User};

use crate::world::{World, chain};

super::cases! {
    s02_the_environment_of_the_builder_is_not_seen,
    s03_the_secrets_of_a_run_are_not_seen_by_another_at_the_same_time,
    s03_a_run_that_is_alone_shows_no_command_line,
    s04_a_secret_makes_no_file_outside_of_memory,
    s05_no_descriptor_key_or_file_of_the_builder_is_reached,
    s10_a_working_directory_that_leads_out_is_refused,
    s11_special_files_of_the_image_have_no_effect_outside,
    s13_ids_that_cannot_be_are_refused,
    s16_what_the_14_capabilities_do_not_permit_is_refused,
    s16_system_calls_are_filtered,
    s17_the_builders_program_cannot_be_written,
    s18_nobody_outside_is_signalled_or_traced,
    s20_a_source_that_is_swapped_never_leads_outside,
    s21_mount_points_are_removed_only_where_they_were_made,
    s33_setuid_files_are_kept,
    s34_streams_signals_and_limits_are_the_defaults,
    owners_that_a_command_gives_are_recorded_with_one_id,
}

fn s02_the_environment_of_the_builder_is_not_seen(world: &World) {
    let (mut spec, _) = world.script("env | sort");
    spec.env.push(("ONLY".into(), "this".into()));
    let seen = world.run(&spec).stdout();
    // The shell sets these itself.
    let seen: Vec<&str> =
        seen.lines().filter(|line| !line.starts_with("PWD=") && !line.starts_with("SHLVL=")).collect();
    assert_eq!(seen, ["ONLY=this", "PATH=/bin"]);
}

/// Everything in `/proc` that one command may know of another: names of files, and what is in them. It must find itself.
const LOOK_AROUND: &str = "for p in /proc/[0-9]*; do \
     for f in environ maps; do cat $p/$f; done; cat $p/root/run/secrets/* $p/root/etc/token $p/cwd/*; \
     for f in $p/fd/*; do test -f $f && cat $f; readlink $f; done; \
     head -c 1 $p/mem; for m in $p/root $p/cwd $p/exe; do readlink $m; done; \
     for t in $p/task/*; do cat $t/environ $t/root/run/secrets/*; done; done 2>/dev/null; cat /run/secrets/* 2>/dev/null; true";

/// Runs a command with secrets of every kind, and beside it one that looks around; what that one has found.
fn beside_a_secret(world: &World, look: &str, alone: bool) -> String {
    let meet = world.directory();
    let bind = Mount::Bind { source: meet, within: None, target: "/meet".into(), read_only: false };
    let wait = |mine: &str, other: &str| {
        format!(
            "echo > /meet/{mine}; i=0; while ! test -e /meet/{other} && test $i -lt 40; do sleep 0.05; i=$((i+1)); done"
        )
    };
    let (mut holder, _) = world.script(&format!(
        "exec 3</run/secrets/s; sh -c 'sleep 10; true' \"$(cat <&3)\" & {}; sleep 0.1; echo > /meet/over",
        wait("holder", "done")
    ));
    holder.env.push(("TOKEN".into(), "hunter2-variable".into()));
    let file = |target: &str| Mount::File {
        target: target.into(),
        content: b"hunter2-file".to_vec(),
        mode: 0o444,
        uid: 0,
        gid: 0,
    };
    holder.mounts = vec![bind.clone(), file("/run/secrets/s"), file("/etc/token")];
    holder.alone = alone;
    let (mut other, _) = world
        .script(&format!("{}; test -e /meet/over && echo later; {look}; echo > /meet/done", wait("other", "holder")));
    other.env.push(("OWN".into(), "seen-by-itself".into()));
    other.mounts = vec![bind];
    std::thread::scope(|scope| {
        let held = scope.spawn(|| world.run(&holder));
        let found = world.run(&other).stdout();
        assert_eq!(held.join().unwrap().exit, Exit::Code(0));
        found
    })
}

fn s03_the_secrets_of_a_run_are_not_seen_by_another_at_the_same_time(world: &World) {
    let found = beside_a_secret(world, LOOK_AROUND, false);
    assert!(found.contains("seen-by-itself"), "nothing could be read: {found}");
    assert!(!found.contains("hunter2") && !found.starts_with("later"), "{found}");
}

/// What a program is given as arguments, everybody may read who sees the process.
fn s03_a_run_that_is_alone_shows_no_command_line(world: &World) {
    let found = beside_a_secret(world, "cat /proc/[0-9]*/cmdline /proc/[0-9]*/task/*/cmdline", true);
    assert!(found.contains("/meet/done"), "nothing could be read: {found}");
    assert!(!found.contains("hunter2"), "{found}");
    assert!(!found.starts_with("later") || super::isolation::proc_is_masked(), "nobody need wait here: {found}");
}

fn s04_a_secret_makes_no_file_outside_of_memory(world: &World) {
    let content = b"hunter2-in-memory".to_vec();
    let (mut spec, upper) =
        world.script("grep -c hunter2-in-memory /run/secrets/s; grep ' /run/secrets/s ' /proc/mounts");
    spec.mounts.push(Mount::File { target: "/run/secrets/s".into(), content, mode: 0o400, uid: 0, gid: 0 });
    let seen = world.run(&spec).stdout();
    assert!(seen.starts_with("1\ntmpfs "), "{seen}");
    let found =
        std::process::Command::new("grep").args(["-rlq", "hunter2-in-memory"]).arg(upper.parent().unwrap()).status();
    assert!(found.map_or(true, |status| !status.success()), "a secret is on disk");
}

fn s05_no_descriptor_key_or_file_of_the_builder_is_reached(world: &World) {
    let outside = world.directory().join("canary");
    fs::write(&outside, "hunter2-canary").unwrap();
    let seen = world.sh(&format!(
        "ls /proc/self/fd | grep -v -e '^[012]$' | wc -l; cat {0} /proc/1/root{0} /proc/1/cwd/{0} /../{0} 2>/dev/null | wc -c; \
         cat /proc/keys 2>/dev/null | grep -v _ses | grep -c skycap; true",
        outside.display()
    ));
    // The listing itself has the directory open.
    assert_eq!(seen, "1\n0\n0\n");
}

fn s10_a_working_directory_that_leads_out_is_refused(world: &World) {
    let outside = world.directory();
    fs::write(outside.join("canary"), "").unwrap();
    let _open = fs::File::open(&outside).unwrap();
    for number in 3..64 {
        let (mut spec, _) = world.script("ls . /proc/self/cwd/");
        spec.cwd = format!("/proc/self/fd/{number}").into();
        let seen = world.try_run(&spec).map(|ran| ran.stdout()).unwrap_or_default();
        assert!(!seen.contains("canary"), "{number}: {seen}");
    }
    let hidden = outside.display();
    for cwd in ["/proc/self/cwd/../../..", "/proc/1/root", "/../../..", "/proc/self/root/.."] {
        let (mut spec, _) = world.script(&format!("ls . .{hidden}"));
        spec.cwd = cwd.into();
        let seen = world.try_run(&spec).map(|ran| ran.stdout()).unwrap_or_default();
        assert!(!seen.contains("canary"), "{cwd}: {seen}");
    }
}

/// CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-41579: 8 paths, each as a link to the outside in two ways, a file, a
/// fifo, a directory with entries of its own, a device.
fn s11_special_files_of_the_image_have_no_effect_outside(world: &World) {
    let paths = ["dev", "dev/null", "dev/console", "dev/shm", "dev/pts", "proc", "sys", "etc"];
    for path in paths {
        for kind in ["link", "climbing", "file", "directory", "device", "fifo"] {
            let directory = world.directory();
            let (root, victim) = (directory.join("root"), directory.join("victim"));
            fs::create_dir_all(root.join("bin")).unwrap();
            fs::create_dir(&victim).unwrap();
            fs::copy(&world.busybox, root.join("bin/sh")).unwrap();
            let place = root.join(path);
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            match kind {
                "link" => symlink(&victim, &place).unwrap(),
                "climbing" => {
                    let up = "../".repeat(20);
                    symlink(format!("{up}{}", victim.display()), &place).unwrap();
                }
                "file" => fs::write(&place, "image").unwrap(),
                "directory" => {
                    fs::create_dir(&place).unwrap();
                    for name in ["null", "self", "console", "pts", "hosts"] {
                        symlink(&victim, place.join(name)).unwrap();
                    }
                }
                "device" => {
                    // Only the machine's root makes one.
                    let zero = rustix::fs::makedev(1, 5);
                    let mode = rustix::fs::Mode::from_raw_mode(0o666);
                    let kind = rustix::fs::FileType::CharacterDevice;
                    if rustix::fs::mknodat(rustix::fs::CWD, &place, kind, mode, zero).is_err() {
                        continue;
                    }
                }
                _ => rustix::fs::mknodat(
                    rustix::fs::CWD,
                    &place,
                    rustix::fs::FileType::Fifo,
                    rustix::fs::Mode::from_raw_mode(0o644),
                    0,
                )
                .unwrap(),
            }
            let spec =
                RunSpec::new(Root::Directory(root.clone()), ["/bin/sh", "-c", "echo x > /dev/null; echo y > /etc/z"]);
            // It may fail, cleanly.
            let _ = world.try_run(&spec);
            assert!(fs::read_dir(&victim).unwrap().next().is_none(), "{path} as a {kind} led outside");
            let null = fs::metadata("/dev/null").unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::rdev(&null), rustix::fs::makedev(1, 3), "{path} as a {kind}");
        }
    }
}

fn s13_ids_that_cannot_be_are_refused(world: &World) {
    for user in [
        User { uid: u32::MAX, ..User::default() },
        User { gid: u32::MAX, ..User::default() },
        User { groups: vec![u32::MAX], ..User::default() },
    ] {
        let (mut spec, _) = world.script("id");
        spec.user = user;
        let error = world.try_run(&spec).err().map(|error| chain(&error)).unwrap_or_default();
        assert!(error.contains("is no id of a user or group"), "{error}");
    }
}

fn s16_what_the_14_capabilities_do_not_permit_is_refused(world: &World) {
    for attempt in [
        "mount -t tmpfs none /tmp",
        "mount --bind /home /tmp",
        "umount /proc",
        "mknod /disk b 8 0 && head -c 1 /disk",
        "echo 7 > /proc/sys/vm/swappiness",
        "echo b > /proc/sysrq-trigger",
        "unshare -U true",
        "unshare -m true",
        "chroot /proc/1/root true && ls /proc/1/root/work",
        "dmesg -c",
        "hostname other",
        "swapon /no-program",
    ] {
        let (spec, _) = world.script(attempt);
        let ran = world.run(&spec);
        assert_ne!(ran.exit, Exit::Code(0), "{attempt}: {:?}", ran.output);
    }
    let status = world.sh("grep -E '^(Cap(Inh|Amb)|NoNewPrivs)' /proc/self/status | tr -d ' \t' | sort");
    assert_eq!(status, "CapAmb:0000000000000000\nCapInh:0000000000000000\nNoNewPrivs:0\n");
}

fn s16_system_calls_are_filtered(world: &World) {
    let (mut spec, _) = world.script("grep -E '^Seccomp_filters' /proc/self/status | tr -d ' \t'");
    let count = |text: String| text.trim().rsplit(':').next().unwrap().parse::<u32>().unwrap();
    let with = count(world.run(&spec).stdout());
    spec.filter = Filter::None;
    let (root, _) = world.overlay();
    spec.root = root;
    let without = count(world.run(&spec).stdout());
    assert_eq!(with, without + 1);
}

/// CVE-2019-5736: the first process runs our program.
fn s17_the_builders_program_cannot_be_written(world: &World) {
    let ours = fs::read("/proc/self/exe").unwrap().len();
    let seen = world
        .sh("for exe in /proc/1/exe /proc/self/../1/exe; do echo x >> $exe && echo written; done 2>/dev/null; true");
    assert_eq!(seen, "");
    assert_eq!(fs::read("/proc/self/exe").unwrap().len(), ours);
}

fn s18_nobody_outside_is_signalled_or_traced(world: &World) {
    let mut canary = std::process::Command::new(&world.busybox).args(["sleep", "60"]).spawn().unwrap();
    let (spec, _) = world.script(&format!("kill -9 {0} -1; kill -9 {0}; true", canary.id()));
    world.run(&spec);
    assert!(canary.try_wait().unwrap().is_none(), "somebody outside was killed");
    canary.kill().unwrap();
    canary.wait().unwrap();
}

/// CVE-2024-23651: a directory and a link to the outside change places, more than 10,000 times.
fn s20_a_source_that_is_swapped_never_leads_outside(world: &World) {
    let (directory, outside) = (world.directory(), world.directory());
    fs::create_dir_all(directory.join("dir/sub")).unwrap();
    fs::create_dir(outside.join("sub")).unwrap();
    fs::write(outside.join("sub/canary"), "").unwrap();
    symlink(&outside, directory.join("link")).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, link) = (directory.join("dir"), directory.join("link"));
            while !stop.load(Ordering::Relaxed) || swaps.load(Ordering::Relaxed) <= 10_000 {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(rustix::fs::CWD, &dir, rustix::fs::CWD, &link, exchange).unwrap();
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (root, _) = world.overlay();
        let mut spec = RunSpec::new(root, ["/bin/ls", "/m"]);
        spec.mounts = vec![Mount::Bind {
            source: "/dir/sub".into(),
            within: Some(directory.clone()),
            target: "/m".into(),
            read_only: true,
        }];
        for _ in 0..30 {
            // An error if it is the link at that moment.
            let seen = world.try_run(&spec).map(|ran| ran.stdout()).unwrap_or_default();
            assert_eq!(seen, "", "it led outside");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// CVE-2024-23652: the command puts a link to a victim in the place of a mount point's directory.
fn s21_mount_points_are_removed_only_where_they_were_made(world: &World) {
    let victim = world.directory();
    fs::create_dir_all(victim.join("point")).unwrap();
    let (mut spec, _) = world
        .script(&format!("mv /made /moved; ln -s {0} /made; rmdir /made/point 2>/dev/null; true", victim.display()));
    spec.mounts.push(Mount::Tmpfs { target: "/made/point".into(), size: None, mode: 0o755 });
    world.run(&spec);
    assert!(victim.join("point").is_dir());
}

fn s33_setuid_files_are_kept(world: &World) {
    let (spec, upper) = world.script("cp /bin/busybox /tool && chmod 4755 /tool && mkfifo /pipe");
    assert_eq!(world.run(&spec).exit, Exit::Code(0));
    assert_eq!(fs::metadata(upper.join("tool")).unwrap().permissions().mode() & 0o7777, 0o4755);
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&fs::metadata(upper.join("pipe")).unwrap().file_type()));
}

fn s34_streams_signals_and_limits_are_the_defaults(world: &World) {
    let seen = world
        .sh("umask; cat | wc -c; tty; grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status | tr -d ' \t'; ulimit -c; true");
    let ours = std::process::Command::new("sh").args(["-c", "ulimit -c"]).output();
    let limit = ours.map_or_else(
        |_| seen.lines().last().unwrap_or_default().to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    );
    let expected = format!(
        "0022\n0\nnot a tty\nSigBlk:0000000000000000\nSigIgn:0000000000000000\nSigCgt:0000000000000000\n{limit}\n"
    );
    assert_eq!(seen, expected);
}

/// Where owners cannot be given, they are noted for whoever makes a layer; errors are the kernel's.
fn owners_that_a_command_gives_are_recorded_with_one_id(world: &World) {
    if world.sandbox.owners_kept() || World::is_filtered() {
        return;
    }
    let (spec, upper) = world.script(
        "set -e; mkdir -p /d/e; echo x > /d/e/f; ln -s f /d/e/l; chown -R 33:44 /d; cd /d; chown 55 e/f; chown 66:66 .; \
         chown -h 77:88 e/l; ! chown 1:1 /missing 2>/dev/null; chown 5:6 /home/file",
    );
    let ran = world.run(&spec);
    assert_eq!(ran.exit, Exit::Code(0), "{:?}", ran.output);
    let owner = |path: &str| {
        let mut value = [0; 32];
        let length = rustix::fs::getxattr(upper.join(path), "user.skycap.owner", &mut value[..]).unwrap();
        String::from_utf8_lossy(&value[..length]).into_owned()
    };
    for (path, expected) in [("d", "66:66"), ("d/e", "33:44"), ("d/e/f", "55:0"), ("home/file", "5:6")] {
        assert_eq!(owner(path), expected, "{path}");
    }
    assert!(Path::new(&upper).exists());
}
