//! The places to stand on: a rung each, as machines and Concourse's workers have them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use serde_json::json;

use crate::bases::{Bases, IMAGES};
use crate::case::Case;
use crate::workers::{self, Kind, command, install, own, succeed};

pub struct Ground {
    pub name: &'static str,
    /// The rung that must be taken, as it is printed.
    pub rung: &'static str,
    kind: Kind,
}

/// The first is what others are compared with.
pub const GROUNDS: &[Ground] = &[
    machine("privileged", "privileged", 0, "", &[]),
    // A real root, without the one capability.
    machine("nested", "nested", 0, "", &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]),
    machine("subordinate-ids", "subordinate", 54321, "anna:600100000:65536\n", &[]),
    machine("single-id", "single", 65534, "", &[]),
    container("concourse-privileged", "privileged", "privileged"),
    container("concourse-fuse-only", "nested", "unprivileged-on-fuse-only-worker"),
    // Nothing is permitted there: what has no RUN is built as it is, all else by takeover.
    container("concourse-unprivileged", "takeover", "unprivileged"),
];

const fn machine(
    name: &'static str,
    rung: &'static str,
    user: u32,
    subordinate: &'static str,
    starter: &'static [&'static str],
) -> Ground {
    Ground { name, rung, kind: Kind::Machine { user, subordinate, starter } }
}

const fn container(name: &'static str, rung: &'static str, configuration: &'static str) -> Ground {
    Ground { name, rung, kind: Kind::Container { configuration } }
}

/// What stands in the way of making grounds here.
pub fn missing() -> Option<String> {
    workers::missing(&["cp", "chmod"])
}

/// A directory for all grounds, with the bases.
pub struct Site {
    directory: tempfile::TempDir,
    /// What Dockerfiles call a base, and its layout below `bases`.
    bases: Vec<(String, String)>,
}

/// Where one ground is, and what builds everything there.
pub struct Place {
    pub directory: PathBuf,
    pub command: Mutex<Command>,
}

impl Place {
    /// Removes all but the images that were built.
    pub fn clear(&self) {
        for name in ["cases", "home", "tmp", "store", "bases"] {
            fs::remove_dir_all(self.directory.join(name)).unwrap();
        }
    }
}

impl Site {
    /// With bases that `layouts` writes below the directory it is given: what Dockerfiles call them, and their layouts.
    pub fn make(layouts: impl FnOnce(&Path) -> Vec<(String, String)>) -> Self {
        let directory = tempfile::Builder::new().prefix("everywhere").tempdir().unwrap();
        let path = directory.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path.join("bases")).unwrap();
        let bases = layouts(&path.join("bases"));
        succeed(command("chmod").args(["-R", "a+rX"]).arg(path.join("bases")));
        install(Path::new(env!("CARGO_BIN_EXE_skycap")), &path.join("skycap"));
        Self { directory, bases }
    }

    pub fn place(&self, ground: &Ground, cases: &[Case]) -> Place {
        let above = self.directory.path().join(ground.name);
        let directory = above.join("task");
        for name in ["out", "home", "tmp", "store"] {
            fs::create_dir_all(directory.join(name)).unwrap();
        }
        for case in cases {
            let room = directory.join("cases").join(&case.name);
            fs::create_dir_all(&room).unwrap();
            case.lay_out(&room);
            if case.ssh {
                let mut make = workers::command("ssh-keygen");
                succeed(make.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(room.join("key")));
            }
        }
        fs::write(directory.join("script"), self.script(cases)).unwrap();
        let skycap = self.directory.path().join("skycap");
        let command = match &ground.kind {
            Kind::Machine { user, subordinate, starter } => {
                own(&directory, *user);
                let mut command = workers::on_the_machine(&above, *user, subordinate, starter);
                command.env("SKYCAP", &skycap);
                command
            }
            Kind::Container { configuration } => {
                workers::in_a_container(&above, (configuration, "everywhere"), &skycap, |config| {
                    config["process"]["env"] = json!(["PATH=/bin", "SKYCAP=/bin/skycap", "TAKEOVER=yes"]);
                })
            }
        };
        // The same files for all, which nobody may change.
        succeed(workers::command("cp").arg("-al").arg(self.directory.path().join("bases")).arg(&directory));
        Place { directory, command: Mutex::new(command) }
    }

    /// What builds everything: the image of a case is `out/CASE`, with `out/CASE.log`, and `out/CASE.built` if it was built.
    fn script(&self, cases: &[Case]) -> String {
        let mut script = r#"umask 022
export HOME="$PWD/home" TMPDIR="$PWD/tmp" SKYCAP_STORE="$PWD/store" SOURCE_DATE_EPOCH=1700000000
build() {
    name=$1
    shift
    try "$@" && return
    # Never taken by itself here, and asked for only where nothing else is had.
    if test -n "$TAKEOVER" && grep -q fuse-only "out/$name.log"; then
        try --sandbox takeover "$@"
    fi
}
try() {
    "$SKYCAP" build --progress plain -o "oci:out/$name" "$@" "cases/$name/context" > "out/$name.log" 2>&1 && echo > "out/$name.built"
}
"#
        .to_owned();
        for case in cases {
            let room = format!("cases/{}", case.name);
            let mut words = vec!["build".to_owned(), case.name.clone(), "-f".to_owned()];
            words.push(case.dockerfile(&Path::new(&room).join("context")).display().to_string());
            for (name, layout) in &self.bases {
                words.extend(["--build-context".to_owned(), format!("{name}=oci-layout://bases/{layout}")]);
            }
            for arg in &case.args {
                words.extend(["--build-arg".to_owned(), arg.clone()]);
            }
            for (id, _) in &case.secrets {
                words.extend(["--secret".to_owned(), format!("id={id},src={room}/{id}")]);
            }
            if case.ssh {
                words.extend(["--ssh".to_owned(), format!("default={room}/key")]);
            }
            words.extend(case.target.iter().flat_map(|target| ["--target".to_owned(), target.clone()]));
            let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            let _ = writeln!(script, "{}", quoted.collect::<Vec<_>>().join(" "));
        }
        script + "exit 0\n"
    }
}

/// Writes every base as a layout of its own below a directory: what Dockerfiles call it, and the layout's name.
pub fn layouts(bases: &Bases, below: &Path) -> Vec<(String, String)> {
    let mut named = Vec::new();
    for (stage, names) in IMAGES.iter().chain([&("private", &["team/base:1"][..])]) {
        let mut build = bases.skycap();
        build.args(["build", "--target", stage, "-o"]).arg(format!("oci:{}", below.join(stage).display()));
        succeed(build.arg(bases.path("context")));
        for name in *names {
            let name = match name.split_once('/') {
                Some(("library", short)) => short.to_owned(),
                Some(("team", _)) => format!("private.example.org/{name}"),
                _ => format!("gcr.io/{name}"),
            };
            named.push((name, (*stage).to_owned()));
        }
    }
    named
}
