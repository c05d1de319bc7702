//! What RUN stands on: an overlay's upper directory over the layers below; or, where nothing can be mounted, a whole tree of
//! its own that takes the place of the container's root (`docs/decisions/0022-takeover-of-a-throw-away-container.md`).
//!
//! A tree that a RUN leaves is parked under the RUN's node. The next RUN upon it, with only a few layers between them, takes
//! it and adds these, if it still is as it was left: a RUN in another stage could have reached it. Otherwise, and for a
//! second RUN upon the same node, a tree is made from layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skycap_image::Layer;
use skycap_rootfs::{
    Limits, Owners, Recorded, TreePath, Unpack, View, pack_changed_tree, pack_overlay_upper, unpack, unpack_onto,
};
use skycap_sandbox::{Mount, Root, Sandbox};
use skycap_store::Temporary;

use crate::commit::LayerPack;
use crate::error::Fault;
use crate::execute::Engine;
use crate::graph::{NodeId, Operation, RunMount};
use crate::owner::Owner;
use crate::run::{Room, Upper};
use crate::world::SandboxAccess;

/// What a RUN stands on.
pub(crate) enum Stand {
    /// An overlay with this upper directory.
    Overlay { root: Root, upper: PathBuf, room: Arc<Room> },
    /// A tree.
    Tree { tree: Tree, layers: Vec<Layer>, before: Recorded, store: PathBuf },
}

/// A tree in the territory of a takeover.
pub(crate) struct Tree {
    room: Temporary,
}

impl Tree {
    fn path(&self) -> PathBuf {
        self.room.path().join("root")
    }
}

/// Trees that RUNs of this build have left, and how they looked then.
#[derive(Default)]
pub(crate) struct Parked(Mutex<BTreeMap<NodeId, (Tree, Recorded)>>);

impl Parked {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, (Tree, Recorded)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stand {
    /// For the sandbox.
    pub fn root(&self) -> Root {
        match self {
            Self::Overlay { root, .. } => root.clone(),
            Self::Tree { tree, store, .. } => Root::TakenOver { tree: tree.path(), shared: store.clone() },
        }
    }

    /// Notes what there is before the program runs, if that must be known. `mounts` cover files for a while.
    pub fn record(&mut self, view: &View, mounts: &[Mount]) -> Result<(), Fault> {
        let Self::Tree { tree, before, .. } = self else { return Ok(()) };
        let targets = mounts.iter().filter_map(|mount| match mount {
            Mount::Bind { target, .. } | Mount::File { target, .. } => Some(target.as_path()),
            Mount::Overlay { .. } | Mount::Tmpfs { .. } => None,
        });
        let own = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"].map(Path::new);
        let covered: Vec<TreePath> = targets.chain(own).filter_map(|target| view.resolve(target, true).ok()).collect();
        *before = Recorded::of(&tree.path(), &covered).map_err(unseen)?;
        Ok(())
    }

    /// Writes what the program changed, which ran as `maker`.
    pub fn pack(&self, view: &View, owners: Owners, maker: Owner, pack: &mut LayerPack) -> std::io::Result<()> {
        match self {
            Self::Overlay { root, upper, .. } => {
                let lowers = if let Root::Overlay { lowers, .. } = root { &**lowers } else { &[] };
                pack_overlay_upper(upper, lowers, view, owners, (maker.uid, maker.gid), &|_| false, pack)
            }
            Self::Tree { tree, layers, before, .. } => pack_changed_tree(&tree.path(), layers, view, before, pack),
        }
        .map(drop)
    }
}

fn unseen(error: std::io::Error) -> Fault {
    Fault::caused("the files of RUN cannot be looked at", error)
}

impl Engine<'_> {
    /// What a RUN upon this node stands on.
    pub fn stand(&self, sandbox: &Sandbox, id: NodeId, room: &Arc<Room>) -> Result<Stand, Fault> {
        if let Some(territory) = sandbox.territory() {
            let (tree, layers) = (self.tree(territory, id)?, self.layers(id)?);
            let store = std::fs::canonicalize(self.tools.store.dir())?;
            return Ok(Stand::Tree { tree, layers, before: Recorded::default(), store });
        }
        let (upper, work) = (room.directory("upper")?, room.directory("work")?);
        let root = Root::Overlay { lowers: self.lowers(sandbox, id)?, upper: upper.clone(), work };
        Ok(Stand::Overlay { root, upper, room: Arc::clone(room) })
    }

    /// What is kept of a RUN's stand for those upon it.
    pub fn leave(&self, id: NodeId, stand: Stand) -> Result<Option<Upper>, Fault> {
        match stand {
            Stand::Overlay { room, .. } => Ok(Some(Upper::of(room))),
            Stand::Tree { tree, .. } => {
                let awaited = self.awaited();
                if awaited.contains(&id) {
                    let recorded = Recorded::at_rest(&tree.path()).map_err(unseen)?;
                    self.parked.lock().insert(id, (tree, recorded));
                }
                self.parked.lock().retain(|id, _| awaited.contains(id));
                Ok(None)
            }
        }
    }

    /// A tree of all layers of a node.
    fn tree(&self, territory: &Path, id: NodeId) -> Result<Tree, Fault> {
        let layers = self.layers(id)?;
        for (above, id) in self.graph.chain(id).into_iter().rev().enumerate() {
            let parked = self.parked.lock().remove(&self.canonical(id));
            if let Some((tree, recorded)) = parked
                && Recorded::at_rest(&tree.path()).map_err(unseen)? == recorded
            {
                let new = layers.get(layers.len() - above..).unwrap_or_default();
                unpack_onto(new, &tree.path(), &plain(self.tools.request.threads), self.tools.progress)?;
                return Ok(tree);
            }
            if matches!(self.graph.node(id).operation, Operation::Base(_)) {
                break;
            }
        }
        self.fresh_tree(territory, &layers)
    }

    fn fresh_tree(&self, territory: &Path, layers: &[Layer]) -> Result<Tree, Fault> {
        let room = Temporary::create(territory, "tree-").map_err(|error| Fault::new(error.to_string()))?;
        let tree = Tree { room };
        // What is read anyway is kept, for COPY and the next build.
        let kept = layers.iter().map(|layer| self.tools.store.keep_layer(layer));
        let kept = kept.collect::<Result<Vec<_>, _>>()?;
        unpack(&kept, &tree.path(), &plain(self.tools.request.threads), self.tools.progress)?;
        Ok(tree)
    }

    /// Where nothing can be mounted: a copy of another node's files for one RUN alone, which may write to it unheard.
    pub fn bind_copy(&self, node: NodeId, mount: &RunMount, room: &Room, number: usize) -> Result<Mount, Fault> {
        let copy = room.path().join(format!("from-{number}"));
        unpack(&self.layers(node)?, &copy, &plain(self.tools.request.threads), self.tools.progress)?;
        let source = crate::pick::clean(mount.mount.source.as_deref().unwrap_or_default())?;
        let (source, within) =
            if source.is_root() { (copy, None) } else { (Path::new("/").join(source.as_path()), Some(copy)) };
        Ok(Mount::Bind { source, within, target: PathBuf::from(&mount.target), read_only: true })
    }

    /// The nodes below what is still to be done.
    fn awaited(&self) -> BTreeSet<NodeId> {
        let below = |id: NodeId| self.graph.chain(id).into_iter().map(|id| self.canonical(id));
        self.open().into_iter().flat_map(below).collect()
    }
}

/// Everything as the layers say.
fn plain(threads: usize) -> Unpack {
    Unpack { owners: Owners::Keep, concurrency: threads.max(1), limits: Limits::default(), sync: false }
}

/// How many steps may be done at once: while the roots are exchanged, no other step finds its files.
pub(crate) fn steps_at_once(sandbox: SandboxAccess<'_>, threads: usize) -> usize {
    match sandbox {
        SandboxAccess::Available(sandbox) if sandbox.territory().is_some() => 1,
        _ => threads,
    }
}
