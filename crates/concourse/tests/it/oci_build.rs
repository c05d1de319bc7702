//! The oci-build task, with Dockerfiles that need no RUN.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use serde_json::{Value, json};
use skycap_concourse::oci_build::{Outcome, Params, run, run_cancellable};
use skycap_concourse::{Environment, Failure, Host, SandboxAccess, Store, Workshop};
use skycap_image::layout::Layout;
use skycap_image::{Artifact, Image, ImageSink as _, Platform, archive};
use skycap_sandbox::{Cancel, Refused};

use crate::world::{IMAGE, World, settings};

/// A working directory with a context and outputs.
struct Task {
    world: World,
    directory: PathBuf,
}

impl Task {
    fn new(world: World, files: &[(&str, &str)], outputs: &[&str]) -> Self {
        let directory = world.directory("work");
        for (name, content) in files {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        for output in outputs {
            fs::create_dir(directory.join(output)).unwrap();
        }
        Self { world, directory }
    }

    fn run(&self, variables: &[(&str, &str)]) -> Result<Vec<String>, Failure> {
        let environment: Environment = variables.iter().copied().collect();
        self.run_params(&Params::from_environment(&environment)?)
    }

    /// In the process of somebody whose files are not the task's.
    fn run_confined(&self, variables: &[(&str, &str)]) -> Result<Vec<String>, Failure> {
        let environment: Environment = variables.iter().copied().collect();
        let host = self.world.host.clone().confined_to(&self.directory);
        self.run_on(&host, &Params::from_environment(&environment)?)
    }

    fn run_params(&self, params: &Params) -> Result<Vec<String>, Failure> {
        self.run_on(&self.world.host, params)
    }

    fn run_on(&self, host: &Host, params: &Params) -> Result<Vec<String>, Failure> {
        self.with_workshop(|workshop| run(params, &self.directory, host, workshop))
    }

    fn with_workshop(
        &self,
        work: impl FnOnce(&Workshop<'_>) -> Result<Outcome, Failure>,
    ) -> Result<Vec<String>, Failure> {
        let store = Store::open(&self.world.path("store")).unwrap();
        let refused = Refused { attempts: Vec::new() };
        let sandbox = SandboxAccess::Refused(&refused);
        work(&Workshop { store: &store, sandbox, scratch: None, threads: 2 }).map(|outcome| outcome.outputs)
    }

    fn image(&self, output: &str) -> Image {
        let archive = archive::open(self.directory.join(output).join("image.tar")).unwrap();
        archive.only().unwrap().for_platform(&Platform::host()).unwrap()
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn listing(&self, output: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.join(output)).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

const DOCKERFILE: &str = "FROM scratch AS base\nCOPY a /a\nFROM base\nARG v=none\nARG w\nENV V=$v W=$w\nUSER app\n\
                          LABEL from=dockerfile keep=1\nCOPY b /b\n";
const FILES: &[(&str, &str)] = &[("Dockerfile", DOCKERFILE), ("a", "A\n"), ("b", "B\n")];

#[test]
fn an_image_is_built_for_docker_load() {
    let task = Task::new(World::new(), FILES, &["image"]);
    let outputs = task.run(&[("BUILD_ARG_v", "1"), ("LABEL_from", "param"), ("LABELS", "more=2")]).unwrap();
    assert_eq!(outputs, ["image"]);
    assert_eq!(task.listing("image"), ["digest", "image.tar"]);
    let image = task.image("image");
    assert_eq!(task.read("image/digest"), image.manifest().config.digest.to_string());
    let config = &image.config().config;
    assert!(config.env.as_ref().unwrap().contains(&"V=1".to_owned()));
    let labels: Vec<(&str, &str)> = config.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, [("from", "param"), ("keep", "1"), ("more", "2")]);
    assert_eq!(image.layers().len(), 2);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let bytes = || {
        let task = Task::new(World::new(), FILES, &["image"]);
        task.run(&[("SOURCE_DATE_EPOCH", "1700000000")]).unwrap();
        fs::read(task.directory.join("image/image.tar")).unwrap()
    };
    assert!(bytes() == bytes());
}

#[test]
fn files_are_unpacked_beside_the_archive() {
    let task = Task::new(World::new(), FILES, &["image"]);
    task.run(&[("unpack_rootfs", "true")]).unwrap();
    assert_eq!(task.listing("image"), ["digest", "image.tar", "metadata.json", "rootfs"]);
    assert_eq!(task.read("image/rootfs/a"), "A\n");
    let metadata: Value = serde_json::from_str(&task.read("image/metadata.json")).unwrap();
    assert_eq!(metadata["user"], "app");
    assert!(task.read("image/metadata.json").starts_with("{\"env\":["));
    // Again, over what is there.
    task.run(&[("unpack_rootfs", "true"), ("BUILD_ARG_v", "2")]).unwrap();
    assert!(task.read("image/metadata.json").contains("V=2"));
}

#[test]
fn a_layout_is_written_where_it_is_asked_for() {
    let task = Task::new(World::new(), FILES, &["image"]);
    task.run(&[("OUTPUT_OCI", "true"), ("UNPACK_ROOTFS", "true")]).unwrap();
    assert_eq!(task.listing("image"), ["digest", "image", "image.tar"]);
    let layout = Layout::open(task.directory.join("image/image")).unwrap();
    let only = layout.only().unwrap();
    assert_eq!(task.read("image/digest"), only.descriptor().digest.to_string());
    assert!(only.descriptor().media_type.as_str().contains("oci"));
    let mode = fs::metadata(task.directory.join("image/image")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    // Puts that know manifest.json only can read it too.
    assert_eq!(archive::open(task.directory.join("image/image.tar")).unwrap().format(), archive::Format::Docker);
}

#[test]
fn several_platforms_make_an_index() {
    let task = Task::new(World::new(), FILES, &["image"]);
    task.run(&[("IMAGE_PLATFORM", "linux/s390x,linux/amd64")]).unwrap();
    let layout = Layout::open(task.directory.join("image/image")).unwrap();
    let Artifact::Index(index) = layout.only().unwrap() else { panic!("no index") };
    let platforms: Vec<String> = index.manifests().iter().map(|m| m.platform.as_ref().unwrap().to_string()).collect();
    assert_eq!(platforms, ["linux/s390x", "linux/amd64"]);
    assert_eq!(task.read("image/digest"), index.raw().descriptor.digest.to_string());
    archive::open(task.directory.join("image/image.tar")).unwrap().only().unwrap();
}

#[test]
fn additional_targets_go_to_their_own_outputs() {
    let task = Task::new(World::new(), FILES, &["image", "base"]);
    let outputs = task.run(&[("ADDITIONAL_TARGETS", "base,"), ("OUTPUT_OCI", "false")]).unwrap();
    assert_eq!(outputs, ["base", "image"]);
    assert_eq!((task.image("base").layers().len(), task.image("image").layers().len()), (1, 2));
    fs::write(task.directory.join("target"), " base\n").unwrap();
    task.run(&[("TARGET", "nope"), ("TARGET_FILE", "target")]).unwrap();
    assert_eq!(task.image("image").layers().len(), 1);
    let without = Task::new(World::new(), FILES, &[]);
    assert!(without.run(&[("ADDITIONAL_TARGETS", "base")]).unwrap().is_empty());
    assert!(without.world.log.has("there is no output named `image`"));
}

#[test]
fn arguments_come_from_files_too() {
    let files =
        &[FILES, &[("args.yml", "v: 1.10\nw: null\n"), ("args", "v=2\n\nw=x y\n"), ("labels", "from=file\n")]].concat();
    let task = Task::new(World::new(), files, &["image"]);
    let env = |variables: &[(&str, &str)]| {
        task.run(variables).unwrap();
        task.image("image").config().config.env.clone().unwrap_or_default().join(" ")
    };
    assert!(env(&[("BUILD_ARGS_FILE", "args.yml"), ("BUILD_ARG_v", "lost")]).contains("V=1.10 W="));
    assert!(env(&[("BUILD_ARGS_FILE", "args"), ("BUILD_ARGS", "v=lost")]).contains("V=2 W=x y"));
    task.run(&[("LABELS_FILE", "labels"), ("LABEL_from", "lost")]).unwrap();
    assert_eq!(task.image("image").config().config.labels["from"], "file");
    let error = |variables: &[(&str, &str)]| task.run(variables).unwrap_err().message;
    assert!(error(&[("BUILD_ARGS_FILE", "nope")]).starts_with("config: read build args file: cannot read "));
    assert!(error(&[("TARGET_FILE", "nope")]).starts_with("config: read target file: cannot read "));
    assert_eq!(error(&[("BUILD_ARGS", "novalue")]), "build argument \"novalue\" is not NAME=VALUE");
}

#[test]
fn images_at_hand_stand_in_for_registries() {
    let world = World::new();
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    world.get_image("app", &digest, &json!({"format": "oci"}), "work/archive").unwrap();
    world.get_image("app", &digest, &json!({"format": "oci-layout"}), "work/layout").unwrap();
    let dockerfile = "ARG First\nARG first\nFROM ${First} AS one\nFROM ${first}\nCOPY --from=one /etc/motd /copied\n";
    let task = Task::new(world, &[("Dockerfile", dockerfile)], &["image"]);
    let variables =
        [("IMAGE_ARG_First", "archive/image.tar"), ("IMAGE_ARG_first", "layout/oci"), ("UNPACK_ROOTFS", "1")];
    task.run(&variables).unwrap();
    assert_eq!(task.read("image/rootfs/copied"), "hello\n");
    assert_eq!(task.read("image/rootfs/etc/motd"), "hello\n");
    let error = task.run(&[("IMAGE_ARG_First", "nope")]).unwrap_err().message;
    assert!(error.starts_with("IMAGE_ARG_First: cannot inspect "), "{error}");
}

#[test]
fn bases_come_from_mirrors_and_registries() {
    let world = World::with_settings(|address| {
        let mut settings = settings();
        settings.hosts.insert("index.docker.io".to_owned(), format!("http://{address}"));
        settings
    });
    world.push("library/base", IMAGE, &["1"]);
    let mirror = world.server.address().to_string();
    let task = Task::new(world, &[("ctx/Dockerfile", "FROM base:1\nCOPY x /x\n"), ("ctx/x", "X")], &["image"]);
    task.run(&[("CONTEXT", "ctx")]).unwrap();
    assert_eq!(task.image("image").layers().len(), 3);
    let nobody = "127.0.0.1:1".to_owned();
    task.run(&[("CONTEXT", "ctx"), ("REGISTRY_MIRRORS", &format!("{nobody},{mirror}"))]).unwrap();
    assert!(task.world.log.has("mirror 127.0.0.1:1 failed for "), "{:?}", task.world.log.lines());
}

#[test]
fn a_layer_that_is_unpacked_is_not_reported_beside_its_transfer() {
    let world = World::new();
    world.push("base", IMAGE, &["1"]);
    let dockerfile = format!("FROM {}\nCOPY x /x\n", world.name("base:1"));
    let task = Task::new(world, &[("Dockerfile", &dockerfile), ("x", "X")], &["image"]);
    task.run(&[("UNPACK_ROOTFS", "1")]).unwrap();
    let layers = task.image("image").layers();
    let lines = task.world.log.lines();
    let of_unpacking = layers.iter().map(|layer| format!("started {}", &layer.descriptor.digest.hex()[..12]));
    let found: Vec<_> = of_unpacking.filter(|line| lines.contains(line)).collect();
    assert!(found.is_empty(), "{found:?} in {lines:#?}");
}

#[test]
fn the_json_form_writes_its_response() {
    let task = Task::new(World::new(), FILES, &["image"]);
    let response = task.directory.join("response.json");
    let request = json!({"response_path": response, "config": {"target": "base", "unpack_rootfs": true}});
    let params = Params::from_request(request.to_string().as_bytes(), &Environment::default()).unwrap();
    task.run_params(&params).unwrap();
    assert_eq!(task.read("response.json"), "{\"outputs\":[\"image\",\"cache\"]}\n");
    assert!(!task.directory.join("image/rootfs/b").exists());
}

#[test]
fn a_failed_build_leaves_the_outputs_alone() {
    let task = Task::new(World::new(), FILES, &["image"]);
    task.run(&[]).unwrap();
    let before = task.read("image/digest");
    fs::write(task.directory.join("Dockerfile"), "FROM scratch\nCOPY nope /\n").unwrap();
    let error = task.run(&[]).unwrap_err();
    assert!(error.message.starts_with("Dockerfile:2: "), "{}", error.message);
    assert_eq!(task.read("image/digest"), before);
    assert_eq!(task.listing("image"), ["digest", "image.tar"]);
    let error = task.run(&[("CONTEXT", "nowhere")]).unwrap_err().message;
    assert!(error.contains("is no directory"), "{error}");
    let error = task.run(&[("DOCKERFILE", "nowhere/Dockerfile")]).unwrap_err().message;
    assert!(error.starts_with("cannot read "), "{error}");
}

#[test]
fn a_cancelled_build_ends_and_leaves_the_outputs_alone() {
    let task = Task::new(World::new(), FILES, &["image"]);
    let cancel = Cancel::new();
    let build = |cancel: &Cancel| {
        let params = Params::default();
        task.with_workshop(|workshop| run_cancellable(&params, &task.directory, &task.world.host, workshop, cancel))
    };
    cancel.cancel();
    assert_eq!(build(&cancel.child()).unwrap_err().message, "the build was cancelled");
    assert!(task.listing("image").is_empty());
    build(&Cancel::new()).unwrap();
}

#[test]
fn an_output_that_is_being_replaced_has_no_digest() {
    let task = Task::new(World::new(), FILES, &["image"]);
    task.run(&[]).unwrap();
    // What cannot be replaced stands for a kill between two renames.
    fs::remove_file(task.directory.join("image/image.tar")).unwrap();
    fs::create_dir_all(task.directory.join("image/image.tar/full")).unwrap();
    let error = task.run(&[("BUILD_ARG_v", "2")]).unwrap_err().message;
    assert!(error.starts_with("cannot write "), "{error}");
    assert_eq!(task.listing("image"), ["image.tar"]);
}

/// A task with an input full of links to a directory of somebody else.
fn task_with_links() -> (Task, PathBuf) {
    let task = Task::new(World::new(), FILES, &["image"]);
    let victim = task.world.directory("victim");
    for (name, content) in
        [("Dockerfile", DOCKERFILE), ("a", "A"), ("b", "B"), ("t", "base"), ("kv", "a=b"), ("config.json", "{}")]
    {
        fs::write(victim.join(name), content).unwrap();
    }
    archive::write_docker(&skycap_testkit::listing::image(IMAGE), &[], File::create(victim.join("i.tar")).unwrap())
        .unwrap();
    let input = task.world.directory("work/in");
    symlink(&victim, input.join("out")).unwrap();
    symlink(victim.join("t"), input.join("t")).unwrap();
    (task, victim)
}

#[test]
fn links_in_inputs_do_not_lead_out_of_a_confined_task() {
    let (task, victim) = task_with_links();
    let shown = victim.display();
    for (name, value) in [
        ("CONTEXT", "in/out"),
        ("DOCKERFILE", "in/out/Dockerfile"),
        ("BUILD_ARGS_FILE", "in/out/kv"),
        ("LABELS_FILE", "in/out/kv"),
        ("TARGET_FILE", "in/out/t"),
        ("BUILDKIT_SECRET_s", "in/out/kv"),
        ("IMAGE_ARG_i", "in/out/i.tar"),
    ] {
        task.run(&[(name, value)]).unwrap_or_else(|failure| panic!("{name} in a container: {failure}"));
        let error = task.run_confined(&[(name, value)]).unwrap_err().message;
        let expected = format!("{value} leads outside the task's directory (-> {shown})");
        assert!(error.ends_with(&expected), "{name}: {error}");
        for value in ["../victim/t", &victim.join("t").display().to_string()] {
            let error = task.run_confined(&[(name, value)]).unwrap_err().message;
            assert!(error.ends_with(&format!("{value} leads outside the task's directory")), "{name}: {error}");
        }
    }
    let error = task.run_confined(&[("CONTEXT", "in/out")]).unwrap_err().message;
    assert_eq!(error, format!("CONTEXT: in/out leads outside the task's directory (-> {shown})"));
    let host = task.world.host.clone().confined_to(&task.directory);
    for directory in [task.directory.join("in/out"), victim.clone()] {
        let error = task.with_workshop(|workshop| run(&Params::default(), &directory, &host, workshop));
        let error = error.unwrap_err().message;
        assert!(error.starts_with("the working directory: "), "{error}");
        assert!(error.contains(" leads outside the task's directory"), "{error}");
    }
    let error = task.run_confined(&[("DOCKER_CONFIG", "in/out")]).unwrap_err().message;
    assert!(error.starts_with("DOCKER_CONFIG: in/out/config.json leads outside "), "{error}");
    let error = task.run_confined(&[("TARGET_FILE", "in/t")]).unwrap_err().message;
    assert!(error.contains(&format!("in/t leads outside the task's directory (-> {shown}/t)")), "{error}");
}

/// The parameters that the original does not have, or whose files have a form of their own.
#[test]
fn files_of_keys_certificates_contexts_and_caches_stay_inside_too() {
    let (task, victim) = task_with_links();
    let table = |key: &str, value: &str| format!("[registry.\"r.io\"]\n{key} = {value}\n");
    for (name, value) in [
        ("BUILDKIT_SSH", "default=in/out/kv"),
        ("REGISTRY_CA_CERTS", "in/out/kv"),
        ("BUILD_CONTEXT_c", "in/out"),
        ("BUILD_CONTEXT_c", "oci-layout://in/out"),
        ("CACHE_FROM", "type=local,src=in/out"),
        ("CACHE_TO", "type=local,dest=in/out"),
        ("BUILDKIT_EXTRA_CONFIG", &table("ca", "[\"in/out/kv\"]")),
        ("BUILDKIT_EXTRA_CONFIG", &table("keypair", "[{key = \"in/out/kv\", cert = \"in/out/kv\"}]")),
    ] {
        let error = task.run_confined(&[(name, value)]).unwrap_err().message;
        let expected = format!(" leads outside the task's directory (-> {})", victim.display());
        assert!(error.starts_with(name) && error.ends_with(&expected), "{name}: {error}");
    }
    // The agent of whoever runs pipelines is not the task's.
    let agent = victim.join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let variables = [("BUILDKIT_SSH", "default"), ("SSH_AUTH_SOCK", agent.to_str().unwrap())];
    task.run(&variables).unwrap();
    let error = task.run_confined(&variables).unwrap_err().message;
    assert!(error.starts_with("BUILDKIT_SSH: ") && error.contains(" leads outside "), "{error}");
}

#[test]
fn ignore_files_layouts_and_outputs_of_a_confined_task_stay_inside_too() {
    let (task, victim) = task_with_links();
    for name in ["Dockerfile.dockerignore", ".dockerignore"] {
        symlink(victim.join("kv"), task.directory.join(name)).unwrap();
        let error = task.run_confined(&[]).unwrap_err().message;
        assert!(error.starts_with(&format!(".dockerignore: {name} leads outside ")), "{error}");
        fs::remove_file(task.directory.join(name)).unwrap();
    }
    let layout = Layout::create(task.directory.join("in/layout")).unwrap();
    let image = Artifact::Image(skycap_testkit::listing::image(IMAGE));
    layout.put(&image, &[]).unwrap();
    task.run_confined(&[("IMAGE_ARG_i", "in/layout")]).unwrap();
    let blob = format!("blobs/sha256/{}", image.descriptor().digest.hex());
    fs::rename(layout.dir().join(&blob), victim.join("blob")).unwrap();
    symlink(victim.join("blob"), layout.dir().join(&blob)).unwrap();
    task.run(&[("IMAGE_ARG_i", "in/layout")]).unwrap();
    let error = task.run_confined(&[("IMAGE_ARG_i", "in/layout")]).unwrap_err().message;
    assert!(error.contains(&format!("in/layout/{blob} leads outside ")), "{error}");

    fs::remove_dir_all(task.directory.join("image")).unwrap();
    let before = fs::read_dir(&victim).unwrap().count();
    symlink(&victim, task.directory.join("image")).unwrap();
    let error = task.run_confined(&[]).unwrap_err().message;
    assert!(error.starts_with("the output: image leads outside "), "{error}");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), before);
}

#[test]
fn a_confined_task_follows_links_within_its_directory_and_waits_for_no_pipe() {
    let files = &[("real/Dockerfile", "FROM scratch\nCOPY x /\n"), ("real/x", "X"), ("real/t", "")];
    let task = Task::new(World::new(), files, &["image"]);
    symlink("real", task.directory.join("link")).unwrap();
    symlink("../real/t", task.directory.join("real/up")).unwrap();
    task.run_confined(&[("CONTEXT", "link"), ("TARGET_FILE", "link/up"), ("UNPACK_ROOTFS", "1")]).unwrap();
    assert_eq!(task.read("image/rootfs/x"), "X");
    let pipe = task.directory.join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
    for name in ["TARGET_FILE", "DOCKERFILE", "BUILDKIT_SECRET_s", "IMAGE_ARG_i"] {
        let error = task.run_confined(&[("CONTEXT", "link"), (name, "pipe")]).unwrap_err().message;
        assert!(error.ends_with("it is neither a regular file nor a directory"), "{name}: {error}");
    }
}
