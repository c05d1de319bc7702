//! `RUN`: the only step that unpacks anything. Its file system is an overlay of the layers below, each unpacked once and
//! kept by the store; what it wrote is the layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skycap_image::progress::Task;
use skycap_image::{Descriptor, Digest, Event, Platform, SecretBytes};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_sandbox::{Capabilities, Emulator, Exit, Mount, Network, Output, RunError, RunSpec, Sandbox, Stdin, User};
use skycap_store::{Scratch, Temporary};

use crate::commit;
use crate::dockerfile;
use crate::error::Fault;
use crate::execute::Engine;
use crate::graph::{NodeId, Operation, Run};
use crate::mask::Mask;
use crate::owner::{self, Identity};
use crate::parallel;
use crate::step::read_table;
use crate::world::SandboxAccess;

/// What a RUN wrote, as an overlay's upper directory; the next RUN can use it as a lower one.
pub(crate) struct Upper {
    room: Arc<Room>,
}

impl Upper {
    /// In this room.
    pub fn of(room: Arc<Room>) -> Self {
        Self { room }
    }

    /// The directory.
    pub fn path(&self) -> PathBuf {
        self.room.path().join("upper")
    }
}

/// A private directory of a RUN.
pub(crate) enum Room {
    /// In the store.
    Store(Scratch),
    /// Where the request says.
    Elsewhere(Temporary),
}

impl Room {
    /// The directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Store(scratch) => scratch.path(),
            Self::Elsewhere(directory) => directory.path(),
        }
    }

    /// Makes a directory in it. An overlay's root looks like its upper directory, so the mode does not depend on the umask.
    pub fn directory(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.path().join(name);
        std::fs::create_dir(&path)
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o755)))
            .map_err(|error| Fault::caused(format!("cannot make {}", path.display()), error))?;
        Ok(path)
    }
}

/// Passes output on to progress, without secrets. What comes on one stream does not part what comes on the other.
struct ToTask<'t, 'p> {
    task: &'t Task<'p>,
    stdout: Mask,
    stderr: Mask,
}

impl<'t, 'p> ToTask<'t, 'p> {
    fn new(task: &'t Task<'p>, secrets: &BTreeMap<String, SecretBytes>) -> Self {
        let mask = || Mask::new(secrets.values().map(SecretBytes::reveal));
        Self { task, stdout: mask(), stderr: mask() }
    }

    /// What was held back.
    fn end(mut self) {
        show(self.task, &self.stdout.rest());
        show(self.task, &self.stderr.rest());
    }
}

fn show(task: &Task<'_>, bytes: &[u8]) {
    if !bytes.is_empty() {
        task.output(bytes);
    }
}

impl Output for ToTask<'_, '_> {
    fn stdout(&mut self, bytes: &[u8]) {
        show(self.task, &self.stdout.show(bytes));
    }

    fn stderr(&mut self, bytes: &[u8]) {
        show(self.task, &self.stderr.show(bytes));
    }
}

impl Engine<'_> {
    /// Runs a program and makes a layer of what it changed.
    pub fn run_program(
        &self,
        id: NodeId,
        run: &Run,
        task: &Task<'_>,
    ) -> Result<(Descriptor, Digest, Option<Upper>), Fault> {
        let node = self.graph.node(id);
        let text = node.text();
        let SandboxAccess::Available(sandbox) = self.tools.sandbox else { return Err(self.refused(text)) };
        let layers = self.layers(run.parent)?;
        let view = self.view(&layers)?;
        let who = owner::identity(&run.user, &|path| read_table(&view, &layers, path))?;
        self.announce(sandbox);
        let room = Arc::new(self.room(sandbox)?);
        let mut stand = self.stand(sandbox, run.parent, &room)?;
        let mut spec = RunSpec::new(stand.root(), &run.args);
        let mut mounts = self.mounts(id, run, sandbox, &room)?;
        spec.env = environment(run, &who, std::mem::take(&mut mounts.env))
            .into_iter()
            .map(|(n, v)| (n.into(), v.into()))
            .collect();
        spec.cwd = PathBuf::from(&run.cwd);
        spec.create_cwd = true;
        spec.user = User { uid: who.owner.uid, gid: who.owner.gid, groups: who.groups };
        spec.mounts = std::mem::take(&mut mounts.list);
        spec.mounts.extend(emulator_of(&node.platform));
        if run.security == dockerfile::Security::Insecure {
            spec.capabilities = Capabilities::All;
        }
        if let Some(hostname) = &run.hostname {
            spec.hostname.clone_from(hostname);
        }
        spec.network = if run.network == dockerfile::Network::None { Network::None } else { Network::Host };
        spec.hosts.clone_from(&run.add_hosts);
        stand.record(&view, &spec.mounts)?;
        // What a program is told in its arguments, nobody else shall see.
        spec.alone = run.mounts.iter().any(|mount| mount.mount.kind == dockerfile::MountKind::Secret);
        let mut output = ToTask::new(task, &self.tools.request.secrets);
        let exit = sandbox.run(&spec, Stdin::Empty, &mut output, &self.cancel);
        output.end();
        drop(mounts);
        if self.cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        check(exit, text, &node.platform)?;
        let (owners, _) = styles(sandbox);
        let (blob, diff_id) = commit::commit(self.tools.store, self.packing(id), |pack| {
            let packed = stand.pack(&view, owners, who.owner, pack);
            packed.map_err(|error| Fault::caused(format!("what {text} wrote cannot be made a layer"), error))
        })?;
        Ok((blob, diff_id, self.leave(id, stand)?))
    }

    /// The layers of a node as directories, topmost first. A layer that is there twice is seen once, at its upper place, as
    /// everything of the lower one is hidden by it; the kernel refuses an overlay with a directory over itself.
    pub fn lowers(&self, sandbox: &Sandbox, id: NodeId) -> Result<Vec<PathBuf>, Fault> {
        let layers = self.layers(id)?;
        // Of the layers that this build made, some are still there as directories.
        let mut directories: Vec<Option<PathBuf>> = Vec::new();
        for id in self.graph.chain(id) {
            match &self.graph.node(id).operation {
                Operation::Base(base) => directories.extend(base.layers.iter().map(|_| None)),
                _ => directories.push(self.upper(id)),
            }
        }
        let (owners, style) = styles(sandbox);
        let unpack = |number: usize, directory: &Option<PathBuf>| match (directory, layers.get(number)) {
            (None, Some(layer)) => {
                Ok(self.tools.store.lower(layer, &layers[..number], owners, style, self.tools.progress)?)
            }
            (Some(directory), _) => Ok(directory.clone()),
            (None, None) => Err(Fault::new("a layer below is missing")),
        };
        let unpacked = parallel::map(self.tools.request.threads, &directories, unpack)?;
        let mut seen = BTreeSet::new();
        Ok(unpacked.into_iter().rev().filter(|directory| seen.insert(directory.clone())).collect())
    }

    /// A private directory on a file system that can carry an overlay's upper directory.
    fn room(&self, sandbox: &Sandbox) -> Result<Room, Fault> {
        if let Some(territory) = sandbox.territory() {
            let made = Temporary::create(territory, "room-");
            return made.map(Room::Elsewhere).map_err(|error| Fault::new(error.to_string()));
        }
        let elsewhere = self.tools.request.scratch.as_deref().filter(|_| !self.store_carries_overlays(sandbox));
        let Some(directory) = elsewhere else { return Ok(Room::Store(self.tools.store.scratch()?)) };
        let made = Temporary::create(directory, crate::execute::UPPERS);
        made.map(Room::Elsewhere).map_err(|error| Fault::new(error.to_string()))
    }

    /// Tried once a build, by the first RUN that has to run.
    fn store_carries_overlays(&self, sandbox: &Sandbox) -> bool {
        *self.carries_overlays.get_or_init(|| {
            let tried = self.tools.store.scratch().is_ok_and(|empty| sandbox.overlay_upper_works(empty.path()).is_ok());
            if let (false, Some(scratch)) = (tried, &self.tools.request.scratch) {
                let (store, scratch) = (self.tools.store.dir().display(), scratch.display());
                self.tools
                    .progress
                    .event(Event::Note(&format!("{store} cannot carry an overlay: RUN writes to {scratch}")));
            }
            tried
        })
    }

    /// Says once a build how RUNs are isolated.
    fn announce(&self, sandbox: &Sandbox) {
        self.announced
            .call_once(|| self.tools.progress.event(Event::Note(&format!("sandbox: {}", sandbox.describe()))));
    }

    /// Why nothing can be run here.
    pub fn refused(&self, text: &str) -> Fault {
        let SandboxAccess::Refused(refused) = self.tools.sandbox else {
            return Fault::new(format!("{text} cannot be run"));
        };
        let attempts: Vec<String> =
            refused.attempts.iter().map(|(rung, attempt)| format!("{rung}: {attempt}")).collect();
        let fault =
            Fault::new(format!("{text} cannot be run here, and its result is not cached: {}", attempts.join("; ")));
        match refused.hints().join("; ") {
            hints if hints.is_empty() => fault,
            hints => fault.with_hint(hints),
        }
    }
}

/// What becomes of owners and of overlayfs's marks where this sandbox runs.
pub(crate) fn styles(sandbox: &Sandbox) -> (Owners, OverlayXattrs) {
    let owners = if sandbox.owners_kept() { Owners::Keep } else { Owners::Squash };
    let style = if sandbox.overlay_xattrs_trusted() { OverlayXattrs::Trusted } else { OverlayXattrs::User };
    (owners, style)
}

/// The program's environment: proxies win over what the Dockerfile says, as in BuildKit, and HOME is the user's unless it is
/// set.
fn environment(run: &Run, who: &Identity, secrets: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut env = run.env.clone();
    if !env.iter().any(|(known, _)| known == "HOME") {
        env.push(("HOME".to_owned(), who.home.clone()));
    }
    for (name, value) in run.hidden_env.iter().cloned().chain(secrets) {
        env.retain(|(known, _)| *known != name);
        env.push((name, value));
    }
    env
}

/// Whether this machine runs programs for a platform without an emulator.
fn is_native(platform: &Platform) -> bool {
    let (host, asked) = (Platform::host().normalized(), platform.normalized());
    asked.os == host.os
        && (asked.architecture == host.architecture || (host.architecture == "amd64" && asked.architecture == "386"))
}

/// What the kernel runs a platform's programs with, where it needs something for it.
fn emulator(platform: &Platform) -> Option<Emulator> {
    let asked = platform.normalized();
    if is_native(&asked) || asked.os != "linux" {
        return None;
    }
    skycap_sandbox::emulator(&asked.architecture)
}

/// An emulator that the kernel looks for in the RUN's own root file system.
fn emulator_of(platform: &Platform) -> Option<Mount> {
    match emulator(platform)? {
        Emulator::Anywhere => None,
        Emulator::Inside(program) => {
            Some(Mount::Bind { source: program.clone(), within: None, target: program, read_only: true })
        }
    }
}

fn check(exit: Result<Exit, RunError>, text: &str, platform: &Platform) -> Result<(), Fault> {
    let fault = match exit {
        Ok(Exit::Code(0)) => return Ok(()),
        Ok(Exit::Code(code)) => Fault::new(format!("{text} exited with code {code}")),
        Ok(Exit::Signal(signal)) => Fault::new(format!("{text} was ended by signal {signal}")),
        Err(RunError::Setup { step, hint, source }) => {
            let fault = Fault::caused(format!("{text} could not be run: {step}"), source);
            if hint.is_empty() { fault } else { fault.with_hint(hint) }
        }
        Err(error @ RunError::ExecNotFound { .. }) => {
            let fault = Fault::new(format!("{text} could not be run: {error}"));
            match &error {
                RunError::ExecNotFound { name, .. } if name == "/bin/sh" => fault.with_hint(
                    "the image has no shell: RUN [\"PROGRAM\", \"ARGUMENT\"] runs a program without one, SHELL names another, and \
                     COPY --from takes what a stage with a shell has made",
                ),
                _ => fault,
            }
        }
        Err(error) => Fault::new(format!("{text} could not be run: {error}")),
    };
    Err(match foreign(platform, emulator(platform).is_some()) {
        Some(hint) => fault.with_hint(hint),
        None => fault,
    })
}

/// Why programs of a platform cannot run here, and the way out.
fn foreign(platform: &Platform, is_emulated: bool) -> Option<String> {
    let host = Platform::host().normalized();
    if is_native(platform) || is_emulated {
        return None;
    }
    let here = "FROM --platform=$BUILDPLATFORM runs a stage's steps on this machine, whatever the image is for";
    if platform.os != host.os {
        return Some(format!("this RUN is for {platform} and this machine is {host}: {here}"));
    }
    Some(format!(
        "this RUN is for {platform} and this machine is {host}, which has no emulator for it (binfmt_misc): \
         `docker run --privileged --rm tonistiigi/binfmt --install all` or the package qemu-user-static registers one; {here}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_other_machines_need_an_emulator_and_the_hint_says_where_to_get_one() {
        let host = Platform::host();
        let other = Platform::new("linux", if host.architecture == "s390x" { "arm64" } else { "s390x" });
        assert_eq!(foreign(&host, false), None);
        assert_eq!(foreign(&other, true), None, "it was emulated, so that is not why it failed");
        for way_out in ["binfmt_misc", "tonistiigi/binfmt", "$BUILDPLATFORM"] {
            assert!(foreign(&other, false).unwrap().contains(way_out), "{way_out}");
        }
        let windows = foreign(&Platform::new("windows", &host.architecture), false).unwrap();
        assert!(windows.starts_with("this RUN is for windows/") && !windows.contains("binfmt"), "{windows}");
    }
}
