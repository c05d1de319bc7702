//! A task with a Dockerfile, and the container in which a Concourse worker would run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::workers::{self, TASK};
use crate::world::{SKYCAP, World, peer, root};

/// Two stages, files made by RUN with modes and a link, one of them copied on.
pub const DOCKERFILE: &str = r#"FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
FROM base
RUN echo one > /one && chmod 640 /one && ln -s one /link && mkdir -p /tmp/d
RUN test "$(cat /one)" = one && test "$(id -u)" = 0 && grep -q localhost /etc/hosts && echo two > /two
"#;

/// What holds only where there are several ids.
pub const OTHER_USER: &str = "USER 1000:1000\nRUN ! echo three > /two\n";

pub const SECRET: &str = "BUILDKIT_SECRETTEXT_token=hunter2-token";
pub const EPOCH: &str = "SOURCE_DATE_EPOCH=1000000000";

/// A task's working directory with that Dockerfile as its input, and outputs.
pub fn task(world: &World, test: &str) -> Option<PathBuf> {
    let busybox = peer(test, "busybox")?;
    let directory = world.dir("task");
    fs::copy(busybox, directory.join("busybox")).unwrap();
    world.file("task/Dockerfile", format!("{DOCKERFILE}{OTHER_USER}"));
    for output in ["image", "cache"] {
        world.dir(&format!("task/{output}"));
    }
    Some(directory)
}

/// The digest that the task's build wrote.
pub fn digest(directory: &Path) -> String {
    fs::read_to_string(directory.join("image/digest")).unwrap()
}

/// Whether a container can be made here, and the task in it.
pub fn for_container(world: &World, test: &str, dockerfile: &str) -> bool {
    if !root(test) || peer(test, "runc").is_none() || task(world, test).is_none() {
        return false;
    }
    world.file("task/Dockerfile", dockerfile);
    true
}

/// A container of a Concourse worker, in which the task works in a directory of our choice.
pub struct Container<'a> {
    pub configuration: &'a str,
    pub directory: &'a str,
    pub variables: &'a [&'a str],
    pub umask: u32,
    pub arguments: &'a [&'a str],
}

/// On a default worker, with nothing that tells to take over: the directory is none of Concourse's.
pub const DEFAULT: Container<'static> = Container {
    configuration: "unprivileged",
    directory: "/task",
    variables: &[],
    umask: 0o022,
    arguments: &["/bin/skycap", "oci-build"],
};

pub const BY_TAKEOVER: Container<'static> =
    Container { directory: TASK, variables: &["SKYCAP_SANDBOX=takeover"], ..DEFAULT };

impl Container<'_> {
    /// Lays the container out anew, its root file system in the world's `rootfs`, and says what starts it.
    pub fn command(&self, world: &World) -> Command {
        for name in ["rootfs", "scratch", "runc"] {
            let _ = fs::remove_dir_all(world.path(name));
        }
        let resolver = world.file("resolv.conf", "nameserver 192.0.2.1\n");
        fs::create_dir_all(world.path("rootfs").join(&self.directory[1..])).unwrap();
        let above = world.path("");
        let name = above.file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
        workers::in_a_container(&above, (self.configuration, &name), Path::new(SKYCAP), |config| {
            let process = &mut config["process"];
            process["args"] = json!(self.arguments);
            process["user"]["umask"] = json!(self.umask);
            process["cwd"] = json!(self.directory);
            process["env"] =
                std::iter::once(&"PATH=/bin").chain(self.variables).map(|variable| json!(variable)).collect();
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts
                .iter_mut()
                .filter(|mount| mount["destination"] == TASK)
                .for_each(|mount| mount["destination"] = json!(self.directory));
            let options = ["rbind", "rw"];
            mounts.push(
                json!({"destination": "/etc/resolv.conf", "type": "bind", "source": resolver, "options": options}),
            );
        })
    }
}

/// What kills the container that a command starts.
pub fn kill(world: &World, started_by: &Command) -> Command {
    let mut runc = world.command("runc");
    runc.arg("--root").arg(world.path("runc")).arg("kill").args(started_by.get_args().last()).arg("KILL");
    runc
}

/// What the container's own root file system holds, by path and content.
pub fn own_files(world: &World) -> Vec<(String, u64)> {
    fn walk(directory: &Path, into: &mut Vec<(String, u64)>) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            let size = if metadata.is_dir() { 0 } else { metadata.len() };
            into.push((entry.path().display().to_string(), size));
            if metadata.is_dir() {
                walk(&entry.path(), into);
            }
        }
    }
    let mut files = Vec::new();
    walk(&world.path("rootfs"), &mut files);
    files.sort();
    files
}
