//! Other people's tools on our output, and ours on theirs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{Background, World, free_port, listing, peer, root, run, wait_for_port};

/// A docker-registry with TLS by a private authority and Basic authentication.
pub struct Registry {
    pub address: String,
    pub ca: PathBuf,
    _server: Background,
}

pub const USER: &str = "robot";
pub const PASSWORD: &str = "hunter2-password";

impl Registry {
    pub fn start(test: &str, world: &World) -> Option<Self> {
        for program in ["docker-registry", "openssl", "htpasswd"] {
            peer(test, program)?;
        }
        let port = free_port();
        let (ca, certificate, key) = certificates(world);
        let mut htpasswd = world.command("htpasswd");
        htpasswd.args(["-Bbn", USER, PASSWORD]);
        let users = world.file("users", run(htpasswd).ok().stdout.trim_end());
        let config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": world.dir("docker-registry")}, "delete": {"enabled": true}},
            "auth": {"htpasswd": {"realm": "test", "path": users}},
            "http": {"addr": format!("127.0.0.1:{port}"), "tls": {"certificate": certificate, "key": key}},
        });
        let config = world.file("registry.yml", config.to_string());
        let mut serve = world.command("docker-registry");
        serve.arg("serve").arg(config);
        let server = Background::spawn(serve);
        wait_for_port(port);
        Some(Self { address: format!("127.0.0.1:{port}"), ca, _server: server })
    }

    fn source(&self, repository: &str, tag: &str) -> Value {
        json!({
            "repository": format!("{}/{repository}", self.address), "tag": tag, "username": USER, "password": PASSWORD,
            "ca_certs": [std::fs::read_to_string(&self.ca).unwrap()],
        })
    }
}

/// The authority, the server's certificate and its key.
fn certificates(world: &World) -> (PathBuf, PathBuf, PathBuf) {
    let directory = world.dir("tls");
    let openssl = |arguments: &[&str]| {
        let mut command = world.command("openssl");
        command.current_dir(&directory).args(arguments);
        run(command).ok();
    };
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    openssl(&[&new[..], &["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt"]].concat());
    let signed =
        ["-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
    openssl(
        &[&new[..], &signed, &["-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", "tls.key", "-out", "tls.crt"]].concat(),
    );
    (directory.join("ca.crt"), directory.join("tls.crt"), directory.join("tls.key"))
}

/// Puts an image that `skycap build` made, under `hello:1`.
fn put_hello(world: &World, registry: &Registry) -> Value {
    world.file("context/Dockerfile", "FROM scratch\nCOPY hello /etc/hello\nCMD [\"/etc/hello\"]\nLABEL a=b\n");
    world.file("context/hello", "hello\n");
    let archive = world.dir("put").join("image.tar");
    run(world.skycap(["build", "-o", &format!("docker-archive:{}", archive.display()), "context"])).ok();
    let request = json!({"source": registry.source("hello", "1"), "params": {"image": "image.tar"}});
    world.resource(&["registry-image", "out"], Some(&world.path("put")), &request).ok().json()
}

pub fn skopeo(world: &World, registry: &Registry, arguments: &[&str]) -> String {
    let mut command = world.command("skopeo");
    let policy = world.file("policy.json", r#"{"default":[{"type":"insecureAcceptAnything"}]}"#);
    command.arg("--policy").arg(policy).args(arguments);
    let certificates = world.dir("trusted");
    std::fs::copy(&registry.ca, certificates.join("ca.crt")).unwrap();
    run(command).ok().stdout
}

#[test]
fn skopeo_umoci_and_buildah_accept_what_was_pushed_to_a_registry_with_tls_and_a_password() {
    let test = "skopeo_umoci_and_buildah_accept_what_was_pushed_to_a_registry_with_tls_and_a_password";
    let world = World::new();
    let Some(registry) = Registry::start(test, &world) else { return };
    for program in ["skopeo", "umoci", "buildah"] {
        if peer(test, program).is_none() {
            return;
        }
    }
    let pushed = put_hello(&world, &registry);
    let reference = format!("docker://{}/hello:1", registry.address);
    let trusted = world.dir("trusted").display().to_string();
    let credentials = format!("{USER}:{PASSWORD}");

    let inspect = skopeo(&world, &registry, &["inspect", "--cert-dir", &trusted, "--creds", &credentials, &reference]);
    let inspect: Value = serde_json::from_str(&inspect).unwrap();
    assert_eq!(inspect["Digest"], pushed["version"]["digest"]);
    assert_eq!(inspect["Labels"], json!({"a": "b"}));

    let layout = world.path("layout").display().to_string();
    let copy =
        ["copy", "--src-cert-dir", &trusted, "--src-creds", &credentials, &reference, &format!("oci:{layout}:1")];
    skopeo(&world, &registry, &copy);
    let mut unpack = world.command("umoci");
    unpack.args(["raw", "unpack", "--rootless", "--image", &format!("{layout}:1")]).arg(world.path("unpacked"));
    run(unpack).ok();
    assert_eq!(std::fs::read_to_string(world.path("unpacked/etc/hello")).unwrap(), "hello\n");

    if root(test) {
        let mut from = world.command("buildah");
        from.arg("--root").arg(world.path("buildah")).arg("--runroot").arg(world.path("buildah-run"));
        from.args(["--storage-driver", "vfs", "from", "--cert-dir", &trusted, "--creds", &credentials, &reference]);
        run(from).ok();
    }
}

#[test]
fn a_wrong_password_and_an_unknown_authority_are_one_clear_error_each() {
    let test = "a_wrong_password_and_an_unknown_authority_are_one_clear_error_each";
    let world = World::new();
    let Some(registry) = Registry::start(test, &world) else { return };
    let mut source = registry.source("hello", "1");
    source["password"] = json!("hunter2-wrong");
    let check = |source: &Value| world.resource(&["registry-image", "check"], None, &json!({"source": source}));
    check(&source).fails(1, "UNAUTHORIZED").fails(1, "hint: check username and password");
    let mut source = registry.source("hello", "1");
    source["ca_certs"] = json!([]);
    let ran = check(&source).fails(1, "certificate");
    assert!(!ran.stderr.contains(PASSWORD));
}

/// Fetches with skycap and with umoci, and compares the trees.
fn compare_with_umoci(world: &World, registry: &Registry, repository: &str) {
    let source = registry.source(repository, "1");
    let version = world.resource(&["registry-image", "check"], None, &json!({"source": source})).ok().json()[0].clone();
    let ours = world.path("ours");
    world.resource(&["registry-image", "in"], Some(&ours), &json!({"source": source, "version": version})).ok();

    let layout = world.path("theirs-layout").display().to_string();
    let trusted = world.dir("trusted").display().to_string();
    let credentials = format!("{USER}:{PASSWORD}");
    let reference = format!("docker://{}/{repository}:1", registry.address);
    skopeo(
        world,
        registry,
        &["copy", "--src-cert-dir", &trusted, "--src-creds", &credentials, &reference, &format!("oci:{layout}:1")],
    );
    let mut unpack = world.command("umoci");
    unpack.args(["raw", "unpack", "--image", &format!("{layout}:1")]).arg(world.path("theirs"));
    run(unpack).ok();
    let (ours, theirs) = (listing(&ours.join("rootfs")), listing(&world.path("theirs")));
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count());
    assert!(ours.lines().count() > 100, "a whole system was compared");
}

/// A small Debian root with what archives get wrong: hard links, extended attributes, setuid files, odd times.
fn debian_root(world: &World) -> PathBuf {
    let directory = world.path("debian");
    let mut make = world.command("mmdebstrap");
    make.args(["--variant=essential", "--quiet", "--include=iputils-ping,acl", "bookworm"]).arg(&directory);
    for (name, value) in std::env::vars().filter(|(name, _)| name.to_lowercase().ends_with("_proxy")) {
        make.env(name, value);
    }
    run(make).ok();
    for directory in ["dev", "proc", "sys", "run"] {
        let path = world.path("debian").join(directory);
        for entry in std::fs::read_dir(&path).into_iter().flatten().map(Result::unwrap) {
            let _ = std::fs::remove_file(entry.path()).or_else(|_| std::fs::remove_dir_all(entry.path()));
        }
    }
    std::fs::hard_link(directory.join("etc/passwd"), directory.join("etc/passwd-linked")).unwrap();
    xattr::set(directory.join("etc/hostname-x"), "user.note", b"x").unwrap_or_else(|_| {
        std::fs::write(directory.join("etc/hostname-x"), "x").unwrap();
        xattr::set(directory.join("etc/hostname-x"), "user.note", b"x").unwrap();
    });
    directory
}

fn push_with_buildah(world: &World, registry: &Registry, tree: &Path, repository: &str) {
    let mut tar = world.command("tar");
    tar.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-cf"]).arg(world.path("tree.tar"));
    tar.arg("-C").arg(tree).arg(".");
    run(tar).ok();
    world.dir("empty");
    let storage = ["--root", "buildah", "--runroot", "buildah-run", "--storage-driver", "vfs"];
    let reference = format!("{}/{repository}:1", registry.address);
    world.file("bud/Dockerfile", "FROM scratch\nADD tree.tar /\nADD second.tar /\n");
    std::fs::rename(world.path("tree.tar"), world.path("bud/tree.tar")).unwrap();
    world.file("second/etc/second", "2");
    let mut tar = world.command("tar");
    tar.args(["--numeric-owner", "-cf"])
        .arg(world.path("bud/second.tar"))
        .arg("-C")
        .arg(world.path("second"))
        .arg("etc/second");
    run(tar).ok();
    let buildah = |arguments: &[&str]| {
        let mut command = world.command("buildah");
        command.args(storage).args(arguments);
        run(command).ok();
    };
    buildah(&["bud", "--isolation", "chroot", "--layers", "-t", &reference, "bud"]);
    let trusted = world.dir("trusted");
    std::fs::copy(&registry.ca, trusted.join("ca.crt")).unwrap();
    buildah(&["push", "--cert-dir", trusted.to_str().unwrap(), "--creds", &format!("{USER}:{PASSWORD}"), &reference]);
}

#[test]
fn a_debian_root_pushed_by_buildah_unpacks_to_what_umoci_makes_of_it() {
    let test = "a_debian_root_pushed_by_buildah_unpacks_to_what_umoci_makes_of_it";
    if !root(test) {
        return;
    }
    for program in ["mmdebstrap", "buildah", "umoci", "skopeo"] {
        if peer(test, program).is_none() {
            return;
        }
    }
    let world = World::new();
    let Some(registry) = Registry::start(test, &world) else { return };
    let tree = debian_root(&world);
    push_with_buildah(&world, &registry, &tree, "debian");
    compare_with_umoci(&world, &registry, "debian");

    // What skopeo pushes is the same image.
    let trusted = world.dir("trusted").display().to_string();
    let credentials = format!("{USER}:{PASSWORD}");
    let from = format!("docker://{}/debian:1", registry.address);
    let to = format!("docker://{}/by-skopeo:1", registry.address);
    let source = ["--src-cert-dir", &trusted, "--src-creds", &credentials];
    let target = ["--dest-cert-dir", &trusted, "--dest-creds", &credentials, "--format", "oci"];
    skopeo(&world, &registry, &[&["copy"], &source[..], &target, &[&from, &to]].concat());
    let source = registry.source("by-skopeo", "1");
    let version = world.resource(&["registry-image", "check"], None, &json!({"source": source})).ok().json()[0].clone();
    let again = world.path("again");
    world.resource(&["registry-image", "in"], Some(&again), &json!({"source": source, "version": version})).ok();
    assert_eq!(listing(&again.join("rootfs")), listing(&world.path("ours/rootfs")));
}
