//! `out` against the embedded registry.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skycap_image::layout::Layout;
use skycap_image::{
    Artifact, Compression, ImageSink as _, ImageSource as _, MediaType, Memory, Name, Platform, archive,
};
use skycap_testkit::listing::{self, Style};
use skycap_testkit::registry::{Reply, Scripted};

use crate::world::{IMAGE, World};

fn put(world: &World, source: Value, params: Value) -> Result<Value, String> {
    let mut source = source;
    source["repository"] = json!(world.name("app"));
    world.put(&json!({"source": source, "params": params})).map_err(|failure| failure.message)
}

fn find(world: &World, tag: &str) -> Option<String> {
    let found = world.place("app").find(&Name::Tag(tag.to_owned())).unwrap();
    found.map(|descriptor| descriptor.digest.to_string())
}

fn write_archive(world: &World, name: &str) -> skycap_image::Image {
    let image = listing::image(IMAGE);
    archive::write_docker(&image, &[], File::create(world.path("src").join(name)).unwrap()).unwrap();
    image
}

#[test]
fn an_archive_is_pushed_under_its_tags() {
    let world = World::new();
    write_archive(&world, "image.tar");
    fs::write(world.path("src/tags"), "blue green\n").unwrap();
    let params = json!({"image": "*.tar", "version": "v1.2", "bump_aliases": true, "additional_tags": "tags", "tag_prefix": "x-"});
    let answer = put(&world, json!({"tag": "edge"}), params).unwrap();
    let digest = answer["version"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(answer["version"]["tag"], "edge");
    assert_eq!(answer["metadata"][1], json!({"name": "tags", "value": "edge 1.2.0 latest 1 1.2 x-blue x-green"}));
    for tag in ["edge", "1.2.0", "latest", "1", "1.2", "x-blue", "x-green"] {
        assert_eq!(find(&world, tag).as_deref(), Some(digest.as_str()), "{tag}");
    }
    world.get_image("app", &digest, &Value::Null, "out/again").unwrap();
    assert_eq!(world.read("out/again/rootfs/etc/motd"), "hello\n");
    // A lower version moves none of the aliases that a higher one has.
    let answer =
        put(&world, json!({}), json!({"image": "image.tar", "version": "1.1.9", "bump_aliases": true})).unwrap();
    assert_eq!(answer["metadata"][1]["value"], "1.1.9 1.1");
}

#[test]
fn a_put_without_any_tag_is_latest_and_says_so() {
    let world = World::new();
    write_archive(&world, "image.tar");
    let answer = put(&world, json!({}), json!({"image": "image.tar"})).unwrap();
    assert_eq!(answer["version"]["tag"], "latest");
    assert!(world.log.has("neither source.tag nor params.version is set: pushing as latest"));
    assert!(find(&world, "latest").is_some());
}

#[test]
fn bare_layers_are_compressed_and_the_config_stays() {
    let world = World::new();
    let style = Style { compression: Compression::None, docker: true };
    let artifact = listing::artifact(&Memory::default(), IMAGE, style);
    let image = artifact.for_platform(&Platform::host()).unwrap();
    archive::write_docker_flat(&image, &["a:b".to_owned()], File::create(world.path("src/i.tar")).unwrap()).unwrap();
    let answer = put(&world, json!({"tag": "1"}), json!({"image": "i.tar"})).unwrap();
    let pushed = world.place("app").get(&Name::Tag("1".to_owned())).unwrap().for_platform(&Platform::host()).unwrap();
    assert_eq!(pushed.config_bytes(), image.config_bytes());
    assert!(pushed.manifest().layers.iter().all(|layer| layer.media_type == MediaType::DockerLayerGzip));
    world.get_image("app", answer["version"]["digest"].as_str().unwrap(), &Value::Null, "out/again").unwrap();
    assert_eq!(world.read("out/again/rootfs/etc/motd"), "hello\n");
    assert_eq!(fs::read_dir(world.path("scratch")).unwrap().count(), 0);
}

#[test]
fn layouts_are_pushed_as_they_are() {
    let world = World::new();
    let several = format!("platform linux/amd64\n{IMAGE}\nplatform linux/s390x\nlayer\n file a \"b\"");
    let (_, index) = world.push("other", &several, &["1"]);
    let (_, image) = world.push("other", IMAGE, &["2"]);
    let get = |digest: &str, to: &str| {
        world.get_image("other", digest, &json!({"format": "oci-layout"}), to).unwrap();
    };
    get(&index, "src/index");
    get(&image, "src/image");
    let digest =
        |params: Value| put(&world, json!({"tag": "t"}), params).map(|answer| answer["version"]["digest"].clone());
    assert_eq!(digest(json!({"image": "index/oci"})), Ok(json!(index)));
    assert_eq!(digest(json!({"image": "image/oci"})), Ok(json!(image)));
    // The marker may end in a line feed; without it, the layout is an index around the image.
    fs::write(world.path("src/image/oci/single-image-digest"), format!("{image}\n")).unwrap();
    assert_eq!(digest(json!({"image": "image/oci"})), Ok(json!(image)));
    fs::remove_file(world.path("src/image/oci/single-image-digest")).unwrap();
    let raw = fs::read(world.path("src/image/oci/index.json")).unwrap();
    let around = digest(json!({"image": "image/oci"})).unwrap();
    assert_eq!(around, json!(skycap_image::Digest::sha256(&raw).to_string()));
    world
        .get_image("app", around.as_str().unwrap(), &json!({"platform": {"architecture": "amd64"}}), "out/around")
        .unwrap();
    assert_eq!(world.read("out/around/rootfs/etc/motd"), "hello\n");
    // An index in a layout is unwrapped.
    let wrapped = Layout::create(world.path("src/wrapped")).unwrap();
    wrapped.put(&world.place("other").get(&Name::Tag("1".to_owned())).unwrap(), &[]).unwrap();
    assert_eq!(digest(json!({"image": "wrapped"})), Ok(json!(index)));
}

#[test]
fn an_oci_archive_is_pushed_as_it_is() {
    let world = World::new();
    let image = listing::image(IMAGE);
    let file = File::create(world.path("src/oci.tar")).unwrap();
    archive::write_oci(&Artifact::Image(image.clone()), &[], file).unwrap();
    let answer = put(&world, json!({"tag": "1"}), json!({"image": "oci.tar"})).unwrap();
    assert_eq!(answer["version"]["digest"], image.descriptor().digest.to_string());
}

#[test]
fn what_cannot_be_pushed_is_refused_before_anything_is() {
    let world = World::new();
    write_archive(&world, "image.tar");
    fs::write(world.path("src/tags"), "in/valid").unwrap();
    fs::write(world.path("src/empty"), " \n").unwrap();
    let src = world.path("src");
    let src = src.display();
    let cases = [
        (json!({"image": "image.tar", "version": "1.0.0+build"}), "cannot push as \"1.0.0+build\": "),
        (json!({"image": "image.tar", "version": "x"}), "invalid semantic version: \"x\""),
        (json!({"image": "image.tar", "version": "1-01"}), "failed to parse version: version segment starts with 0"),
        (json!({"image": "image.tar", "additional_tags": "tags"}), "cannot push as \"in/valid\": "),
        (
            json!({"image": "image.tar", "additional_tags": "empty", "tag_prefix": "p"}),
            "tag_prefix can only be used when additional_tags are specified",
        ),
        (
            json!({"image": "image.tar", "additional_tags": "nope"}),
            "could not parse additional tags: failed to read file at ",
        ),
        (json!({"image": "nope.tar"}), &format!("no files match glob '{src}/nope.tar'")),
        (
            json!({}),
            &format!("could not load image from path '': new index image from path: loading {src} as OCI layout: "),
        ),
        (json!({"image": "tags"}), &format!("could not load image from path 'tags': loading {src}/tags as tarball: ")),
    ];
    for (params, expected) in cases {
        let error = put(&world, json!({"tag": "t"}), params.clone()).unwrap_err();
        assert!(error.starts_with(expected), "{params}: {error}");
    }
    assert_eq!(find(&world, "t"), None);
}

#[test]
fn tags_are_written_after_everything_they_name() {
    let world = World::new();
    write_archive(&world, "image.tar");
    let writes = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&writes);
    let scripted = Scripted::in_front_of(world.server.address(), move |request| {
        if request.method == "PUT" {
            seen.lock().unwrap().push(request.path.clone());
        }
        Reply::forward()
    })
    .unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address()), "tag": "1"});
    world.put(&json!({"source": source, "params": {"image": "image.tar"}})).unwrap();
    let writes = writes.lock().unwrap();
    assert!(writes.last().unwrap().ends_with("/manifests/1"), "{writes:?}");
}

#[test]
fn links_in_inputs_do_not_lead_out_of_a_confined_put() {
    let world = World::new();
    let victim = world.directory("victim");
    write_archive(&world, "../victim/image.tar");
    fs::write(victim.join("tags"), "a").unwrap();
    let layout = Layout::create(victim.join("layout")).unwrap();
    layout.put(&Artifact::Image(listing::image(IMAGE)), &[]).unwrap();
    write_archive(&world, "good.tar");
    symlink("good.tar", world.path("src/link.tar")).unwrap();
    symlink(&victim, world.path("src/out")).unwrap();
    symlink(victim.join("image.tar"), world.path("src/image.tar")).unwrap();
    fs::create_dir(world.path("src/layout")).unwrap();
    for name in ["index.json", "oci-layout"] {
        fs::copy(victim.join("layout").join(name), world.path("src/layout").join(name)).unwrap();
    }
    symlink(victim.join("layout/blobs"), world.path("src/layout/blobs")).unwrap();
    let request = |params: Value| json!({"source": {"repository": world.name("app"), "tag": "t"}, "params": params});
    world.put_confined(&request(json!({"image": "link.tar"}))).unwrap();
    for (params, expected) in [
        (json!({"image": "image.tar"}), "params.image: image.tar leads outside the put's directory (-> "),
        (json!({"image": "out/image.tar"}), "params.image: out leads outside the put's directory (-> "),
        (json!({"image": "out/im*.tar"}), "params.image: out leads outside the put's directory (-> "),
        (json!({"image": "layout"}), "params.image: layout/blobs leads outside the put's directory (-> "),
        (
            json!({"image": "good.tar", "additional_tags": "out/tags"}),
            "params.additional_tags: out/tags leads outside the put's directory (-> ",
        ),
        (
            json!({"image": "good.tar", "additional_tags": "../victim/tags"}),
            "params.additional_tags: ../victim/tags leads outside the put's directory",
        ),
    ] {
        assert!(world.put(&request(params.clone())).is_ok(), "{params} in a container");
        let error = world.put_confined(&request(params)).unwrap_err().message;
        assert!(error.contains(expected), "{error}");
    }
}
