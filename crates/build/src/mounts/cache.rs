//! `RUN --mount=type=cache`: directories that outlive builds.
//!
//! A cache is one directory by its id, begun again for other seeds, owners and modes, as in BuildKit. Programs that share it
//! use it together; one that locks it waits until nobody uses it; and for one that wants it for itself while it is in use,
//! there is another directory, which stays for the next time.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skycap_image::Event;
use skycap_sandbox::{Mount, Sandbox};
use skycap_store::{Hold, Lock};

use crate::dockerfile::{MountKind, Sharing};
use crate::error::Fault;
use crate::execute::Engine;
use crate::graph::{From, Run, RunMount};
use crate::key::Encoder;

/// How often somebody who waits for a cache looks.
const PAUSE: Duration = Duration::from_millis(50);

/// How many directories a private cache has at most; when all are in use, the next one waits.
const MOST: usize = 64;

/// The caches of one RUN: mounts of the same cache are the same directory.
#[derive(Default)]
pub(crate) struct Caches {
    /// By name.
    directories: BTreeMap<String, PathBuf>,
    /// Held while the program runs.
    locks: Vec<Lock>,
}

impl Engine<'_> {
    /// Prepares every cache that a RUN mounts. Always in the same order, so that two programs never wait for each other.
    pub fn caches(&self, run: &Run, sandbox: &Sandbox) -> Result<Caches, Fault> {
        let mut wanted: BTreeMap<String, &RunMount> = BTreeMap::new();
        for mount in run.mounts.iter().filter(|mount| mount.mount.kind == MountKind::Cache) {
            wanted.entry(self.cache_name(mount)).or_insert(mount);
        }
        let mut caches = Caches::default();
        for (name, mount) in wanted {
            let (number, lock) = self.take_cache(&name, mount)?;
            let name_of_one = if number == 0 { name.clone() } else { format!("{name}\0{number}") };
            let directory = self.tools.store.cache_mount(&name_of_one, |new| self.fill_cache(new, mount, sandbox));
            let directory =
                directory.map_err(|fault| fault.in_doing("the directory of a cache mount cannot be prepared"))?;
            caches.directories.insert(name, directory);
            caches.locks.push(lock);
        }
        Ok(caches)
    }

    /// The mount of a cache that was prepared.
    pub fn cache_mount(&self, mount: &RunMount, caches: &Caches) -> Result<Mount, Fault> {
        let directory = caches.directories.get(&self.cache_name(mount));
        let directory = directory.ok_or_else(|| Fault::new("a cache mount was not prepared"))?;
        // The seed of another file system is what its source names; otherwise the source is a directory of the cache.
        let source = mount.mount.source.as_deref().filter(|_| mount.mount.from.is_none());
        let (source, within) = match source.map(crate::pick::clean).transpose()?.filter(|source| !source.is_root()) {
            Some(source) => (Path::new("/").join(source.as_path()), Some(directory.clone())),
            None => (directory.clone(), None),
        };
        Ok(Mount::Bind { source, within, target: PathBuf::from(&mount.target), read_only: mount.mount.read_only })
    }

    /// What says which cache a mount means.
    fn cache_name(&self, mount: &RunMount) -> String {
        let m = &mount.mount;
        let namespace = self.tools.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS").filter(|name| !name.is_empty());
        let id = m.id.as_deref().unwrap_or(&mount.target);
        let mut name = namespace.map_or_else(|| id.to_owned(), |namespace| format!("{namespace}/{id}"));
        if m.from.is_none() && m.mode.is_none() && m.uid.is_none() && m.gid.is_none() {
            return name;
        }
        let mut beginning = Encoder::new("cache mount");
        if let From::Node(node) = mount.from {
            beginning.bytes(self.file_systems[node.number()].as_bytes()).option(m.source.as_deref());
        }
        for number in [m.mode, m.uid, m.gid] {
            beginning.number(u64::from(number.is_some())).number(u64::from(number.unwrap_or_default()));
        }
        name.push('\0');
        name + &beginning.finish().hex()
    }

    /// Waits until a cache can be used: the number of the directory, and what keeps others away from it.
    fn take_cache(&self, name: &str, mount: &RunMount) -> Result<(usize, Lock), Fault> {
        let sharing = mount.mount.sharing.unwrap_or(Sharing::Shared);
        let hold = if sharing == Sharing::Shared { Hold::Together } else { Hold::Alone };
        let attempt = |number: usize| {
            let lock = self.tools.store.try_lock(&format!("cache mount {name}\0{number}"), hold);
            lock.map_err(|error| Fault::caused("a cache mount cannot be locked", error))
        };
        if sharing == Sharing::Private {
            for number in 0..MOST {
                if let Some(lock) = attempt(number)? {
                    return Ok((number, lock));
                }
            }
        }
        let mut waits = false;
        loop {
            if let Some(lock) = attempt(0)? {
                return Ok((0, lock));
            }
            if self.cancel.is_cancelled() {
                return Err(Fault::Cancelled);
            }
            if !std::mem::replace(&mut waits, true) {
                let id = mount.mount.id.as_deref().unwrap_or(&mount.target);
                self.tools.progress.event(Event::Note(&format!("waiting for the cache {id}, which is in use")));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// What a new cache holds, and whose it is.
    fn fill_cache(&self, directory: &Path, mount: &RunMount, sandbox: &Sandbox) -> Result<(), Fault> {
        let m = &mount.mount;
        let owners_kept = sandbox.owners_kept();
        match (&m.from, mount.from) {
            (None, _) => {}
            (Some(_), From::Node(node)) => {
                self.write_tree(directory, node, m.source.as_deref().unwrap_or_default(), owners_kept)?;
            }
            (Some(name), From::Context(_)) => {
                return Err(Fault::new(format!("a cache cannot begin with {name}, a directory of this machine"))
                    .with_hint("copy the directory in a stage, and name that with from"));
            }
        }
        if m.from.is_none() || m.mode.is_some() {
            std::fs::set_permissions(directory, Permissions::from_mode(m.mode.unwrap_or(0o755) & 0o7777))?;
        }
        if owners_kept && (m.uid.is_some() || m.gid.is_some()) {
            std::os::unix::fs::chown(directory, Some(m.uid.unwrap_or(0)), Some(m.gid.unwrap_or(0)))?;
        }
        Ok(())
    }
}
