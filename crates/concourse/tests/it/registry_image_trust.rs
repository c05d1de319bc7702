//! Signatures: puts that sign, gets that refuse.

use serde_json::{Value, json};
use skycap_concourse::Kind;
use skycap_testkit::notary::{Notary, PASSPHRASE};

use crate::world::{IMAGE, World, settings};

fn key(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../registry/testdata/cosign").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// A put of an archive with one image, as `tag`.
fn put(world: &World, tag: &str, extra: &Value) -> Result<Value, String> {
    let file = world.path("src/image.tar");
    if !file.exists() {
        let (artifact, digest) = world.push("source", IMAGE, &["1"]);
        world.get_image("source", &digest, &json!({"format": "oci"}), "src/got").unwrap();
        std::fs::rename(world.path("src/got/image.tar"), &file).unwrap();
        drop(artifact);
    }
    let mut source = json!({"repository": world.name("app"), "tag": tag});
    source.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    world.put(&json!({"source": source, "params": {"image": "image.tar"}})).map_err(|failure| failure.message)
}

fn get(world: &World, version: &Value, extra: &Value, to: &str) -> Result<Value, String> {
    let mut source = json!({"repository": world.name("app")});
    source.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let request = json!({"source": source, "version": version});
    world.get(Kind::RegistryImage, &request, to).map_err(|failure| failure.message)
}

#[test]
fn what_cosigns_key_signed_can_be_got_and_nothing_else() {
    let world = World::new();
    let signing = json!({"cosign": {"private_key": key("cosign.key"), "password": "hunter2-cosign"}});
    let verifying = json!({"cosign": {"public_key": key("cosign.pub")}});
    let unsigned = put(&world, "1", &json!({})).unwrap()["version"].clone();
    let error = get(&world, &unsigned, &verifying, "out/unsigned").unwrap_err();
    assert!(error.starts_with("download failed: verify signature: ") && error.contains("is not signed"), "{error}");
    assert!(!world.path("out/unsigned/rootfs").exists());

    let signed = put(&world, "1", &signing).unwrap()["version"].clone();
    assert_eq!(signed, unsigned);
    get(&world, &signed, &verifying, "out/signed").unwrap();
    assert_eq!(world.read("out/signed/rootfs/etc/motd"), "hello\n");
    let other = json!({"cosign": {"public_key": key("old.pub")}});
    let error = get(&world, &signed, &other, "out/other").unwrap_err();
    assert!(error.contains("none of its 1 signatures was made with this key"), "{error}");
    // Who asks for no signature gets the image as before.
    get(&world, &signed, &json!({}), "out/whatever").unwrap();
}

#[test]
fn a_key_that_cannot_be_opened_fails_the_put_before_anything_is_pushed() {
    let world = World::new();
    put(&world, "first", &json!({})).unwrap();
    let table = [
        (json!({"cosign": {"private_key": key("cosign.key"), "password": "hunter2-wrong"}}), "cosign.private_key: "),
        (json!({"content_trust": {"repository_key_id": "x", "repository_key": "hunter2-y"}}), "content_trust: "),
        (json!({"content_trust": {"tls_cert": "x"}}), "content_trust: tls_cert and tls_key only work together"),
    ];
    for (extra, expected) in table {
        let error = put(&world, "second", &extra).unwrap_err();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
    assert_eq!(world.place("app").tags().unwrap(), ["first"]);
    let broken = json!({"cosign": {"public_key": "nonsense"}});
    let version = json!({"tag": "first", "digest": format!("sha256:{}", "0".repeat(64))});
    let error = get(&world, &version, &broken, "out/broken").unwrap_err();
    assert!(error.contains("cosign.public_key: "), "{error}");
}

#[test]
fn content_trust_is_published_where_debians_notary_finds_it() {
    let Some(notary) = Notary::start() else {
        return skycap_testkit::skipped!(
            "content_trust_is_published_where_debians_notary_finds_it: notary is not installed"
        );
    };
    let url = notary.url().to_owned();
    let world = World::with_settings(move |_| {
        let mut settings = settings();
        settings.hosts.insert("notary.example".to_owned(), url);
        settings
    });
    let gun = world.name("app");
    notary.initialise(&gun);
    let (id, secret) = notary.key("targets");
    let trust = json!({"content_trust": {
        "server": "https://notary.example", "repository_key_id": id, "repository_key": secret.reveal(),
        "repository_passphrase": PASSPHRASE,
    }});
    let answer = put(&world, "1.0.0", &trust).unwrap();
    let listed = notary.listed(&gun);
    let digest = answer["version"]["digest"].as_str().unwrap();
    assert_eq!(format!("sha256:{}", listed["1.0.0"].0), digest);
    // The key was on no disk of ours.
    let left: Vec<_> = std::fs::read_dir(world.path("scratch")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    // A server that is not there fails the put.
    let mut nowhere = trust.clone();
    nowhere["content_trust"]["server"] = json!("https://127.0.0.1:1");
    let error = put(&world, "2.0.0", &nowhere).unwrap_err();
    assert!(error.starts_with("signing image failed: cannot sign "), "{error}");
}
