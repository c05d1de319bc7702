//! The places to stand on: each rung, as machines and Concourse's workers have them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::json;

use crate::probes::PROBES;
use crate::stood::Place;
use crate::workers::{self, Kind, TASK, find, install, own};

pub struct Ground {
    pub name: &'static str,
    pub rung: Rung,
    /// All probes are tried every time: it differs most from the others.
    pub in_full: bool,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rung {
    Privileged,
    Nested,
    /// The same, where parts of `/proc` are hidden, so that RUNs see the processes of each other.
    Masked,
    Subordinate,
    Single,
    Takeover,
}

pub const GROUNDS: &[Ground] = &[
    Ground { in_full: true, ..container("concourse-unprivileged", Rung::Takeover, "unprivileged") },
    machine("privileged", Rung::Privileged, 0, "", &[]),
    machine("nested", Rung::Nested, 0, "", &["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]),
    machine("single-id", Rung::Single, 65534, "", &[]),
    machine("subordinate-ids", Rung::Subordinate, 54321, "anna:600100000:65536\n", &[]),
    container("masked-proc", Rung::Masked, "unprivileged-on-fuse-only-worker"),
    container("concourse-privileged", Rung::Privileged, "privileged"),
    container("concourse-fuse-only", Rung::Nested, "unprivileged-on-fuse-only-worker"),
];

const fn machine(
    name: &'static str,
    rung: Rung,
    user: u32,
    subordinate: &'static str,
    starter: &'static [&'static str],
) -> Ground {
    Ground { name, rung, in_full: false, kind: Kind::Machine { user, subordinate, starter } }
}

const fn container(name: &'static str, rung: Rung, configuration: &'static str) -> Ground {
    Ground { name, rung, in_full: false, kind: Kind::Container { configuration } }
}

impl Ground {
    /// Lays out the contexts of all wanted probes, and what builds them.
    pub fn make(&'static self, wanted: &str) -> Place {
        let room = tempfile::Builder::new().prefix("isolation").tempdir().unwrap();
        let above = room.path().to_owned();
        fs::set_permissions(&above, fs::Permissions::from_mode(0o755)).unwrap();
        let task = above.join("task");
        for name in ["out", "home/.docker", "tmp", "contexts", "victim", "odd"] {
            fs::create_dir_all(task.join(name)).unwrap();
        }
        install(&find("busybox").unwrap(), &task.join("contexts/busybox"));
        let mut place = Place::new(self, room, task.clone());
        for probe in PROBES.iter().filter(|probe| probe.is_wanted(wanted)) {
            (probe.lay)(&mut place);
        }
        let skycap = Path::new(env!("CARGO_BIN_EXE_skycap"));
        let command = match &self.kind {
            Kind::Machine { user, subordinate, starter } => {
                install(skycap, &above.join("skycap"));
                place.write_script(&above.join("skycap"), &task);
                own(&task, *user);
                workers::on_the_machine(&above, *user, subordinate, starter)
            }
            Kind::Container { configuration } => {
                place.write_script(Path::new("/bin/skycap"), Path::new(TASK));
                let name = format!("isolation-{:?}", self.rung).to_lowercase();
                workers::in_a_container(&above, (configuration, &name), skycap, |config| {
                    if self.rung == Rung::Masked {
                        config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/interrupts"]);
                    }
                })
            }
        };
        place.started_by(command);
        place
    }
}
