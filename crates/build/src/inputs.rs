//! What the steps of a graph read from the build context: looked at once, before anything is done.

use std::collections::{BTreeMap, BTreeSet};

use skycap_image::Digest;
use skycap_rootfs::TreePath;

use crate::context::Context;
use crate::dockerfile::MountKind;
use crate::error::{BuildError, Fault};
use crate::files::Files;
use crate::graph::{Copy, From, Graph, Node, NodeId, Operation, RunMount};
use crate::key::Encoder;
use crate::pick::{self, Picked};

/// The context as the steps see it.
#[derive(Default)]
pub(crate) struct Inputs {
    /// For a COPY its sources, for a RUN one entry per bind mount of the context, in order.
    picked: BTreeMap<NodeId, Vec<Vec<Picked>>>,
    /// Regular files that some step reads.
    digests: BTreeMap<TreePath, Digest>,
}

impl Inputs {
    /// Looks at everything that the graph needs.
    pub fn read(graph: &Graph, context: &Context, file: &str, threads: usize) -> Result<Self, BuildError> {
        let mut inputs = Self::default();
        let mut paths = BTreeSet::new();
        for (id, node) in graph.iter() {
            let picked = pick_for(node, context).map_err(|fault| fault.at(file, node.line))?;
            for source in &picked {
                paths.extend(pick::regular_files(source).map_err(|fault| fault.at(file, node.line))?);
            }
            if !picked.is_empty() {
                inputs.picked.insert(id, picked);
            }
        }
        let paths: Vec<TreePath> = paths.into_iter().collect();
        let digests = context.digests(&paths, threads);
        inputs.digests = digests.map_err(|fault| BuildError::of_request("the build context", fault))?;
        Ok(inputs)
    }

    /// For each node that reads the context, what it reads there.
    pub fn keys(&self) -> Result<BTreeMap<NodeId, Digest>, Fault> {
        let content = |path: &TreePath| self.digests.get(path).copied();
        let key = |picked: &Vec<Vec<Picked>>| -> Result<Digest, Fault> {
            let mut encoder = Encoder::new("context");
            for source in picked {
                encoder.text(&pick::digest(source, &content)?.to_string());
            }
            Ok(encoder.finish())
        };
        self.picked.iter().map(|(id, picked)| Ok((*id, key(picked)?))).collect()
    }

    /// What a node reads: the sources of a COPY, or the bind mounts of a RUN.
    pub fn of(&self, id: NodeId) -> &[Vec<Picked>] {
        self.picked.get(&id).map(Vec::as_slice).unwrap_or_default()
    }

    /// The digests of regular files.
    pub fn digests(&self) -> &BTreeMap<TreePath, Digest> {
        &self.digests
    }
}

fn pick_for(node: &Node, context: &Context) -> Result<Vec<Vec<Picked>>, Fault> {
    match &node.operation {
        Operation::Copy(copy) if copy.from == From::Context => {
            let picked = pick::pick(context, copy).map_err(|fault| explain(fault, context, copy))?;
            Ok(vec![picked])
        }
        Operation::Run(run) => run
            .mounts
            .iter()
            .filter(|mount| is_of_context(mount))
            .map(|mount| pick::whole(context, mount.mount.source.as_deref().unwrap_or("/")))
            .collect(),
        _ => Ok(Vec::new()),
    }
}

/// Whether a mount shows files of the build context.
pub(crate) fn is_of_context(mount: &RunMount) -> bool {
    mount.mount.kind == MountKind::Bind && mount.from == From::Context
}

/// A source that is there but ignored is the usual reason for not finding it.
fn explain(fault: Fault, context: &Context, copy: &Copy) -> Fault {
    let ignored = copy.sources.iter().find(|source| {
        pick::clean(source).is_ok_and(|path| matches!(context.find(&path), Ok(None)) && context.is_ignored(&path))
    });
    match ignored {
        Some(source) => {
            fault.with_hint(format!("{source} is there, but the ignore file (.dockerignore) leaves it out"))
        }
        None => fault,
    }
}
