//! Bad input: one clear error, the right exit code, nothing left behind.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::world::{World, noise, registry, run};

/// Pushes an image with one layer and says where its blob lies in the registry's directory.
fn push(world: &World, address: &str) -> Value {
    world.file("context/Dockerfile", "FROM scratch\nCOPY file /file\n");
    world.file("context/file", noise(100_000));
    run(world.skycap(["build", "-t", &format!("{address}/app:1"), "--push", "context"])).ok();
    json!({"repository": format!("{address}/app"), "tag": "1"})
}

/// The largest file below a directory: the layer.
fn largest(directory: &Path) -> std::path::PathBuf {
    let mut found: Vec<(u64, std::path::PathBuf)> = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                pending.push(entry.path());
            } else {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

fn get(world: &World, source: &Value) -> crate::world::Ran {
    let version = world.resource(&["registry-image", "check"], None, &json!({"source": source})).ok().json()[0].clone();
    let request = json!({"source": source, "version": version});
    world.resource(&["registry-image", "in"], Some(&world.dir("got")), &request)
}

fn nothing_is_left(world: &World) {
    let left: Vec<_> = std::fs::read_dir(world.path("got")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    let scratch: Vec<_> = std::fs::read_dir(world.path("tmp")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(scratch.is_empty(), "{scratch:?}");
}

#[test]
fn a_tampered_layer_is_refused_and_nothing_is_left() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let source = push(&world, &server.address().to_string());
    let blob = largest(&world.path("registry"));
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, bytes).unwrap();
    get(&world, &source).fails(1, "corrupt");
    nothing_is_left(&world);
}

#[test]
fn a_truncated_layer_is_refused_and_nothing_is_left() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let source = push(&world, &server.address().to_string());
    let blob = largest(&world.path("registry"));
    let bytes = std::fs::read(&blob).unwrap();
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, &bytes[..bytes.len() - 7]).unwrap();
    let ran = get(&world, &source);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    nothing_is_left(&world);
}

/// A layout whose one layer holds the given entry.
fn hostile_layout(world: &World, header: &skycap_image::tar::Header) -> std::path::PathBuf {
    use skycap_image::{Image, ImageConfig, ImageSink, MediaType, Memory, Name, RootFs, layout::Layout, tar::Writer};
    let memory = Memory::default();
    let mut writer = Writer::new(Vec::new());
    writer.append(header, std::io::empty()).unwrap();
    let layer = memory.add(MediaType::OciLayer, writer.finish().unwrap());
    let config = ImageConfig {
        architecture: skycap_image::Platform::host().architecture,
        os: "linux".to_owned(),
        rootfs: RootFs { diff_ids: vec![layer.digest], ..RootFs::default() },
        ..ImageConfig::default()
    };
    let image = Image::assemble(&config, vec![layer], false, std::sync::Arc::new(memory)).unwrap();
    let directory = world.path("hostile");
    let name = Name::Tag("1".to_owned());
    Layout::create(&directory).unwrap().put(&skycap_image::Artifact::Image(image), &[name]).unwrap();
    directory
}

#[test]
fn a_path_that_leaves_the_root_is_refused_and_nothing_is_left() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let header = skycap_image::tar::Header::file(b"../../../../escaped".to_vec(), 0);
    hostile_layout(&world, &header);
    let source = json!({"repository": format!("{}/hostile", server.address()), "tag": "1"});
    let request = json!({"source": source, "params": {"image": "hostile"}});
    world.resource(&["registry-image", "out"], Some(&world.path("")), &request).ok();
    get(&world, &source).fails(1, "../../../../escaped");
    nothing_is_left(&world);
}

#[test]
fn unknown_fields_and_broken_json_are_refused() {
    let world = World::new();
    let check = |request: Value| world.resource(&["registry-image", "check"], None, &request);
    check(json!({"source": {"repository": "a/b", "tga": "1"}})).fails(1, "unknown field \"tga\"");
    check(json!([])).fails(1, "invalid payload");
    let tag = |request: Value| world.resource(&["registry-tag", "check"], None, &request);
    tag(json!({"source": {}})).fails(1, "mandatory source.uri not found");
}

#[test]
fn a_missing_image_says_what_is_missing() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let source = json!({"repository": format!("{}/nowhere", server.address()), "tag": "1"});
    let empty = json!({"source": source});
    assert_eq!(world.resource(&["registry-image", "check"], None, &empty).ok().json(), json!([]));
    let request = json!({"source": source, "params": {"image": "nope.tar"}});
    world.resource(&["registry-image", "out"], Some(&world.dir("in")), &request).fails(1, "no files match glob");
}

#[test]
fn an_input_that_replaces_nothing_is_refused_before_anything_runs() {
    let world = World::new();
    let pipeline = "resources: [{name: r, type: git, source: {uri: nowhere}}]\n\
                    jobs: [{name: j, plan: [{get: r}]}]\n";
    world.file("p.yml", pipeline);
    run(world.skycap(["run", "p.yml", "-i", "nope=."])).fails(2, "no get is called nope").fails(2, "gets are r");
    run(world.skycap(["run", "p.yml", "-i", "r=nowhere"])).fails(2, "not a directory");
}

#[test]
fn a_layout_is_written_again() {
    let world = World::new();
    world.file("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let build = || run(world.skycap(["build", "-o", "oci:layout", "context"])).ok().stdout;
    assert_eq!(build(), build());
}

#[test]
fn a_base_for_another_platform_is_said() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let base = format!("{}/arm:1", server.address());
    world.file("base/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    run(world.skycap(["build", "--platform", "linux/riscv64", "-t", &base, "--push", "base"])).ok();
    world.file("context/Dockerfile", format!("FROM {base}\nCOPY Dockerfile /again\n"));
    let ran = run(world.skycap(["build", "--platform", "linux/s390x", "context"])).ok();
    let said = "was pulled with platform \"linux/riscv64\", expected \"linux/s390x\"";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

#[test]
fn a_broken_dockerfile_is_one_error_with_its_line() {
    let world = World::new();
    world.file("context/Dockerfile", "FROM scratch\n\nCOPPY a b\n");
    run(world.skycap(["build", "context"])).fails(1, "Dockerfile:3").fails(1, "COPPY").fails(1, "COPY");
    world.file("context/Dockerfile", "FROM scratch\nCOPY missing /x\n");
    run(world.skycap(["build", "context"])).fails(1, "Dockerfile:2").fails(1, "missing");
    run(world.skycap(["build", "-f", "context/Nope", "context"])).fails(1, "context/Nope");
}

#[test]
fn a_broken_pipeline_is_one_error_with_its_place() {
    let world = World::new();
    let pipeline = world.file("p.yml", "jobs:\n- name: a\n  plan:\n  - tsk: b\n");
    let ran = run(world.skycap(["run".as_ref(), pipeline.as_os_str()]));
    assert_ne!(ran.code, Some(0));
    assert!(ran.stderr.contains("p.yml:4"), "{}", ran.stderr);
    let missing = run(world.skycap(["run", "nowhere.yml"]));
    assert!(missing.stderr.contains("nowhere.yml"), "{}", missing.stderr);
}

#[test]
fn a_command_line_that_makes_no_sense_is_exit_code_2() {
    let world = World::new();
    run(world.skycap(["build", "-o", "docker:x", "."])).fails(2, "docker-archive:FILE");
    run(world.skycap(["build", "--host", "nonsense", "."])).fails(2, "NAME=VALUE");
    run(world.skycap(["frobnicate"])).fails(2, "frobnicate");
    run(world.skycap(["build", "-t", "BAD REF", "."])).fails(2, "-t BAD REF");
    run(world.skycap(["install", "--host", "a=http://b", "registry-tag", "x"])).fails(2, "--host");
    world.file("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    run(world.skycap(["build", "-o", "oci:nowhere/x", "."])).fails(1, "nowhere is not a directory");
}

#[test]
fn a_signal_ends_a_task_and_a_script() {
    let Some(busybox) = crate::world::peer("a_signal_ends_a_task_and_a_script", "busybox") else { return };
    let world = World::new();
    std::fs::copy(busybox, world.dir("task").join("busybox")).unwrap();
    world.file("task/Dockerfile", "FROM scratch\nCOPY busybox /bin/sh\nRUN exec sleep 300\n");
    let mut task = world.skycap(["oci-build"]);
    let mut child = task.current_dir(world.path("task")).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    let start = std::time::Instant::now();
    run({
        let mut kill = world.command("kill");
        kill.arg(child.id().to_string());
        kill
    })
    .ok();
    assert_ne!(child.wait().unwrap().code(), Some(0));
    assert!(start.elapsed().as_secs() < 120, "it did not wait for the command's end");
}

#[test]
fn a_closed_standard_output_does_not_panic() {
    let world = World::new();
    let mut help = world.skycap(["completions", "bash"]);
    let mut child = help.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

/// As many systems leave them: a variable without a value is one that is not set, for commands and for installed programs.
#[test]
fn empty_variables_say_nothing() {
    let world = World::new();
    world.file("context/Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    run(world.skycap(["install", "oci-build", "installed"])).ok();
    let variables = ["SKYCAP_SANDBOX", "SKYCAP_STORE", "SKYCAP_STORE_LIMIT", "BUILDKIT_PROGRESS", "REGISTRY_AUTH_FILE"];
    let empty = |mut command: std::process::Command| {
        command.envs(variables.map(|variable| (variable, "")));
        run(command).ok()
    };
    empty(world.skycap(["build", "context"]));
    empty(world.skycap(["store", "ls"]));
    assert!(world.path("home/.cache/skycap/store").is_dir());
    world.dir("context/image");
    let mut task = world.command(world.path("installed/build"));
    task.current_dir(world.path("context"));
    empty(task);
    // With a value they are read.
    for (variable, told) in [("SKYCAP_SANDBOX", "nonsense"), ("SKYCAP_STORE_LIMIT", "nonsense")] {
        let mut build = world.skycap(["build", "context"]);
        build.env(variable, "nonsense");
        run(build).fails(2, told);
    }
    let mut task = world.command(world.path("installed/build"));
    task.current_dir(world.path("context")).env("SKYCAP_STORE", world.path("elsewhere"));
    run(task).ok();
    assert!(world.path("elsewhere").is_dir());
}
