//! What the steps of a graph read from directories outside: looked at once, before anything is done.

use std::collections::BTreeMap;

use skycap_image::Digest;
use skycap_rootfs::TreePath;

use crate::changes::Place;
use crate::context::{Contexts, Read, Xattrs};
use crate::dockerfile::MountKind;
use crate::error::{BuildError, Fault};
use crate::graph::{ContextId, From, Graph, Node, NodeId, Operation, RunMount};
use crate::key::Encoder;
use crate::missing;
use crate::pick::{self, Picked};
use crate::request::Request;

/// The directories as the steps see them.
#[derive(Default)]
pub(crate) struct Inputs {
    /// For a COPY an entry per source (empty for those of other file systems), for a RUN one per bind mount of a directory
    /// outside, in order.
    picked: BTreeMap<NodeId, Vec<Vec<Picked>>>,
    /// Regular files that some step reads.
    read: BTreeMap<Place, Read>,
}

impl Inputs {
    /// Looks at everything that the graph needs.
    pub fn read(graph: &Graph, contexts: &Contexts, file: &str, request: &Request) -> Result<Self, BuildError> {
        let mut inputs = Self::default();
        let mut paths: BTreeMap<ContextId, Vec<TreePath>> = BTreeMap::new();
        for (id, node) in graph.iter() {
            let picked = pick_for(node, contexts).map_err(|fault| fault.at(file, node.line))?;
            for source in &picked {
                for place in pick::regular_files(source) {
                    if let From::Context(context) = place.tree {
                        paths.entry(context).or_default().push(place.path);
                    }
                }
            }
            if picked.iter().any(|source| !source.is_empty()) {
                inputs.picked.insert(id, picked);
            }
        }
        let mut attributes = BTreeMap::new();
        for (context, mut paths) in paths {
            paths.sort_unstable();
            paths.dedup();
            let read = contexts.get(context).digests(&paths, request.threads, &request.cancel);
            let read = read.map_err(|fault| BuildError::of_request("the build context", fault))?;
            let place = |path| Place { tree: From::Context(context), path };
            for (place, (read, xattrs)) in paths.into_iter().map(place).zip(read) {
                if !xattrs.is_empty() {
                    attributes.insert(place.clone(), xattrs);
                }
                inputs.read.insert(place, read);
            }
        }
        inputs.complete(&attributes);
        Ok(inputs)
    }

    /// Gives regular files the attributes that they have. Few files have any.
    fn complete(&mut self, attributes: &BTreeMap<Place, Xattrs>) {
        let all = self.picked.values_mut().flatten().flatten();
        for Picked { tree, path, entry, below, .. } in all.filter(|_| !attributes.is_empty()) {
            let top = TreePath::root();
            let below = below.iter_mut().map(|(relative, entry)| (&*relative, entry));
            for (relative, entry) in std::iter::once((&top, entry)).chain(below) {
                if let Some(xattrs) = attributes.get(&Place { tree: *tree, path: path.below(relative) }) {
                    entry.metadata.xattrs.clone_from(xattrs);
                }
            }
        }
    }

    /// For each node that reads directories outside, what it reads there.
    pub fn keys(&self) -> BTreeMap<NodeId, Digest> {
        let read = |place: &Place| self.read.get(place).copied();
        let key = |picked: &Vec<Vec<Picked>>| {
            let mut encoder = Encoder::new("context");
            for source in picked {
                encoder.text(&pick::digest(source, &read).to_string());
            }
            encoder.finish()
        };
        self.picked.iter().map(|(id, picked)| (*id, key(picked))).collect()
    }

    /// What a node reads: the sources of a COPY, or the bind mounts of a RUN.
    pub fn of(&self, id: NodeId) -> &[Vec<Picked>] {
        self.picked.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// What regular files held.
    pub fn files(&self) -> &BTreeMap<Place, Read> {
        &self.read
    }
}

fn pick_for(node: &Node, contexts: &Contexts) -> Result<Vec<Vec<Picked>>, Fault> {
    match &node.operation {
        Operation::Copy(copy) => copy
            .sources
            .iter()
            .map(|source| match source.from {
                From::Context(id) => {
                    let context = contexts.get(id);
                    missing::explained(pick::pick(context, copy, source), context, Some(context), &source.path)
                }
                From::Node(_) => Ok(Vec::new()),
            })
            .collect(),
        Operation::Run(run) => {
            let outside = run.mounts.iter().filter_map(|mount| Some((mount, outside(mount)?)));
            let whole = |(mount, id): (&RunMount, ContextId)| {
                let (context, source) = (contexts.get(id), mount.mount.source.as_deref().unwrap_or("/"));
                missing::explained(pick::whole(context, mount.from, source), context, Some(context), source)
            };
            outside.map(whole).collect()
        }
        _ => Ok(Vec::new()),
    }
}

/// The directory outside whose files a mount shows, if it does.
pub(crate) fn outside(mount: &RunMount) -> Option<ContextId> {
    match mount.from {
        From::Context(id) if mount.mount.kind == MountKind::Bind => Some(id),
        _ => None,
    }
}
