//! Other people's unpackers must make the same of other people's images.
//!
//! Every tree is compared in full: path, type, mode, owner, time, size and content, target, extended attributes, which names
//! are one file. umoci is the judge. Images come from our own listings, umoci, buildah, podman and skopeo.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use skycap_image::layout::Layout;
use skycap_image::{
    Artifact, History, Image, ImageConfig, ImageSink as _, ImageSource as _, MediaType, Memory, Name, RootFs, archive,
};

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

fn image(text: &str) -> Image {
    image_of(text.split("##").map(tar))
}

fn image_of(tars: impl IntoIterator<Item = Vec<u8>>) -> Image {
    let memory = Memory::default();
    let (mut descriptors, mut diff_ids) = (Vec::new(), Vec::new());
    for bare in tars {
        let descriptor = memory.add(MediaType::OciLayer, bare);
        diff_ids.push(descriptor.digest);
        descriptors.push(descriptor);
    }
    let config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        history: diff_ids.iter().map(|_| History::default()).collect(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    Image::assemble(&config, descriptors, false, Arc::new(memory)).unwrap()
}

/// A place for images and trees, and the programs that make them.
struct Peers {
    directory: tempfile::TempDir,
    test: &'static str,
}

impl Peers {
    fn new(test: &'static str) -> Self {
        // The names of images want lower case, which random names are not.
        // And podman wants short ones.
        let hash = test.bytes().fold(0_u16, |hash, byte| hash.rotate_left(3) ^ u16::from(byte));
        let name = format!("peers-{hash:04x}-{}", std::process::id());
        Self { directory: tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir().unwrap(), test }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program; nothing, with the reason said, if it is not installed or cannot work here.
    fn run(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new(program);
        // Nothing of the user who runs the tests is to be read or written.
        command.args(arguments).env("HOME", self.directory.path()).env("XDG_RUNTIME_DIR", self.directory.path());
        match command.output() {
            Err(error) => skycap_testkit::skipped!("{}: {program}: {error}", self.test),
            Ok(output) if output.status.success() => return Some(String::from_utf8(output.stdout).unwrap()),
            Ok(output) => {
                let error = String::from_utf8_lossy(&output.stderr);
                // umoci and skopeo need no rights, so they have no reason to fail.
                assert!(program != "umoci" && program != "skopeo", "{program} {arguments:?}: {error}");
                skycap_testkit::skipped!(
                    "{}: {program} failed: {}",
                    self.test,
                    error.trim().lines().last().unwrap_or_default()
                );
            }
        }
        None
    }

    /// `buildah` or `podman`, with storage of its own.
    fn with_storage(&self, program: &str, arguments: &[&str]) -> Option<String> {
        let (root, run) = (self.path("storage"), self.path("run"));
        let storage = ["--root", root.to_str().unwrap(), "--runroot", run.to_str().unwrap(), "--storage-driver", "vfs"];
        self.run(program, &[&storage[..], arguments].concat())
    }

    /// Writes an image to a layout of its own.
    fn layout(&self, name: &str, image: &Image) -> PathBuf {
        let path = self.path(name);
        Layout::create(&path).unwrap().put(&Artifact::Image(image.clone()), &[Name::Tag("t".to_owned())]).unwrap();
        path
    }

    /// What umoci makes of the image `tag` in a layout.
    fn umoci(&self, layout: &Path, tag: &str) -> Option<String> {
        let bundle = tempfile::tempdir_in(self.directory.path()).unwrap();
        let (image, bundle) = (format!("{}:{tag}", layout.display()), bundle.path().join("bundle"));
        let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
        let arguments = [&["unpack", "--image", &image][..], rootless, &[bundle.to_str().unwrap()]].concat();
        self.run("umoci", &arguments)?;
        Some(without_bookkeeping(&tree(&bundle.join("rootfs"), Detail::All)))
    }

    /// Ours and umoci's tree of an image are the same; the image that we read may be another form of the one in the layout.
    fn same(&self, image: &Image, layout: &Path, tag: &str) -> Option<String> {
        let theirs = self.umoci(layout, tag)?;
        let ours = self.ours(image);
        // A directory that no layer describes has the time zero with us, and with umoci that of the clock; so has the root
        // with umoci when a layer that does not describe it makes something in it.
        let is_implied = |line: &str| line.starts_with("dir . ") || line.starts_with("dir ") && line.ends_with("@0.0");
        let without_time = |line: &str| line.split(" @").next().unwrap_or_default().to_owned();
        let same = |(ours, theirs): &(&str, &str)| {
            ours == theirs || is_implied(ours) && without_time(ours) == without_time(theirs)
        };
        let differing: Vec<_> = ours.lines().zip(theirs.lines()).filter(|pair| !same(pair)).collect();
        assert!(differing.is_empty(), "{}: {differing:#?}", layout.display());
        assert_eq!(ours.lines().count(), theirs.lines().count(), "{}", layout.display());
        Some(ours)
    }

    fn ours(&self, image: &Image) -> String {
        let directory = tempfile::tempdir_in(self.directory.path()).unwrap();
        let rootfs = directory.path().join("rootfs");
        unpack(&image.layers(), &rootfs).unwrap();
        tree(&rootfs, Detail::All)
    }
}

fn in_layout(path: &Path, tag: &str) -> Image {
    let Artifact::Image(image) = Layout::open(path).unwrap().get(&Name::Tag(tag.to_owned())).unwrap() else {
        panic!("{}: not one image", path.display())
    };
    image
}

fn in_archive(path: &Path) -> Image {
    let Artifact::Image(image) = archive::open(path).unwrap().only().unwrap() else {
        panic!("{}: not one image", path.display())
    };
    image
}

#[test]
fn umoci_makes_the_same_tree() {
    let peers = Peers::new("umoci_makes_the_same_tree");
    let layout = peers.layout("layout", &image(TEXT));
    peers.same(&in_layout(&layout, "t"), &layout, "t");
}

/// A tree as Alpine lays it out (its packages cannot be had here), with a second layer as `apk add` and `apk del` make it.
const ALPINE: &str = "dir ./ @1
    dir bin @2
    file bin/busybox 0755 @3 \"busybox\"
    link bin/sh -> /bin/busybox
    link bin/ls -> /bin/busybox
    file bin/bbsuid 4111 @3 \"bbsuid\"
    dir dev 0755 @2
    dir dev/pts @2
    dir dev/shm 1777 @2
    dir etc @4
    file etc/alpine-release 0644 @4 \"3.19.1\"
    file etc/passwd 0644 @4 \"root:x:0:0:root:/root:/bin/ash\"
    file etc/shadow 0640 0:42 @4 \"root:*::0:::::\"
    dir etc/apk @4
    file etc/apk/world 0644 @4 \"alpine-baselayout\"
    link etc/mtab -> ../proc/mounts
    dir lib @5
    file lib/ld-musl-x86_64.so.1 0755 @5 \"musl\"
    link lib/libc.musl-x86_64.so.1 -> ld-musl-x86_64.so.1
    dir lib/apk @5
    dir lib/apk/db @5
    file lib/apk/db/installed 0644 @5 \"P:musl\"
    file lib/apk/db/lock 0600 @5
    dir root 0700 @6
    dir run @6
    dir tmp 1777 @6
    dir usr @6
    dir usr/bin @6
    link usr/bin/env -> /bin/busybox
    dir var @7
    dir var/cache @7
    dir var/cache/apk @7
    dir var/empty 0555 @7
    link var/lock -> ../run/lock
    link var/run -> ../run
    link var/spool -> ../none
    dir var/mail 0755 0:12 @7
    ##
    dir etc @20
    dir etc/apk @20
    file etc/apk/world 0644 @20 \"alpine-baselayout-curl\"
    dir lib @5
    dir lib/apk @20
    dir lib/apk/db @20
    file lib/apk/db/installed 0644 @20 \"P:musl,curl\"
    file lib/apk/db/.wh.lock
    dir usr @6
    dir usr/bin @20
    file usr/bin/curl 0755 @19 \"curl\"
    dir var @7
    dir var/cache @7
    dir var/cache/apk @20
    file var/cache/apk/.wh..wh..opq
    file var/cache/apk/index 0644 @20 \"i\"";

#[test]
fn a_tree_as_alpine_lays_it_out_is_the_same() {
    let peers = Peers::new("a_tree_as_alpine_lays_it_out_is_the_same");
    let layout = peers.layout("alpine", &image(ALPINE));
    let Some(tree) = peers.same(&in_layout(&layout, "t"), &layout, "t") else { return };
    assert!(tree.contains("\nfile usr/bin/curl 0755") && !tree.contains("db/lock"), "{tree}");
}

/// The official busybox image: one program, four hundred hard links to it, three layers of accounts and links.
#[test]
fn busybox_with_all_its_names_is_the_same() {
    let peers = Peers::new("busybox_with_all_its_names_is_the_same");
    let Some(names) = peers.run("busybox", &["--list"]) else { return };
    let program = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).unwrap();
    let mut lower = skycap_image::tar::Writer::new(Vec::new());
    lower.entry(&skycap_image::tar::Header { mtime: 3, ..skycap_image::tar::Header::directory("bin/") }).unwrap();
    let file = skycap_image::tar::Header::file("bin/busybox", program.len() as u64);
    lower.append(&skycap_image::tar::Header { mode: 0o755, mtime: 4, ..file }, &program[..]).unwrap();
    for name in names.lines().filter(|name| *name != "busybox") {
        lower.entry(&skycap_image::tar::Header::hardlink(format!("bin/{name}"), "bin/busybox")).unwrap();
    }
    let upper = "dir etc @5\nfile etc/passwd \"root:x:0:0\"\nlink lib64 -> lib\ndir lib @6\nfile bin/.wh.sh\nhard bin/sh => /bin/busybox";
    let image = image_of([lower.finish().unwrap(), tar(upper)]);
    let layout = peers.layout("busybox", &image);
    // umoci 0.4.7 gives a new name the time of its entry, and with it the file and all its names; we change nothing through
    // a link (M05), so the hard link of the upper layer is left to the other tests.
    let Some(theirs) = peers.umoci(&layout, "t") else { return };
    let ours = peers.ours(&in_layout(&layout, "t"));
    let without_time = |tree: &str| -> Vec<String> {
        tree.lines()
            .map(|line| if line.contains("file bin/") { "the program".to_owned() } else { line.to_owned() })
            .collect()
    };
    assert_eq!(without_time(&ours), without_time(&theirs));
    assert!(names.lines().count() > 200 && ours.matches("\nhard bin/").count() > 200);
}

/// umoci's own layers: what it makes of changes to a tree, of an inserted directory, of one that hides what was there.
#[test]
fn layers_that_umoci_makes_are_the_same() {
    let peers = Peers::new("layers_that_umoci_makes_are_the_same");
    let layout = peers.layout("layout", &image(ALPINE));
    let image = format!("{}:t", layout.display());
    let bundle = peers.path("bundle");
    let rootless: &[&str] = if is_root() { &[] } else { &["--rootless"] };
    let bundle_text = bundle.to_str().unwrap();
    if peers.run("umoci", &[&["unpack", "--image", &image][..], rootless, &[bundle_text]].concat()).is_none() {
        return;
    }
    let root = bundle.join("rootfs");
    fs::remove_file(root.join("bin/ls")).unwrap();
    fs::remove_dir_all(root.join("lib/apk")).unwrap();
    fs::remove_dir_all(root.join("usr/bin")).unwrap();
    std::os::unix::fs::symlink("../bin", root.join("usr/bin")).unwrap();
    fs::write(root.join("etc/alpine-release"), "4").unwrap();
    fs::hard_link(root.join("etc/passwd"), root.join("etc/passwd-")).unwrap();
    fs::remove_file(root.join("var/run")).unwrap();
    fs::create_dir(root.join("var/run")).unwrap();
    fs::write(root.join("var/run/pid"), "1").unwrap();
    let second = format!("{}:second", layout.display());
    peers.run("umoci", &["repack", "--image", &second, bundle_text]).unwrap();
    let inserted = peers.path("inserted");
    fs::create_dir_all(inserted.join("sub")).unwrap();
    // A whole block, because `umoci insert` forgets the padding of what it writes last, which GNU tar does not take and
    // we do not (docs/decisions/0008).
    fs::write(inserted.join("sub/file"), [b'x'; 512]).unwrap();
    let inserted = inserted.to_str().unwrap();
    let insert =
        |arguments: &[&str]| peers.run("umoci", &[&["insert", "--image", &second][..], rootless, arguments].concat());
    insert(&[inserted, "/srv/www"]).unwrap();
    insert(&["--opaque", inserted, "/var"]).unwrap();
    insert(&["--whiteout", "/dev/shm"]).unwrap();
    let image = in_layout(&layout, "second");
    assert_eq!(image.layers().len(), 6);
    let tree = peers.same(&image, &layout, "second").unwrap();
    assert!(tree.contains("\nfile var/sub/file") && !tree.contains("var/mail") && !tree.contains("dev/shm"), "{tree}");
}

/// A Dockerfile's layers as buildah makes them: copies, deletions of files and directories, replacements by other types.
#[test]
fn layers_that_buildah_makes_are_the_same() {
    let peers = Peers::new("layers_that_buildah_makes_are_the_same");
    let Ok(program) = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")) else {
        skycap_testkit::skipped!("layers_that_buildah_makes_are_the_same: busybox: not installed");
        return;
    };
    let mut lower = skycap_image::tar::Writer::new(Vec::new());
    let file = skycap_image::tar::Header::file("bin/busybox", program.len() as u64);
    lower.append(&skycap_image::tar::Header { mode: 0o755, mtime: 4, ..file }, &program[..]).unwrap();
    let base = image_of([
        lower.finish().unwrap(),
        tar(
            "link bin/sh -> busybox\ndir data @5\nfile data/old \"old\"\ndir data/sub/deep\nfile data/sub/deep/x \"x\"\ndir gone\nfile gone/x \"x\"\ndir replaced\nfile replaced/x \"x\"\nfile tofile \"x\"",
        ),
    ]);
    let layout = peers.layout("base", &base);
    let context = peers.path("context");
    fs::create_dir_all(context.join("data/sub")).unwrap();
    fs::write(context.join("data/new"), "new").unwrap();
    fs::write(context.join("data/sub/other"), "other").unwrap();
    let dockerfile = format!(
        "FROM oci:{}:t\nCOPY data /data\nRUN [\"/bin/busybox\", \"rm\", \"-rf\", \"/gone\", \"/data/old\"]\n\
         RUN /bin/busybox rm -rf /data/sub && /bin/busybox mkdir /data/sub && echo again > /data/sub/again\n\
         RUN /bin/busybox rm -rf /replaced && /bin/busybox ln -s data /replaced && /bin/busybox rm /tofile && /bin/busybox mkdir -m 1770 /tofile\n\
         RUN /bin/busybox ln /data/new /data/hard && /bin/busybox chmod 4711 /data/new && /bin/busybox mkfifo /pipe\n",
        layout.display()
    );
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    let build = ["build", "--isolation", "chroot", "--network", "host", "--layers=true", "--tag", "result"];
    let out = peers.path("out");
    let target = format!("oci:{}:result", out.display());
    if peers.with_storage("buildah", &[&build[..], &[context.to_str().unwrap()]].concat()).is_none()
        || peers.with_storage("buildah", &["push", "result", &target]).is_none()
    {
        return;
    }
    let image = in_layout(&out, "result");
    assert!(image.layers().len() >= 6, "{}", image.layers().len());
    let Some(tree) = peers.same(&image, &out, "result") else { return };
    assert!(tree.contains("\nfile data/sub/again") && !tree.contains("data/sub/deep"), "{tree}");
    assert!(tree.contains("\nlink replaced") && tree.contains("\nfifo pipe") && !tree.contains("gone"), "{tree}");
}

/// What podman imports and saves, as both kinds of archive.
#[test]
fn archives_that_podman_makes_are_the_same() {
    let peers = Peers::new("archives_that_podman_makes_are_the_same");
    let tarball = peers.path("tree.tar");
    fs::write(&tarball, tar(ALPINE.split("##").next().unwrap())).unwrap();
    if peers.with_storage("podman", &["import", tarball.to_str().unwrap(), "localhost/imported:1"]).is_none() {
        return;
    }
    for format in ["docker-archive", "oci-archive"] {
        let saved = peers.path(format);
        let arguments = ["save", "--format", format, "--output", saved.to_str().unwrap(), "localhost/imported:1"];
        if peers.with_storage("podman", &arguments).is_none() {
            return;
        }
        let layout = peers.path(&format!("{format}-layout"));
        let (from, to) = (format!("{format}:{}", saved.display()), format!("oci:{}:t", layout.display()));
        if peers.run("skopeo", &["copy", &from, &to]).is_none() {
            return;
        }
        peers.same(&in_archive(&saved), &layout, "t");
    }
}

/// The same image in every form that skopeo makes of it.
#[test]
fn what_skopeo_makes_of_an_image_is_the_same() {
    let peers = Peers::new("what_skopeo_makes_of_an_image_is_the_same");
    let layout = peers.layout("layout", &image(TEXT));
    let from = format!("oci:{}:t", layout.display());
    let copy = |arguments: &[&str], to: &str| peers.run("skopeo", &[&["copy", &from][..], arguments, &[to]].concat());
    let zstd = peers.path("zstd");
    let to = |path: &Path| format!("oci:{}:t", path.display());
    if copy(&["--dest-compress-format", "zstd"], &to(&zstd)).is_none() {
        return;
    }
    let image = in_layout(&zstd, "t");
    let media_type = image.layers()[0].descriptor.media_type.to_string();
    assert!(media_type.ends_with("+zstd"), "{media_type}");
    peers.same(&image, &layout, "t");
    let gzip = peers.path("gzip");
    copy(&["--dest-compress-format", "gzip"], &to(&gzip)).unwrap();
    peers.same(&in_layout(&gzip, "t"), &gzip, "t");
    for format in ["docker-archive", "oci-archive"] {
        let path = peers.path(&format!("{format}.tar"));
        copy(&[], &format!("{format}:{}:skycap/t:1", path.display())).unwrap();
        peers.same(&in_archive(&path), &layout, "t");
    }
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
            skycap_testkit::skipped!("gnu_tar_makes_the_same_tree_of_a_single_layer: tar: {error}");
            return;
        }
        // An ordinary user cannot set capabilities, and tar says so.
        Ok(output) => assert!(output.status.success() || !is_root(), "{}", String::from_utf8_lossy(&output.stderr)),
    }
    unpack(&layers(text), &room.rootfs()).unwrap();
    assert_eq!(tree(&room.rootfs(), Detail::All), tree(Path::new(&theirs), Detail::All));
}
