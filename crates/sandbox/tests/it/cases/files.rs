//! What a command finds in its file system, and what it leaves there.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use skycap_sandbox::{Mount, NetworkFiles, Root, RunSpec, Rung, Upper};

use crate::world::{World, chain, listing};

super::cases! {
    a_run_that_does_nothing_leaves_nothing,
    a_run_keeps_what_it_did_and_no_mount_points,
    a_mount_point_that_came_to_use_stays,
    deleted_and_replaced_directories_are_marked,
    owners_are_kept_where_ids_exist,
    an_overlay_of_130_layers_with_odd_names_mounts,
    an_empty_list_of_layers_is_an_empty_root,
    the_same_upper_directory_serves_again,
    a_directory_is_a_root_too,
    binds_are_writable_or_not,
    a_read_only_bind_covers_what_is_mounted_below,
    targets_follow_links_inside_only,
    sources_are_resolved_within_their_directory,
    an_overlay_inside_shows_a_part_of_it,
    a_tmpfs_has_its_size_and_mode,
    a_secret_is_in_memory_only,
    files_of_the_network_are_provided_and_not_kept,
    links_in_place_of_special_directories_stay_inside,
    an_upper_directory_on_an_overlay_is_refused_with_advice,
}

/// What the pretended changes of owners would still leave: directories that were copied up, unchanged.
fn changed(upper: &std::path::Path) -> Vec<String> {
    listing(upper).into_iter().filter(|path| !upper.join(path).is_dir()).collect()
}

fn a_run_that_does_nothing_leaves_nothing(world: &World) {
    let (spec, upper) = world.script("true");
    let before = fs::metadata(&upper).unwrap().modified().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    world.run(&spec);
    // /etc has got files to mount on, and lost them again: it was copied up.
    assert_eq!(listing(&upper), ["etc"]);
    assert_eq!(fs::metadata(&upper).unwrap().modified().unwrap(), before, "of the root directory");
    let lower = fs::metadata(world.lower.join("etc")).unwrap();
    assert_eq!(fs::metadata(upper.join("etc")).unwrap().modified().unwrap(), lower.modified().unwrap());
}

fn tmpfs(target: &str) -> Mount {
    Mount::Tmpfs { target: target.into(), size: None, mode: 0o755 }
}

fn a_run_keeps_what_it_did_and_no_mount_points(world: &World) {
    let (mut spec, upper) = world.script("echo lost > /cache/a/b/f; echo lost > /tmp/mount/f; echo kept > /kept");
    spec.mounts = vec![tmpfs("/cache/a/b"), tmpfs("/tmp/mount"), tmpfs("/home/dir")];
    world.run(&spec);
    assert_eq!(listing(&upper), ["etc", "kept", "tmp"]);
    assert_eq!(fs::read_to_string(upper.join("kept")).unwrap(), "kept\n");
}

fn a_mount_point_that_came_to_use_stays(world: &World) {
    let (mut spec, upper) = world.script("echo kept > /cache/f; mv /other /moved; ln -s /home /other");
    spec.mounts = vec![tmpfs("/cache/a"), tmpfs("/other/b")];
    world.run(&spec);
    assert_eq!(listing(&upper), ["cache", "cache/f", "etc", "moved", "other"]);
    assert_eq!(listing(&world.lower.join("home")), ["dir", "dir/old", "file"], "the link was not followed");
}

fn deleted_and_replaced_directories_are_marked(world: &World) {
    let (spec, upper) = world.script("rm /home/file; rm -r /home/dir; mkdir /home/dir; rm -r /root");
    world.run(&spec);
    for gone in ["home/file", "root"] {
        let meta = fs::symlink_metadata(upper.join(gone)).unwrap();
        assert!(meta.file_type().is_char_device() && meta.rdev() == 0, "{gone}");
    }
    assert!(!world.sandbox.overlay_xattrs_trusted());
    let mut value = [0_u8; 4];
    let length = rustix::fs::getxattr(upper.join("home/dir"), "user.overlay.opaque", &mut value).unwrap();
    assert_eq!(&value[..length], b"y");
}

fn owners_are_kept_where_ids_exist(world: &World) {
    let script =
        "touch /f /g; chown 1000:1001 /f; chgrp 7 /g; mknod /fifo p && mknod /null c 1 3; echo $?; stat -c %u:%g /f";
    let (spec, upper) = world.script(script);
    let ran = world.run(&spec);
    let text = ran.stdout();
    let meta = fs::metadata(upper.join("f")).unwrap();
    if world.sandbox.owners_kept() {
        assert_eq!((meta.uid(), meta.gid()), (1000, 1001));
        assert_eq!(fs::metadata(upper.join("g")).unwrap().gid(), 7);
        assert!(text.ends_with("1000:1001\n"), "{text}");
    } else {
        assert_eq!((meta.uid(), meta.gid()), (0, 0));
        // A device is refused where nobody can be told of it.
        let device = if World::is_filtered() { "1\n" } else { "0\n" };
        assert_eq!(text, format!("{device}0:0\n"), "changes are pretended");
        let said = "with one id no device can be made; these are missing: /null\n";
        assert_eq!(ran.stderr().contains(said), device == "0\n", "{:?}", ran.output);
        assert!(!upper.join("null").exists());
    }
    assert!(fs::symlink_metadata(upper.join("fifo")).unwrap().file_type().is_fifo());
}

fn an_overlay_of_130_layers_with_odd_names_mounts(world: &World) {
    let directory = world.directory();
    let mut lowers: Vec<PathBuf> = (0..130)
        .map(|number| {
            let layer = directory.join(format!("{}{number}:a,b=\\c d", "x".repeat(100)));
            fs::create_dir_all(layer.join("layers")).unwrap();
            fs::write(layer.join(format!("layers/{number}")), "").unwrap();
            fs::write(layer.join("layers/top"), number.to_string()).unwrap();
            layer
        })
        .collect();
    lowers.push(world.lower.clone());
    let (mut spec, _) = world.script("ls /layers | wc -l; cat /layers/top; grep ' / ' /proc/self/mounts");
    let Root::Overlay { lowers: root, .. } = &mut spec.root else { unreachable!() };
    *root = lowers;
    let text = world.run(&spec).stdout();
    assert!(text.starts_with("131\n0"), "{text}");
    assert!(!text.contains("xxx"), "the paths of the outside can be read: {text}");
}

fn an_empty_list_of_layers_is_an_empty_root(world: &World) {
    let (mut spec, _) = world.script("");
    let Root::Overlay { lowers, upper, .. } = &mut spec.root else { unreachable!() };
    lowers.clear();
    fs::copy(&world.busybox, upper.join("busybox")).unwrap();
    spec.args = vec!["/busybox".into(), "ls".into(), "/".into()];
    let upper = upper.clone();
    assert_eq!(world.run(&spec).stdout(), "busybox\ndev\netc\nproc\nsys\n");
    assert_eq!(listing(&upper), ["busybox"]);
}

fn the_same_upper_directory_serves_again(world: &World) {
    let (mut spec, _) = world.script("echo x >> /f; wc -l < /f");
    for number in ["1\n", "2\n", "3\n"] {
        assert_eq!(world.run(&spec).stdout(), number);
    }
    spec.args[2] = "exit 3".into();
    world.run(&spec);
}

fn a_directory_is_a_root_too(world: &World) {
    let directory = world.directory();
    fs::create_dir(directory.join("bin")).unwrap();
    fs::copy(&world.busybox, directory.join("bin/busybox")).unwrap();
    let script = "/bin/busybox echo x > /made; /bin/busybox ls /";
    let mut spec = RunSpec::new(Root::Directory(directory.clone()), ["/bin/busybox", "sh", "-c", script]);
    spec.mounts = vec![tmpfs("/a/b"), bind(directory.join("bin"), "/again", true)];
    assert_eq!(world.run(&spec).stdout(), "a\nagain\nbin\ndev\netc\nmade\nproc\nsys\n");
    assert_eq!(listing(&directory), ["bin", "bin/busybox", "made"]);
}

fn bind(source: PathBuf, target: &str, read_only: bool) -> Mount {
    Mount::Bind { source, within: None, target: target.into(), read_only }
}

fn binds_are_writable_or_not(world: &World) {
    let outside = world.directory();
    fs::write(outside.join("file"), "outside\n").unwrap();
    let (mut spec, upper) = world.script(
        "cat /ro/file /one; echo x > /rw/new; echo x > /ro/bad; echo x > /one; mount -o remount,rw /ro; echo x > /ro/bad",
    );
    spec.mounts = vec![
        bind(outside.clone(), "/rw", false),
        bind(outside.clone(), "/ro", true),
        bind(outside.join("file"), "/one", true),
    ];
    let ran = world.run(&spec);
    assert_eq!(ran.stdout(), "outside\noutside\n");
    assert_eq!(ran.stderr().matches("Read-only file system").count(), 3, "{}", ran.stderr());
    assert_eq!(listing(&outside), ["file", "new"]);
    assert_eq!(listing(&upper), ["etc"]);
    spec.mounts = vec![bind(outside.join("absent"), "/x", false)];
    let text = chain(&world.try_run(&spec).err().unwrap());
    assert!(text.contains("absent: No such file"), "{text}");
}

fn a_read_only_bind_covers_what_is_mounted_below(world: &World) {
    let outside = world.directory();
    fs::create_dir(outside.join("below")).unwrap();
    // A run inside a run: the inner bind finds a tmpfs below its source.
    let (mut spec, _) = world.script("grep -c ' /ro/[a-z/]* [^ ]* ro,' /proc/self/mounts; echo x > /ro/pts/x");
    spec.mounts = vec![bind("/dev".into(), "/ro", true)];
    let ran = world.run(&spec);
    assert!(ran.stdout().trim().parse::<u32>().unwrap() >= 1, "{:?}", ran.output);
}

fn targets_follow_links_inside_only(world: &World) {
    let (mut spec, upper) = world.script("cat /links/abs/up/secret; ls /etc/inner");
    fs::create_dir(upper.join("links")).unwrap();
    symlink("/../../../../etc/inner", upper.join("links/abs")).unwrap();
    symlink("/links/loop", upper.join("links/loop")).unwrap();
    spec.mounts = vec![
        tmpfs("/links/abs/up"),
        Mount::File {
            target: "/links/abs/up/../up/secret".into(),
            content: b"s\n".to_vec(),
            mode: 0o400,
            uid: 0,
            gid: 0,
        },
    ];
    assert_eq!(world.run(&spec).stdout(), "s\nup\n");
    assert!(!std::path::Path::new("/etc/inner").exists());
    spec.mounts = vec![tmpfs("/links/loop/x")];
    let text = chain(&world.try_run(&spec).err().unwrap());
    assert!(text.contains("/links/loop/x") && text.contains("symbolic links"), "{text}");
    spec.mounts = vec![tmpfs("/etc/passwd/x")];
    assert!(chain(&world.try_run(&spec).err().unwrap()).contains("Not a directory"));
}

fn sources_are_resolved_within_their_directory(world: &World) {
    let outside = world.directory();
    fs::create_dir_all(outside.join("etc/real")).unwrap();
    fs::write(outside.join("etc/real/f"), "inside\n").unwrap();
    symlink("/etc/real", outside.join("link")).unwrap();
    symlink("../../../../../etc/passwd", outside.join("out")).unwrap();
    let within = |source: &str| Mount::Bind {
        source: source.into(),
        within: Some(outside.clone()),
        target: "/m".into(),
        read_only: true,
    };
    let (mut spec, _) = world.script("cat /m/f");
    spec.mounts = vec![within("link")];
    assert_eq!(world.run(&spec).stdout(), "inside\n");
    spec.mounts = vec![within("out")];
    assert!(world.try_run(&spec).is_err());
}

fn an_overlay_inside_shows_a_part_of_it(world: &World) {
    let directory = world.directory();
    for name in ["one/data/sub", "two/data/sub", "upper", "work"] {
        fs::create_dir_all(directory.join(name)).unwrap();
    }
    fs::write(directory.join("one/data/sub/a"), "a\n").unwrap();
    fs::write(directory.join("two/data/sub/b"), "b\n").unwrap();
    symlink("/data/sub", directory.join("one/link")).unwrap();
    let mount = |upper: Option<Upper>, lowers: &[&str], source: &str| Mount::Overlay {
        lowers: lowers.iter().map(|name| directory.join(name)).collect(),
        upper,
        source: source.into(),
        target: "/m".into(),
    };
    let (mut spec, _) = world.script("cat /m/*; echo x > /m/x");
    spec.mounts = vec![mount(None, &["one", "two"], "/link")];
    let ran = world.run(&spec);
    assert_eq!(ran.stdout(), "a\nb\n");
    assert!(ran.stderr().contains("Read-only file system"));
    spec.mounts = vec![mount(None, &["one"], "data/sub")];
    assert_eq!(world.run(&spec).stdout(), "a\n");
    let upper = Upper { upper: directory.join("upper"), work: directory.join("work") };
    spec.mounts = vec![mount(Some(upper), &["one", "two"], "/data/sub")];
    assert_eq!(world.run(&spec).stdout(), "a\nb\n");
    assert_eq!(changed(&directory.join("upper")), ["data/sub/x"]);
}

fn a_tmpfs_has_its_size_and_mode(world: &World) {
    let (mut spec, _) = world.script("stat -c %a /t; head -c 3000000 /dev/zero > /t/f; wc -c < /t/f");
    spec.mounts = vec![Mount::Tmpfs { target: "/t".into(), size: Some(1 << 20), mode: 0o1777 }];
    let ran = world.run(&spec);
    assert_eq!(ran.stdout(), "1777\n1048576\n");
}

fn a_secret_is_in_memory_only(world: &World) {
    let owner = if world.sandbox.owners_kept() { 1000 } else { 0 };
    let (mut spec, upper) = world.script(
        "cat /run/secrets/key; stat -c '%a %u %g' /run/secrets/key; echo x > /run/secrets/key; stat -f -c %T /run/secrets/key",
    );
    let content = b"secret\0\xff\n".to_vec();
    spec.mounts = vec![Mount::File { target: "/run/secrets/key".into(), content, mode: 0o440, uid: owner, gid: owner }];
    let ran = world.run(&spec);
    let expected = [b"secret\0\xff\n".as_slice(), format!("440 {owner} {owner}\ntmpfs\n").as_bytes()].concat();
    assert_eq!(ran.output.stdout, expected, "{:?}", ran.output);
    assert!(ran.stderr().contains("Read-only file system"));
    assert_eq!(listing(&upper), ["etc"]);
}

fn files_of_the_network_are_provided_and_not_kept(world: &World) {
    let script =
        "hostname; cat /etc/hostname /etc/hosts; echo x >> /etc/hosts; tail -n1 /etc/hosts; wc -c < /etc/resolv.conf";
    let (mut spec, upper) = world.script(script);
    // As in images that were made with systemd-resolved.
    fs::create_dir(upper.join("etc")).unwrap();
    symlink("../run/resolve/stub.conf", upper.join("etc/resolv.conf")).unwrap();
    spec.hosts = vec![("db".to_owned(), "10.1.2.3".parse().unwrap()), ("six".to_owned(), "::5".parse().unwrap())];
    let ran = world.run(&spec);
    let resolver = fs::metadata("/etc/resolv.conf").map_or(0, |meta| meta.len());
    assert_eq!(
        ran.stdout(),
        format!(
            "buildkitsandbox\nbuildkitsandbox\n127.0.0.1\tlocalhost buildkitsandbox\n::1\tlocalhost ip6-localhost \
             ip6-loopback\n10.1.2.3\tdb\n::5\tsix\n::5\tsix\n{resolver}\n"
        )
    );
    assert!(ran.stderr().contains("Read-only file system"));
    assert_eq!(changed(&upper), ["etc/resolv.conf"]);
    spec.network_files = NetworkFiles::Writable;
    assert!(world.run(&spec).stdout().contains("\n::5\tsix\nx\n"));
    assert_eq!(changed(&upper), ["etc/resolv.conf"]);
    spec.network_files = NetworkFiles::Absent;
    spec.args[2] = "ls /etc".into();
    assert_eq!(world.run(&spec).stdout(), "group\npasswd\nresolv.conf\n");
}

fn links_in_place_of_special_directories_stay_inside(world: &World) {
    for (name, to) in [("dev", "/etc"), ("proc", "../../../tmp"), ("sys", "/home/dir"), ("etc", "/dev")] {
        let (mut spec, upper) = world.script("head -c 4 /dev/zero | wc -c; test -d /proc/self && echo proc");
        let (root, _) = world.overlay();
        let Root::Overlay { upper: other, .. } = &root else { unreachable!() };
        fs::create_dir(other.join("bin")).unwrap();
        symlink(to, other.join(name)).unwrap();
        if name == "dev" {
            symlink("/etc/passwd", other.join("bin/null")).unwrap();
        }
        drop(upper);
        spec.root = root;
        assert_eq!(world.run(&spec).stdout(), "4\nproc\n", "{name} -> {to}");
    }
    let (spec, upper) = world.script("echo x > /dev/null; ls -l /dev/null | cut -c1");
    fs::create_dir(upper.join("dev")).unwrap();
    symlink("/home/file", upper.join("dev/null")).unwrap();
    assert_eq!(world.run(&spec).stdout(), "c\n");
    assert_eq!(fs::read_to_string(world.lower.join("home/file")).unwrap(), "file\n");
}

fn an_upper_directory_on_an_overlay_is_refused_with_advice(world: &World) {
    let good = world.directory();
    world.sandbox.overlay_upper_works(&good).unwrap();
    // Real root can make an overlay for this program's copy to stand on.
    if world.sandbox.rung() != Rung::Privileged {
        return;
    }
    let place = world.directory();
    for name in ["lower", "upper", "work", "on"] {
        fs::create_dir(place.join(name)).unwrap();
    }
    let script = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work on && mkdir on/d && exec \"$0\" upper on/d";
    let exe = std::env::current_exe().unwrap();
    let output =
        std::process::Command::new("unshare").args(["-m", "sh", "-c", script]).arg(exe).current_dir(&place).output();
    let Ok(output) = output else {
        return skycap_testkit::skipped!("an_upper_directory_on_an_overlay: there is no unshare");
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("lies on an overlay file system itself") && text.contains("/scratch"), "{text}");
}
