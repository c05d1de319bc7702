//! Files become layers, and the same files again.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use skycap_image::{Layer, Silent};
use skycap_rootfs::{
    Change, Metadata, Owners, Pack, Tree as _, TreePath, pack_directory, pack_overlay_upper, unpack_overlay,
};

use crate::overlay::{in_overlay, style};
use crate::view::view_of;
use crate::world::{Detail, Room, is_root, layers, options, stored, tree, unpack};

fn owners() -> Owners {
    options().owners
}

fn packed(directory: &Path) -> Vec<u8> {
    let mut pack = Pack::new(Vec::new());
    pack_directory(directory, &TreePath::root(), owners(), &|_, _| {}, &mut pack).unwrap();
    pack.finish().unwrap()
}

#[test]
fn what_was_unpacked_packs_and_unpacks_to_the_same() {
    let text = "dir d 0750 1:2 @5.000000007\nfile d/su 4755 3:4 @-1 \"x\"\nhard d/two => d/su\nlink l -> ../x 5:6 @9\nfifo p 0600
        file d/attr 0444 user.a=1 user.b=%00%ff \"y\"\nfile %ff%0a \"odd\"\nfile empty\nchar null 1 3 0666";
    let room = Room::new();
    unpack(&layers(text), &room.rootfs()).unwrap();
    let bytes = packed(&room.rootfs());
    assert_eq!(bytes, packed(&room.rootfs()), "the same files are the same bytes");
    let again = room.path().join("p/rootfs/again");
    let expected = tree(&room.rootfs(), Detail::All);
    unpack(&[stored(&bytes)], &again).unwrap();
    let without_root = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned());
    assert_eq!(without_root(&tree(&again, Detail::All)), without_root(&expected));
}

#[test]
fn a_directory_can_be_packed_below_a_prefix_with_other_metadata() {
    let room = Room::new();
    fs::create_dir_all(room.path().join("p/rootfs/b")).unwrap();
    fs::write(room.rootfs().join("b/c"), "x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(room.rootfs().join("socket")).unwrap();
    let fixed = |_: &TreePath, metadata: &mut Metadata| {
        *metadata = Metadata { mode: metadata.mode & 0o700, uid: 7, gid: 8, ..Metadata::default() };
    };
    let prefix = TreePath::parse(b"opt/a").unwrap();
    let mut pack = Pack::new(Vec::new());
    assert_eq!(pack_directory(&room.rootfs(), &prefix, Owners::Squash, &fixed, &mut pack).unwrap(), 3);
    let view = view_of(&[stored(&pack.finish().unwrap())]);
    let lines: Vec<String> = view
        .walk(&prefix)
        .map(|(path, entry)| {
            let Metadata { mode, uid, gid, mtime, .. } = &entry.metadata;
            format!("{path} {mode:o} {uid}:{gid} {}", mtime.seconds)
        })
        .collect();
    assert_eq!(lines, ["opt/a 700 7:8 0", "opt/a/b 700 7:8 0", "opt/a/b/c 600 7:8 0"]);
}

#[test]
fn whiteouts_come_out_as_they_went_in_and_look_alikes_are_refused() {
    let path = |path: &str| TreePath::parse(path.as_bytes()).unwrap();
    let mut pack = Pack::new(Vec::new());
    pack.apply(&path("d"), Change::Directory(&Metadata::implied())).unwrap();
    pack.opaque(&path("d")).unwrap();
    pack.whiteout(&path("x")).unwrap();
    pack.whiteout(&path("e/x")).unwrap();
    assert!(pack.whiteout(&TreePath::root()).is_err());
    let error = pack.add(&path(".wh.x"), Change::Fifo(&Metadata::default())).unwrap_err();
    assert!(error.to_string().contains("cannot hold"), "{error}");
    let upper = stored(&pack.finish().unwrap());
    let lower = layers("file x\nfile d/x\nfile e/x\nfile e/y").remove(0);
    let room = Room::new();
    unpack(&[lower, upper], &room.rootfs()).unwrap();
    assert_eq!(tree(&room.rootfs(), Detail::Shape), "dir .\ndir d\ndir e\nfile e/y \"\"\n");
}

const BASE: &str = "dir etc 0755 0:0 @1
    file etc/passwd 0644 @2 \"root\"
    dir home/user 0700 1000:1000 @3
    file home/user/data 0600 1000:1000 @4 \"data\"
    file home/user/more 0600 1000:1000 @4 \"more\"
    dir big/sub/deep 0755 @5
    file big/a \"a\"
    file big/sub/b \"b\"
    file big/sub/deep/c \"c\"
    dir tmp 1777 @6
    link lib -> usr/lib
    dir usr/lib
    file usr/lib/x \"x\"
    file usr/lib/y \"y\"
    hard usr/lib/z => usr/lib/y";

/// Runs a script over the base and packs the difference. Gives the layers, the merged tree as the script left it, and the
/// entries of the difference.
fn run(script: &str, room: &Room) -> Option<(Vec<Layer>, String, String)> {
    let base = layers(BASE);
    let view = view_of(&base);
    let lower = room.path().join("lower");
    let index = skycap_rootfs::LayerIndex::of(&base[0], &skycap_rootfs::Limits::default()).unwrap();
    unpack_overlay(&base[0], &index, &skycap_rootfs::View::default(), &lower, &options(), style(), &Silent).unwrap();
    let upper = room.path().join("upper");
    fs::create_dir(&upper).unwrap();
    fs::set_permissions(&upper, fs::Permissions::from_mode(0o755)).unwrap();
    let script = format!("cd $1; {script}\n{LIST}");
    let listed = in_overlay(std::slice::from_ref(&lower), Some(&upper), room.path(), &script)?;
    let mut pack = Pack::new(Vec::new());
    let exclude = |path: &TreePath| path.as_bytes() == b"etc/resolv.conf";
    let count = pack_overlay_upper(&upper, &[lower], &view, owners(), (0, 0), &exclude, &mut pack).unwrap();
    let layer = stored(&pack.finish().unwrap());
    let index = skycap_rootfs::LayerIndex::of(&layer, &skycap_rootfs::Limits::default()).unwrap();
    assert_eq!(index.records().len(), count);
    let entries: Vec<String> = index
        .records()
        .iter()
        .map(|(path, record)| match record {
            skycap_rootfs::Record::Whiteout => format!("-{path}"),
            skycap_rootfs::Record::Opaque => format!("={path}"),
            skycap_rootfs::Record::Hardlink(target) => format!("{path}=>{target}"),
            skycap_rootfs::Record::Entry(..) => path.to_string(),
        })
        .collect();
    Some((base.into_iter().chain([layer]).collect(), listed, entries.join(" ")))
}

/// Types, modes, targets and content; without the root and without the mount point.
const LIST: &str = r#"find . -mindepth 1 ! -path ./etc/resolv.conf -printf '%y %p %m %U:%G %l\n' | sort -k2
    find . -type f -readable ! -path ./etc/resolv.conf | sort | xargs -r -d "\n" sha256sum"#;

#[test]
fn the_difference_of_a_run_is_what_it_changed_and_nothing_else() {
    for (script, expected) in [
        ("true", ""),
        ("cat etc/passwd >/dev/null; ls -R . >/dev/null", ""),
        ("touch tmp/x; rm tmp/x; mkdir usr/new; rmdir usr/new", ""),
        ("echo nameserver >etc/resolv.conf", ""),
        ("echo more >>etc/passwd", "etc etc/passwd"),
        ("rm big/a", "big -big/a"),
        ("rm -r big", "-big"),
        ("rm -r big; mkdir big", "big -big/a -big/sub"),
        ("rm -r big; mkdir -p big/sub; echo n >big/sub/n", "big -big/a big/sub -big/sub/b -big/sub/deep big/sub/n"),
        ("rm -r big; echo file >big", "big"),
        ("rm lib; mkdir lib; echo x >lib/x", "lib lib/x"),
        ("chmod 0750 usr", "usr"),
        ("mkdir -p new/dir; echo x >new/dir/x", "new new/dir new/dir/x"),
        ("echo 1 >n1; ln n1 n2; ln n1 a", "a n1=>a n2=>a"),
        ("ln -s /x tmp/l; mkfifo tmp/f", "tmp tmp/f tmp/l"),
        ("mv big/sub/b big/sub/n", "big big/sub -big/sub/b big/sub/n"),
        ("rm usr/lib/y", "usr usr/lib -usr/lib/y"),
        ("chmod 644 etc/passwd big/a; : >>big/a; ln big/a big/n; rm big/n; mv lib m; mv m lib", ""),
        ("cp -p big/a big/n; mv big/n big/a; cp -P -p lib m; mv -T m lib", ""),
        (
            "rm -r big/sub; mkdir -p big/sub/deep; touch big/a",
            "big big/a big/sub -big/sub/b big/sub/deep -big/sub/deep/c",
        ),
        ("ln big/a big/n", "big big/a big/n=>big/a"),
        ("touch -r etc/passwd t; printf ROOT >etc/passwd; touch -r t etc/passwd; rm t", "etc etc/passwd"),
        ("chmod 600 etc/passwd", "etc etc/passwd"),
        ("echo x >odd\\ name; chmod 4755 odd\\ name", "\"odd name\""),
    ] {
        let room = Room::new();
        let Some((layers, listed, entries)) = run(script, &room) else { return };
        assert_eq!(entries, expected.replace('"', ""), "{script}");
        unpack(&layers, &room.rootfs()).unwrap();
        let merged = Command::new("sh").args(["-ec", &format!("cd $1\n{LIST}"), "sh"]).arg(room.rootfs()).output();
        let merged = String::from_utf8(merged.unwrap().stdout).unwrap().replace(" 65534:65534 ", " 0:0 ");
        assert_eq!(merged, listed, "{script}");
    }
}

#[test]
fn owners_come_from_the_view_when_the_disk_cannot_know_them() {
    let room = Room::new();
    let view = view_of(&layers(BASE));
    let upper = room.path().join("upper");
    fs::create_dir_all(upper.join("home/user")).unwrap();
    fs::set_permissions(upper.join("home/user"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(upper.join("home/user/data"), "changed").unwrap();
    fs::write(upper.join("home/user/new"), "new").unwrap();
    // Another type than below: another file.
    symlink("x", upper.join("home/user/more")).unwrap();
    let mut pack = Pack::new(Vec::new());
    pack_overlay_upper(&upper, &[], &view, Owners::Squash, (7, 8), &|_| false, &mut pack).unwrap();
    let difference = view_of(&[stored(&pack.finish().unwrap())]);
    let owner = |path: &str| {
        let metadata = &difference.lookup(&TreePath::parse(path.as_bytes()).unwrap()).unwrap().metadata;
        (metadata.uid, metadata.gid)
    };
    assert_eq!(owner("home/user"), (1000, 1000));
    assert_eq!(owner("home/user/data"), (1000, 1000));
    assert_eq!(owner("home/user/new"), (7, 8));
    assert_eq!(owner("home/user/more"), (7, 8));
}

#[test]
fn what_the_upper_directory_does_not_hold_is_refused() {
    let room = Room::new();
    let view = view_of(&layers(BASE));
    let prefix = if is_root() { "trusted" } else { "user" };
    for (mark, text) in [("redirect", "redirect_dir=off"), ("metacopy", "metacopy=off")] {
        let upper = room.path().join(mark);
        fs::create_dir_all(upper.join("d")).unwrap();
        fs::write(upper.join("f"), "").unwrap();
        let target = upper.join(if mark == "redirect" { "d" } else { "f" });
        let name = format!("{prefix}.overlay.{mark}");
        rustix::fs::setxattr(&target, name, b"/else", rustix::fs::XattrFlags::empty()).unwrap();
        let mut pack = Pack::new(Vec::new());
        let error = pack_overlay_upper(&upper, &[], &view, owners(), (0, 0), &|_| false, &mut pack).unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_mark_that_hides_nothing_is_not_written() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let room = Room::new();
    let upper = room.path().join("upper");
    fs::create_dir_all(upper.join("tmp")).unwrap();
    fs::set_permissions(upper.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    for name in ["tmp/never-there", "none"] {
        if let Err(error) = mknodat(CWD, upper.join(name), FileType::CharacterDevice, Mode::empty(), 0) {
            skycap_testkit::skipped!("a_mark_that_hides_nothing_is_not_written: mknod: {error}");
            return;
        }
    }
    let mut pack = Pack::new(Vec::new());
    // Squashed, so that the directory is as in the view for an ordinary user, too.
    let count = pack_overlay_upper(&upper, &[], &view_of(&layers(BASE)), Owners::Squash, (0, 0), &|_| false, &mut pack)
        .unwrap();
    assert_eq!(count, 0);
}
