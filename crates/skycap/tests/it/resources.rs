//! The resource types through their executables, against the embedded registry.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{World, listing, registry, run};

/// Builds an image with one file and writes it as a docker archive below `name/`.
fn archive(world: &World, name: &str, content: &str) -> PathBuf {
    world.file(&format!("{name}-context/Dockerfile"), "FROM scratch\nCOPY file /etc/file\nENV A=b\nUSER nobody\n");
    world.file(&format!("{name}-context/file"), content);
    let directory = world.dir(name);
    let output = format!("docker-archive:{}", directory.join("image.tar").display());
    run(world.skycap(["build", "-o", &output, &format!("{name}-context")])).ok();
    directory
}

fn put(world: &World, source: &Value, directory: &Path, params: &Value) -> Value {
    let request = json!({"source": source, "params": params});
    world.resource(&["registry-image", "out"], Some(directory), &request).ok().json()
}

fn check(world: &World, source: &Value) -> Value {
    world.resource(&["registry-image", "check"], None, &json!({"source": source})).ok().json()
}

#[test]
fn an_image_goes_out_is_found_and_comes_back_in_every_format() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let source = json!({"repository": format!("{}/team/app", server.address()), "tag": "1.0"});
    let directory = archive(&world, "first", "one");
    let pushed = put(&world, &source, &directory, &json!({"image": "image.tar"}));
    assert_eq!(check(&world, &source), json!([pushed["version"]]));

    for (format, expected) in [("rootfs", "rootfs/etc/file"), ("oci", "image.tar"), ("oci-layout", "oci/index.json")] {
        let destination = world.path(format);
        let request = json!({"source": source, "version": pushed["version"], "params": {"format": format}});
        let answer = world.resource(&["registry-image", "in"], Some(&destination), &request).ok().json();
        assert_eq!(answer["version"], pushed["version"]);
        assert!(destination.join(expected).exists(), "{}", listing(&destination));
        let read = |name: &str| std::fs::read_to_string(destination.join(name)).unwrap();
        assert_eq!(read("tag"), "1.0");
        assert_eq!(read("digest"), pushed["version"]["digest"].as_str().unwrap());
    }
    let metadata = std::fs::read_to_string(world.path("rootfs/metadata.json")).unwrap();
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    assert_eq!(metadata["user"], "nobody");
}

#[test]
fn semver_tags_are_versions_in_order() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let repository = format!("{}/app", server.address());
    for version in ["1.10.0", "1.9.0", "2.0.0-rc.1"] {
        let directory = archive(&world, &format!("v{version}"), version);
        put(&world, &json!({"repository": repository}), &directory, &json!({"image": "image.tar", "version": version}));
    }
    let versions = check(&world, &json!({"repository": repository}));
    let tags: Vec<_> = versions.as_array().unwrap().iter().map(|v| v["tag"].as_str().unwrap()).collect();
    assert_eq!(tags, ["1.9.0", "1.10.0"]);
    let source = json!({"repository": repository, "tag_regex": "^1[.]9"});
    assert_eq!(check(&world, &source)[0]["tag"], "1.9.0");
}

#[test]
fn registry_tag_follows_both_apis() {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    let repository = format!("{}/library/base", server.address());
    for tag in ["3.1.0-alpine", "3.2.0-alpine", "edge"] {
        let directory = archive(&world, tag, tag);
        put(&world, &json!({"repository": repository, "tag": tag}), &directory, &json!({"image": "image.tar"}));
    }
    // `--host` leads Docker Hub's API, whose mode is chosen by its name, to the embedded registry.
    let host = format!("hub.docker.com=http://{}", server.address());
    let v2 = format!("http://{}/v2/library/base", server.address());
    for uri in [v2.as_str(), "https://hub.docker.com/v2/repositories/library/base"] {
        let source = json!({"uri": uri, "regexp": "^[0-9.]+-alpine$", "semver": {"matcher": ">= 3"}});
        let words = |script| ["registry-tag", "--host", host.as_str(), script];
        let versions = world.resource(&words("check"), None, &json!({"source": source})).ok();
        assert_eq!(versions.json(), json!([{"tag": "3.1.0-alpine"}, {"tag": "3.2.0-alpine"}]));
        assert_eq!(versions.stderr, "");
        let destination = world.dir("tag");
        let request = json!({"source": source, "version": {"tag": "3.2.0-alpine"}});
        world.resource(&words("in"), Some(&destination), &request).ok();
        assert_eq!(std::fs::read_to_string(destination.join("tag")).unwrap(), "3.2.0-alpine");
        assert!(std::fs::read_to_string(destination.join("digest")).unwrap().starts_with("sha256:"));
    }
}
