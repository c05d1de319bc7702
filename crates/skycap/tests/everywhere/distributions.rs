//! Distributions as they are, on every rung: a Debian in which `apt` installs packages from a repository at hand, with
//! maintainer scripts, conffiles, users, set-user-ID files and capabilities; and a program that is compiled in a stage by a
//! compiler that `apt` installed there, and run in another. Cases are in `distributions`, as those of `cases` are.
//!
//! The base is made by `mmdebstrap`, and Debian's own packages are downloaded with it, so there must be a mirror, and it takes
//! minutes. `SKYCAP_DEBIAN` names a directory that keeps both for the next time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use skycap_image::{Digest, Image};

use crate::case::{self, Case};
use crate::differences::Differences;
use crate::grounds::{self, GROUNDS, Site};
use crate::images;
use crate::workers::{self, succeed};

const TEST: &str = "every_rung_builds_upon_a_debian";

/// Debian's packages that are installed, with what they need: those that make users and groups, give files away, set
/// capabilities, keep conffiles, ask questions; and a compiler.
const PACKAGES: &str = "adduser dbus cron iputils-ping openssh-client sudo ssl-cert golang-go";

#[test]
fn every_rung_builds_upon_a_debian() {
    if !skycap_testkit::wants_everything() {
        eprintln!("{TEST}: only with SKYCAP_TEST_FULL");
        return;
    }
    if let Some(why) = grounds::missing() {
        skycap_testkit::skipped!("{TEST}: {why}");
        return;
    }
    let site = Site::make(bases);
    let wanted = std::env::var("SKYCAP_CASE").unwrap_or_default();
    let cases: Vec<Case> = Case::below(&here()).into_iter().filter(|case| case.name.contains(&wanted)).collect();
    let stands = crate::stands(TEST, &site, &cases);
    let mut wrong = crate::judge(&stands, &cases, &mut Differences::read());
    for (name, image) in &stands[GROUNDS[0].name].images {
        match image {
            Ok(image) => wrong.extend(expect(name, image)),
            Err(log) => wrong.push(format!("{name}: {log}")),
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/everywhere/distributions/cases")
}

/// The bases: Debian, and a repository of the packages.
fn bases(below: &Path) -> Vec<(String, String)> {
    let temporary = tempfile::Builder::new().prefix("debian").tempdir().unwrap();
    let kept = std::env::var_os("SKYCAP_DEBIAN").map(PathBuf::from);
    let directory = kept.unwrap_or_else(|| temporary.path().to_owned());
    if !directory.join("rootfs.tar").exists() {
        debian(&directory);
    }
    let context = temporary.path().join("context");
    fs::create_dir_all(context.join("packages")).unwrap();
    repository(&directory.join("archives"), temporary.path(), &context.join("packages"));
    succeed(workers::command("cp").arg(directory.join("rootfs.tar")).arg(&context));
    let dockerfile = "FROM scratch AS debian\nADD rootfs.tar /\nFROM scratch AS packages\nCOPY packages /\n";
    fs::write(context.join("Dockerfile"), dockerfile).unwrap();
    ["debian", "packages"]
        .map(|name| {
            let mut build = workers::command(env!("CARGO_BIN_EXE_skycap"));
            build.env("HOME", temporary.path()).env("SKYCAP_STORE", temporary.path().join("store"));
            build.args(["build", "--target", name, "-o"]).arg(format!("oci:{}", below.join(name).display()));
            succeed(build.arg(&context));
            (name.to_owned(), name.to_owned())
        })
        .into()
}

/// Makes `rootfs.tar`, and `archives` with all packages that it lacks.
fn debian(directory: &Path) {
    fs::create_dir_all(directory.join("archives")).unwrap();
    let download = format!("apt-get -qq -y --no-install-recommends --download-only install {PACKAGES}");
    let archives = directory.join("archives").display().to_string();
    let mut make = workers::command("mmdebstrap");
    make.args(["--variant=apt", "--quiet", "--include=adduser"]);
    make.arg(format!("--customize-hook=chroot \"$1\" {download}"));
    make.arg(format!("--customize-hook=sync-out /var/cache/apt/archives '{archives}'"));
    succeed(make.args(["bookworm"]).arg(directory.join("rootfs.part")));
    fs::rename(directory.join("rootfs.part"), directory.join("rootfs.tar")).unwrap();
}

/// A repository as `apt` reads it, of Debian's packages and two of ours, one of them in two versions.
fn repository(archives: &Path, room: &Path, directory: &Path) {
    for entry in fs::read_dir(archives).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if Path::new(&name).extension().is_some_and(|suffix| suffix == "deb") {
            // What a colon is escaped to would be unescaped once too often.
            fs::copy(entry.path(), directory.join(name.replace("%3a", "_"))).unwrap();
        }
    }
    for (name, version) in [("sky-common", "1"), ("sky", "1"), ("sky", "2")] {
        let tree = room.join(format!("{name}-{version}"));
        case::copy(&here().parent().unwrap().join("packages").join(name), &tree);
        let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
        fs::write(tree.join("DEBIAN/control"), control.replace("Version: 1", &format!("Version: {version}"))).unwrap();
        if name == "sky" {
            fs::write(tree.join("etc/sky.conf"), format!("setting = {version}\n")).unwrap();
            chown(tree.join("var/lib/sky/games"), Some(5), Some(60)).unwrap();
            fs::set_permissions(tree.join("usr/bin/sky-setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
        }
        let mut build = workers::command("dpkg-deb");
        build.env("SOURCE_DATE_EPOCH", "1700000000").arg("--build").arg(&tree);
        succeed(build.arg(directory.join(format!("{name}_{version}.deb"))));
    }
    let mut index = String::new();
    let mut names: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    for name in names.into_iter().map(|name| name.into_string().unwrap()) {
        let path = directory.join(&name);
        let bytes = fs::read(&path).unwrap();
        let (digest, size) = (Digest::sha256(&bytes), bytes.len());
        let control = workers::command("dpkg-deb").arg("--field").arg(&path).output().unwrap().stdout;
        let control = String::from_utf8(control).unwrap();
        let _ = write!(index, "{control}Filename: ./{name}\nSize: {size}\nSHA256: {}\n\n", digest.hex());
    }
    fs::write(directory.join("Packages"), index).unwrap();
}

/// What the file `expected` of a case says: lines `PATH MODE OWNER:GROUP [ATTRIBUTE]`, with the image's own names of
/// users.
fn expect(case: &str, image: &Image) -> Vec<String> {
    let files = images::files(image);
    let names = |path: &str| {
        let content = files.get(path).map(|file| file.content.clone()).unwrap_or_default();
        let text = String::from_utf8(content).unwrap();
        let pair = |line: &str| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[2].parse::<u32>().unwrap(), fields[0].to_owned())
        };
        text.lines().map(pair).collect::<BTreeMap<_, _>>()
    };
    let (users, groups) = (names("/etc/passwd"), names("/etc/group"));
    let expected = fs::read_to_string(here().join(case).join("expected")).unwrap();
    let is = |path: &str| {
        let file = files.get(path)?;
        let name = |names: &BTreeMap<u32, String>, id: u32| names.get(&id).cloned().unwrap_or_else(|| id.to_string());
        let mut is = format!("{path} {:o} {}:{}", file.mode, name(&users, file.uid), name(&groups, file.gid));
        file.attributes.iter().for_each(|name| is.extend([" ", name]));
        Some(is)
    };
    let wrong = expected.lines().filter_map(|line| {
        let path = line.split(' ').next()?;
        let is = is(path).unwrap_or_else(|| "nothing".to_owned());
        (is != line).then(|| format!("{case}: {line} is expected, and there is {is}"))
    });
    wrong.collect()
}
