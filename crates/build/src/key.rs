//! What a step's result depends on, as one digest. Pure.
//!
//! Every value is written with its length in front, so two different lists of values can never read the same. A file
//! system counts by how it was made (its parent's key), never by its content; files of the context count by content and
//! mode, not by time. Platforms count; proxies, secrets, extra hosts and the contents of cache mounts do not.

use std::collections::BTreeMap;

use skycap_image::{Digest, Layer, Platform};

use crate::dockerfile::MountKind;
use crate::graph::{Copy, From, Graph, Node, NodeId, Operation, Run, Workdir};
use crate::plan::text;

/// Changes whenever a step's result changes though its definition does not. Old records are then never found again.
const VERSION: &str = "skycap build step 1";

/// Values, each with its length.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    /// Begins a list of what kind it is.
    pub fn new(kind: &str) -> Self {
        let mut encoder = Self(Vec::new());
        encoder.text(kind);
        encoder
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds a value or its absence.
    pub fn option(&mut self, text: Option<&str>) -> &mut Self {
        self.number(u64::from(text.is_some())).text(text.unwrap_or_default())
    }

    /// Adds a list with its length.
    pub fn texts<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t String>) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    /// Adds pairs with their number.
    pub fn pairs(&mut self, pairs: &[(String, String)]) -> &mut Self {
        self.number(pairs.len() as u64);
        for (name, value) in pairs {
            self.text(name).text(value);
        }
        self
    }

    /// The digest of the list.
    pub fn finish(&self) -> Digest {
        Digest::sha256(&self.0)
    }
}

/// The key of every node. `context` says what the context files are that a node reads.
pub(crate) fn keys(graph: &Graph, context: &BTreeMap<NodeId, Digest>, keep_file_times: bool) -> Vec<Digest> {
    let mut keys: Vec<Digest> = Vec::with_capacity(graph.len());
    for (id, node) in graph.iter() {
        let known = Known { keys: &keys, context: context.get(&id) };
        keys.push(known.key(node, keep_file_times));
    }
    keys
}

/// What is known when a node's turn comes.
struct Known<'k> {
    keys: &'k [Digest],
    context: Option<&'k Digest>,
}

impl Known<'_> {
    fn key(&self, node: &Node, keep_file_times: bool) -> Digest {
        match &node.operation {
            Operation::Base(image) => base(&image.layers, &node.platform),
            Operation::Run(run) => self.run(run, &node.platform),
            Operation::Copy(copy) => self.copy(copy, keep_file_times),
            Operation::Workdir(workdir) => self.workdir(workdir),
        }
    }

    fn of(&self, id: NodeId) -> &[u8] {
        self.keys.get(id.number()).map(Digest::as_bytes).unwrap_or_default()
    }

    fn from(&self, encoder: &mut Encoder, from: From) {
        match from {
            From::Node(id) => encoder.text("node").bytes(self.of(id)),
            From::Context => encoder.text("context").bytes(self.context.map(Digest::as_bytes).unwrap_or_default()),
        };
    }

    fn run(&self, run: &Run, platform: &Platform) -> Digest {
        let mut encoder = Encoder::new(VERSION);
        encoder.text("run").bytes(self.of(run.parent)).text(&platform.normalized().to_string());
        encoder.texts(run.args.iter()).pairs(&run.env).text(&run.cwd).text(&run.user);
        encoder.text(text::network(&run.network));
        encoder.pairs(run.script.as_slice());
        encoder.number(run.mounts.len() as u64);
        for mount in &run.mounts {
            let m = &mount.mount;
            encoder.text(kind(m.kind)).text(&mount.target);
            match m.kind {
                MountKind::Bind => {
                    encoder.option(m.source.as_deref()).number(u64::from(m.read_only));
                    self.from(&mut encoder, mount.from);
                }
                MountKind::Secret => {
                    encoder.option(m.env.as_deref());
                }
                MountKind::Cache | MountKind::Tmpfs | MountKind::Ssh => {}
            }
        }
        encoder.finish()
    }

    fn copy(&self, copy: &Copy, keep_file_times: bool) -> Digest {
        let mut encoder = Encoder::new(VERSION);
        encoder.text("copy").number(u64::from(copy.link));
        if !copy.is_free_of_parent() {
            encoder.bytes(self.of(copy.parent));
        }
        encoder.texts(copy.sources.iter()).pairs(&copy.documents);
        encoder.text(&copy.destination).number(u64::from(copy.into_directory));
        encoder.option(copy.chown.as_deref()).option(copy.chmod.as_ref().map(crate::mode::Chmod::text));
        encoder.texts(copy.exclude.iter()).number(u64::from(copy.unpack)).number(u64::from(copy.parents));
        encoder.number(u64::from(keep_file_times && copy.from == From::Context));
        self.from(&mut encoder, copy.from);
        encoder.finish()
    }

    fn workdir(&self, workdir: &Workdir) -> Digest {
        let mut encoder = Encoder::new(VERSION);
        encoder.text("workdir").bytes(self.of(workdir.parent)).text(&workdir.path).text(&workdir.user).finish()
    }
}

/// A base is its layers as unpacked: the same files pulled again in another packing are the same base. What its
/// configuration says reaches a step through the step's own environment, user and directory.
fn base(layers: &[Layer], platform: &Platform) -> Digest {
    let mut encoder = Encoder::new(VERSION);
    encoder.text("base").text(&platform.normalized().to_string()).number(layers.len() as u64);
    for layer in layers {
        encoder.text(&layer.diff_id.to_string());
    }
    encoder.finish()
}

fn kind(kind: MountKind) -> &'static str {
    match kind {
        MountKind::Bind => "bind",
        MountKind::Cache => "cache",
        MountKind::Tmpfs => "tmpfs",
        MountKind::Secret => "secret",
        MountKind::Ssh => "ssh",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_cannot_flow_into_each_other() {
        let key = |values: &[&str]| {
            let mut encoder = Encoder::new("test");
            for value in values {
                encoder.text(value);
            }
            encoder.finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a", ""]), key(&["a"]));
        assert_ne!(Encoder::new("a").option(None).finish(), Encoder::new("a").option(Some("")).finish());
    }
}
