//! The file systems of a build and how each comes from others. Plain data; nothing here reads or runs anything.

use std::net::IpAddr;

use skycap_image::{Descriptor, Digest, Layer, Platform};

use crate::attest::Material;
use crate::dockerfile::{Mount, Network, Security};
use crate::remote::address::GitAddress;

/// A node of a [`Graph`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct NodeId(usize);

/// File systems, each after those that it is made from, and the directories outside that they read.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    /// Named directories, by the names of the request; the build context itself is not among them.
    directories: Vec<String>,
}

/// A directory outside that files are copied from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ContextId(usize);

impl ContextId {
    /// The build context.
    pub const MAIN: Self = Self(0);

    /// Its place among all of them; the build context is the first.
    pub fn number(self) -> usize {
        self.0
    }
}

/// A file system.
pub(crate) struct Node {
    /// How it comes about.
    pub operation: Operation,
    /// The line in the Dockerfile that asks for it.
    pub line: usize,
    /// As progress shows it: `[stage 2/5] RUN make`.
    pub label: String,
    /// What its programs run on.
    pub platform: Platform,
}

/// How a file system comes about.
pub(crate) enum Operation {
    /// The layers of an image, or none.
    Base(Base),
    /// What a server holds.
    Fetch(Fetch),
    /// What a program leaves.
    Run(Run),
    /// Files put into it.
    Copy(Copy),
    /// A directory made in it.
    Workdir(Workdir),
}

/// What an image brings.
#[derive(Default)]
pub(crate) struct Base {
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// Whether their blobs come from far away, so that they are worth keeping.
    pub is_remote: bool,
    /// What it is, for provenance; none if it is nothing.
    pub material: Option<Material>,
}

/// A program to run.
pub(crate) struct Run {
    /// Where it runs.
    pub parent: NodeId,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// A file that is there for this program alone: its path and content.
    pub script: Option<(String, String)>,
    /// What counts as part of its definition.
    pub env: Vec<(String, String)>,
    /// What it gets besides, without being a different program: proxies.
    pub hidden_env: Vec<(String, String)>,
    /// An absolute path.
    pub cwd: String,
    /// `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// Further things to see.
    pub mounts: Vec<RunMount>,
    /// What it may talk to.
    pub network: Network,
    /// What it may do.
    pub security: Security,
    /// What the machine is called, if not as usual.
    pub hostname: Option<String>,
    /// Lines for `/etc/hosts`.
    pub add_hosts: Vec<(String, IpAddr)>,
}

/// A `--mount` with its places known.
pub(crate) struct RunMount {
    /// The mount as the Dockerfile has it, expanded.
    pub mount: Mount,
    /// An absolute path.
    pub target: String,
    /// What `from` names.
    pub from: From,
}

/// Where files come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum From {
    /// A directory outside.
    Context(ContextId),
    /// Another file system.
    Node(NodeId),
}

/// Files to put into a file system.
#[allow(clippy::struct_excessive_bools, reason = "as many as the instruction has flags")]
pub(crate) struct Copy {
    /// Where they go.
    pub parent: NodeId,
    /// What is put, in order.
    pub sources: Vec<Source>,
    /// Files that the Dockerfile itself holds: name and content.
    pub documents: Vec<(String, String)>,
    /// An absolute path without `.` and `..`.
    pub destination: String,
    /// Whether the destination is a directory, there or not.
    pub into_directory: bool,
    /// `user[:group]`, names or numbers.
    pub chown: Option<String>,
    /// What to do to the files' modes.
    pub chmod: Option<crate::mode::Chmod>,
    /// Patterns of what is left out, relative to each source.
    pub exclude: Vec<String>,
    /// Whether the layer is made as if nothing were below it, so that it fits any base.
    pub link: bool,
    /// Whether a source keeps the directories that it is in, from its pivot `/./` on.
    pub parents: bool,
}

/// A source of a [`Copy`].
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Where it is.
    pub from: From,
    /// A path or a pattern, relative to the root of `from`.
    pub path: String,
    /// Whether the path is no pattern and its links are not followed.
    pub is_exact: bool,
    /// Whether an archive is unpacked instead of copied.
    pub unpack: bool,
}

impl Source {
    /// What a source says that is only a path, or a pattern.
    pub fn plain(from: From, path: &str) -> Self {
        Self { from, path: path.to_owned(), is_exact: false, unpack: false }
    }
}

/// Files that a server holds, as a file system.
#[derive(Clone)]
pub(crate) struct Fetch {
    /// What is asked for.
    pub what: Wanted,
    /// What it was when the server was asked.
    pub found: Option<Found>,
}

/// What is asked of a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wanted {
    /// A file at a URL.
    Http {
        /// The URL.
        url: String,
        /// What the file is called.
        name: String,
        /// The digest that it must have.
        checksum: Option<Digest>,
        /// Whether an archive is its content.
        unpack: bool,
    },
    /// A tree of a repository.
    Git {
        /// Which.
        address: GitAddress,
        /// Whether `.git` stays.
        keep_git_dir: bool,
    },
}

/// What a server holds now.
#[allow(clippy::large_enum_variant, reason = "a build has a few of them")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file, kept in the store.
    Http {
        /// The blob.
        blob: Descriptor,
        /// When it changed last, in seconds since 1970, where the server says so.
        modified: Option<i64>,
    },
    /// A commit.
    Git {
        /// In full.
        commit: String,
        /// The full name that led to it.
        reference: Option<String>,
    },
}

/// A directory to make.
pub(crate) struct Workdir {
    /// Where.
    pub parent: NodeId,
    /// An absolute path.
    pub path: String,
    /// Who owns what is made: `user[:group]`, empty for root.
    pub user: String,
}

impl Graph {
    /// Adds a node whose inputs are in the graph.
    pub fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    /// The directory of a name of the request.
    pub fn directory(&mut self, name: &str) -> ContextId {
        let known = self.directories.iter().position(|known| known == name).unwrap_or_else(|| {
            self.directories.push(name.to_owned());
            self.directories.len() - 1
        });
        ContextId(known + 1)
    }

    /// The names of the directories, in the order of their numbers, which begin at 1.
    pub fn directories(&self) -> &[String] {
        &self.directories
    }

    /// Everything that servers are asked for, with what they answered.
    pub fn fetches(&mut self) -> impl Iterator<Item = (&mut Fetch, usize)> {
        self.nodes.iter_mut().filter_map(|node| match &mut node.operation {
            Operation::Fetch(fetch) => Some((fetch, node.line)),
            _ => None,
        })
    }

    /// The node of a number that [`Graph::add`] gave.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// All nodes, each after its inputs.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(number, node)| (NodeId(number), node))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// A base and what was put on it, up to `id`, lowest first.
    pub fn chain(&self, id: NodeId) -> Vec<NodeId> {
        let mut chain = vec![id];
        let mut next = self.node(id).parent();
        while let Some(parent) = next {
            chain.push(parent);
            next = self.node(parent).parent();
        }
        chain.reverse();
        chain
    }
}

impl Operation {
    /// What kind it is.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Base(_) => "base",
            Self::Fetch(_) => "fetch",
            Self::Run(_) => "run",
            Self::Copy(_) => "copy",
            Self::Workdir(_) => "workdir",
        }
    }
}

impl NodeId {
    /// Its place in the graph's order.
    pub fn number(self) -> usize {
        self.0
    }
}

impl Node {
    /// The label without what stands in brackets in front of it.
    pub fn text(&self) -> &str {
        self.label.split_once("] ").map_or(&self.label, |(_, text)| text)
    }

    /// The file system that this one adds to.
    pub fn parent(&self) -> Option<NodeId> {
        match &self.operation {
            Operation::Base(_) | Operation::Fetch(_) => None,
            Operation::Run(run) => Some(run.parent),
            Operation::Copy(copy) => Some(copy.parent),
            Operation::Workdir(workdir) => Some(workdir.parent),
        }
    }

    /// Other file systems that are read to make this one.
    pub fn sources(&self) -> Vec<NodeId> {
        let froms: Vec<From> = match &self.operation {
            Operation::Base(_) | Operation::Fetch(_) | Operation::Workdir(_) => Vec::new(),
            Operation::Run(run) => run.mounts.iter().map(|mount| mount.from).collect(),
            Operation::Copy(copy) => copy.sources.iter().map(|source| source.from).collect(),
        };
        froms.into_iter().filter_map(|from| if let From::Node(id) = from { Some(id) } else { None }).collect()
    }
}

impl Copy {
    /// Whether the layer is the same on any file system.
    pub fn is_free_of_parent(&self) -> bool {
        self.link && self.chown.as_deref().is_none_or(crate::owner::is_numeric)
    }
}
