//! `RUN --mount`.

mod cache;
mod seed;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use skycap_rootfs::{Entry, Kind, TreePath};
use skycap_sandbox::{Mount, Sandbox, Upper};

use crate::changes::Place;
use crate::commit::Hashing;
use crate::dockerfile::MountKind;
use crate::error::Fault;
use crate::execute::Engine;
use crate::graph::{From, NodeId, Run, RunMount};
use crate::inputs::outside;
use crate::pick::Picked;
use crate::run::Room;
use crate::ssh::Served;

/// What a RUN sees besides its file system.
#[derive(Default)]
pub(crate) struct Mounts {
    /// For the sandbox.
    pub list: Vec<Mount>,
    /// Secrets that are variables.
    pub env: Vec<(String, String)>,
    /// Held while the program runs.
    caches: cache::Caches,
    /// Listening while the program runs.
    agents: Vec<Served>,
}

impl Engine<'_> {
    /// Prepares the mounts of a RUN.
    pub fn mounts(&self, id: NodeId, run: &Run, sandbox: &Sandbox, room: &Room) -> Result<Mounts, Fault> {
        let mut mounts = Mounts { caches: self.caches(run, sandbox)?, ..Mounts::default() };
        let mut of_context = self.tools.inputs.of(id).iter();
        for (number, mount) in run.mounts.iter().enumerate() {
            match mount.mount.kind {
                MountKind::Bind if outside(mount).is_some() => {
                    let picked = of_context.next().and_then(|picked| picked.first());
                    let picked = picked.ok_or_else(|| Fault::new("a bind mount has no source"))?;
                    mounts.list.push(self.bind_context(mount, picked, room, number)?);
                }
                MountKind::Bind => mounts.list.push(self.bind_node(mount, sandbox, room, number)?),
                MountKind::Cache => mounts.list.push(self.cache_mount(mount, &mounts.caches)?),
                MountKind::Tmpfs => mounts.list.push(Mount::Tmpfs {
                    target: PathBuf::from(&mount.target),
                    size: mount.mount.size,
                    mode: mount.mount.mode.unwrap_or(0o1777),
                }),
                MountKind::Secret => self.secret(mount, sandbox, &mut mounts)?,
                MountKind::Ssh => self.agent(mount, sandbox, room, number, &mut mounts)?,
            }
        }
        mounts.list.extend(run.script.as_ref().map(|(path, content)| Mount::File {
            target: PathBuf::from(path),
            content: content.clone().into_bytes(),
            mode: 0o755,
            uid: 0,
            gid: 0,
        }));
        Ok(mounts)
    }

    /// Files of the context are shown as a copy that belongs to root, so that what the ignore file hides stays hidden
    /// and what is written is nobody's loss. They keep their times, which are in no layer.
    fn bind_context(&self, mount: &RunMount, picked: &Picked, room: &Room, number: usize) -> Result<Mount, Fault> {
        let root = room.directory(&format!("context-{number}"))?;
        let top = root.join("top");
        let fail = |error| Fault::caused("files of the build context cannot be shown to RUN", error);
        self.write_out(&top, &picked.at(&TreePath::root()), &picked.entry).map_err(fail)?;
        for (relative, entry) in &picked.below {
            self.write_out(&top.join(relative.as_path()), &picked.at(relative), entry).map_err(fail)?;
        }
        let read_only = mount.mount.read_only;
        Ok(Mount::Bind { source: top, within: None, target: PathBuf::from(&mount.target), read_only })
    }

    fn write_out(&self, to: &Path, from: &Place, entry: &Entry) -> io::Result<()> {
        match &entry.kind {
            Kind::Directory => std::fs::create_dir(to)?,
            Kind::Symlink(target) => {
                use std::os::unix::ffi::OsStrExt as _;
                return symlink(std::ffi::OsStr::from_bytes(target), to);
            }
            Kind::File { .. } => {
                let gone = || io::Error::from(io::ErrorKind::NotFound);
                let From::Context(id) = from.tree else { return Err(gone()) };
                let source = self.tools.contexts.get(id).file(&from.path).map_err(|_| gone())?;
                let mut source = Hashing::new(source);
                let mut copy = std::fs::File::create_new(to)?;
                io::copy(&mut source, &mut copy)?;
                copy.set_modified(source.inner.metadata()?.modified()?)?;
                // What the step is kept under is what the file held at first.
                if self.tools.inputs.files().get(from).map(|read| read.digest) != Some(source.finish()) {
                    return Err(io::Error::other(format!("{} changed while it was being read", from.path)));
                }
            }
            Kind::Device(_) | Kind::Fifo => return Ok(()),
        }
        std::fs::set_permissions(to, Permissions::from_mode(entry.metadata.mode))
    }

    fn bind_node(&self, mount: &RunMount, sandbox: &Sandbox, room: &Room, number: usize) -> Result<Mount, Fault> {
        let From::Node(node) = mount.from else { return Err(Fault::new("a bind mount has no source")) };
        if sandbox.territory().is_some() {
            return self.bind_copy(node, mount, room, number);
        }
        let upper = if mount.mount.read_only {
            None
        } else {
            let upper = room.directory(&format!("upper-{number}"))?;
            Some(Upper { upper, work: room.directory(&format!("work-{number}"))? })
        };
        let source = crate::pick::clean(mount.mount.source.as_deref().unwrap_or_default())?;
        Ok(Mount::Overlay {
            lowers: self.lowers(sandbox, node)?,
            upper,
            source: Path::new("/").join(source.as_path()),
            target: PathBuf::from(&mount.target),
        })
    }

    /// An agent's socket that answers as long as the program runs.
    fn agent(
        &self,
        mount: &RunMount,
        sandbox: &Sandbox,
        room: &Room,
        number: usize,
        mounts: &mut Mounts,
    ) -> Result<(), Fault> {
        let m = &mount.mount;
        let id = m.id.as_deref().unwrap_or_default();
        let Some(source) = self.tools.request.ssh.get(id) else {
            if !m.required {
                return Ok(());
            }
            let hint = "hand an agent or keys to the build: --ssh, in a task BUILDKIT_SSH";
            return Err(Fault::new(format!("unset ssh forward key {id}")).with_hint(hint));
        };
        let fail = |error| Fault::caused(format!("the agent {id} cannot be offered to RUN"), error);
        let directory = room.directory(&format!("agent-{number}"))?;
        let served = Served::start(source, &directory, m.mode.unwrap_or(0o600)).map_err(fail)?;
        if sandbox.owners_kept() {
            std::os::unix::fs::chown(served.path(), Some(m.uid.unwrap_or(0)), Some(m.gid.unwrap_or(0)))
                .map_err(fail)?;
        }
        mounts.list.push(Mount::Bind {
            source: served.path().to_owned(),
            within: None,
            target: PathBuf::from(&mount.target),
            read_only: false,
        });
        mounts.agents.push(served);
        Ok(())
    }

    fn secret(&self, mount: &RunMount, sandbox: &Sandbox, mounts: &mut Mounts) -> Result<(), Fault> {
        let m = &mount.mount;
        let name = mount.target.rsplit('/').next().unwrap_or_default();
        let id = m.id.as_deref().unwrap_or(name);
        let Some(secret) = self.tools.request.secrets.get(id) else {
            let hint = format!("hand it to the build: --secret id={id},src=FILE, in a task BUILDKIT_SECRET_{id}");
            return if m.required {
                Err(Fault::new(format!("secret {id}: not found")).with_hint(hint))
            } else {
                Ok(())
            };
        };
        if let Some(name) = &m.env {
            let text = secret
                .text()
                .ok_or_else(|| Fault::new(format!("secret {id} is not UTF-8: no variable can hold it")))?;
            mounts.env.push((name.clone(), text.reveal().to_owned()));
        }
        if !mount.target.is_empty() {
            // Where everything belongs to one user, that is who reads it.
            let id = |id: Option<u32>| id.filter(|_| sandbox.owners_kept()).unwrap_or(0);
            mounts.list.push(Mount::File {
                target: PathBuf::from(&mount.target),
                content: secret.reveal().to_vec(),
                mode: m.mode.unwrap_or(0o400),
                uid: id(m.uid),
                gid: id(m.gid),
            });
        }
        Ok(())
    }
}
