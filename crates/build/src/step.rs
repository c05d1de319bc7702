//! Steps that need no program: `COPY`, `ADD` and `WORKDIR`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skycap_image::{Descriptor, Digest, Layer};
use skycap_rootfs::{LayerIndex, TreePath, View};

use crate::changes::Changes;
use crate::commit::{self, Sources};
use crate::copy::Putting;
use crate::error::Fault;
use crate::execute::Engine;
use crate::files::tree_path;
use crate::graph::{Copy, From, NodeId, Workdir};
use crate::owner;
use crate::pick::{self, Picked};

/// No `/etc/passwd` is larger.
const LARGEST_TABLE: u64 = 16 << 20;

impl Engine<'_> {
    /// The files of some layers, lowest first.
    pub fn view(&self, layers: &[Layer]) -> Result<View, Fault> {
        let indexes = layers.iter().map(|layer| self.tools.store.layer_index(layer));
        let indexes = indexes.collect::<Result<Vec<Arc<LayerIndex>>, _>>()?;
        Ok(View::new(&indexes)?)
    }

    /// `COPY` and `ADD`
    pub fn copy(&self, id: NodeId, copy: &Copy) -> Result<(Descriptor, Digest), Fault> {
        let below_layers = if copy.is_free_of_parent() { Vec::new() } else { self.layers(copy.parent)? };
        let full = self.view(&below_layers)?;
        let read = |path: &str| read_table(&full, &below_layers, path);
        let owner = copy.chown.as_deref().map(|text| owner::owner(text, &read)).transpose()?;
        let nothing = View::default();
        let below = if copy.link { &nothing } else { &full };
        let source = self.source(id, copy)?;
        let scratch = self.tools.store.scratch()?;
        let (spool_file, mut spool) = commit::spool(scratch.path())?;
        let mut changes = Changes::to(below);
        let mut putting = Putting {
            copy,
            owner,
            keep_file_times: self.tools.request.keep_file_times,
            context: self.tools.context,
            changes: &mut changes,
            spool: &mut spool,
        };
        putting.put_all(&source.picked)?;
        let mut copied = BTreeMap::new();
        if let Some((view, layers)) = &source.tree {
            let paths = pick::regular_files(&source.picked)?;
            view.contents(&paths, layers, &mut |paths, _, content| {
                let (offset, _) = spool.add(content)?;
                copied.extend(paths.iter().map(|path| ((*path).clone(), offset)));
                Ok(())
            })?;
        }
        commit::end_spool(spool)?;
        let digests = self.tools.inputs.digests();
        let sources = Sources { context: self.tools.context, digests, copied: &copied, spool: &spool_file };
        commit::commit(self.tools.store, self.packing(id), |pack| commit::write(&changes, &sources, pack))
    }

    /// What a copy copies, and the file system it is in unless that is the context.
    fn source(&self, id: NodeId, copy: &Copy) -> Result<Source, Fault> {
        match copy.from {
            From::Context => {
                let picked = self.tools.inputs.of(id).first().cloned().unwrap_or_default();
                Ok(Source { picked, tree: None })
            }
            From::Node(node) => {
                let layers = self.layers(node)?;
                let view = self.view(&layers)?;
                Ok(Source { picked: pick::pick(&view, copy)?, tree: Some((view, layers)) })
            }
        }
    }

    /// `WORKDIR`
    pub fn workdir(&self, id: NodeId, workdir: &Workdir) -> Result<(Descriptor, Digest), Fault> {
        let layers = self.layers(workdir.parent)?;
        let view = self.view(&layers)?;
        let mut changes = Changes::to(&view);
        let path = changes.resolve(&tree_path(&workdir.path)?)?;
        let read = |path: &str| read_table(&view, &layers, path);
        let owner = owner::owner(&workdir.user, &read)?;
        changes.make_directories(&path, owner)?;
        commit::commit(self.tools.store, self.packing(id), |pack| commit::write_plain(&changes, pack))
    }
}

struct Source {
    picked: Vec<Picked>,
    tree: Option<(View, Vec<Layer>)>,
}

/// A file such as `/etc/passwd`, links followed.
pub(crate) fn read_table(view: &View, layers: &[Layer], path: &str) -> Result<Option<Vec<u8>>, Fault> {
    let path: TreePath = view.resolve(Path::new(path), true)?;
    match view.lookup(&path) {
        Some(entry) if entry.is_file() => Ok(Some(view.read(&path, layers, LARGEST_TABLE)?)),
        _ => Ok(None),
    }
}
