//! Steps that need no program: `COPY`, `ADD` and `WORKDIR`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use skycap_image::{Descriptor, Digest, Layer};
use skycap_rootfs::{LayerIndex, TreePath, View};

use crate::changes::{Changes, Place};
use crate::commit::{self, Sources};
use crate::copy::{Files, Putting, Trees};
use crate::error::Fault;
use crate::execute::Engine;
use crate::files::tree_path;
use crate::graph::{Copy, From, NodeId, Source, Workdir};
use crate::missing;
use crate::owner;
use crate::parallel;
use crate::pick::{self, Picked};

/// No `/etc/passwd` is larger.
const LARGEST_TABLE: u64 = 16 << 20;

impl Engine<'_> {
    /// The files of some layers, lowest first.
    pub fn view(&self, layers: &[Layer]) -> Result<View, Fault> {
        let list = |_, layer: &Layer| Ok(self.tools.store.layer_index(layer)?);
        let indexes: Vec<Arc<LayerIndex>> = parallel::map(self.tools.request.threads, layers, list)?;
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
        let scratch = self.tools.store.scratch()?;
        let trees = self.trees(copy)?;
        let sources = self.pick(id, copy, &trees)?;
        let files = Files { contexts: self.tools.contexts, trees: &trees, scratch: scratch.path() };
        let (spool_file, mut spool) = commit::spool(scratch.path(), &self.cancel)?;
        let mut changes = Changes::to(below);
        let mut putting = Putting {
            copy,
            owner,
            keep_file_times: self.tools.request.keep_file_times,
            files: &files,
            changes: &mut changes,
            spool: &mut spool,
        };
        putting.put_all(&sources)?;
        let mut copied = BTreeMap::new();
        let wanted = changes.sources();
        for (node, (view, layers)) in &trees {
            let paths: Vec<TreePath> =
                wanted.iter().filter(|place| place.tree == From::Node(*node)).map(|place| place.path.clone()).collect();
            view.contents(&paths, layers, &mut |paths, _, content| {
                let (offset, _) = spool.add(content)?;
                let place = |path: &&TreePath| Place { tree: From::Node(*node), path: (*path).clone() };
                copied.extend(paths.iter().map(|path| (place(path), offset)));
                Ok(())
            })?;
        }
        commit::end_spool(spool)?;
        let read = self.tools.inputs.files();
        let sources = Sources { contexts: self.tools.contexts, read, copied: &copied, spool: &spool_file };
        commit::commit(self.tools.store, self.packing(id), |pack| commit::write(&changes, &sources, pack))
    }

    /// The file systems that a copy reads.
    pub fn trees(&self, copy: &Copy) -> Result<Trees, Fault> {
        let mut trees = Trees::new();
        for source in &copy.sources {
            if let From::Node(node) = source.from
                && !trees.contains_key(&node)
            {
                let layers = self.layers(node)?;
                trees.insert(node, (self.view(&layers)?, layers));
            }
        }
        Ok(trees)
    }

    /// What each source of a copy names.
    pub fn pick<'c>(&self, id: NodeId, copy: &'c Copy, trees: &Trees) -> Result<Vec<(&'c Source, Vec<Picked>)>, Fault> {
        let outside = self.tools.inputs.of(id);
        let picked = copy.sources.iter().enumerate().map(|(number, source)| {
            let picked = match source.from {
                From::Context(_) => outside.get(number).cloned().unwrap_or_default(),
                From::Node(node) => {
                    let (view, _) =
                        trees.get(&node).ok_or_else(|| Fault::new("a file system to copy from is missing"))?;
                    missing::explained(pick::pick(view, copy, source), view, None, &source.path)?
                }
            };
            Ok((source, picked))
        });
        picked.collect()
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

/// A file such as `/etc/passwd`, links followed.
pub(crate) fn read_table(view: &View, layers: &[Layer], path: &str) -> Result<Option<Vec<u8>>, Fault> {
    let path: TreePath = view.resolve(Path::new(path), true)?;
    match view.lookup(&path) {
        Some(entry) if entry.is_file() => Ok(Some(view.read(&path, layers, LARGEST_TABLE)?)),
        _ => Ok(None),
    }
}
