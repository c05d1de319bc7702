//! Other people's unpackers must make the same of a layer.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, Image, ImageConfig, ImageSink as _, ImageSource as _, MediaType, Memory, Name, RootFs};

use crate::world::{Detail, Room, is_root, layers, tar, tree, unpack};

/// Everything that all can do in the same way. (As an ordinary user, GNU tar and umoci fail at attributes of read-only files.)
const TEXT: &str = "dir ./ 0755 @1
    dir bin 0755 @2
    file bin/busybox 0755 @3.000000005 \"busybox\"
    hard bin/ls => bin/busybox
    hard bin/sh => bin/busybox
    file bin/su 4755 @4 \"su\"
    file bin/wall 2755 0:5 @4 \"wall\"
    file bin/ping 0755 @5 security.capability=%01%00%00%02%00%20%00%00%00%00%00%00%00%00%00%00%00%00%00%00 \"ping\"
    file bin/tagged 0644 @6 user.a=1 user.b=%00%ff \"tagged\"
    dir tmp 1777 @7
    dir gone @8
    file gone/a \"a\"
    dir hidden 0700 33:33 @9
    file hidden/old \"old\"
    dir hidden/sub @10
    file hidden/sub/old \"old\"
    dir etc @11
    file etc/motd 0644 @12 \"old\"
    file etc/issue 0644 @12 \"issue\"
    link etc/mtab -> ../proc/self/mounts
    link lib -> usr/lib
    dir usr @13
    dir usr/lib @14
    file usr/lib/a 0600 1000:1000 @15 \"a\"
    ##
    dir etc @21
    file etc/.wh.issue
    file etc/motd 0600 @22 \"new\"
    file .wh.gone
    dir hidden 0711 33:34 @23
    file hidden/.wh..wh..opq
    file hidden/new 0644 @24 \"new\"
    file bin/.wh.sh
    ##
    dir usr @31
    dir usr/lib @31
    file usr/lib/b 0644 @31 \"b\"
    hard usr/lib/c => usr/lib/b
    dir etc @31
    dir etc/motd 0755 @32
    file etc/motd/inside 0644 @33 \"x\"";

fn image() -> Image {
    let memory = Memory::default();
    let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
    for text in TEXT.split("##") {
        let bare = tar(text);
        let descriptor = memory.add(MediaType::OciLayer, bare);
        diff_ids.push(descriptor.digest);
        descriptors.push(descriptor);
    }
    let config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    Image::assemble(&config, descriptors, false, Arc::new(memory)).unwrap()
}

#[test]
fn umoci_makes_the_same_tree() {
    let room = Room::new();
    let layout_path = room.path().join("layout");
    let layout = Layout::create(&layout_path).unwrap();
    layout.put(&Artifact::Image(image()), &[Name::Tag("t".to_owned())]).unwrap();
    let bundle = room.path().join("bundle");
    let mut umoci = Command::new("umoci");
    umoci.arg("unpack").arg("--image").arg(format!("{}:t", layout_path.display()));
    if !is_root() {
        umoci.arg("--rootless");
    }
    match umoci.arg(&bundle).output() {
        Err(error) => {
            eprintln!("skipped: umoci_makes_the_same_tree: umoci: {error}");
            return;
        }
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr)),
    }
    let Artifact::Image(image) = layout.get(&Name::Tag("t".to_owned())).unwrap() else { panic!("an image") };
    unpack(&image.layers(), &room.rootfs()).unwrap();
    let ours = tree(&room.rootfs(), Detail::All);
    let theirs = without_bookkeeping(&tree(&bundle.join("rootfs"), Detail::All));
    assert_eq!(ours, theirs);
}

/// Without root, umoci notes owners in an attribute.
fn without_bookkeeping(tree: &str) -> String {
    let word = |word: &&str| !word.starts_with("user.rootlesscontainers=");
    let line = |line: &str| line.split(' ').filter(word).collect::<Vec<_>>().join(" ") + "\n";
    tree.lines().map(line).collect()
}

/// GNU tar has no whiteouts, but on a single layer it must agree.
#[test]
fn gnu_tar_makes_the_same_tree_of_a_single_layer() {
    let room = Room::new();
    let text = TEXT.split("##").next().unwrap();
    let archive = room.path().join("layer.tar");
    std::fs::write(&archive, tar(text)).unwrap();
    let theirs = room.path().join("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let mut program = Command::new("tar");
    program.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"]).arg(&archive).arg("-C").arg(&theirs);
    match program.output() {
        Err(error) => {
            eprintln!("skipped: gnu_tar_makes_the_same_tree_of_a_single_layer: tar: {error}");
            return;
        }
        // An ordinary user cannot set capabilities, and tar says so.
        Ok(output) => assert!(output.status.success() || !is_root(), "{}", String::from_utf8_lossy(&output.stderr)),
    }
    unpack(&layers(text), &room.rootfs()).unwrap();
    assert_eq!(tree(&room.rootfs(), Detail::All), tree(Path::new(&theirs), Detail::All));
}
