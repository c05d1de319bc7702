//! The same Dockerfile, built by Debian's buildah.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use skycap_image::{Artifact, Compression, Image, ImageSink as _, ImageSource as _};
use skycap_rootfs::{Entry, Kind, LayerIndex, Limits, TreePath, View};

use crate::world::{World, tag, with_shell};

pub const TESTS: &[crate::Test] = &[("buildah_makes_the_same_files_and_configuration", buildah_makes_the_same)];

const DOCKERFILES: &[&str] = &[
    "FROM scratch\nCOPY . /all/\nCOPY one.txt dir/ /some/\nENV A=1 B=\"x y\"\nLABEL l=$A\nCMD [\"x\"]\nENTRYPOINT [\"e\", \"$A\"]\nUSER 5\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL SIGTERM\n",
    "FROM shell\nWORKDIR /w/x\nCOPY --chown=app:extra dir ./d\nCOPY --chmod=0700 one.txt /tmp/renamed\nCOPY *.txt /many/\n",
    "FROM shell AS a\nCOPY one.txt /a/\nFROM scratch\nCOPY --from=a /a /bin/busybox /got/\nADD archive.tar /unpacked/\n",
    "FROM shell\nRUN mkdir /m && echo x > /m/f && chmod 640 /m/f && chown app /m/f && rm /etc/group\nUSER app\nRUN echo y > /tmp/y\n",
];

fn buildah_makes_the_same() {
    if !Path::new("/usr/bin/buildah").exists() {
        skycap_testkit::skipped!("buildah_makes_the_same_files_and_configuration: buildah is not installed");
        return;
    }
    let mut world = World::new();
    let Some(_) = with_shell(&mut world, "buildah_makes_the_same_files_and_configuration") else { return };
    world.file("one.txt", "1");
    world.file("two.txt", "2");
    world.file("dir/in", "in");
    let tar = skycap_testkit::listing::tar("dir d 0750 3:3\nfile d/f 0640 3:4 \"f\"\nsymlink s d/f\n");
    fs::write(world.context().join("archive.tar"), tar).unwrap();
    // Reference syntax wants lower case, which random names are not.
    let lower_case = format!("skycap-peer-{}", std::process::id());
    let place = tempfile::Builder::new().prefix(&lower_case).rand_bytes(0).tempdir().unwrap();
    let base = place.path().join("base");
    let layout = skycap_image::layout::Layout::create(&base).unwrap();
    layout.put(&world.images.known["library/shell"], &[tag("shell")]).unwrap();
    for (number, dockerfile) in DOCKERFILES.iter().enumerate() {
        let mut request = world.request(dockerfile);
        request.compression = Compression::None;
        let ours = world.built_as(&request).image;
        let Some(theirs) = buildah(&world, &base, number, dockerfile) else { return };
        compare(dockerfile, &ours, &theirs);
    }
}

/// Builds with buildah; nothing if it cannot work here.
fn buildah(world: &World, base: &Path, number: usize, dockerfile: &str) -> Option<Image> {
    let file = world.path().join(format!("Dockerfile.{number}"));
    let replaced = dockerfile.replace("FROM shell", &format!("FROM oci:{}:shell", base.display()));
    fs::write(&file, replaced).unwrap();
    let storage = world.path().join("buildah");
    let out = world.path().join(format!("out-{number}"));
    let common = |command: &mut Command| {
        command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run"));
        command.args(["--storage-driver", "vfs"]);
    };
    let mut build = Command::new("buildah");
    common(&mut build);
    build.args(["build", "--isolation", "chroot", "--network", "host", "--layers=false", "--tag", "result", "--file"]);
    build.arg(&file).arg(world.context());
    if !succeeds(&mut build) {
        return None;
    }
    let mut push = Command::new("buildah");
    common(&mut push);
    push.args(["push", "result"]).arg(format!("oci:{}:result", out.display()));
    if !succeeds(&mut push) {
        return None;
    }
    match skycap_image::layout::Layout::open(&out).unwrap().get(&tag("result")).unwrap() {
        Artifact::Image(image) => Some(image),
        Artifact::Index(_) => panic!("buildah made an index"),
    }
}

fn succeeds(command: &mut Command) -> bool {
    let output = command.output().unwrap();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        skycap_testkit::skipped!("buildah_makes_the_same_files_and_configuration: buildah failed: {}", text.trim());
    }
    output.status.success()
}

fn compare(dockerfile: &str, ours: &Image, theirs: &Image) {
    let (a, b) = (tree(ours), tree(theirs));
    let paths: std::collections::BTreeSet<&TreePath> = a.keys().chain(b.keys()).collect();
    // What buildah mounts for a RUN it leaves behind as empty files and directories.
    let left = ["dev", "proc", "run", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
    let is_left =
        |path: &TreePath| !a.contains_key(path) && left.contains(&String::from_utf8_lossy(path.as_bytes()).as_ref());
    let differing = paths.into_iter().filter(|path| a.get(path) != b.get(path)).filter(|path| !is_left(path));
    let differing: Vec<String> =
        differing.map(|path| format!("{path}: ours {:?}, theirs {:?}", a.get(path), b.get(path))).collect();
    assert!(differing.is_empty(), "{dockerfile}\n{}", differing.join("\n"));
    let (ours, theirs) = (&ours.config().config, &theirs.config().config);
    assert_eq!(ours.cmd, theirs.cmd, "{dockerfile}");
    assert_eq!(ours.entrypoint, theirs.entrypoint, "{dockerfile}");
    assert_eq!(ours.user, theirs.user, "{dockerfile}");
    assert_eq!(ours.exposed_ports, theirs.exposed_ports, "{dockerfile}");
    assert_eq!(ours.volumes, theirs.volumes, "{dockerfile}");
    assert_eq!(ours.stop_signal, theirs.stop_signal, "{dockerfile}");
    let env = |env: &Option<Vec<String>>| {
        let mut env = env.clone().unwrap_or_default();
        env.retain(|line| !line.starts_with("PATH="));
        env
    };
    assert_eq!(env(&ours.env), env(&theirs.env), "{dockerfile}");
    for (name, value) in &ours.labels {
        assert_eq!(theirs.labels.get(name), Some(value), "{dockerfile}");
    }
}

/// Every path with type, mode, owner and content.
fn tree(image: &Image) -> BTreeMap<TreePath, String> {
    let layers = image.layers();
    let indexes: Vec<_> =
        layers.iter().map(|layer| std::sync::Arc::new(LayerIndex::of(layer, &Limits::default()).unwrap())).collect();
    let view = View::new(&indexes).unwrap();
    let mut tree = BTreeMap::new();
    for (path, entry) in view.walk(&TreePath::root()).filter(|(path, _)| !path.is_root()) {
        let content = match &entry.kind {
            Kind::File { size } if *size < 1000 => format!("{:?}", view.read(&path, &layers, 1000).unwrap()),
            other => format!("{other:?}"),
        };
        tree.insert(path, describe(entry, &content));
    }
    tree
}

fn describe(entry: &Entry, content: &str) -> String {
    let metadata = &entry.metadata;
    // The mode of a link means nothing.
    let mode = if matches!(entry.kind, Kind::Symlink(_)) { 0 } else { metadata.mode };
    format!("{mode:o} {}:{} {content}", metadata.uid, metadata.gid)
}
