//! `in` against the embedded registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use skycap_concourse::{Kind, Store};
use skycap_image::layout::Layout;
use skycap_image::{Digest, Name, Platform, archive};
use skycap_testkit::registry::{Reply, Scripted};

use crate::world::{IMAGE, World, settings};

#[test]
fn a_root_file_system_comes_with_its_files() {
    let world = World::new();
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    let answer = world.get_image("app", &digest, &Value::Null, "out/rootfs-format").unwrap();
    let at = |name: &str| world.read(&format!("out/rootfs-format/{name}"));
    assert_eq!(at("rootfs/etc/motd"), "hello\n");
    assert!(!world.path("out/rootfs-format/rootfs/gone").exists());
    assert_eq!(fs::metadata(world.path("out/rootfs-format/rootfs/big")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(
        at("metadata.json"),
        "{\"cmd\":[\"sh\",\"-c\",\"true\"],\"entrypoint\":null,\"env\":[\"PATH=/bin\",\"A=\\u003cb\\u003e\\u0026c\"],\"user\":\"app\"}\n"
    );
    let labels = "{\"org.example.one\":\"1\",\"org.example.two\":\"\\u003c2\\u003e\",\"other\":\"3\"}\n";
    assert_eq!(at("labels.json"), labels);
    assert_eq!((at("tag"), at("digest"), at("repository")), ("1".to_owned(), digest.clone(), world.name("app")));
    assert_eq!(
        answer,
        json!({
            "version": {"tag": "1", "digest": digest},
            "metadata": [{"name": "repository", "value": world.name("app")}, {"name": "tag", "value": "1"}],
        })
    );
    assert!(world.log.has(&format!("fetching {}@{digest}", world.name("app"))));
}

#[test]
fn an_archive_can_be_read_by_its_name() {
    let world = World::new();
    let (artifact, digest) = world.push("app", IMAGE, &["1"]);
    world.get_image("app", &digest, &json!({"format": "oci"}), "out/oci").unwrap();
    let archive = archive::open(world.path("out/oci/image.tar")).unwrap();
    let artifacts = archive.artifacts();
    assert_eq!(artifacts[0].0, [format!("{}:1", world.name("app"))]);
    let image = archive.only().unwrap().for_platform(&skycap_image::Platform::host()).unwrap();
    assert_eq!(image.config_bytes(), artifact.for_platform(&skycap_image::Platform::host()).unwrap().config_bytes());
    assert!(world.path("out/oci/labels.json").exists());
    assert!(!world.path("out/oci/metadata.json").exists());
    assert!(!world.path("out/oci/rootfs").exists());
}

#[test]
fn a_layout_is_the_index_itself() {
    let world = World::new();
    let several = format!("platform linux/amd64\n{IMAGE}\nplatform linux/s390x\nlayer\n file a \"b\"");
    let (_, digest) = world.push("several", &several, &["1"]);
    world.get_image("several", &digest, &json!({"format": "oci-layout"}), "out/several").unwrap();
    let index = fs::read(world.path("out/several/oci/index.json")).unwrap();
    assert_eq!(Digest::sha256(&index).to_string(), digest);
    assert_eq!(world.read("out/several/oci/oci-layout"), "{\n    \"imageLayoutVersion\": \"1.0.0\"\n}");
    assert!(!world.path("out/several/oci/single-image-digest").exists());
    Layout::open(world.path("out/several/oci")).unwrap().as_index().unwrap();

    let (_, digest) = world.push("one", IMAGE, &["1"]);
    world.get_image("one", &digest, &json!({"format": "oci-layout"}), "out/one").unwrap();
    assert_eq!(world.read("out/one/oci/single-image-digest"), digest);
    assert!(!world.path("out/one/labels.json").exists());
    for blob in fs::read_dir(world.path("out/one/oci/blobs/sha256")).unwrap() {
        assert_eq!(blob.unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o644);
    }
}

#[test]
fn the_platform_is_chosen_by_source_or_params() {
    let world = World::new();
    let several =
        "platform linux/amd64\nlayer\n file which \"amd64\"\nplatform linux/s390x\nlayer\n file which \"s390x\"";
    let (_, digest) = world.push("several", several, &["1"]);
    let get = |source: Value, params: Value, to: &str| {
        let mut source = source;
        source["repository"] = json!(world.name("several"));
        let request = json!({"source": source, "params": params, "version": {"tag": "1", "digest": digest}});
        world.get(Kind::RegistryImage, &request, to).map_err(|failure| failure.message)?;
        Ok::<_, String>(world.read(&format!("{to}/rootfs/which")))
    };
    let platform = |architecture: &str| json!({"platform": {"architecture": architecture}});
    assert_eq!(get(platform("s390x"), json!({}), "out/a").as_deref(), Ok("s390x"));
    assert_eq!(get(platform("s390x"), platform("amd64"), "out/b").as_deref(), Ok("amd64"));
    let error = get(platform("riscv64"), json!({}), "out/c").unwrap_err();
    assert!(
        error.starts_with("download failed: fetching image: no child with platform linux/riscv64 in index"),
        "{error}"
    );
    assert!(!world.path("out/c/rootfs").exists());
}

#[test]
fn metadata_is_chosen_by_patterns() {
    let world = World::new();
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    let source = json!({"repository": world.name("app"), "label_regex": "^org[.]", "annotation_regex": "note"});
    let request = |source: &Value| json!({"source": source, "params": {"skip_download": true}, "version": {"tag": "1", "digest": digest}});
    let answer = world.get(Kind::RegistryImage, &request(&source), "out/m").unwrap();
    let names: Vec<&str> = answer["metadata"].as_array().unwrap().iter().filter_map(|f| f["name"].as_str()).collect();
    assert_eq!(names, ["repository", "tag", "org.example.one", "org.example.two", "org.example.note"]);
    assert!(!world.path("out/m/rootfs").exists());
    assert_eq!(world.read("out/m/digest"), digest);
    let broken = json!({"repository": world.name("app"), "label_regex": "("});
    let error = world.get(Kind::RegistryImage, &request(&broken), "out/n").unwrap_err();
    assert_eq!(
        error.message,
        "enriching metadata failed: invalid label_regex: error parsing regexp: missing closing ): `(`"
    );
}

#[test]
fn what_is_wrong_with_the_request_is_found_before_anybody_is_asked() {
    let world = World::new();
    let scripted = Scripted::start(|_| Reply::status(500)).unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address())});
    let digest = Digest::sha256(b"x").to_string();
    for (params, version, expected) in [
        (
            json!({"format": "bogus"}),
            json!({"tag": "1", "digest": digest}),
            "download failed: unknown format provided, must be one of 'rootfs', 'oci', 'oci-layout': bogus",
        ),
        (json!({}), json!({"tag": "1"}), "download failed: fetch descriptor: invalid digest"),
    ] {
        let request = json!({"source": source, "params": params, "version": version});
        let error = world.get(Kind::RegistryImage, &request, "out/x").unwrap_err().message;
        assert!(error.starts_with(expected), "{error}");
    }
    assert!(scripted.requests().is_empty());
}

#[test]
fn nothing_is_downloaded_that_is_skipped() {
    let world = World::new();
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    let scripted = Scripted::in_front_of(world.server.address(), |_| Reply::forward()).unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address())});
    let request =
        json!({"source": source, "params": {"skip_download": true}, "version": {"tag": "1", "digest": digest}});
    world.get(Kind::RegistryImage, &request, "out/skip").unwrap();
    assert_eq!(scripted.lines(), ["GET /v2/".to_owned(), format!("GET /v2/app/manifests/{digest}")]);
}

#[test]
fn what_is_in_the_store_is_not_downloaded_again() {
    let mut world = World::new();
    let (_, digest) = world.push("app", IMAGE, &["1"]);
    let scripted = Scripted::in_front_of(world.server.address(), |_| Reply::forward()).unwrap();
    let blobs = || scripted.lines().iter().filter(|line| line.starts_with("GET ") && line.contains("/blobs/")).count();
    world.host = world.host.clone().with_store(Store::open(&world.path("store")).unwrap());
    let source = json!({"repository": format!("{}/app", scripted.address())});
    let get = |format: &str, to: &str| {
        let request =
            json!({"source": source, "params": {"format": format}, "version": {"tag": "1", "digest": digest}});
        world.get(Kind::RegistryImage, &request, to).unwrap();
    };
    get("rootfs", "out/first");
    let fetched = blobs();
    assert!(fetched > 1);
    for (format, to) in [("rootfs", "out/second"), ("oci", "out/third"), ("oci-layout", "out/fourth")] {
        get(format, to);
    }
    assert_eq!(blobs(), fetched);
    assert_eq!(world.read("out/second/rootfs/etc/motd"), world.read("out/first/rootfs/etc/motd"));
}

/// The sequence that strict servers expect: whatever was answered 429, everything is asked again.
#[test]
fn a_429_begins_everything_again() {
    let world = World::new();
    let (artifact, digest) = world.push("app", "label a=b", &["1"]);
    let config = artifact.for_platform(&skycap_image::Platform::host()).unwrap().manifest().config.digest.to_string();
    let refusals = [("/v2/", 2), ("/v2/app/manifests/", 1), ("/v2/app/blobs/", 1)];
    let scripted = Scripted::in_front_of(world.server.address(), move |request| {
        let refused = refusals
            .iter()
            .filter(|(path, _)| request.path == *path || (path.len() > 4 && request.path.starts_with(path)));
        if refused.map(|(_, times)| *times).max().is_some_and(|times| request.seen < times) {
            Reply::status(429)
        } else {
            Reply::forward()
        }
    })
    .unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address())});
    let request = json!({"source": source, "version": {"tag": "1", "digest": digest}});
    world.get(Kind::RegistryImage, &request, "out/limited").unwrap();
    let (ping, manifest) = ("GET /v2/".to_owned(), format!("GET /v2/app/manifests/{digest}"));
    let config = format!("GET /v2/app/blobs/{config}");
    let expected = [&ping, &ping, &ping, &manifest, &ping, &manifest, &config, &ping, &manifest, &config];
    assert_eq!(scripted.lines().iter().collect::<Vec<_>>(), expected);
    assert!(world.log.has("transient error: "));
}

#[test]
fn a_damaged_layer_leaves_nothing_that_looks_complete() {
    let world = World::new();
    let (artifact, digest) = world.push("app", IMAGE, &["1"]);
    let layer =
        artifact.for_platform(&skycap_image::Platform::host()).unwrap().layers()[1].descriptor.digest.to_string();
    let scripted = Scripted::in_front_of(world.server.address(), move |request| {
        if request.path.ends_with(&layer) { Reply::forward().flip(100_000) } else { Reply::forward() }
    })
    .unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address())});
    for format in ["rootfs", "oci", "oci-layout"] {
        let params = json!({"format": format});
        let request = json!({"source": source, "params": params, "version": {"tag": "1", "digest": digest}});
        let to = format!("out/damaged-{format}");
        assert!(world.get(Kind::RegistryImage, &request, &to).is_err(), "{format}");
        let left: Vec<_> = fs::read_dir(world.path(&to)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{format} left {left:?}");
    }
}

/// R41: bytes that were damaged on their way once.
#[test]
fn a_layer_that_arrives_damaged_is_fetched_once_more() {
    let world = World::new();
    // Small ones are compared before anybody gets them.
    let large = format!("{IMAGE}\n      file large 0600 0:0 size=3000000");
    let (artifact, digest) = world.push("app", &large, &["1"]);
    let layer =
        artifact.for_platform(&skycap_image::Platform::host()).unwrap().layers()[1].descriptor.digest.to_string();
    let scripted = Scripted::in_front_of(world.server.address(), move |request| {
        let is_first = request.path.ends_with(&layer) && request.seen == 0;
        if is_first { Reply::forward().flip(100_000) } else { Reply::forward() }
    })
    .unwrap();
    let source = json!({"repository": format!("{}/app", scripted.address())});
    for format in ["rootfs", "oci", "oci-layout"] {
        let params = json!({"format": format});
        let request = json!({"source": source, "params": params, "version": {"tag": "1", "digest": digest}});
        world.get(Kind::RegistryImage, &request, &format!("out/{format}")).unwrap();
    }
    assert!(world.log.has("transient error: "));
}

#[test]
fn a_mirror_that_fails_half_way_is_replaced_by_the_origin() {
    let world = World::with_settings(|address| {
        let mut settings = settings();
        settings.hosts.insert("index.docker.io".to_owned(), format!("http://{address}"));
        settings
    });
    let (_, digest) = world.push("library/app", IMAGE, &["1"]);
    for status in [404, 403, 429, 500] {
        let mirror = Scripted::in_front_of(world.server.address(), move |request| {
            if request.path.contains("/blobs/") { Reply::status(status) } else { Reply::forward() }
        })
        .unwrap();
        let source = json!({"repository": "app", "registry_mirror": {"host": mirror.address().to_string()}});
        let request = json!({"source": source, "version": {"tag": "1", "digest": digest}});
        let to = format!("out/mirror-{status}");
        world.get(Kind::RegistryImage, &request, &to).unwrap();
        assert_eq!(world.read(&format!("{to}/rootfs/etc/motd")), "hello\n");
        assert_eq!(world.read(&format!("{to}/repository")), "app");
        assert!(world.log.has(&format!("download from mirror {}/library/app failed: ", mirror.address())));
    }
}

#[test]
fn an_artifact_that_is_no_image_is_only_a_layout() {
    let world = World::new();
    let place = world.place("chart");
    let memory = skycap_image::Memory::default();
    let config = memory.add("application/vnd.cncf.helm.config.v1+json".into(), &b"{}"[..]);
    let layer = memory.add("application/vnd.cncf.helm.chart.content.v1.tar+gzip".into(), &b"chart"[..]);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer],
    });
    let raw = skycap_image::RawManifest::new(skycap_image::MediaType::OciManifest, manifest.to_string().into_bytes());
    let digest = raw.descriptor.digest;
    let artifact = skycap_image::Artifact::open(raw, std::sync::Arc::new(memory)).unwrap();
    skycap_image::ImageSink::put(&place, &artifact, &[Name::Tag("1".to_owned())]).unwrap();
    let error = world.get_image("chart", &digest.to_string(), &Value::Null, "out/chart").unwrap_err();
    assert!(error.message.contains("is no image"), "{}", error.message);
    world.get_image("chart", &digest.to_string(), &json!({"format": "oci-layout"}), "out/layout").unwrap();
}

#[test]
fn a_layer_is_reported_once() {
    let world = World::new();
    let (artifact, digest) = world.push("app", IMAGE, &["1"]);
    let layers = artifact.for_platform(&Platform::host()).unwrap().layers();
    for (format, to) in [("rootfs", "out/a"), ("oci", "out/b"), ("oci-layout", "out/c")] {
        let before = world.log.lines().len();
        world.get_image("app", &digest, &json!({"format": format}), to).unwrap();
        let lines = world.log.lines().split_off(before);
        for layer in &layers {
            let name = &layer.descriptor.digest.hex()[..12];
            let found: Vec<_> =
                lines.iter().filter(|line| line.starts_with("started ") && line.contains(name)).collect();
            assert_eq!(found.len(), 1, "{format}: {found:?} in {lines:?}");
        }
    }
}
