//! Tools that are no stand-ins: Debian's compiler in a stage, and a package that apt installs from a repository at hand.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const TEST: &str = "debians_own_compiler_and_apt_work_in_stages";

const DOCKERFILE: &str = r#"FROM scratch AS debian
ADD rootfs.tar /
FROM debian AS build
WORKDIR /src
COPY hello.c .
RUN gcc -static -O2 -o /hello hello.c && ./../hello
FROM debian AS installed
RUN --mount=type=bind,source=repository,target=/repository \
    echo "deb [trusted=yes] file:/repository ./" > /etc/apt/sources.list \
    && apt-get update && apt-get install -y --no-install-recommends greeting \
    && dpkg -s greeting | grep -q '^Status: install ok installed' && greeting && rm -rf /var/lib/apt/lists/*
FROM scratch
COPY --from=build /hello /hello
COPY --from=installed /usr/bin/greeting /var/lib/dpkg/info/greeting.list /
"#;

/// Takes minutes: a whole Debian is fetched and packed.
#[test]
fn debians_own_compiler_and_apt_work_in_stages() {
    if !skycap_testkit::wants_everything() {
        eprintln!("{TEST}: only with SKYCAP_TEST_FULL");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skycap_testkit::skipped!("{TEST}: needs root");
        return;
    }
    let room = tempfile::Builder::new().prefix("toolchain").tempdir().unwrap();
    let context = room.path().join("context");
    fs::create_dir(&context).unwrap();
    succeed(
        Command::new("mmdebstrap")
            .args(["--variant=apt", "--quiet", "--include=gcc,libc6-dev", "bookworm"])
            .arg(context.join("rootfs.tar")),
    );
    repository(room.path(), &context.join("repository"));
    fs::write(context.join("hello.c"), "#include <stdio.h>\nint main(void) { puts(\"compiled\"); return 0; }\n")
        .unwrap();
    fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
    let layout = room.path().join("layout");
    let mut build = Command::new(env!("CARGO_BIN_EXE_skycap"));
    build.env("SKYCAP_STORE", room.path().join("store")).env("HOME", room.path());
    build.args(["build", "--progress", "plain", "-o"]).arg(format!("oci:{}", layout.display())).arg(&context);
    let printed = succeed(&mut build);
    assert!(printed.contains("compiled") && printed.contains("greetings"), "{printed}");
    let image = crate::ours::image(&layout);
    assert_eq!(image.layers().len(), 2);
}

/// A repository with one package, made by Debian's tools.
fn repository(room: &Path, directory: &Path) {
    let package = room.join("greeting");
    fs::create_dir_all(package.join("DEBIAN")).unwrap();
    fs::create_dir_all(package.join("usr/bin")).unwrap();
    fs::create_dir(directory).unwrap();
    let control = "Package: greeting\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n";
    fs::write(package.join("DEBIAN/control"), control).unwrap();
    fs::write(package.join("usr/bin/greeting"), "#!/bin/sh\necho greetings\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(package.join("usr/bin/greeting"), mode).unwrap();
    let file = directory.join("greeting.deb");
    succeed(Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&package).arg(&file));
    let bytes = fs::read(&file).unwrap();
    let digest = skycap_image::Digest::sha256(&bytes);
    let entry = format!("{control}Filename: ./greeting.deb\nSize: {}\nSHA256: {}\n", bytes.len(), digest.hex());
    fs::write(directory.join("Packages"), entry).unwrap();
}

fn succeed(command: &mut Command) -> String {
    let output = skycap_testkit::process::run(command.stdin(Stdio::null()));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}
