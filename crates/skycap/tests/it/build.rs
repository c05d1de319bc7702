//! `skycap build`, flag by flag: what is built and how.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, ImageConfig, ImageSource, Name};

use crate::world::{Ran, World, peer, registry, run, with_stdin};

/// Stages, arguments and a file.
const DOCKERFILE: &str = "\
# base where everything begins
FROM scratch AS base
# WHO is greeted
ARG WHO=world
LABEL who=$WHO
COPY a.txt /a
FROM base AS test
LABEL stage=test
FROM base
LABEL stage=last
COPY a.txt /b
";

pub fn context() -> World {
    let world = World::new();
    world.file("context/Dockerfile", DOCKERFILE);
    world.file("context/a.txt", "a\n");
    world
}

pub fn build<const N: usize>(world: &World, arguments: [&str; N]) -> Ran {
    run(world.skycap(["build"].into_iter().chain(arguments)))
}

/// The image in a layout.
pub fn image(world: &World, layout: &str) -> skycap_image::Image {
    match Layout::open(world.path(layout)).unwrap().only().unwrap() {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an index"),
    }
}

fn config(world: &World) -> ImageConfig {
    image(world, "layout").config().clone()
}

fn label(world: &World, name: &str) -> Option<String> {
    config(world).config.labels.get(name).cloned()
}

/// A world in which RUN has a shell, if there is one to copy.
pub fn with_shell(test: &str, dockerfile: &str) -> Option<World> {
    let busybox = peer(test, "busybox")?;
    let world = World::new();
    world.dir("context");
    std::fs::copy(busybox, world.path("context/busybox")).unwrap();
    let base =
        "FROM scratch AS shell\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
    world.file("context/Dockerfile", format!("{base}{dockerfile}"));
    Some(world)
}

#[test]
fn targets_arguments_and_labels_are_those_of_the_command_line() {
    let world = context();
    build(&world, ["-o", "oci:layout", "context"]).ok();
    assert_eq!((label(&world, "who"), label(&world, "stage")), (Some("world".to_owned()), Some("last".to_owned())));
    let mut command = world.skycap([
        "build",
        "--target",
        "TEST",
        "--build-arg",
        "WHO",
        "--label",
        "x=1=2",
        "-o",
        "oci:layout",
        "context",
    ]);
    command.env("WHO", "shell");
    run(command).ok();
    assert_eq!((label(&world, "who"), label(&world, "stage")), (Some("shell".to_owned()), Some("test".to_owned())));
    assert_eq!(label(&world, "x").as_deref(), Some("1=2"));
    build(&world, ["--target", "0", "--build-arg=WHO=given", "-o", "oci:layout", "context"]).ok();
    assert_eq!((label(&world, "who"), label(&world, "stage")), (Some("given".to_owned()), None));
}

/// A variable that is not set leaves the default.
#[test]
fn an_argument_without_a_value_is_taken_from_the_environment_if_it_is_there() {
    let world = context();
    build(&world, ["--build-arg", "WHO", "-o", "oci:layout", "context"]).ok();
    assert_eq!(label(&world, "who").as_deref(), Some("world"));
}

#[test]
fn dockerfiles_are_found_where_docker_finds_them() {
    let world = context();
    world.file("elsewhere/Other", "FROM scratch\nLABEL from=other\nCOPY . /\n");
    world.file("elsewhere/Other.dockerignore", "*\n!a.txt\n");
    build(&world, ["-f", "elsewhere/Other", "-o", "oci:layout", "context"]).ok();
    assert_eq!(label(&world, "from").as_deref(), Some("other"));
    build(&world, ["-f", "elsewhere/Other", "-o", "files", "context"]).ok();
    let names: Vec<_> =
        std::fs::read_dir(world.path("files")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["a.txt"]);
    std::fs::rename(world.path("context/Dockerfile"), world.path("context/dockerfile")).unwrap();
    build(&world, ["context"]).ok();
    // A name that is relative to the context is a usual mistake.
    world.file("context/docker/Prod", DOCKERFILE);
    let ran = build(&world, ["-f", "docker/Prod", "context"]).fails(1, "cannot read docker/Prod");
    assert!(ran.stderr.contains("-f context/docker/Prod"), "{}", ran.stderr);
}

#[test]
fn standard_input_is_a_dockerfile_with_or_without_a_context() {
    let world = context();
    let text = b"FROM scratch\nLABEL from=stdin\nCOPY a.txt /\n";
    with_stdin(world.skycap(["build", "-f", "-", "-o", "oci:layout", "context"]), text).ok();
    assert_eq!(label(&world, "from").as_deref(), Some("stdin"));
    let text = b"FROM scratch\nLABEL from=alone\n";
    with_stdin(world.skycap(["build", "-o", "oci:layout", "-"]), text).ok();
    assert_eq!(label(&world, "from").as_deref(), Some("alone"));
    // Nothing of the current directory is a context then.
    with_stdin(world.skycap(["build", "-"]), b"FROM scratch\nCOPY context /\n").fails(1, "context");
    with_stdin(world.skycap(["build", "-"]), b"").fails(2, "nothing came");
}

/// A tar of the context, packed in the way that a letter of tar's says.
fn tar(world: &World, letter: &str) -> Vec<u8> {
    let mut command = world.command("tar");
    command.args(["-C", "context", &format!("-c{letter}f"), "-", "."]);
    command.output().unwrap().stdout
}

#[test]
fn standard_input_is_a_tar_of_a_context() {
    let world = context();
    world.file("context/sub/Other", "FROM scratch\nLABEL from=other\nCOPY sub /\n");
    // As in BuildKit, no ignore file counts here.
    world.file("context/.dockerignore", "a.txt\n");
    for letter in ["", "z"] {
        with_stdin(world.skycap(["build", "-o", "oci:layout", "-"]), &tar(&world, letter)).ok();
        assert_eq!(label(&world, "stage").as_deref(), Some("last"));
    }
    with_stdin(world.skycap(["build", "-f", "sub/Other", "-o", "oci:layout", "-"]), &tar(&world, "")).ok();
    assert_eq!(label(&world, "from").as_deref(), Some("other"));
    with_stdin(world.skycap(["build", "-f", "missing", "-"]), &tar(&world, ""))
        .fails(1, "cannot read missing of the context");
    std::os::unix::fs::symlink("/etc/passwd", world.path("context/link")).unwrap();
    with_stdin(world.skycap(["build", "-f", "link", "-"]), &tar(&world, "")).fails(1, "leads out of the context");
}

/// Answers every request with the same bytes.
fn serve(bytes: Vec<u8>) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).unwrap() == 0 {
                    break;
                }
                head.extend(byte);
            }
            let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", bytes.len());
            let _ = stream.write_all(if head.starts_with(b"HEAD") { b"" } else { &bytes });
        }
    });
    format!("http://{address}")
}

#[test]
fn a_context_at_a_url_is_a_tar_or_a_dockerfile() {
    let world = context();
    let url = format!("{}/context.tar.gz", serve(tar(&world, "z")));
    build(&world, ["-o", "oci:layout", &url]).ok();
    assert_eq!(label(&world, "stage").as_deref(), Some("last"));
    let url = format!("{}/Dockerfile", serve(b"FROM scratch\nLABEL from=url\n".to_vec()));
    build(&world, ["-o", "oci:layout", &url]).ok();
    assert_eq!(label(&world, "from").as_deref(), Some("url"));
    build(&world, ["-f", "x", &url]).fails(2, "is a Dockerfile itself");
    build(&world, ["http://127.0.0.1:1/x.tar"]).fails(1, "127.0.0.1:1");
}

#[test]
fn several_platforms_make_an_index() {
    let world = context();
    build(
        &world,
        [
            "--platform",
            "linux/amd64,linux/arm64/v8",
            "--annotation",
            "index,manifest-descriptor[linux/arm64]:who=index",
            "-o",
            "oci:layout",
            "context",
        ],
    )
    .ok();
    let Artifact::Index(index) = Layout::open(world.path("layout")).unwrap().only().unwrap() else { panic!() };
    let platforms: Vec<_> = index.manifests().iter().map(|child| child.platform.clone().unwrap().to_string()).collect();
    assert_eq!(platforms.len(), 2, "{platforms:?}");
    assert!(platforms[0].starts_with("linux/amd64") && platforms[1].starts_with("linux/arm64"), "{platforms:?}");
    assert!(String::from_utf8_lossy(&index.raw().bytes).contains("\"who\":\"index\""));
    let annotated = index.manifests().iter().map(|child| child.annotations.contains_key("who")).collect::<Vec<_>>();
    assert_eq!(annotated, [false, true]);
    for child in index.manifests() {
        assert!(index.child(child).is_ok());
    }
}

#[test]
fn annotations_are_in_the_manifest_and_where_they_were_sent() {
    let world = context();
    let output = "oci:layout,annotation.key=output";
    build(&world, ["--annotation", "a=1", "-o", output, "context"]).ok();
    let image = image(&world, "layout");
    let annotations: Vec<_> = image.manifest().annotations.iter().collect();
    assert_eq!(annotations, [(&"a".to_owned(), &"1".to_owned()), (&"key".to_owned(), &"output".to_owned())]);
}

#[test]
fn contexts_with_a_name_stand_for_stages_and_images() {
    let world = context();
    world.file("more/b.txt", "b\n");
    world.file("context/Dockerfile", "FROM alpine\nCOPY --from=more b.txt /b\n");
    world.file("base/Dockerfile", "FROM scratch\nLABEL base=yes\n");
    build(&world, ["-o", "oci:based:1", "base"]).ok();
    let arguments = [
        "--build-context",
        "alpine=oci-layout://based:1",
        "--build-context",
        "more=more",
        "-o",
        "oci:layout",
        "context",
    ];
    build(&world, arguments).ok();
    assert_eq!(label(&world, "base").as_deref(), Some("yes"));
    let server = registry(&world.dir("registry"));
    let name = format!("{}/base:1", server.address());
    run(world.skycap(["copy", "oci:based:1", &name])).ok();
    let given = format!("alpine=docker-image://{name}");
    build(&world, ["--build-context", &given, "--build-context", "more=more", "-o", "oci:layout", "context"]).ok();
    assert_eq!(label(&world, "base").as_deref(), Some("yes"));
}

#[test]
fn steps_are_taken_from_the_cache_unless_that_is_not_wanted() {
    let world = context();
    let cached = |ran: Ran| ran.stderr.lines().filter(|line| line.ends_with(" CACHED")).count();
    assert_eq!(cached(build(&world, ["context"]).ok()), 0);
    assert_eq!(cached(build(&world, ["--pull", "context"]).ok()), 2);
    assert_eq!(cached(build(&world, ["--no-cache", "context"]).ok()), 0);
    assert_eq!(cached(build(&world, ["--no-cache-filter", "base", "context"]).ok()), 1);
    build(&world, ["--no-cache-filter", "bse", "context"]).fails(2, "did you mean base?");
}

#[test]
fn caches_travel_in_directories_and_registries() {
    let world = context();
    let server = registry(&world.dir("registry"));
    let reference = format!("type=registry,ref={}/cache:1", server.address());
    for (to, from) in [("type=local,dest=cache", "type=local,src=cache"), (&reference, &reference)] {
        let to = format!("{to},mode=max");
        build(&world, ["--store", "store-1", "--cache-to", &to, "context"]).ok();
        let ran = build(&world, ["--store", "store-2", "--cache-from", from, "context"]).ok();
        assert!(ran.stderr.contains("0 steps done"), "{from}: {}", ran.stderr);
        for store in ["store-1", "store-2"] {
            std::fs::remove_dir_all(world.path(store)).unwrap();
        }
    }
    build(&world, ["--cache-from", "type=lcal,src=x", "context"]).fails(2, "--cache-from");
    build(&world, ["--cache-to", "type=s3,bucket=x", "context"]).fails(2, "--cache-to");
}

#[test]
fn the_id_and_the_digests_are_written_for_programs() {
    let world = context();
    let arguments = [
        "-t",
        "app:1",
        "-t",
        "r.example/app",
        "--iidfile",
        "id",
        "--metadata-file",
        "m.json",
        "-o",
        "oci:layout",
        "context",
    ];
    let digest = build(&world, arguments).ok().stdout.trim().to_owned();
    let image = image_of_tag(&world, "1");
    let id = image.manifest().config.digest.to_string();
    assert_eq!(std::fs::read_to_string(world.path("id")).unwrap(), id);
    let text = std::fs::read_to_string(world.path("m.json")).unwrap();
    let metadata: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(metadata["containerimage.digest"], digest);
    assert_eq!(metadata["containerimage.config.digest"], id);
    assert_eq!(metadata["containerimage.descriptor"]["digest"], digest);
    assert_eq!(metadata["image.name"], "docker.io/library/app:1,r.example/app:latest");
    let quiet = build(&world, ["-q", "context"]).ok();
    assert_eq!((quiet.stdout.trim(), quiet.stderr.as_str()), (id.as_str(), ""));
}

fn image_of_tag(world: &World, tag: &str) -> skycap_image::Image {
    match Layout::open(world.path("layout")).unwrap().get(&Name::Tag(tag.to_owned())).unwrap() {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an index"),
    }
}

#[test]
fn attestations_come_with_the_image_on_request() {
    let world = context();
    build(&world, ["--sbom", "--provenance=mode=min", "-o", "oci:layout", "context"]).ok();
    let Artifact::Index(index) = Layout::open(world.path("layout")).unwrap().only().unwrap() else { panic!() };
    let about = index.manifests().iter().filter(|entry| skycap_image::attestation::is_attestation(entry)).count();
    assert_eq!((index.manifests().len(), about), (2, 1));
    build(&world, ["--attest", "type=provenance", "-o", "docker-archive:x.tar", "context"])
        .fails(2, "an index was asked for");
    build(&world, ["--sbom=generator=x", "context"]).fails(2, "--sbom");
    build(&world, ["--attest", "type=vex", "context"]).fails(2, "--attest");
}

#[test]
fn secrets_reach_run_from_files_and_variables_and_stay_out_of_everything_else() {
    const TEST: &str = "secrets_reach_run_from_files_and_variables_and_stay_out_of_everything_else";
    let lines = "FROM shell\nRUN --mount=type=secret,id=one,required test \"$(sha256sum </run/secrets/one | cut -c1-8)\" = \"$WANT\" || exit 7\n";
    let Some(world) = with_shell(TEST, lines) else { return };
    world.file(
        "context/Dockerfile",
        std::fs::read_to_string(world.path("context/Dockerfile"))
            .unwrap()
            .replace("FROM shell", "FROM shell\nARG WANT"),
    );
    let secret = "hunter2-build-secret";
    world.file("secret", secret);
    let want = format!("WANT={}", &skycap_image::Digest::sha256(secret.as_bytes()).hex()[..8]);
    for flag in [
        "id=one,src=secret",
        "type=file,id=one,source=secret",
        "id=one,env=VALUE",
        "id=one,type=env,src=VALUE",
        "id=one",
    ] {
        let mut command =
            world.skycap(["build", "--no-cache-filter", "1", "--secret", flag, "--build-arg", &want, "context"]);
        command.env("VALUE", secret).env("one", secret);
        run(command).ok();
    }
    build(&world, ["--no-cache-filter", "1", "--build-arg", &want, "context"]).fails(1, "one");
}

#[test]
fn an_agent_s_socket_is_lent_to_run() {
    const TEST: &str = "an_agent_s_socket_is_lent_to_run";
    let Some(world) = with_shell(TEST, "FROM shell\nRUN --mount=type=ssh,required test -S \"$SSH_AUTH_SOCK\"\n") else {
        return;
    };
    build(&world, ["context"]).fails(1, "ssh");
    let _agent = UnixListener::bind(world.path("agent")).unwrap();
    let mut command = world.skycap(["build", "--ssh", "default", "context"]);
    command.env("SSH_AUTH_SOCK", world.path("agent"));
    run(command).ok();
    let named = format!("default={}", world.path("agent").display());
    build(&world, ["--ssh", &named, "--no-cache-filter", "1", "context"]).ok();
}

#[test]
fn run_has_the_network_and_the_hosts_that_were_asked_for() {
    const TEST: &str = "run_has_the_network_and_the_hosts_that_were_asked_for";
    let lines = "FROM shell\nARG HOSTS=0\nARG DEVICES=1\nRUN grep -c example.test /etc/hosts; test $(grep -c example.test /etc/hosts) = $HOSTS && test $(ls /sys/class/net 2>/dev/null | wc -l) -ge 0\n";
    let Some(world) = with_shell(TEST, lines) else { return };
    build(&world, ["context"]).ok();
    let hosts =
        ["--add-host", "a.example.test:10.0.0.1", "--add-host", "b.example.test=[::1]", "--build-arg", "HOSTS=2"];
    let arguments = hosts.into_iter().chain(["--network", "none", "context"]);
    run(world.skycap(["build"].into_iter().chain(arguments))).ok();
    build(&world, ["--network", "host", "--allow", "network.host", "context"]).ok();
}

#[test]
fn a_dockerfile_can_be_questioned_without_building_it() {
    let world = context();
    let targets = build(&world, ["--call", "targets", "context"]).ok().stdout;
    assert!(targets.contains("base       where everything begins") && targets.contains("(default)"), "{targets}");
    let outline =
        build(&world, ["--call", "outline", "--target", "test", "--build-arg", "WHO=me", "context"]).ok().stdout;
    assert!(outline.contains("TARGET:       test") && outline.contains("WHO        me     is greeted"), "{outline}");
    let json = build(&world, ["--call=outline,format=json", "context"]).ok().json();
    assert_eq!(json["args"][0]["name"], "WHO");
    build(&world, ["--check", "context"]).ok();
    world.file("context/Dockerfile", "from scratch AS Upper\nCOPY a.txt /\n");
    let ran = build(&world, ["--check", "context"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("StageNameCasing") && ran.stdout.contains("context/Dockerfile:1"), "{}", ran.stdout);
    let json = build(&world, ["--call=check,format=json", "context"]).json();
    assert!(
        json["warnings"].as_array().unwrap().iter().any(|warning| warning["ruleName"] == "StageNameCasing"),
        "{json}"
    );
    // A build tells them, too, and succeeds.
    let ran = build(&world, ["context"]).ok();
    assert!(ran.stderr.contains("StageNameCasing"), "{}", ran.stderr);
    assert!(!Path::new(&world.path("layout")).exists());
}
