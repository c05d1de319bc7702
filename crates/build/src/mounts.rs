//! `RUN --mount`.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use skycap_rootfs::{Entry, Kind};
use skycap_sandbox::{Mount, Sandbox, Upper};
use skycap_store::Lock;

use crate::dockerfile::{MountKind, Sharing};
use crate::error::Fault;
use crate::execute::Engine;
use crate::graph::{From, NodeId, Run, RunMount};
use crate::inputs::is_of_context;
use crate::pick::{Picked, below};
use crate::run::Room;

/// What a RUN sees besides its file system.
#[derive(Default)]
pub(crate) struct Mounts {
    /// For the sandbox.
    pub list: Vec<Mount>,
    /// Secrets that are variables.
    pub env: Vec<(String, String)>,
    /// Held while the program runs.
    pub locks: Vec<Lock>,
}

impl Engine<'_> {
    /// Prepares the mounts of a RUN.
    pub fn mounts(&self, id: NodeId, run: &Run, sandbox: &Sandbox, room: &Room) -> Result<Mounts, Fault> {
        let mut mounts = Mounts { locks: self.locks(run)?, ..Mounts::default() };
        let mut of_context = self.tools.inputs.of(id).iter();
        for (number, mount) in run.mounts.iter().enumerate() {
            match mount.mount.kind {
                MountKind::Bind if is_of_context(mount) => {
                    let picked = of_context.next().and_then(|picked| picked.first());
                    let picked = picked.ok_or_else(|| Fault::new("a bind mount has no source"))?;
                    mounts.list.push(self.bind_context(mount, picked, room, number)?);
                }
                MountKind::Bind => mounts.list.push(self.bind_node(mount, sandbox, room, number)?),
                MountKind::Cache => mounts.list.push(self.cache(mount, sandbox)?),
                MountKind::Tmpfs => mounts.list.push(Mount::Tmpfs {
                    target: PathBuf::from(&mount.target),
                    size: mount.mount.size,
                    mode: mount.mount.mode.unwrap_or(0o1777),
                }),
                MountKind::Secret => self.secret(mount, &mut mounts)?,
                MountKind::Ssh => return Err(Fault::new("RUN --mount=type=ssh is not supported yet")),
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
        self.write_out(&top, &picked.path, &picked.entry).map_err(fail)?;
        for (relative, entry) in &picked.below {
            self.write_out(&top.join(relative.as_path()), &below(&picked.path, relative)?, entry).map_err(fail)?;
        }
        let read_only = mount.mount.read_only;
        Ok(Mount::Bind { source: top, within: None, target: PathBuf::from(&mount.target), read_only })
    }

    fn write_out(&self, to: &Path, from: &skycap_rootfs::TreePath, entry: &Entry) -> io::Result<()> {
        match &entry.kind {
            Kind::Directory => std::fs::create_dir(to)?,
            Kind::Symlink(target) => {
                use std::os::unix::ffi::OsStrExt as _;
                return symlink(std::ffi::OsStr::from_bytes(target), to);
            }
            Kind::File { .. } => {
                let mut source = self.tools.context.file(from).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
                let mut copy = std::fs::File::create_new(to)?;
                io::copy(&mut source, &mut copy)?;
                copy.set_modified(source.metadata()?.modified()?)?;
            }
            Kind::Device(_) | Kind::Fifo => return Ok(()),
        }
        std::fs::set_permissions(to, Permissions::from_mode(entry.metadata.mode))
    }

    fn bind_node(&self, mount: &RunMount, sandbox: &Sandbox, room: &Room, number: usize) -> Result<Mount, Fault> {
        let From::Node(node) = mount.from else { return Err(Fault::new("a bind mount has no source")) };
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

    fn cache(&self, mount: &RunMount, sandbox: &Sandbox) -> Result<Mount, Fault> {
        let fail = |error| Fault::caused("the directory of a cache mount cannot be prepared", error);
        let directory = self.tools.store.cache_mount(&self.cache_id(mount)).map_err(fail)?;
        let is_new = std::fs::read_dir(&directory).map_err(fail)?.next().is_none();
        if is_new {
            let m = &mount.mount;
            std::fs::set_permissions(&directory, Permissions::from_mode(m.mode.unwrap_or(0o755))).map_err(fail)?;
            if sandbox.owners_kept() && (m.uid.is_some() || m.gid.is_some()) {
                std::os::unix::fs::chown(&directory, Some(m.uid.unwrap_or(0)), Some(m.gid.unwrap_or(0)))
                    .map_err(fail)?;
            }
        }
        Ok(Mount::Bind {
            source: directory,
            within: None,
            target: PathBuf::from(&mount.target),
            read_only: mount.mount.read_only,
        })
    }

    fn cache_id(&self, mount: &RunMount) -> String {
        let namespace = self.tools.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS").map(|name| format!("{name}/"));
        namespace.unwrap_or_default() + mount.mount.id.as_deref().unwrap_or(&mount.target)
    }

    /// Caches that only one program at a time may use. A private cache is one that nobody else uses now, so it waits, too.
    /// Always in the same order, so that two programs never wait for each other.
    fn locks(&self, run: &Run) -> Result<Vec<Lock>, Fault> {
        let is_exclusive = |mount: &&RunMount| {
            mount.mount.kind == MountKind::Cache
                && matches!(mount.mount.sharing, Some(Sharing::Locked | Sharing::Private))
        };
        let mut ids: Vec<String> = run.mounts.iter().filter(is_exclusive).map(|mount| self.cache_id(mount)).collect();
        ids.sort();
        ids.dedup();
        let lock = |id: &String| {
            let lock = self.tools.store.lock(&format!("cache mount {id}"));
            lock.map_err(|error| Fault::caused("a cache mount cannot be locked", error))
        };
        ids.iter().map(lock).collect()
    }

    fn secret(&self, mount: &RunMount, mounts: &mut Mounts) -> Result<(), Fault> {
        let m = &mount.mount;
        let name = mount.target.rsplit('/').next().unwrap_or_default();
        let id = m.id.as_deref().unwrap_or(name);
        let Some(secret) = self.tools.request.secrets.get(id) else {
            return if m.required { Err(Fault::new(format!("secret {id}: not found"))) } else { Ok(()) };
        };
        mounts.env.extend(m.env.as_ref().map(|name| (name.clone(), secret.reveal().to_owned())));
        if !mount.target.is_empty() {
            mounts.list.push(Mount::File {
                target: PathBuf::from(&mount.target),
                content: secret.reveal().as_bytes().to_vec(),
                mode: m.mode.unwrap_or(0o400),
                uid: m.uid.unwrap_or(0),
                gid: m.gid.unwrap_or(0),
            });
        }
        Ok(())
    }
}
