//! What a command cannot see or do.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use skycap_sandbox::{Capabilities, Exit, Filter, Mount, Network, Root, RunSpec, Rung, User, UserNamespace};

use crate::world::World;

super::cases! {
    capabilities_are_the_usual_fourteen,
    other_users_have_no_capabilities,
    programs_with_the_setuid_bit_gain_rights,
    processes_of_the_outside_are_unseen_and_untouched,
    mounts_do_not_leak_either_way,
    the_first_process_gives_nothing_away,
    root_can_list_every_directory,
    devices_are_the_usual_ones,
    the_null_device_keeps_its_owner,
    device_files_of_ones_own_do_not_open,
    a_sandbox_stands_inside_a_sandbox,
    settings_of_the_kernel_cannot_be_changed,
    no_network_is_only_a_loopback,
    the_network_of_the_host_is_there,
    a_user_namespace_looks_as_asked,
    everything_is_permitted_when_asked,
    apt_and_dpkg_work_with_one_id,
}

fn capabilities_are_the_usual_fourteen(world: &World) {
    let (spec, _) = world.script("grep -E '^(Cap|NoNewPrivs)' /proc/self/status");
    assert_eq!(
        world.run(&spec).stdout(),
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\n"
    );
}

fn user() -> User {
    User { uid: 1000, gid: 1000, groups: vec![1000] }
}

fn other_users_have_no_capabilities(world: &World) {
    if !world.sandbox.owners_kept() {
        return;
    }
    let (mut spec, _) = world.script("grep -E '^Cap(Inh|Prm|Eff|Bnd)' /proc/self/status; cat /etc/shadow; echo x > /x");
    spec.user = user();
    let ran = world.run(&spec);
    assert_eq!(
        ran.stdout(),
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n"
    );
    assert!(ran.stderr().contains("can't create /x: Permission denied"), "{}", ran.stderr());
}

fn programs_with_the_setuid_bit_gain_rights(world: &World) {
    if !world.sandbox.owners_kept() {
        // Every user is root there already, and changing to another is pretended.
        assert_eq!(world.sh("su user -c 'id -u'"), "0\n");
        return;
    }
    assert_eq!(world.sh("su user -c 'id -u'"), "1000\n");
    let (mut spec, upper) = world.script("/suid/busybox su root -c 'id -u'");
    world.run(&RunSpec {
        args: vec!["sh".into(), "-c".into(), "mkdir /suid; cp /bin/busybox /suid; chmod 4755 /suid/busybox".into()],
        ..spec.clone()
    });
    assert!(upper.join("suid/busybox").exists());
    spec.user = user();
    let ran = world.run(&spec);
    assert_eq!(ran.stdout(), "0\n", "{:?}", ran.output);
}

/// Whether the numbers in `/proc` are those of the outside.
pub(super) fn proc_is_masked() -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.contains(" /proc/") && !line.contains("binfmt_misc"))
}

fn processes_of_the_outside_are_unseen_and_untouched(world: &World) {
    // It lives until we close its input.
    let mut canary =
        Command::new(&world.busybox).arg("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let pid = canary.id();
    let text = world.sh(&format!(
        "trap '' TERM; kill -9 {pid} 2>/dev/null; kill -TERM -1; kill -9 1; ls -d /proc/[0-9]* | wc -l; echo $$"
    ));
    let mut lines = text.lines();
    let seen: u32 = lines.next().unwrap().parse().unwrap();
    // The first process, the shell, and those of the pipe.
    assert!(seen <= 5 || proc_is_masked(), "{text}");
    assert_eq!(lines.next(), Some("2"));
    assert!(canary.try_wait().unwrap().is_none(), "a process of the outside was killed");
    drop(canary.stdin.take());
    canary.wait().unwrap();
}

fn mounts_do_not_leak_either_way(world: &World) {
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let text = world.sh("cat /proc/self/mountinfo; ls /");
    let after = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(before, after);
    assert!(!text.contains(world.scratch.to_str().unwrap()), "{text}");
    assert!(text.ends_with("bin\ndev\netc\nhome\nno-program\nproc\nroot\nsys\ntmp\n"), "{text}");
    // Nothing is left to unmount: the directories can go.
    let (spec, upper) = world.script("true");
    world.run(&spec);
    fs::remove_dir_all(upper.parent().unwrap()).unwrap();
}

fn the_first_process_gives_nothing_away(world: &World) {
    let (spec, _) = world.script(
        "for f in exe root cwd fd/0; do readlink /proc/1/$f; done; cat /proc/1/environ /proc/1/maps; echo x > /proc/1/exe; cat /proc/1/cmdline",
    );
    let ran = world.run(&spec);
    assert!(proc_is_masked() || ran.stdout() == "skycap-sandbox-child\0", "{:?}", ran.output);
    assert_eq!(ran.stderr().matches("Permission denied").count(), 3, "{:?}", ran.output);
}

/// `find /` ends well, as with Docker. Where another sandbox may stand inside, no part of `/proc` is covered for it.
fn root_can_list_every_directory(world: &World) {
    if proc_is_masked() {
        return;
    }
    assert_eq!(world.sh("find / -name nothing 2>&1; echo $?"), "0\n");
    let (mut spec, _) = world.script("grep -c /proc/1 /proc/self/mountinfo");
    for (filter, covered) in [(Filter::Docker, "2\n"), (Filter::None, "0\n")] {
        spec.filter = filter;
        assert_eq!(world.run(&spec).stdout(), covered, "{filter:?}");
    }
}

fn devices_are_the_usual_ones(world: &World) {
    let text = world.sh(
        "ls /dev; echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/full; \
         stat -c %a /dev/shm; echo x > /dev/shm/f && cat /dev/shm/f; ls /dev/pts",
    );
    assert_eq!(
        text,
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n3\n3\n1777\nx\nptmx\n"
    );
}

fn the_null_device_keeps_its_owner(world: &World) {
    let other = 4321;
    let (mut spec, _) = world.script("cat");
    spec.user = User { uid: other, gid: other, ..User::default() };
    assert_eq!(world.run(&spec).exit, Exit::Code(0));
    assert_ne!(fs::metadata("/dev/null").unwrap().uid(), other);
}

fn device_files_of_ones_own_do_not_open(world: &World) {
    let outside = world.directory();
    let (mut spec, _) = world.script(
        "for d in / /dev /bind /t; do mknod $d/own c 1 5 2>/dev/null; head -c 5 $d/own 2>/dev/null | wc -c; done",
    );
    spec.mounts = vec![
        Mount::Bind { source: outside.clone(), within: None, target: "/bind".into(), read_only: false },
        Mount::Tmpfs { target: "/t".into(), size: None, mode: 0o755 },
    ];
    assert_eq!(world.run(&spec).stdout(), "0\n0\n0\n0\n");
    spec.root = Root::Directory(outside);
    spec.mounts.clear();
    spec.args = vec!["/busybox".into(), "head".into(), "-c5".into(), "/own".into()];
    let Root::Directory(directory) = &spec.root else { unreachable!() };
    fs::copy(&world.busybox, directory.join("busybox")).unwrap();
    assert_eq!(world.run(&spec).stdout(), "");
}

/// As when a task that builds images runs in a pipeline that this runs.
fn a_sandbox_stands_inside_a_sandbox(world: &World) {
    let scratch = world.directory();
    let rung = if world.sandbox.owners_kept() { Rung::NestedUserNamespace } else { Rung::SingleId };
    let bind = |source: &Path, target: &str| Mount::Bind {
        source: source.to_owned(),
        within: None,
        target: target.into(),
        read_only: false,
    };
    for look in [None, Some(UserNamespace::RootIsHighest)] {
        let (mut spec, _) = world.script(&format!(
            "mkdir /scratch/s; /it suite {rung:?} /scratch/s /busybox exit_codes a_terminal_has mounts_do_not settings; \
             x=$?; rm -rf /scratch/s; exit $x",
        ));
        spec.user_namespace = look;
        spec.filter = Filter::None;
        spec.mounts = vec![
            bind(&std::env::current_exe().unwrap(), "/it"),
            bind(&world.busybox, "/busybox"),
            bind(&scratch, "/scratch"),
        ];
        let ran = world.run(&spec);
        assert_eq!(ran.exit, Exit::Code(0), "{:?}", ran.output);
        assert_eq!(ran.stdout().matches("\nok ").count(), 4, "{:?}", ran.output);
    }
}

fn settings_of_the_kernel_cannot_be_changed(world: &World) {
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let mark = format!("mark-{}", std::process::id());
    let text = world.sh(&format!(
        "echo {mark} > /proc/sys/kernel/core_pattern; echo s > /proc/sysrq-trigger; head -c 9 /proc/kcore; mkdir /sys/fs/cgroup/x; \
         mount -t tmpfs none /tmp; mknod /disk b 8 0; echo x > /disk; rm -f /disk; mount -o remount,rw /sys; \
         mount -o remount,rw /proc/sys; unshare -m true; chroot / true; echo $?",
    ));
    let after = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if after != before {
        // Whoever runs this must not keep it.
        fs::write("/proc/sys/kernel/core_pattern", &before).unwrap();
    }
    assert_eq!(after, before);
    assert_eq!(text, "0\n");
}

fn no_network_is_only_a_loopback(world: &World) {
    let (mut spec, _) = world.script(
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; ip addr show lo | grep -c 'inet 127.0.0.1'; wc -l < /proc/net/unix; \
         wc -c < /etc/resolv.conf; (echo hi | nc -l -p 4444 &) ; sleep 0.3; nc 127.0.0.1 4444 < /dev/null; \
         nc -w 1 10.0.0.1 80; echo $?",
    );
    spec.network = Network::None;
    let ran = world.run(&spec);
    let interfaces: Vec<String> = ran.stdout().lines().map(str::to_owned).collect();
    assert_eq!(interfaces.first().map(String::as_str), Some("lo"), "{:?}", ran.output);
    // Tunnels that the kernel puts into every network are as good as none.
    let rest = ran.stdout().lines().skip_while(|line| *line != "1").collect::<Vec<_>>().join(" ");
    assert_eq!(rest, "1 1 0 hi 1", "{:?}", ran.output);
}

fn the_network_of_the_host_is_there(world: &World) {
    let outside = fs::read_to_string("/proc/net/dev").unwrap();
    assert_eq!(world.sh("wc -l < /proc/net/dev").trim(), outside.lines().count().to_string());
}

fn a_user_namespace_looks_as_asked(world: &World) {
    let uid_map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let single = world.sandbox.rung() == Rung::SingleId;
    for (look, first) in [(UserNamespace::Identity, "0 0"), (UserNamespace::RootIsHighest, "0 top")] {
        let (mut spec, upper) = world.script(
            "cat /proc/self/uid_map; id -u; stat -c %u /bin/busybox; touch /f; chown 1000 /f; echo $?; su user -c 'touch /tmp/g'; \
             grep CapEff /proc/self/status",
        );
        spec.user_namespace = Some(look);
        let ran = world.run(&spec);
        let text = ran.stdout();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let first = if first == "0 0" || single {
            "0".to_owned()
        } else {
            let last = uid_map.lines().last().unwrap().split_ascii_whitespace();
            let numbers: Vec<u64> = last.map(|number| number.parse().unwrap()).collect();
            (numbers[0] + numbers[2] - 1).to_string()
        };
        assert_eq!(words.get(..2), Some(["0", first.as_str()].as_slice()), "{look:?} {:?}", ran.output);
        assert!(text.ends_with("\n0\n0\n0\nCapEff:\t00000000a80425fb\n"), "{look:?} {:?}", ran.output);
        let owner = if single { 0 } else { 1000 };
        assert_eq!(fs::metadata(upper.join("f")).unwrap().uid(), owner);
        assert_eq!(fs::metadata(upper.join("tmp/g")).unwrap().uid(), owner);
    }
}

fn everything_is_permitted_when_asked(world: &World) {
    for look in [None, Some(UserNamespace::Identity)] {
        let (mut spec, _) = world.script(
            "mount -t tmpfs none /tmp && echo mounted; unshare -m true && echo unshared; hostname other && hostname; \
             test -e /dev/fuse && echo fuse",
        );
        spec.capabilities = Capabilities::All;
        spec.user_namespace = look;
        let fuse = if Path::new("/dev/fuse").exists() { "fuse\n" } else { "" };
        let ran = world.run(&spec);
        assert_eq!(ran.stdout(), format!("mounted\nunshared\nother\n{fuse}"), "{:?}", ran.output);
    }
}

/// With the programs of this machine, if it is a Debian, and a repository and a package made on the spot.
fn apt_and_dpkg_work_with_one_id(world: &World) {
    if world.sandbox.rung() != Rung::SingleId || !Path::new("/usr/bin/dpkg-deb").exists() {
        return;
    }
    let apt = world.directory();
    for name in ["etc/apt.conf.d", "lib/lists/partial", "cache/archives/partial", "dpkg/info", "dpkg/updates", "repo"] {
        fs::create_dir_all(apt.join(name)).unwrap();
    }
    fs::write(apt.join("etc/sources.list"), "deb [trusted=yes] file:/repo ./\n").unwrap();
    fs::write(apt.join("dpkg/status"), "").unwrap();
    let script = "set -e; mkdir -p /tmp/p/DEBIAN /tmp/p/opt/tool; echo tool > /tmp/p/opt/tool/file
        printf 'Package: tool\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: x\\n' > /tmp/p/DEBIAN/control
        printf '#!/bin/sh\\nset -e\\nchown 7:7 /opt/tool/file\\nchgrp tty /opt/tool\\n' > /tmp/p/DEBIAN/postinst
        chmod 755 /tmp/p/DEBIAN/postinst; dpkg-deb -Zgzip -b /tmp/p /repo/tool.deb
        cd /repo; (dpkg-deb -f tool.deb; echo Filename: ./tool.deb; echo Size: $(stat -c %s tool.deb); \
        echo SHA256: $(sha256sum tool.deb | cut -d' ' -f1)) > Packages
        apt-get update; apt-get install -y tool; apt-config dump APT::Sandbox::User; cat /opt/tool/file";
    let (mut spec, upper) = world.script(script);
    let Root::Overlay { lowers, .. } = &mut spec.root else { unreachable!() };
    let debian = world.directory();
    fs::create_dir_all(debian.join("etc")).unwrap();
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), debian.join(name)).unwrap();
    }
    for name in ["passwd", "group"] {
        fs::copy(format!("/etc/{name}"), debian.join("etc").join(name)).unwrap();
    }
    *lowers = vec![debian];
    spec.env = vec![("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into())];
    let bind = |from: &str, target: &str| Mount::Bind {
        source: apt.join(from),
        within: None,
        target: target.into(),
        read_only: from == "/usr",
    };
    spec.mounts = vec![
        bind("/usr", "/usr"),
        bind("etc", "/etc/apt"),
        bind("lib", "/var/lib/apt"),
        bind("cache", "/var/cache/apt"),
        bind("dpkg", "/var/lib/dpkg"),
        bind("repo", "/repo"),
        Mount::Tmpfs { target: "/tmp".into(), size: None, mode: 0o1777 },
        Mount::Tmpfs { target: "/var/log".into(), size: None, mode: 0o755 },
    ];
    let ran = world.run(&spec);
    assert_eq!(ran.exit, Exit::Code(0), "{:?}", ran.output);
    // Old versions of apt verify that they have changed to their own user, and give up.
    assert!(ran.stdout().ends_with("APT::Sandbox::User \"root\";\ntool\n"), "{:?}", ran.output);
    assert_eq!(fs::read_to_string(upper.join("opt/tool/file")).unwrap(), "tool\n");
    assert!(!apt.join("etc/apt.conf.d/zz-one-id").exists(), "it was not kept");
}
