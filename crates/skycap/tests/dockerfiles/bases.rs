//! The images that the cases begin with, and the registries that serve them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skycap_image::{Secret, tar};
use skycap_registry::server::{Options, Server};
use skycap_testkit::process;

use crate::case::{copy, root};

/// The time of everything in a base.
const TIME: i64 = 1_000_000_000;

const USER: &str = "robot";
const PASSWORD: &str = "hunter2-dockerfiles";

/// Stages of `bases/Dockerfile`, and what they are called.
pub const IMAGES: &[(&str, &[&str])] = &[
    ("busybox", &["library/busybox:1.36"]),
    ("debian", &["library/debian:bookworm-slim", "library/ubuntu:22.04"]),
    ("alpine", &["library/alpine:3.20"]),
    ("golang", &["library/golang:1.22"]),
    ("golang-alpine", &["library/golang:1.22-alpine"]),
    ("rust", &["library/rust:1.79"]),
    ("node", &["library/node:20"]),
    ("node-alpine", &["library/node:20-alpine"]),
    ("node-onbuild", &["library/node:20-onbuild"]),
    ("python", &["library/python:3.12-slim"]),
    ("maven", &["library/maven:3.9-eclipse-temurin-21"]),
    ("jre", &["library/eclipse-temurin:21-jre"]),
    ("ruby", &["library/ruby:3.3"]),
    ("php", &["library/php:8.3-fpm"]),
    ("gcc", &["library/gcc:13"]),
    ("nginx", &["library/nginx:1.27"]),
    ("distroless", &["distroless/static:nonroot"]),
];

pub struct Bases {
    directory: tempfile::TempDir,
    public: Server,
    private: Server,
}

impl Bases {
    /// Builds and pushes everything; nothing if it cannot be done here.
    pub fn make(test: &str) -> Option<Self> {
        let Ok(busybox) = fs::read("/bin/busybox") else {
            skycap_testkit::skipped!("{test}: /bin/busybox is missing (Debian: busybox-static)");
            return None;
        };
        let directory = tempfile::Builder::new().prefix("bases").tempdir().unwrap();
        let serve = |name: &str, basic_auth| {
            let options = Options { basic_auth, ..Options::default() };
            Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), &directory.path().join(name), options).unwrap()
        };
        let public = serve("public", None);
        let private = serve("private", Some((USER.to_owned(), Secret::new(PASSWORD))));
        let bases = Self { directory, public, private };
        fs::create_dir(bases.path("home")).unwrap();
        fs::create_dir(bases.path("docker")).unwrap();
        let auth =
            |registry: &str| format!("\"{registry}\": {{\"auth\": \"{}\"}}", base64(&format!("{USER}:{PASSWORD}")));
        let private = bases.private.address().to_string();
        let auths = [auth("private.example.org"), auth(&private)].join(", ");
        fs::write(bases.path("docker/config.json"), format!("{{\"auths\": {{{auths}}}}}")).unwrap();
        let context = bases.path("context");
        copy(&root().join("bases"), &context);
        fs::write(context.join("rootfs.tar"), rootfs(&busybox)).unwrap();
        if !bases.works(test, &context) {
            return None;
        }
        let public = bases.public.address().to_string();
        for (stage, names) in IMAGES {
            bases.push(stage, names.iter().map(|name| format!("{public}/{name}")), &context);
        }
        bases.push("private", [format!("{private}/team/base:1")].into_iter(), &context);
        Some(bases)
    }

    /// Whether RUN has the ids that ordinary Dockerfiles need.
    fn works(&self, test: &str, context: &Path) -> bool {
        let output = process::run(self.skycap().args(["build", "--target", "nginx"]).arg(context));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let refused = ["no sandbox", "cannot be run here", "single id"].iter().any(|sign| text.contains(sign));
        if refused {
            skycap_testkit::skipped!("{test}: this sandbox has a single id");
        }
        !refused
    }

    fn push(&self, stage: &str, names: impl Iterator<Item = String>, context: &Path) {
        let mut command = self.skycap();
        command.args(["build", "--push", "--insecure", "--target", stage]);
        names.for_each(|name| {
            command.arg("-t").arg(name);
        });
        let output = process::run(command.arg(context));
        assert!(output.status.success(), "the base {stage}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The binary under test, with a store that all cases share, and registries by their usual names.
    pub fn skycap(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skycap"));
        command.env_clear().env("HOME", self.path("home")).env("PATH", "/usr/bin:/bin");
        command.env("DOCKER_CONFIG", self.path("docker")).env("SKYCAP_STORE", self.path("store"));
        command.env("SOURCE_DATE_EPOCH", TIME.to_string()).stdin(Stdio::null());
        command
    }

    /// Which server stands for which registry.
    pub fn hosts(&self) -> [(&'static str, String); 3] {
        let (public, private) = (self.public.address().to_string(), self.private.address().to_string());
        [("registry-1.docker.io", public.clone()), ("gcr.io", public), ("private.example.org", private)]
    }
}

fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let chunk = |bytes: &[u8]| {
        let word = (0..3).fold(0_u32, |word, at| word << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)));
        let digit =
            |at: usize| if at <= bytes.len() { char::from(DIGITS[(word >> (18 - 6 * at)) as usize & 63]) } else { '=' };
        (0..4).map(digit).collect::<String>()
    };
    text.as_bytes().chunks(3).map(chunk).collect()
}

/// busybox with all its names, and the files that a system has.
fn rootfs(busybox: &[u8]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    let mut put = |header: tar::Header, content: &[u8]| {
        writer.append(&tar::Header { mtime: TIME, ..header }, content).unwrap();
    };
    for (name, mode) in [
        ("bin", 0o755),
        ("dev", 0o755),
        ("etc", 0o755),
        ("home", 0o755),
        ("lib", 0o755),
        ("opt", 0o755),
        ("proc", 0o555),
        ("root", 0o700),
        ("run", 0o755),
        ("sbin", 0o755),
        ("srv", 0o755),
        ("sys", 0o555),
        ("tmp", 0o1777),
        ("usr", 0o755),
        ("usr/bin", 0o755),
        ("usr/local", 0o755),
        ("usr/local/bin", 0o755),
        ("usr/local/lib", 0o755),
        ("usr/sbin", 0o755),
        ("var", 0o755),
        ("var/cache", 0o755),
        ("var/lib", 0o755),
        ("var/log", 0o755),
        ("usr/share", 0o755),
        ("usr/src", 0o755),
    ] {
        put(tar::Header { mode, ..tar::Header::directory(name) }, b"");
    }
    put(tar::Header { mode: 0o755, ..tar::Header::file("bin/busybox", busybox.len() as u64) }, busybox);
    let applets = Command::new("/bin/busybox").arg("--list").output().unwrap().stdout;
    for applet in String::from_utf8(applets).unwrap().lines() {
        // Tools of these names are stand-ins.
        if !["busybox", "dpkg", "dpkg-deb", "rpm"].contains(&applet) {
            put(tar::Header::symlink(format!("bin/{applet}"), "busybox"), b"");
        }
    }
    put(tar::Header::symlink("bin/bash", "../usr/bin/bash"), b"");
    for (name, content) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/hosts", ""),
        ("etc/hostname", ""),
        ("etc/resolv.conf", ""),
    ] {
        put(tar::Header::file(name, content.len() as u64), content.as_bytes());
    }
    writer.finish().unwrap()
}
