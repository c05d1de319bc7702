//! A run without any namespace, in the container's own root file system
//! (`docs/decisions/0022-takeover-of-a-throw-away-container.md`).
//!
//! Everything that will have to be undone is held open by descriptor before it is done, so that undoing it needs no path.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::DumpableBehavior;

use super::cover::Covers;
use super::exchange::{Mounted, identity, is_carried, names, remove, shift};
use super::init::{three, wait_for};
use super::inside::{Inside, Missing};
use super::standing::{self, SPECIAL, Standing, way_out};
use super::{command, herd, volumes};
use crate::channel::Channel;
use crate::error::Failure;
use crate::spawn::{Report, RunOrder};
use crate::spec::{NetworkFiles, Root, RunSpec};
use crate::sys::{self, Fork};
use crate::territory::{ASIDE, OWN};

/// Why volumes are in the way.
const UNMOVED: &str = "where directories of the container's image cannot be renamed (its root is an overlay without redirect_dir), \
                       volumes may lie in `/` only: mount them there";
/// Why what was moved is not found any more.
const GONE: &str = "the command removed what this build needs";
/// File systems in memory that a command can leave something in.
const IN_MEMORY: [&str; 3] = ["/dev", "/dev/shm", "/dev/mqueue"];

/// Runs the command to its end and tells the caller.
pub(super) fn main(order: &RunOrder, fds: Vec<OwnedFd>, channel: &Channel) {
    let report = prepare_and_run(order, fds, channel).unwrap_or_else(|failure| Some(Report::Failed(failure)));
    if let Some(report) = report {
        // A caller that has gone wants no answer.
        let _ = channel.send(&report, &[]);
    }
}

fn prepare_and_run(order: &RunOrder, fds: Vec<OwnedFd>, channel: &Channel) -> Result<Option<Report>, Failure> {
    let (Root::TakenOver { tree, shared }, Some(territory)) = (&order.spec.root, &order.territory) else {
        return Err(Failure::new("on this rung only the steps of a build can be run", libc::EPERM));
    };
    if order.spec.terminal.is_some() {
        return Err(Failure::new("on this rung no command gets a terminal", libc::EPERM));
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::at("prctl"))?;
    rustix::process::umask(Mode::empty());
    herd::adopt()?;
    let standard = three(fds)?;
    let roots = Roots::open(territory, tree)?;
    let in_memory = InMemory::now();
    let aside = directory(&territory.join(ASIDE))?;
    let mut covers = Covers::new(Inside::new(directory(tree)?), aside, territory.join(OWN));
    let end = cover(&mut covers, &order.spec)
        .and_then(|()| {
            roots.exchanged(|| {
                let standing = Standing::now(&roots.root, territory, shared)?;
                let end = run(order, &standard, channel)?;
                // The error of a command that failed is its own.
                if matches!(end, Some(Report::Code(0))) { standing.check().map(|()| end) } else { Ok(end) }
            })
        })
        .and_then(|end| end);
    in_memory.restore();
    covers.lift().and(end)
}

/// Puts in place what the command sees besides its file system.
fn cover(covers: &mut Covers, spec: &RunSpec) -> Result<(), Failure> {
    if spec.network_files != NetworkFiles::Absent {
        // Its name cannot be changed here, and programs look themselves up by it.
        let own = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let mut named = spec.clone();
        named.hosts.push((own, std::net::Ipv4Addr::LOCALHOST.into()));
        for (path, content) in volumes::network_texts(&named) {
            covers.file(Path::new(path), &content, 0o644, (0, 0))?;
        }
    }
    for mount in &spec.mounts {
        covers.mount(mount)?;
    }
    let missing = if spec.create_cwd { Missing::Keep } else { Missing::Error };
    covers.inside().find(&spec.cwd, missing).map(drop)
}

/// Runs the command; afterwards nothing of it is left running.
fn run(order: &RunOrder, standard: &command::Standard, channel: &Channel) -> Result<Option<Report>, Failure> {
    let children = sys::children_fd().map_err(Failure::at("signalfd"))?;
    let command = match sys::fork().map_err(Failure::at("fork"))? {
        Fork::Child => {
            // Of others only the builder is seen, which nobody may look into.
            let order = command::Order { spec: &order.spec, rung: order.ground.rung, apart: false };
            command::main(&order, standard, channel, None)
        }
        Fork::Parent(pid) => pid,
    };
    let end = wait_for(command, &children, channel, None, order.spec.grace, &herd::signal);
    herd::end();
    Ok(end)
}

/// The two directories that change places, and where the container's entries wait meanwhile.
struct Roots {
    root: OwnedFd,
    own: OwnedFd,
    tree: OwnedFd,
    territory: OwnedFd,
    territory_name: OsString,
}

impl Roots {
    fn open(territory: &Path, tree: &Path) -> Result<Self, Failure> {
        Ok(Self {
            root: directory(Path::new("/"))?,
            own: directory(&territory.join(OWN))?,
            tree: directory(tree)?,
            territory: directory(territory)?,
            territory_name: territory.file_name().unwrap_or_default().to_owned(),
        })
    }

    /// Does something while the tree is `/`.
    fn exchanged<T>(&self, act: impl FnOnce() -> T) -> Result<T, Failure> {
        self.look()?;
        if let Err(failure) = self.put_aside() {
            // Nothing of the tree is in the root yet: what is there is the container's own.
            return self.own_back().and(Err(failure));
        }
        let answer = self.put_in_place().map(|()| act());
        let undone = self.put_back();
        let answer = answer?;
        undone.map(|()| answer)
    }

    /// Refuses, before anything is moved, if a volume would stay where the command could empty it.
    fn look(&self) -> Result<(), Failure> {
        for mount in standing::upon(&self.root)? {
            let path = &mount.path;
            let is_inner_directory = path.is_dir() && path.components().count() > 2;
            let step = || format!("move the volume {} out of the way", path.display());
            if is_inner_directory && !is_carried(&self.root, &self.own, path).map_err(Failure::at(step()))? {
                return Err(Failure::new(step(), libc::EXDEV).hint(UNMOVED));
            }
        }
        Ok(())
    }

    fn put_aside(&self) -> Result<(), Failure> {
        self.move_root_to(&self.own, Mounted::Refused)
            .map_err(|errno| Failure::at("put the container's own files aside")(errno).hint(UNMOVED))
    }

    fn put_in_place(&self) -> Result<(), Failure> {
        let stuck = shift(&self.tree, &self.root, None, Mounted::Left)
            .map_err(Failure::at("put the image's files in their place"))?;
        for name in stuck.iter().filter(|name| !SPECIAL.iter().any(|special| name == special)) {
            if !self.is_empty_directory(name) {
                let name = format!("/{}", name.display());
                let what = format!("the image has files in {name}, which is a volume of this container");
                return Err(Failure::new(what, libc::EBUSY).hint(way_out(&name)));
            }
        }
        rustix::process::chdir("/").map_err(Failure::at("chdir /"))
    }

    fn put_back(&self) -> Result<(), Failure> {
        self.move_root_to(&self.tree, Mounted::Left)
            .map_err(|errno| Failure::at("put the image's files back")(errno).hint(GONE))?;
        self.own_back()
    }

    fn own_back(&self) -> Result<(), Failure> {
        shift(&self.own, &self.root, None, Mounted::Left)
            .map(drop)
            .map_err(|errno| Failure::at("put the container's own files back")(errno).hint(GONE))
    }

    /// The territory itself stays, under its own name.
    fn move_root_to(&self, to: &OwnedFd, mounted: Mounted) -> rustix::io::Result<()> {
        let territory = identity(&self.territory, OsStr::new(""))?;
        for name in names(&self.root)? {
            if name != self.territory_name && identity(&self.root, &name) == Ok(territory) {
                remove(&self.root, &self.territory_name)?;
                rustix::fs::renameat(&self.root, &name, &self.root, &self.territory_name)?;
            }
        }
        shift(&self.root, to, Some(territory), mounted).map(drop)
    }

    fn is_empty_directory(&self, name: &OsStr) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::openat(&self.tree, name, flags, Mode::empty());
        open.and_then(names).is_ok_and(|names| names.is_empty())
    }
}

/// Undoes an exchange whose process died.
pub(super) fn put_back(territory: &Path, tree: &Path) -> Result<(), Failure> {
    let roots = Roots::open(territory, tree)?;
    let is_exchanged = names(&roots.own).map_err(Failure::at("look for the container's own files"))?.is_empty();
    if is_exchanged { Ok(()) } else { roots.put_back() }
}

fn directory(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(Failure::at(format!("open {}", path.display())))
}

/// What was in the file systems in memory before the command.
struct InMemory(Vec<(OwnedFd, BTreeSet<OsString>)>);

impl InMemory {
    fn now() -> Self {
        let look = |path: &&str| {
            let directory = directory(Path::new(path)).ok()?;
            let names = names(&directory).ok()?.into_iter().collect();
            Some((directory, names))
        };
        Self(IN_MEMORY.iter().filter_map(look).collect())
    }

    /// Removes what is new.
    fn restore(self) {
        for (directory, before) in self.0 {
            for name in names(&directory).unwrap_or_default() {
                if !before.contains(&name) {
                    // What cannot be removed is seen by the next command; nothing else hangs on it.
                    let _ = remove(&directory, &name);
                }
            }
        }
    }
}
