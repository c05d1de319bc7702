//! The second key of a step: the same as the first, but with what its inputs hold in place of how they were made.
//!
//! It can only be asked for when the inputs are there, so it decides about steps that the first key has not found: one whose
//! inputs were made anew and came out as before is not done again. What a copy takes from another file system counts by
//! content and not by time, as files of the context do; every other file system counts by its layers.

use std::collections::BTreeMap;
use std::io;

use skycap_image::{Algorithm, Digest, Hasher};
use skycap_rootfs::TreePath;

use crate::changes::Place;
use crate::context::Read;
use crate::error::Fault;
use crate::execute::Engine;
use crate::graph::{Copy, From, NodeId, Operation};
use crate::key::{self, Encoder};
use crate::pick;

impl Engine<'_> {
    /// The second key of a node whose inputs are there; nothing if it has no inputs that could come out as before.
    pub fn late_key(&self, id: NodeId) -> Result<Option<Digest>, Fault> {
        let node = self.graph.node(id);
        let parent = match &node.operation {
            Operation::Base(_) | Operation::Fetch(_) => return Ok(None),
            Operation::Copy(copy) if copy.is_free_of_parent() => None,
            _ => node.parent(),
        };
        let mut held = self.file_systems.clone();
        let mut hold = |input: NodeId, content: Digest| held[input.number()] = content;
        if let Operation::Copy(copy) = &node.operation {
            for (input, content) in self.contents(id, copy)? {
                hold(input, content);
            }
        } else {
            for input in node.sources() {
                hold(input, self.identity(input)?);
            }
        }
        // A file system that is both below and copied from counts whole.
        if let Some(parent) = parent {
            hold(parent, self.identity(parent)?);
        }
        let parts = key::parts(node, &held, self.tools.in_context.get(&id), self.tools.request.keep_file_times);
        let mut encoder = Encoder::new("by content");
        encoder.text(node.operation.name());
        for (name, digest) in parts {
            encoder.text(name).bytes(digest.as_bytes());
        }
        Ok(Some(encoder.finish()))
    }

    /// A file system by its layers.
    fn identity(&self, id: NodeId) -> Result<Digest, Fault> {
        let mut encoder = Encoder::new("layers");
        encoder.text(&self.graph.node(id).platform.normalized().to_string());
        for layer in self.layers(id)? {
            encoder.bytes(layer.diff_id.as_bytes());
        }
        Ok(encoder.finish())
    }

    /// What a copy takes of each file system.
    fn contents(&self, id: NodeId, copy: &Copy) -> Result<BTreeMap<NodeId, Digest>, Fault> {
        let trees = self.trees(copy)?;
        let picked = self.pick(id, copy, &trees)?;
        let mut contents = BTreeMap::new();
        for (node, (view, layers)) in &trees {
            let of_node = picked.iter().filter(|(source, _)| source.from == From::Node(*node));
            let of_node: Vec<_> = of_node.map(|(_, picked)| picked).collect();
            let mut paths: Vec<TreePath> = Vec::new();
            for picked in &of_node {
                paths.extend(pick::regular_files(picked).into_iter().map(|place| place.path));
            }
            paths.sort_unstable();
            paths.dedup();
            let mut read: BTreeMap<TreePath, Read> = BTreeMap::new();
            view.contents(&paths, layers, &mut |names, _, content| {
                let mut hashing = Hashing(Hasher::new(Algorithm::Sha256));
                io::copy(content, &mut hashing)?;
                let inode = (names.len() > 1).then_some((0, read.len() as u64));
                let digest = hashing.0.finish();
                read.extend(names.iter().map(|name| ((*name).clone(), Read { digest, inode })));
                Ok(())
            })?;
            let mut encoder = Encoder::new("copied");
            for picked in of_node {
                let read = |place: &Place| read.get(&place.path).copied();
                encoder.bytes(pick::digest(picked, &read).as_bytes());
            }
            contents.insert(*node, encoder.finish());
        }
        Ok(contents)
    }
}

struct Hashing(Hasher);

impl io::Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
