//! `skycap copy`, `pull` and `push`: between all kinds of places, in both directions with other people's tools.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use skycap_image::layout::Layout;
use skycap_image::{
    Artifact, Compression, Descriptor, Digest, ImageSink, Manifest, MediaType, Memory, Name, RawManifest,
};
use skycap_testkit::listing::{self, Style};
use skycap_testkit::registry::{Reply, Scripted};

use crate::interop::{PASSWORD, Registry, USER};
use crate::world::{World, noise, peer, registry, run, with_stdin};

/// Two platforms that share a layer.
pub const INDEX: &str = r#"
    platform linux/amd64
    cmd /bin/app
    label name=value
    layer
      file shared 0644 0:0 size=200000
    layer
      file a 0644 0:0 "amd64"
    platform linux/arm64
    layer
      file shared 0644 0:0 size=200000
    layer
      file a 0644 0:0 "arm64"
"#;

/// Writes a listing's artifact into the layout `NAME` under a tag; answers its digest.
pub fn layout(world: &World, name: &str, text: &str, tag: &str) -> String {
    let path = world.path(name);
    let layout = if path.exists() { Layout::open(&path) } else { Layout::create(&path) }.unwrap();
    listing::put(&layout, text, Style::default(), &[tag]).descriptor().digest.to_string()
}

/// Runs and gives what it printed, without the line's end.
fn digest(world: &World, arguments: &[&str]) -> String {
    run(world.skycap(arguments)).ok().stdout.trim_end().to_owned()
}

fn raw(world: &World, place: &str) -> String {
    run(world.skycap(["inspect", "--raw", place])).ok().stdout
}

#[test]
fn an_index_is_the_same_bytes_in_every_place() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    let expected = layout(&world, "source", INDEX, "1");
    let places = [
        format!("docker://{address}/app:1"),
        format!("{address}/other/app:2"),
        "oci:copy:3".to_owned(),
        "oci-archive:copy.tar:4".to_owned(),
        "dir:copied".to_owned(),
        "oci:nameless".to_owned(),
    ];
    // A chain: each place is the source of the next, and the last one is copied back to the first.
    let mut from = "oci:source:1".to_owned();
    for to in places.iter().chain(&places[..1]) {
        assert_eq!(digest(&world, &["copy", &from, to]), expected, "{from} to {to}");
        assert_eq!(raw(&world, to), raw(&world, "oci:source:1"), "{to}");
        from.clone_from(to);
    }
}

#[test]
fn a_platform_or_several_are_copied_as_they_are() {
    let world = World::new();
    layout(&world, "source", INDEX, "1");
    let arm = digest(&world, &["copy", "--platform", "linux/arm64", "oci:source:1", "oci:one:1"]);
    let index: Value = serde_json::from_str(&raw(&world, "oci:source:1")).unwrap();
    assert_eq!(index["manifests"][1]["digest"], json!(arm));
    let both = run(world.skycap(["copy", "--platform", "linux/arm64,linux/amd64", "oci:source:1", "oci:two:1"])).ok();
    assert!(both.stderr.contains("fewer platforms, another digest"), "{}", both.stderr);
    let copied: Value = serde_json::from_str(&raw(&world, "oci:two:1")).unwrap();
    assert_eq!(copied["manifests"][0]["digest"], json!(arm));
    let all = digest(&world, &["copy", "--platform", "all", "oci:source:1", "oci:all:1"]);
    assert_eq!(all, Digest::sha256(raw(&world, "oci:source:1").as_bytes()).to_string());
    let missing = run(world.skycap(["copy", "--platform", "linux/s390x", "oci:source:1", "oci:x:1"]));
    missing.fails(1, "it offers linux/amd64, linux/arm64");
    let wrong = run(world.skycap(["copy", "--platform", "linux/amd64", "oci:one:1", "oci:x:1"]));
    wrong.fails(1, "is for linux/arm64, not for linux/amd64");
    assert!(!world.path("x").exists());
}

#[test]
fn a_docker_archive_holds_one_image_and_goes_to_a_registry_compressed() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    layout(&world, "source", INDEX, "1");
    let copied = run(world.skycap(["copy", "oci:source:1", "docker-archive:a.tar:app:1"])).ok();
    assert!(copied.stderr.contains("a docker-archive holds one image"), "{}", copied.stderr);

    // What `docker save` of old wrote: bare layers.
    let memory = Memory::default();
    let style = Style { compression: Compression::None, docker: true };
    let Artifact::Image(image) = listing::artifact(&memory, "layer\n file big 0644 0:0 size=100000\n", style) else {
        panic!("an image")
    };
    let file = std::fs::File::create(world.path("bare.tar")).unwrap();
    skycap_image::archive::write_docker_flat(&image, &["app:1".to_owned()], file).unwrap();
    let types = |place: &str| -> Vec<Value> {
        let manifest: Value = serde_json::from_str(&raw(&world, place)).unwrap();
        manifest["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].clone()).collect()
    };
    for (more, expected) in [
        (&[][..], MediaType::DockerLayerGzip),
        (&["--compress", "zstd"], MediaType::DockerLayerZstd),
        (&["--compress", "none"], MediaType::DockerLayer),
    ] {
        let to = format!("{address}/app:{}", more.len());
        let ran = run(world.skycap([&["push", "bare.tar", &to], more].concat())).ok();
        assert_eq!(types(&to), [json!(expected.as_str())], "{more:?}");
        assert_eq!(ran.stderr.contains("another digest"), more != ["--compress", "none"], "{}", ran.stderr);
        // The configuration, and with it the image's id, stays.
        let config = run(world.skycap(["inspect", "--config", &to])).ok().stdout;
        assert_eq!(config.as_bytes(), image.config_bytes(), "{more:?}");
    }
    let again = ["copy", "--compress", "zstd", "--recompress", &format!("{address}/app:0"), "oci:zstd:1"];
    run(world.skycap(again)).ok();
    assert_eq!(types("oci:zstd:1"), [json!(MediaType::DockerLayerZstd.as_str())]);
    let pointless = ["copy", "--compress", "zstd", &format!("{address}/app:0"), "oci:same:1"];
    assert!(run(world.skycap(pointless)).ok().stderr.contains("no layer had to be compressed"));
}

#[test]
fn several_names_are_sent_once_and_what_is_there_is_not_sent_again() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    layout(&world, "source", INDEX, "1");
    let name = |name: &str| format!("{address}/{name}");
    let push = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|text| name(text)).collect();
        let arguments: Vec<&str> =
            ["copy", "oci:source:1"].into_iter().chain(names.iter().map(String::as_str)).collect();
        run(world.skycap(arguments)).ok().stderr
    };
    let first = push(&["app:1", "app:2"]);
    assert_eq!(first.matches("push layer").count(), 3, "{first}");
    assert!(first.contains("uploaded 3 layers"), "{first}");
    assert!(first.contains(&format!("pushed {}, 2", name("app:1"))), "{first}");
    let second = push(&["app:3"]);
    assert!(second.contains("3 layers already there; no bytes moved"), "{second}");
    let mounted = run(world.skycap(["copy", &name("app:1"), &name("other:1")])).ok().stderr;
    assert!(mounted.contains("mounted 3 layers"), "{mounted}");
    let tags = run(world.skycap(["tags", &name("app")])).ok().stdout;
    assert_eq!(tags, "1\n2\n3\n");
}

/// Something that refers to an image, as a signature does.
fn referrer(subject: &Descriptor, blobs: &Memory) -> RawManifest {
    let empty = blobs.add(MediaType::OciEmpty, &b"{}"[..]);
    let manifest = Manifest {
        schema_version: 2,
        media_type: MediaType::OciManifest,
        artifact_type: Some("application/vnd.example.signature".to_owned()),
        config: empty.clone(),
        layers: vec![blobs.add(MediaType::Other("application/vnd.example".to_owned()), &b"signed"[..])],
        subject: Some(subject.clone()),
        annotations: BTreeMap::from([("who".to_owned(), "me".to_owned())]),
    };
    RawManifest::new(MediaType::OciManifest, serde_json::to_vec(&manifest).unwrap())
}

/// R58.
#[test]
fn what_refers_to_an_image_is_copied_when_asked_for() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    layout(&world, "source", INDEX, "1");
    let layout = Layout::open(world.path("source")).unwrap();
    let subject = skycap_image::ImageSource::find(&layout, &Name::Tag("1".to_owned())).unwrap().unwrap();
    let memory = Memory::default();
    let bare = Descriptor::new(subject.media_type, subject.digest, subject.size);
    let signature = Artifact::open(referrer(&bare, &memory), std::sync::Arc::new(memory)).unwrap();
    let signed = signature.descriptor().digest.to_string();
    layout.put(&signature, &[]).unwrap();
    // What cosign leaves for registries that know no referrers.
    let tags = ["sig", "att"].map(|suffix| format!("sha256-{}.{suffix}", subject.digest.hex()));
    layout.put(&signature, &[Name::Tag(tags[0].clone())]).unwrap();
    let other = skycap_testkit::listing::image("layer\n file attested \"x\"");
    layout.put(&Artifact::Image(other), &[Name::Tag(tags[1].clone())]).unwrap();

    let listed = |place: &str| run(world.skycap(["inspect", "--referrers", place])).ok();
    assert!(listed("oci:source:1").stdout.contains(&signed));
    let (without, with) = (format!("{address}/without:1"), format!("{address}/with:1"));
    run(world.skycap(["copy", "oci:source:1", &without])).ok();
    assert!(listed(&without).stderr.contains("nothing refers to"));
    let copied = run(world.skycap(["copy", "--referrers", "oci:source:1", &with])).ok();
    assert!(copied.stderr.contains("with 2 referrers"), "{}", copied.stderr);
    let there = run(world.skycap(["tags", &format!("{address}/with")])).ok().stdout;
    assert!(tags.iter().all(|tag| there.contains(tag.as_str())), "{there}");
    let shown = listed(&with).stdout;
    assert!(shown.contains(&signed) && shown.contains("application/vnd.example.signature"), "{shown}");
    run(world.skycap(["copy", "--referrers", &with, "oci:back:1"])).ok();
    assert!(listed("oci:back:1").stdout.contains(&signed));
    let archive = run(world.skycap(["copy", "--referrers", &with, "oci-archive:x.tar"]));
    archive.fails(2, "an archive cannot say what refers");
}

#[test]
fn a_pull_makes_files_and_reuses_layers() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    layout(&world, "source", INDEX, "1");
    let app = format!("{address}/team/app:1");
    run(world.skycap(["copy", "oci:source:1", &app])).ok();
    let first = run(world.skycap(["pull", &app, "--platform", "linux/amd64"])).ok();
    assert_eq!(std::fs::read_to_string(world.path("app/a")).unwrap(), "amd64");
    assert!(first.stderr.contains("fetched 2 layers"), "{}", first.stderr);
    run(world.skycap(["pull", &app])).fails(1, "it is not empty");
    let second = run(world.skycap(["pull", &app, "--rootfs", "arm", "--platform", "linux/arm64"])).ok();
    assert_eq!(std::fs::read_to_string(world.path("arm/a")).unwrap(), "arm64");
    assert!(second.stderr.contains("fetched 1 layer, reused 1"), "{}", second.stderr);
    let third = run(world.skycap(["pull", &app, "--rootfs", "plain", "--no-cache"])).ok();
    assert!(third.stderr.contains("fetched 2 layers"), "{}", third.stderr);
    run(world.skycap(["pull", &app, "oci-archive:app.tar"])).ok();
    assert_eq!(raw(&world, "oci-archive:app.tar"), raw(&world, &app));
    let amd = ["--platform", "linux/amd64", "--rootfs"];
    for (at, place) in ["oci:source:1", "oci-archive:app.tar"].into_iter().enumerate() {
        let directory = format!("local{at}");
        run(world.skycap(["pull", place].iter().chain(&amd).copied().chain([directory.as_str()]))).ok();
        assert_eq!(std::fs::read_to_string(world.path(&directory).join("a")).unwrap(), "amd64");
    }
    // A file is what somebody meant who wrote its name.
    let hub = format!("docker.io=http://{address}");
    run(world.skycap(["inspect", "app.tar", "--host", &hub]))
        .fails(1, "hint: app.tar is an archive here: oci-archive:app.tar");
}

/// As `skopeo copy … docker-archive:/dev/stdout | docker load` has it: nothing else may stand in the archive, and what is no
/// file stays what it is.
#[test]
fn an_archive_goes_through_a_pipe() {
    let world = World::new();
    let expected = layout(&world, "source", "layer\n file a 0644 0:0 \"x\"\n", "1");
    // A link of our own, of which nothing is lost but a test.
    let link = world.path("stdout");
    std::os::unix::fs::symlink("/proc/self/fd/1", &link).unwrap();
    for (format, place) in [("docker-archive", "stdout:app:1"), ("oci-archive", "stdout:1")] {
        let mut copy = world.skycap(["copy", "oci:source:1", &format!("{format}:{place}")]);
        let output = skycap_testkit::process::run(&mut copy);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(&expected), "{output:?}");
        std::fs::write(world.path("through.tar"), &output.stdout).unwrap();
        let through = run(world.skycap(["inspect", &format!("{format}:through.tar")])).ok();
        assert!(through.stdout.contains("linux/amd64"), "{}", through.stdout);
        assert_eq!(output.stdout.len() % 512, 0, "{format}: something stands behind the archive");
    }
    assert!(link.symlink_metadata().unwrap().is_symlink());
}

/// It was killed while it unpacked.
#[test]
fn what_a_killed_pull_left_is_in_no_archive_s_way() {
    let world = World::new();
    layout(&world, "source", "layer\n file a 0644 0:0 \"x\"\n", "1");
    std::fs::create_dir(world.path(".skycap-unpacking-1-0")).unwrap();
    for place in ["docker-archive:a.tar", "oci-archive:b.tar"] {
        run(world.skycap(["copy", "oci:source:1", place])).ok();
    }
}

/// R42: every digest is right, and the layer is another than the one that the image says it has.
#[test]
fn a_layer_that_is_not_the_one_of_the_configuration_is_never_unpacked() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let app = format!("{}/app:1", server.address());
    let memory = Memory::default();
    let text = "layer\n file a 0644 0:0 \"x\"\n";
    let Artifact::Image(image) = listing::artifact(&memory, text, Style::default()) else { panic!("an image") };
    let mut config: Value = serde_json::from_slice(image.config_bytes()).unwrap();
    config["rootfs"]["diff_ids"][0] = json!(Digest::sha256(b"another").to_string());
    let mut manifest = image.manifest().clone();
    manifest.config = memory.add(MediaType::OciConfig, serde_json::to_vec(&config).unwrap());
    let raw = RawManifest::new(MediaType::OciManifest, serde_json::to_vec(&manifest).unwrap());
    let wrong = Artifact::open(raw, std::sync::Arc::new(memory)).unwrap();
    Layout::create(world.path("wrong")).unwrap().put(&wrong, &[Name::Tag("1".to_owned())]).unwrap();
    run(world.skycap(["copy", "oci:wrong:1", &app])).ok();
    for arguments in [&["pull", &app][..], &["pull", "--no-cache", &app]] {
        let ran = run(world.skycap(arguments)).fails(1, "config says");
        assert_eq!(ran.stdout, "");
        let names = std::fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name == "app" || name.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_cannot_be_done_is_said_with_a_way_out() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address();
    layout(&world, "source", INDEX, "1");
    layout(&world, "source", "layer\n file a 0644 0:0 \"x\"\n", "2");
    let app = format!("{address}/app");
    for tag in ["1.0", "1.1", "2.0"] {
        run(world.skycap(["copy", "oci:source:1", &format!("{app}:{tag}")])).ok();
    }
    run(world.skycap(["copy", "oci:source:2", &format!("{address}/one:1")])).ok();
    let memory = Memory::default();
    let config = memory.add(MediaType::OciEmpty, &b"{}"[..]);
    let text = memory.add(MediaType::from("text/plain"), &b"hello"[..]);
    let manifest = json!({"schemaVersion": 2, "artifactType": "a/b", "config": config, "layers": [text]}).to_string();
    let raw = RawManifest::new(MediaType::OciManifest, manifest.into_bytes());
    let artifact = Artifact::open(raw, std::sync::Arc::new(memory)).unwrap();
    Layout::create(world.path("artifact")).unwrap().put(&artifact, &[]).unwrap();
    let sparse = Descriptor::of(MediaType::OciManifest, b"absent");
    let sparse = skycap_image::Index::assemble(vec![sparse], false, std::sync::Arc::new(Memory::default())).unwrap();
    drop(Layout::create(world.path("sparse")).unwrap());
    std::fs::write(world.path("sparse/blobs/sha256").join(sparse.raw().descriptor.digest.hex()), &sparse.raw().bytes)
        .unwrap();
    let listed = json!({"schemaVersion": 2, "manifests": [sparse.raw().descriptor]}).to_string();
    std::fs::write(world.path("sparse/index.json"), listed).unwrap();
    for (arguments, code, fact, hint) in [
        (format!("inspect {app}:1.2"), 1, "MANIFEST_UNKNOWN", "has 3 tags: 1.0, 1.1, 2.0"),
        (format!("inspect {address}/nothing"), 1, "NAME_UNKNOWN", "there is no repository"),
        ("copy oci:source oci:x".to_owned(), 1, "lists 2 images", "it holds 1, 2: name one"),
        ("copy oci:source:3 oci:x".to_owned(), 1, "no image 3", "it holds 1, 2"),
        ("copy containers-storage:a oci:x".to_owned(), 2, "podman", "podman save"),
        ("copy docker-daemon:a oci:x".to_owned(), 2, "daemon", "docker save"),
        ("copy docker-archve:a oci:x".to_owned(), 2, "no such transport", "did you mean docker-archive:a?"),
        ("copy ./source oci:x".to_owned(), 2, "is a path", "oci:./source"),
        ("copy docker-archive:source oci:x".to_owned(), 1, "regular file", "it is a layout: oci:source"),
        (format!("push nowhere {app}"), 2, "no such file", "`skycap copy`"),
        ("push source oci:x".to_owned(), 2, "push goes to registries", "`skycap copy`"),
        (format!("pull {app}:1.0 {app}:3"), 2, "pull writes files", "--rootfs"),
        ("pull oci:source".to_owned(), 2, "fetches from registries", "--rootfs DIR unpacks what is here"),
        (format!("pull {app}:2.0 --platform linux/s390x"), 1, "it offers linux/amd64, linux/arm64", ""),
        (format!("pull {address}/one:1 --platform linux/s390x"), 1, "is for linux/amd64, not for linux/s390x", ""),
        ("inspect oci:source:2 --platform linux/s390x".to_owned(), 1, "is for linux/amd64, not for linux/s390x", ""),
        ("copy oci:artifact docker-archive:x".to_owned(), 1, "is none: its config is a application/vnd.oci.empty", ""),
        (format!("copy oci:sparse {address}/new:1"), 1, "cannot read sparse/blobs", ""),
        (format!("copy --platform all {app}:1.0 docker-archive:x"), 2, "cannot hold all", "oci-archive:"),
        ("copy oci:source:1 oci:source/no/such/x".to_owned(), 1, "is not a directory", ""),
        (format!("tags {app}:1.0"), 2, "a repository is wanted", "--filter '^1\\.0$'"),
        (format!("tags {app} --filter ("), 2, "--filter", ""),
        (format!("inspect {app}:1.0 --creds nopassword"), 2, "expected NAME:PASSWORD", "--password-stdin"),
        ("inspect 127.0.0.1:1/app --tls-verify=maybe".to_owned(), 2, "tls-verify", ""),
    ] {
        let ran = run(world.skycap(arguments.split(' '))).fails(code, fact);
        assert!(ran.stderr.contains(hint), "{arguments}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments}");
        assert!(!world.path("x").exists(), "{arguments}");
    }
    let silent = ["inspect", &app, "--username", "robot", "--password-stdin"];
    run(world.skycap(silent)).fails(2, "no password on standard input");
}

/// R93: half-way through a layer, from a registry that then says nothing more.
#[test]
fn an_interrupted_pull_leaves_nothing() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    layout(&world, "source", "layer\n file big 0644 0:0 size=3000000\n", "1");
    run(world.skycap(["copy", "oci:source:1", &format!("{}/app:1", server.address())])).ok();
    let slow = Scripted::in_front_of(server.address(), |request| {
        let is_layer = request.method == "GET" && request.path.contains("/blobs/");
        if is_layer { Reply::forward().pause(1_000_000, Duration::from_mins(1)) } else { Reply::forward() }
    })
    .unwrap();
    let image = format!("{}/app:1", slow.address());
    for arguments in [
        &["pull", &image, "--rootfs", "got", "--no-cache"][..],
        &["pull", &image, "oci-archive:got"],
        &["pull", &image, "docker-archive:got"],
        &["copy", &image, "dir:got"],
    ] {
        let mut command = world.skycap(arguments);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(700));
        let start = std::time::Instant::now();
        let mut kill = world.command("kill");
        kill.args(["-INT", &child.id().to_string()]);
        run(kill).ok();
        let output: crate::world::Ran = child.wait_with_output().unwrap().into();
        assert!(start.elapsed() < Duration::from_secs(3), "{arguments:?}");
        output.fails(130, "interrupted");
        let got = world.path("got");
        assert!(!got.join("manifest.json").exists() && !got.is_file(), "{arguments:?}");
        let _ = std::fs::remove_dir(&got);
        let left: Vec<String> = std::fs::read_dir(world.path("."))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !["home", "tmp", "registry", "source"].contains(&name.as_str()))
            .filter(|name| {
                name != "got"
                    || std::fs::read_dir(&got)
                        .unwrap()
                        .any(|e| !e.unwrap().file_name().to_string_lossy().starts_with("version"))
            })
            .collect();
        assert!(left.is_empty(), "{arguments:?} left {left:?}");
        let _ = std::fs::remove_dir_all(&got);
    }
}

fn skopeo(world: &World, arguments: &[&str]) -> String {
    let policy = world.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    let mut command = world.command("skopeo");
    command.arg("--policy").arg(policy).args(arguments);
    run(command).ok().stdout
}

#[test]
fn skopeo_reads_what_we_copy_and_we_read_what_skopeo_copies() {
    let test = "skopeo_reads_what_we_copy_and_we_read_what_skopeo_copies";
    let world = World::new();
    if peer(test, "skopeo").is_none() {
        return;
    }
    let expected = layout(&world, "source", INDEX, "1");
    for (ours, theirs) in [
        ("oci:ours:1", "oci:theirs:1"),
        ("oci-archive:ours.tar:1", "oci-archive:theirs.tar:1"),
        ("dir:ours-dir", "dir:theirs-dir"),
    ] {
        run(world.skycap(["copy", "oci:source:1", ours])).ok();
        skopeo(&world, &["copy", "--all", ours, theirs]);
        assert_eq!(Digest::sha256(raw(&world, theirs).as_bytes()).to_string(), expected, "{theirs}");
        assert_eq!(skopeo(&world, &["inspect", "--raw", ours]), raw(&world, theirs), "{ours}");
    }
    // A docker-archive has no manifest: its configuration is what must be the same.
    run(world.skycap(["copy", "oci:source:1", "docker-archive:ours-docker.tar:app:1"])).ok();
    let ours = skopeo(&world, &["inspect", "--config", "--raw", "docker-archive:ours-docker.tar"]);
    skopeo(&world, &["copy", "oci:ours:1", "docker-archive:theirs-docker.tar:docker.io/library/app:1"]);
    for name in [
        "docker-archive:theirs-docker.tar",
        "docker-archive:theirs-docker.tar:app:1",
        "docker-archive:ours-docker.tar:app:1",
    ] {
        assert_eq!(run(world.skycap(["inspect", "--config", name])).ok().stdout, ours, "{name}");
    }
}

#[test]
fn a_registry_with_a_password_holds_the_same_whoever_copies() {
    let test = "a_registry_with_a_password_holds_the_same_whoever_copies";
    let world = World::new();
    let Some(registry) = Registry::start(test, &world) else { return };
    if peer(test, "skopeo").is_none() {
        return;
    }
    let expected = layout(&world, "source", INDEX, "1");
    let address = registry.address.clone();
    let name = |tag: &str| format!("docker://{address}/team/app:{tag}");
    let ca = registry.ca.display().to_string();
    let credentials = format!("{USER}:{PASSWORD}");
    let trusted = world.dir("trusted");
    std::fs::copy(&registry.ca, trusted.join("ca.crt")).unwrap();
    let trusted = trusted.display().to_string();

    // The ways to say who we are.
    run(world.skycap(["copy", "oci:source:1", &name("ours"), "--ca-cert", &ca, "--creds", &credentials])).ok();
    let mut stdin = world.skycap(["copy", "oci:source:1", &name("stdin"), "--ca-cert", &ca]);
    stdin.args(["--username", USER, "--password-stdin"]);
    with_stdin(stdin, format!("{PASSWORD}\n").as_bytes()).ok();
    let auth = base64(&credentials);
    let config = json!({"auths": {address.as_str(): {"auth": auth}}}).to_string();
    let file = world.file("auth/auth.json", &config).display().to_string();
    run(world.skycap(["copy", "oci:source:1", &name("file"), "--ca-cert", &ca, "--authfile", &file])).ok();
    for (variable, directory, file) in
        [("DOCKER_CONFIG", "docker", "config.json"), ("XDG_RUNTIME_DIR", "run", "containers/auth.json")]
    {
        world.file(&format!("{directory}/{file}"), &config);
        let mut command = world.skycap(["inspect", "--raw", &name("file"), "--ca-cert", &ca]);
        command.env(variable, world.path(directory));
        run(command).ok();
    }

    // Both directions.
    let theirs =
        ["copy", "--all", "--dest-cert-dir", &trusted, "--dest-creds", &credentials, "oci:source:1", &name("theirs")];
    skopeo(&world, &theirs);
    for tag in ["ours", "theirs", "stdin", "file"] {
        let inspected =
            skopeo(&world, &["inspect", "--raw", "--cert-dir", &trusted, "--creds", &credentials, &name(tag)]);
        assert_eq!(Digest::sha256(inspected.as_bytes()).to_string(), expected, "{tag}");
        let to = format!("oci:back-{tag}:1");
        let back = run(world.skycap(["copy", &name(tag), &to, "--ca-cert", &ca, "--src-creds", &credentials])).ok();
        assert_eq!(back.stdout.trim_end(), expected, "{tag}");
    }
    let ours = run(world.skycap([
        "tags",
        &format!("{address}/team/app"),
        "--json",
        "--ca-cert",
        &ca,
        "--creds",
        &credentials,
    ]));
    let listed =
        ["list-tags", "--cert-dir", &trusted, "--creds", &credentials, &format!("docker://{address}/team/app")];
    let theirs: Value = serde_json::from_str(&skopeo(&world, &listed)).unwrap();
    assert_eq!(ours.ok().json(), theirs);
    refused(&world, &name("ours"), &ca);
}

/// Nobody gets in without being trusted, and nothing says the password. R83.
fn refused(world: &World, image: &str, ca: &str) {
    let wrong = format!("{USER}:hunter2-wrong");
    for (more, fact, hint) in [
        (&[][..], "UnknownIssuer", "--ca-cert FILE"),
        (&["--ca-cert", ca], "UNAUTHORIZED", "docker login"),
        (&["--ca-cert", ca, "--creds", &wrong], "UNAUTHORIZED", "--password-stdin"),
        (&["--tls-verify=false"], "UNAUTHORIZED", "log in"),
    ] {
        let ran = run(world.skycap([&["inspect", image], more].concat())).fails(1, fact);
        assert!(ran.stderr.contains(hint) && !ran.stderr.contains("hunter2-"), "{}", ran.stderr);
    }
    let trusting = run(world.skycap(["inspect", image, "--insecure", "--creds", &format!("{USER}:{PASSWORD}")])).ok();
    assert!(trusting.stderr.contains("warning: whoever answers as"), "{}", trusting.stderr);
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap();
            encoded.push(if place <= chunk.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    encoded
}

#[test]
fn umoci_unpacks_what_we_pull_and_we_push_what_umoci_makes() {
    let test = "umoci_unpacks_what_we_pull_and_we_push_what_umoci_makes";
    let world = World::new();
    if peer(test, "umoci").is_none() {
        return;
    }
    let server = registry(&world.dir("registry"));
    let image = format!("{}/app:1", server.address());
    world.file("files/etc/motd", "hello\n");
    world.file("files/big", noise(100_000));
    let umoci = |arguments: &[&str]| {
        let mut command = world.command("umoci");
        command.args(arguments);
        run(command).ok();
    };
    umoci(&["init", "--layout", "made"]);
    umoci(&["new", "--image", "made:1"]);
    umoci(&["insert", "--rootless", "--image", "made:1", "files", "/files"]);
    run(world.skycap(["push", "oci:made:1", &image])).ok();
    run(world.skycap(["pull", &image, "--rootfs", "files-again"])).ok();
    let same = |path: &str, other: &Path| {
        assert_eq!(std::fs::read(world.path("files").join(path)).unwrap(), std::fs::read(other.join(path)).unwrap());
    };
    same("etc/motd", &world.path("files-again/files"));
    same("big", &world.path("files-again/files"));
    run(world.skycap(["pull", &image, "oci:pulled:1"])).ok();
    umoci(&["raw", "unpack", "--rootless", "--image", "pulled:1", "unpacked"]);
    same("big", &world.path("unpacked/files"));
}

/// R60
#[test]
fn a_layer_that_lies_elsewhere_is_fetched_from_there_if_that_is_said() {
    let world = World::new();
    let memory = Memory::default();
    let Artifact::Image(image) = listing::artifact(&memory, "layer\n file a 0644 0:0 \"a\"\n", Style::default()) else {
        panic!("an image")
    };
    let mut layer = Vec::new();
    std::io::Read::read_to_end(&mut image.layers()[0].open().unwrap(), &mut layer).unwrap();
    let elsewhere = Scripted::start(move |_| Reply::status(200).body(layer.clone())).unwrap();
    let mut manifest: Value = serde_json::from_slice(&image.raw().bytes).unwrap();
    let about = manifest["layers"][0].as_object_mut().unwrap();
    about.insert("mediaType".to_owned(), json!("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"));
    about.insert("urls".to_owned(), json!([format!("{}/layer", elsewhere.url())]));
    let (manifest, config) = (manifest.to_string(), image.config_bytes().to_vec());
    let config_path = format!("/v2/app/blobs/{}", Digest::sha256(&config));
    let registry = Scripted::start(move |request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        "/v2/app/manifests/1" => Reply::status(200)
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .body(manifest.clone().into_bytes()),
        path if path == config_path => Reply::status(200).body(config.clone()),
        _ => Reply::status(404),
    })
    .unwrap();
    let name = format!("docker://{}/app:1", registry.address());
    let pull = |flags: &[&str]| run(world.skycap([&["pull", &name, "--rootfs", "out"], flags].concat()));
    pull(&[]).fails(1, "the layer lies elsewhere");
    assert!(elsewhere.requests().is_empty());
    pull(&["--foreign-layers"]).ok();
    assert_eq!(std::fs::read_to_string(world.path("out/a")).unwrap(), "a");
}
