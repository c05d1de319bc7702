//! The pipeline that this product is for, unchanged, with its names led to local servers.

use std::path::Path;

use crate::world::{World, registry, run};

const MISSION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/mission-pipeline.yml");

/// Pushes an image without layers of consequence as `docker.io/library/ruby:<version>-alpine`.
fn publish_ruby(world: &World, address: &str, version: &str) {
    let context = world.dir(&format!("ruby-{version}"));
    world.file(&format!("ruby-{version}/version"), version);
    world.file(&format!("ruby-{version}/Dockerfile"), "FROM scratch\nCOPY version /usr/lib/ruby/version\n");
    let host = format!("docker.io=http://{address}");
    let tag = format!("ruby:{version}-alpine");
    let mut build = world.skycap(["build", "--host", &host, "-t", &tag, "--push"]);
    build.arg(context);
    run(build).ok();
}

fn git(world: &World, directory: &Path, arguments: &[&str]) {
    let mut git = world.command("git");
    git.current_dir(directory).args(["-c", "user.name=t", "-c", "user.email=t@example.org"]).args(arguments);
    run(git).ok();
}

fn publish_repository(world: &World) {
    let repository = world.dir("git/tlwr/my-repo.git");
    world.file("git/tlwr/my-repo.git/Dockerfile", "ARG ruby_version\nFROM ruby:${ruby_version}\nCOPY app /app\n");
    world.file("git/tlwr/my-repo.git/app", "puts 1\n");
    git(world, &repository, &["init", "--quiet", "--initial-branch=main"]);
    git(world, &repository, &["add", "."]);
    git(world, &repository, &["commit", "--quiet", "-m", "first"]);
}

#[test]
fn the_missions_pipeline_runs_unchanged_against_local_servers() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let address = server.address().to_string();
    publish_ruby(&world, &address, "2.7.8");
    publish_ruby(&world, &address, "3.2.1");
    publish_repository(&world);
    let hosts = [
        format!("docker.io=http://{address}"),
        format!("hub.docker.com=http://{address}"),
        format!("github.com=file://{}", world.path("git").display()),
    ];
    let job = || {
        let mut command =
            world.skycap(["run", MISSION, "-v", "docker_hub_username=u", "-v", "docker_hub_password=hunter2-p"]);
        command.args(hosts.iter().flat_map(|host| ["--host", host]));
        run(command).ok()
    };
    job();
    let inspect = |reference: &str| {
        let file = world.path("fetched");
        let _ = std::fs::remove_dir_all(&file);
        let source = serde_json::json!({"source": {"repository": reference, "insecure": true, "tag": "latest"}});
        let version = world.resource(&["registry-image", "check"], None, &source).ok().json()[0].clone();
        let request = serde_json::json!({"source": source["source"], "version": version});
        world.resource(&["registry-image", "in"], Some(&file), &request).ok();
        std::fs::read_to_string(file.join("rootfs/usr/lib/ruby/version")).unwrap()
    };
    assert_eq!(inspect(&format!("{address}/tlwr/my-image")), "3.2.1");
    publish_ruby(&world, &address, "3.3.0");
    job();
    assert_eq!(inspect(&format!("{address}/tlwr/my-image")), "3.3.0");
}

#[test]
fn missing_vars_are_named_before_anything_runs() {
    let world = World::new();
    run(world.skycap(["run", MISSION])).fails(2, "undefined vars: docker_hub_password, docker_hub_username");
}
