//! Debian's buildah: builds the cases, and runs what we built.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use skycap_image::{Artifact, Image};
use skycap_testkit::process;

use crate::bases::Bases;
use crate::case::Case;

/// Whether buildah can be used here; says why not.
pub fn works(test: &str) -> bool {
    if !Path::new("/usr/bin/buildah").exists() {
        skycap_testkit::skipped!("{test}: there is no buildah here");
        return false;
    }
    let room = tempfile::tempdir().unwrap();
    let output = buildah(room.path(), &["from", "scratch"]);
    if !output.status.success() {
        skycap_testkit::skipped!("{test}: buildah failed: {}", last(&output));
    }
    output.status.success()
}

fn command(room: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("buildah");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", room).env("TMPDIR", room);
    command.arg("--root").arg(room.join("buildah")).arg("--runroot").arg(room.join("buildah-run"));
    command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(room).stdin(Stdio::null());
    command
}

fn buildah(room: &Path, arguments: &[&str]) -> Output {
    process::run(&mut command(room, arguments))
}

fn last(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

pub fn build(case: &Case, bases: &Bases, context: &Path, room: &Path) -> Result<Image, String> {
    let entry = |(host, address): (&str, String)| {
        let prefix = if host == "registry-1.docker.io" { "docker.io" } else { host };
        format!("[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{address}\"\ninsecure = true\n")
    };
    let registries: String = bases.hosts().into_iter().map(entry).collect();
    let registries = format!("unqualified-search-registries = [\"docker.io\"]\n{registries}");
    fs::write(room.join("registries.conf"), registries).unwrap();
    let mut build = command(room, &["bud", "--layers=false", "--isolation", "chroot", "--format", "docker"]);
    build
        .env("CONTAINERS_REGISTRIES_CONF", room.join("registries.conf"))
        .arg("--authfile")
        .arg(bases.path("docker/config.json"));
    build.args(["--tls-verify=false", "--network", "host", "-t", "theirs", "-f"]).arg(case.dockerfile(context));
    for arg in &case.args {
        build.arg("--build-arg").arg(arg);
    }
    for (id, _) in &case.secrets {
        build.arg("--secret").arg(format!("id={id},src={}", room.join(id).display()));
    }
    if let Some(target) = &case.target {
        build.arg("--target").arg(target);
    }
    let own = case.dockerfile(context).with_extension("Dockerfile.dockerignore");
    if own.exists() {
        build.arg("--ignorefile").arg(own);
    }
    let output = process::run(build.arg(context));
    if !output.status.success() {
        return Err(format!("buildah: {}", last(&output)));
    }
    let layout = room.join("theirs");
    // As `dir:`, so that the configuration stays what it is: the way to OCI drops HEALTHCHECK, SHELL and ONBUILD.
    let output = buildah(room, &["push", "--format", "v2s2", "theirs", &format!("dir:{}", layout.display())]);
    if !output.status.success() {
        return Err(format!("buildah push: {}", last(&output)));
    }
    let directory = skycap_image::directory::Directory::open(&layout).map_err(|error| error.to_string())?;
    match directory.artifact().map_err(|error| error.to_string())? {
        Artifact::Image(image) => Ok(image),
        Artifact::Index(_) => Err("buildah made an index".to_owned()),
    }
}

/// Has skopeo copy what we built; says why not if it is not here.
pub fn copy(layout: &Path, room: &Path, test: &str) -> Result<bool, String> {
    if !Path::new("/usr/bin/skopeo").exists() {
        skycap_testkit::skipped!("{test}: there is no skopeo here");
        return Ok(false);
    }
    let mut skopeo = Command::new("skopeo");
    skopeo.env("TMPDIR", room).current_dir(room).stdin(Stdio::null()).args(["--insecure-policy", "copy", "--quiet"]);
    let output = process::run(skopeo.arg(format!("oci:{}:latest", layout.display())).arg("oci:copied:latest"));
    if output.status.success() { Ok(true) } else { Err(format!("skopeo: {}", last(&output))) }
}

/// Starts a container of the copy, as its configuration says, and looks at what it prints.
pub fn run(case: &Case, room: &Path) -> Result<(), String> {
    let Some((arguments, prints)) = &case.run else { return Ok(()) };
    // A name in lower case is made of the path.
    let output = buildah(room, &["from", "--name", "run", "oci:copied:latest"]);
    if !output.status.success() {
        return Err(format!("buildah from: {}", last(&output)));
    }
    let image = crate::ours::image(&room.join("copied"));
    let config = &image.config().config;
    let mut words = config.entrypoint.clone().unwrap_or_default();
    words.extend(if arguments.is_empty() { config.cmd.clone().unwrap_or_default() } else { arguments.clone() });
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    // All output of a container was seen to be missing on a busy machine, for whatever reason. No output is asked for again;
    // wrong output is not.
    let run = || buildah(room, &[&["run", "--isolation", "chroot", "run", "--"], &words[..]].concat());
    let mut output = run();
    for _ in 0..2 {
        if output.stdout.is_empty() {
            eprintln!("{}: a container printed nothing, and runs again: {}", case.name, last(&output));
            output = run();
        }
    }
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if printed.contains(prints.as_str()) {
        Ok(())
    } else {
        Err(format!("a container printed {printed:?}, not {prints:?} ({}): {}", output.status, last(&output)))
    }
}
