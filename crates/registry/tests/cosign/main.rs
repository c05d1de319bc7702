//! Signatures in cosign's format, in registries with and without the referrers API. OpenSSL is the second opinion.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use skycap_image::{
    Artifact, BlobSource as _, Descriptor, Image, ImageConfig, ImageSink as _, ImageSource as _, Kind, Manifest,
    MediaType, Memory, Name, RawManifest, Secret, Silent,
};
use skycap_registry::cosign::{PrivateKey, PublicKey, sign, signature_tag, verify};
use skycap_registry::server::{Options, Server};
use skycap_registry::{Access, Client, Place, Settings};
use skycap_testkit::registry::{Reply, Scripted};
use tempfile::TempDir;

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

fn testdata(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cosign").join(name);
    fs::read_to_string(path).unwrap()
}

fn private(name: &str) -> PrivateKey {
    PrivateKey::open(&Secret::new(testdata(&format!("{name}.key"))), &Secret::new("hunter2-cosign")).unwrap()
}

fn public(name: &str) -> PublicKey {
    PublicKey::parse(&testdata(&format!("{name}.pub"))).unwrap()
}

/// A registry with one image in it.
struct World {
    _dir: TempDir,
    server: Server,
    place: Place,
    image: Descriptor,
}

fn place_at(address: std::net::SocketAddr) -> Place {
    let client = Client::new(Settings::default(), Arc::new(Silent)).unwrap();
    client.place(format!("{address}/team/app").parse().unwrap(), Access { push: true, ..Access::default() }).unwrap()
}

fn image(label: &str) -> Image {
    let mut config = ImageConfig::default();
    config.config.labels.insert("which".into(), label.into());
    Image::assemble(&config, Vec::new(), false, Arc::new(Memory::default())).unwrap()
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default()).unwrap();
        let place = place_at(server.address());
        let image = place.put(&Artifact::Image(image("one")), &[Name::Tag("1".into())]).unwrap();
        Self { _dir: dir, server, place, image }
    }

    /// The signatures under the tag.
    fn list(&self) -> Manifest {
        let tag = Name::Tag(signature_tag(&self.image));
        match self.place.get(&tag).unwrap() {
            Artifact::Image(image) => image.manifest().clone(),
            Artifact::Index(_) => panic!("an index"),
        }
    }

    fn read(&self, blob: &Descriptor) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.place.open(blob).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Leaves a referrer of the image there whose one layer is that document.
    fn refer(&self, kind: &str, document: &[u8], annotations: &[(&str, &str)]) {
        let memory = Memory::default();
        let mut layer = memory.add(MediaType::from(kind), document.to_vec());
        layer.annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let config = b"{}".to_vec();
        let artifact_type = if kind == BUNDLE { kind } else { "application/vnd.dev.cosign.artifact.sig.v1+json" };
        let manifest = Manifest {
            schema_version: 2,
            media_type: MediaType::OciManifest,
            artifact_type: Some(artifact_type.to_owned()),
            config: Descriptor::of(MediaType::from("application/vnd.oci.empty.v1+json"), &config),
            layers: vec![layer],
            subject: Some(self.image.clone()),
            annotations: std::collections::BTreeMap::new(),
        };
        let raw = RawManifest::new(MediaType::OciManifest, serde_json::to_vec(&manifest).unwrap());
        let image = Image::from_parts(raw, manifest, config, Arc::new(memory)).unwrap();
        self.place.put(&Artifact::Image(image), &[]).unwrap();
    }
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn what_is_signed_is_verified_with_the_public_key_and_no_other() {
    let world = World::new();
    for name in ["cosign", "old"] {
        let before = verify(&world.place, &world.image, &public(name)).unwrap_err();
        assert_eq!(before.kind, Kind::Denied, "{before}");
        sign(&world.place, &world.image, &private(name)).unwrap();
        verify(&world.place, &world.image, &public(name)).unwrap();
    }
    // A second signer has taken nothing away.
    verify(&world.place, &world.image, &public("cosign")).unwrap();
    assert_eq!(world.list().layers.len(), 2);
}

#[test]
fn an_unsigned_image_and_a_wrong_key_are_refused_in_different_words() {
    let world = World::new();
    let error = verify(&world.place, &world.image, &public("cosign")).unwrap_err().to_string();
    assert!(error.contains("is not signed: there is neither a tag sha256-"), "{error}");
    sign(&world.place, &world.image, &private("old")).unwrap();
    let error = verify(&world.place, &world.image, &public("cosign")).unwrap_err().to_string();
    assert!(error.contains("none of its 1 signatures was made with this key for this image"), "{error}");
}

#[test]
fn the_same_signature_is_not_made_twice() {
    let world = World::new();
    for _ in 0..3 {
        sign(&world.place, &world.image, &private("cosign")).unwrap();
    }
    assert_eq!(world.list().layers.len(), 1);
}

#[test]
fn the_signature_is_a_tag_and_a_referrer_in_cosigns_form_and_openssl_verifies_it() {
    let world = World::new();
    sign(&world.place, &world.image, &private("cosign")).unwrap();
    let list = world.list();
    let [layer] = &list.layers[..] else { panic!("{list:?}") };
    assert_eq!(layer.media_type.as_str(), PAYLOAD);
    let payload = world.read(layer);
    let document: Value = serde_json::from_slice(&payload).unwrap();
    let expected = json!({"critical": {
        "identity": {"docker-reference": world.place.repository().to_string()},
        "image": {"docker-manifest-digest": world.image.digest.to_string()},
        "type": "cosign container image signature",
    }, "optional": null});
    assert_eq!(document, expected);
    let referrers = world.place.referrers(&world.image.digest).unwrap();
    assert_eq!(referrers.len(), 1);
    assert_eq!(referrers[0].artifact_type.as_deref(), Some("application/vnd.dev.cosign.artifact.sig.v1+json"));

    if Command::new("openssl").arg("version").output().is_err() {
        return skycap_testkit::skipped!("openssl_verifies_it: openssl is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let signature = STANDARD.decode(&layer.annotations["dev.cosignproject.cosign/signature"]).unwrap();
    let output = Command::new("openssl")
        .args(["dgst", "-sha256", "-verify"])
        .arg(file(&dir, "key", testdata("cosign.pub").as_bytes()))
        .arg("-signature")
        .arg(file(&dir, "signature", &signature))
        .arg(file(&dir, "payload", &payload))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "Verified OK");
}

#[test]
fn a_signature_of_another_image_does_not_count() {
    let world = World::new();
    let other = world.place.put(&Artifact::Image(image("two")), &[Name::Tag("2".into())]).unwrap();
    sign(&world.place, &other, &private("cosign")).unwrap();
    // Somebody puts the other image's signature where this one's is looked for.
    let theirs = world.place.get(&Name::Tag(signature_tag(&other))).unwrap();
    world.place.put(&theirs, &[Name::Tag(signature_tag(&world.image))]).unwrap();
    verify(&world.place, &other, &public("cosign")).unwrap();
    let error = verify(&world.place, &world.image, &public("cosign")).unwrap_err();
    assert_eq!(error.kind, Kind::Denied, "{error}");
}

#[test]
fn a_signature_that_is_only_a_referrer_is_found() {
    let world = World::new();
    sign(&world.place, &world.image, &private("cosign")).unwrap();
    let [layer] = &world.list().layers[..] else { panic!() };
    let (payload, signature) = (world.read(layer), layer.annotations["dev.cosignproject.cosign/signature"].clone());
    let fresh = World::new();
    assert_eq!(fresh.image, world.image);
    fresh.refer(PAYLOAD, &payload, &[("dev.cosignproject.cosign/signature", &signature)]);
    verify(&fresh.place, &fresh.image, &public("cosign")).unwrap();
}

/// A bundle of newer cosigns, signed with OpenSSL.
#[test]
fn a_bundle_is_verified() {
    if Command::new("openssl").arg("version").output().is_err() {
        return skycap_testkit::skipped!("a_bundle_is_verified: openssl is not installed");
    }
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem"]);
    let key = PublicKey::parse(&String::from_utf8(run(&["pkey", "-in", "key.pem", "-pubout"])).unwrap()).unwrap();
    let bundle = |world: &World, predicate: &str, digest: &str| {
        let statement = json!({
            "_type": "https://in-toto.io/Statement/v1", "predicateType": predicate,
            "subject": [{"digest": {"sha256": digest}}],
        });
        let payload = statement.to_string();
        let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} {payload}", payload.len());
        file(&dir, "signed", signed.as_bytes());
        let signature = STANDARD.encode(run(&["dgst", "-sha256", "-sign", "key.pem", "signed"]));
        let document = json!({
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload), "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": signature}],
            },
        });
        world.refer(BUNDLE, document.to_string().as_bytes(), &[]);
    };
    let signs = "https://sigstore.dev/cosign/sign/v1";
    let world = World::new();
    bundle(&world, signs, &"0".repeat(64));
    bundle(&world, "https://slsa.dev/provenance/v1", &world.image.digest.hex());
    assert_eq!(verify(&world.place, &world.image, &key).unwrap_err().kind, Kind::Denied);
    bundle(&world, signs, &world.image.digest.hex());
    verify(&world.place, &world.image, &key).unwrap();
    assert_eq!(verify(&world.place, &world.image, &public("cosign")).unwrap_err().kind, Kind::Denied);
}

#[test]
fn a_payload_that_was_changed_is_no_signature() {
    let world = World::new();
    sign(&world.place, &world.image, &private("cosign")).unwrap();
    let digest = world.list().layers[0].digest.to_string();
    let proxy = Scripted::in_front_of(world.server.address(), move |request| {
        if request.path.ends_with(&digest) { Reply::forward().flip(100) } else { Reply::forward() }
    })
    .unwrap();
    let error = verify(&place_at(proxy.address()), &world.image, &public("cosign")).unwrap_err();
    assert_eq!(error.kind, Kind::Corrupt, "{error}");
}

#[test]
fn a_key_that_cannot_be_opened_says_why_and_shows_nothing() {
    let open = |text: &str, password: &str| {
        let error = PrivateKey::open(&Secret::new(text), &Secret::new(password)).err().unwrap();
        format!("{error} {error:?}")
    };
    let key = testdata("cosign.key");
    let costly = json!({"kdf": {"name": "scrypt", "params": {"N": 1_u64 << 30, "r": 8, "p": 1}, "salt": ""},
        "cipher": {"name": "nacl/secretbox", "nonce": ""}, "ciphertext": ""});
    let boxed = |document: &Value| {
        let body = STANDARD.encode(document.to_string());
        format!(
            "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n{body}\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n"
        )
    };
    for (text, password, expected) in [
        (&*key, "hunter2-wrong", "the password does not open it"),
        ("hunter2-nonsense", "hunter2-x", "there is no -----BEGIN"),
        (&*testdata("cosign.pub"), "hunter2-x", "it is a PUBLIC KEY, expected"),
        (&*boxed(&costly), "hunter2-x", "deriving its key would cost too much"),
        (&*boxed(&json!({"kdf": "hunter2"})), "hunter2-x", "is not cosign's document"),
    ] {
        let error = open(text, password);
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
    let error = PublicKey::parse(&key).unwrap_err().to_string();
    assert!(error.contains("expected PUBLIC KEY"), "{error}");
}
