//! Layers as overlay directories, mounted for real where that is possible.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use skycap_image::{Layer, Silent};
use skycap_rootfs::{LayerIndex, Limits, OverlayXattrs, View, unpack_overlay};

use crate::view::view_of;
use crate::world::{Detail, Room, chain, is_root, layers, options, tree, unpack};

/// Unpacks every layer by itself, above those before it; the uppermost directory first, as overlayfs wants them.
fn lowers(layers: &[Layer], directory: &Path, style: OverlayXattrs) -> Vec<PathBuf> {
    let mut lowers = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        // As the store does it: a layer that stands alone is unpacked once, whatever is below it.
        let index = LayerIndex::of(layer, &Limits::default()).unwrap();
        let below = if index.needs_below() { view_of(&layers[..number]) } else { View::default() };
        let destination = directory.join(format!("lower{number}"));
        unpack_overlay(layer, &index, &below, &destination, &options(), style, &Silent).unwrap();
        lowers.insert(0, destination);
    }
    lowers
}

/// Runs a shell script in a mount namespace with these lower directories merged at `$1` and, if given, an upper directory.
/// Nothing if this machine does not let us.
pub(crate) fn in_overlay(lowers: &[PathBuf], upper: Option<&Path>, room: &Path, script: &str) -> Option<String> {
    let (merged, work, empty) = (room.join("merged"), room.join("work"), room.join("empty"));
    for directory in [&merged, &work, &empty] {
        fs::create_dir_all(directory).unwrap();
    }
    let mut lowerdir: Vec<String> = lowers.iter().map(|lower| lower.display().to_string()).collect();
    // A single lower directory without an upper one is refused.
    lowerdir.push(empty.display().to_string());
    let mut mount = format!("lowerdir={}", lowerdir.join(":"));
    if let Some(upper) = upper {
        mount = format!("{mount},upperdir={},workdir={}", upper.display(), work.display());
    }
    let namespaces: &[&str] = if is_root() { &["-m"] } else { &["-Urm"] };
    let userxattr = if is_root() { "" } else { ",userxattr" };
    let script = format!("mount -t overlay overlay -o {mount}{userxattr} \"$1\" || exit 99\n{script}");
    let mut unshare = Command::new("unshare");
    unshare.args(namespaces).args(["--", "sh", "-ec", &script, "sh"]).arg(&merged);
    let output = match unshare.output() {
        Ok(output) => output,
        Err(error) => {
            skycap_testkit::skipped!("part of an overlay test: unshare: {error}");
            return None;
        }
    };
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(99) || error.starts_with("unshare:") {
        skycap_testkit::skipped!("part of an overlay test: {error}");
        return None;
    }
    assert!(output.status.success(), "{script}\n{error}");
    Some(String::from_utf8(output.stdout).unwrap())
}

pub(crate) fn style() -> OverlayXattrs {
    if is_root() { OverlayXattrs::Trusted } else { OverlayXattrs::User }
}

/// What a container would see: types, modes, owners, times of directories and files, targets, and content.
const LIST: &str = r#"cd $1; find . -printf '%y %p %m %U:%G %T@ %l\n' | sort -k2; find . -type f -readable | sort | xargs -r -d "\n" sha256sum"#;

#[test]
fn stacked_layers_look_like_merged_ones() {
    for (name, text) in [
        (
            "whiteouts",
            "dir a 0755 @1\nfile a/x 0644 @2 \"1\"\nfile a/y \"2\"\ndir b\nfile b/z\n##\nfile a/.wh.x\nfile .wh.b\ndir a 0755 @1",
        ),
        (
            "opaque",
            "dir d 0755 @1\nfile d/old\ndir d/sub 0700 @2\nfile d/sub/x\n##\ndir d 0711 @3\nfile d/.wh..wh..opq\nfile d/new 0644 @4 \"n\"",
        ),
        ("own entries", "dir d\nfile d/old\n##\nfile .wh.d\ndir d 0700 @9\nfile d/new \"n\""),
        (
            "implied parents",
            "dir tmp 1777 3:4 @5\ndir tmp/d 0710 5:6 @6 user.x=1\nfile tmp/d/x\n##\nfile tmp/d/y 0644 @7 \"y\"",
        ),
        (
            "usr-merge",
            "dir usr/bin 0711 @4\nlink bin -> usr/bin\n##\nfile bin/sh 0755 @1 \"sh\"\n##\nfile usr/bin/ls 0755 @2 \"ls\"",
        ),
        ("whiteout below a link", "dir usr/bin\nfile usr/bin/x\nlink bin -> /usr/bin\n##\nfile bin/.wh.x\nfile other"),
        ("replacements", "file a\ndir b\nfile b/x\nlink c -> b\n##\ndir a\nfile a/x\nfile b \"b\"\ndir c"),
        ("nothing to hide", "file a\n##\nfile .wh.none\nfile no/.wh.ne\nfile a/.wh.b\nfile b"),
        ("hidden twice", "dir a/b\nfile a/b/c\n##\nfile .wh.a\nfile a/.wh.b\nfile a/b/.wh.c\nfile z"),
        ("link over a hidden directory", "dir d\nfile d/x\ndir e\n##\nfile .wh.d\nlink d -> e\nfile d/y \"y\""),
        (
            "alone",
            "dir a 0755 @1\nfile a/x\nfile a/y\ndir b\nfile b/x\nfile z\n##\ndir a 0700 @2\nfile a/.wh.x\ndir b 0711 @3\nfile b/.wh..wh..opq\nfile b/new\nfile .wh.z",
        ),
        ("a hidden link leads nowhere", "dir usr/bin\nlink bin -> usr/bin\n##\nfile .wh.bin\nfile bin/sh \"sh\""),
        (
            "a hidden directory describes nothing",
            "dir d @1\ndir d/sub 0700 5:6 @2\nfile d/sub/x\n##\ndir d @3\nfile d/.wh..wh..opq\nfile d/sub/y",
        ),
        ("a device 0:0 is no whiteout", "file a \"a\"\n##\nfifo b"),
    ] {
        let layers = layers(text);
        let room = Room::new();
        let lowers = lowers(&layers, room.path(), style());
        unpack(&layers, &room.rootfs()).unwrap();
        let Some(stacked) = in_overlay(&lowers, None, room.path(), LIST) else { return };
        let merged = Command::new("sh").args(["-ec", LIST, "sh"]).arg(room.rootfs()).output().unwrap();
        // In a user namespace we are root.
        let merged = String::from_utf8(merged.stdout).unwrap().replace(" 65534:65534 ", " 0:0 ");
        let without_root = |text: &str| text.split_once('\n').map(|(_, rest)| rest.to_owned());
        assert_eq!(without_root(&stacked), without_root(&merged), "{name}");
    }
}

#[test]
fn marks_are_devices_and_attributes_of_the_chosen_style() {
    let layers =
        layers("dir d\nfile d/x\nfile y\n##\nfile .wh.y\ndir d\nfile d/.wh..wh..opq\nchar trap 0 0\nfile d/new");
    let room = Room::new();
    let lowers = lowers(&layers, room.path(), style());
    let upper = &lowers[0];
    let whiteout = fs::symlink_metadata(upper.join("y")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    let attribute = if is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" };
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(upper.join("d"), attribute, &mut value[..]).unwrap(), 1);
    assert_eq!(&value[..1], b"y");
    // A device of the image that looks like a whiteout must not hide anything.
    assert!(fs::symlink_metadata(upper.join("trap")).unwrap().is_file());
    let text = tree(&lowers[1], Detail::Shape);
    assert_eq!(text, "dir .\ndir d\nfile d/x \"\"\nfile y \"\"\n");
}

#[test]
fn a_hard_link_to_a_lower_file_is_a_clear_error() {
    let layers = layers("file a \"x\"\n##\nhard b => a");
    let room = Room::new();
    let below = view_of(&layers[..1]);
    let index = LayerIndex::of(&layers[1], &Limits::default()).unwrap();
    assert!(index.needs_below());
    let error = unpack_overlay(&layers[1], &index, &below, &room.rootfs(), &options(), style(), &Silent).unwrap_err();
    assert!(chain(&error).contains("of a lower layer"), "{}", chain(&error));
    let error =
        unpack_overlay(&layers[1], &index, &View::default(), &room.rootfs(), &options(), style(), &Silent).unwrap_err();
    assert!(chain(&error).contains("does not exist"), "{}", chain(&error));
    room.assert_untouched("hard link");
}
