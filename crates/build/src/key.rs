//! What a step's result depends on, as one digest. Pure.
//!
//! Every value is written with its length in front, so two different lists of values can never read the same. A file
//! system counts by how it was made (its step's key, and what is below where that is no part of the key), never by its content; files of the context count by content and
//! mode, not by time. Platforms count, and everything that an instruction says, each of its mounts included. Proxies, the
//! values of secrets, the addresses of extra hosts and the contents of caches do not.

use std::collections::BTreeMap;

use skycap_image::{Digest, Layer, Platform};

use crate::dockerfile::{Mount, MountKind, Security};
use crate::graph::{Copy, Fetch, Found, From, Graph, Node, NodeId, Operation, Run, RunMount, Source, Wanted, Workdir};
use crate::plan::text;

/// Changes whenever a step's result changes though its definition does not. Old records are then never found again.
const VERSION: &str = "skycap build step 3";

/// Values, each with its length.
pub(crate) struct Encoder {
    bytes: Vec<u8>,
    /// What the values from here on are about.
    parts: Vec<(&'static str, usize)>,
}

impl Encoder {
    /// Begins a list of what kind it is.
    pub fn new(kind: &str) -> Self {
        let mut encoder = Self { bytes: Vec::new(), parts: vec![("the kind of step", 0)] };
        encoder.text(kind);
        encoder
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
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

    /// Says what the values from here on are about. It changes no digest.
    pub fn part(&mut self, name: &'static str) -> &mut Self {
        self.parts.push((name, self.bytes.len()));
        self
    }

    /// The digest of the list.
    pub fn finish(&self) -> Digest {
        Digest::sha256(&self.bytes)
    }

    /// The digests of its parts.
    pub fn parts(&self) -> Vec<(&'static str, Digest)> {
        let ends = self.parts.iter().skip(1).map(|(_, start)| *start).chain([self.bytes.len()]);
        let parts = self.parts.iter().zip(ends);
        parts.map(|((name, start), end)| (*name, Digest::sha256(&self.bytes[*start..end]))).collect()
    }
}

/// The key of every node. `context` says what the context files are that a node reads.
pub(crate) fn keys(graph: &Graph, context: &BTreeMap<NodeId, Digest>, keep_file_times: bool) -> Vec<Digest> {
    let (mut keys, mut trees) = (Vec::with_capacity(graph.len()), Vec::with_capacity(graph.len()));
    for (id, node) in graph.iter() {
        let known = Known { trees: &trees, context: context.get(&id) };
        let key = known.encoded(node, keep_file_times).finish();
        trees.push(tree(node, &key, &trees));
        keys.push(key);
    }
    keys
}

/// What every file system is as a whole: a layer that fits any base is another file system on another base.
pub(crate) fn file_systems(graph: &Graph, keys: &[Digest]) -> Vec<Digest> {
    let mut trees = Vec::with_capacity(keys.len());
    for ((_, node), key) in graph.iter().zip(keys) {
        trees.push(tree(node, key, &trees));
    }
    trees
}

fn tree(node: &Node, key: &Digest, trees: &[Digest]) -> Digest {
    match &node.operation {
        Operation::Copy(copy) if copy.is_free_of_parent() => {
            let below = trees.get(copy.parent.number()).map(Digest::as_bytes).unwrap_or_default();
            Encoder::new("linked").bytes(below).bytes(key.as_bytes()).finish()
        }
        _ => *key,
    }
}

/// What the key of a node is made of, part by part: to tell which of them made it another key than that of an earlier build.
pub(crate) fn parts(
    node: &Node,
    trees: &[Digest],
    context: Option<&Digest>,
    keep_file_times: bool,
) -> Vec<(&'static str, Digest)> {
    Known { trees, context }.encoded(node, keep_file_times).parts()
}

/// What is known when a node's turn comes.
struct Known<'k> {
    /// The file systems so far.
    trees: &'k [Digest],
    context: Option<&'k Digest>,
}

impl Known<'_> {
    fn encoded(&self, node: &Node, keep_file_times: bool) -> Encoder {
        match &node.operation {
            Operation::Base(image) => base(&image.layers, &node.platform),
            Operation::Fetch(fetch) => fetched(fetch),
            Operation::Run(run) => self.run(run, &node.platform),
            Operation::Copy(copy) => self.copy(copy, keep_file_times),
            Operation::Workdir(workdir) => self.workdir(workdir),
        }
    }

    fn of(&self, id: NodeId) -> &[u8] {
        self.trees.get(id.number()).map(Digest::as_bytes).unwrap_or_default()
    }

    fn from(&self, encoder: &mut Encoder, from: From) {
        match from {
            From::Node(id) => encoder.text("node").bytes(self.of(id)),
            From::Context(_) => encoder.text("context").bytes(self.context.map(Digest::as_bytes).unwrap_or_default()),
        };
    }

    // Here and below, structs are taken apart, so that a new field must be decided upon.
    fn run(&self, run: &Run, platform: &Platform) -> Encoder {
        let Run { parent, args, script, env, hidden_env: _, cwd, user, mounts, network, security, hostname, add_hosts } =
            run;
        let mut encoder = Encoder::new(VERSION);
        encoder.text("run").part("what is below").bytes(self.of(*parent));
        encoder.part("the platform").text(&platform.normalized().to_string());
        encoder.part("the command").texts(args.iter()).pairs(script.as_slice());
        encoder.part("the environment").pairs(env).part("the directory").text(cwd).part("the user").text(user);
        encoder.part("the network").text(text::network(network));
        encoder.part("the security").number(u64::from(*security == Security::Insecure));
        encoder.part("the host name").option(hostname.as_deref()).part("the mounts").number(mounts.len() as u64);
        for mount in mounts {
            self.mount(&mut encoder, mount);
        }
        // As in BuildKit, a host that is elsewhere today is no other step.
        encoder.part("the hosts").number(add_hosts.len() as u64);
        for (name, _address) in add_hosts {
            encoder.text(name);
        }
        encoder
    }

    fn mount(&self, encoder: &mut Encoder, mount: &RunMount) {
        let RunMount { mount, target, from } = mount;
        // `from` and `target` of the instruction became those of the node.
        let Mount { kind, from: _, source, target: _, read_only, id, sharing: _, required, size, mode, uid, gid, env } =
            mount;
        encoder.text(kind.name()).text(target).option(source.as_deref()).number(u64::from(*read_only));
        // As in BuildKit, which cache it is does not matter: what is in it is no part of what a step is.
        let id = id.as_deref().filter(|_| *kind != MountKind::Cache);
        encoder.option(id).number(u64::from(*required));
        for number in [*size, mode.map(u64::from), uid.map(u64::from), gid.map(u64::from)] {
            encoder.number(u64::from(number.is_some())).number(number.unwrap_or_default());
        }
        encoder.option(env.as_deref());
        self.from(encoder, *from);
    }

    fn copy(&self, copy: &Copy, keep_file_times: bool) -> Encoder {
        let is_free = copy.is_free_of_parent();
        let Copy { parent, sources, documents, destination, into_directory, chown, chmod, exclude, link, parents } =
            copy;
        let mut encoder = Encoder::new(VERSION);
        encoder.text("copy").number(u64::from(*link));
        if !is_free {
            encoder.part("what is below").bytes(self.of(*parent));
        }
        encoder.part("the sources").number(sources.len() as u64);
        for Source { from, path, is_exact, unpack } in sources {
            encoder.text(path).number(u64::from(*is_exact)).number(u64::from(*unpack));
            self.from(&mut encoder, *from);
        }
        encoder.pairs(documents);
        encoder.part("the instruction").text(destination).number(u64::from(*into_directory));
        encoder.option(chown.as_deref()).option(chmod.as_ref().map(crate::mode::Chmod::text));
        encoder.texts(exclude.iter()).number(u64::from(*parents));
        let is_of_context = sources.iter().any(|source| matches!(source.from, From::Context(_)));
        encoder.number(u64::from(keep_file_times && is_of_context));
        encoder
    }

    fn workdir(&self, workdir: &Workdir) -> Encoder {
        let Workdir { parent, path, user } = workdir;
        let mut encoder = Encoder::new(VERSION);
        encoder.text("workdir").part("what is below").bytes(self.of(*parent));
        encoder.part("the instruction").text(path).text(user);
        encoder
    }
}

/// A file counts by its content and what it is called, a tree by its commit. When the file changed is no part of it, as no
/// file's time is.
fn fetched(fetch: &Fetch) -> Encoder {
    let mut encoder = Encoder::new(VERSION);
    encoder.text("fetch").part("what is there");
    match (&fetch.what, &fetch.found) {
        (Wanted::Http { url: _, name, checksum: _, unpack }, Some(Found::Http { blob, modified: _ })) => {
            encoder.text("http").text(name).text(&blob.digest.to_string()).number(u64::from(*unpack));
        }
        (Wanted::Git { address, keep_git_dir }, Some(Found::Git { commit, reference })) => {
            // Submodules have addresses that are relative to that of the repository.
            encoder.text("git").text(&address.url).text(commit).option(address.directory.as_deref());
            encoder.number(u64::from(address.submodules.unwrap_or(true))).number(u64::from(address.commit_times));
            encoder.number(u64::from(*keep_git_dir)).option(reference.as_deref().filter(|_| *keep_git_dir));
        }
        // Nobody has looked. Nothing is kept under this key, because nothing is made of it.
        (wanted, _) => drop(encoder.text(&format!("{wanted:?}"))),
    }
    encoder
}

/// A base is its layers as unpacked: the same files pulled again in another packing are the same base. What its
/// configuration says reaches a step through the step's own environment, user and directory.
fn base(layers: &[Layer], platform: &Platform) -> Encoder {
    let mut encoder = Encoder::new(VERSION);
    encoder.text("base").text(&platform.normalized().to_string()).number(layers.len() as u64);
    for layer in layers {
        encoder.text(&layer.diff_id.to_string());
    }
    encoder
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
