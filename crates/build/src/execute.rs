//! Doing what is missing.
//!
//! The store is asked backwards from the targets. A node that it knows never asks for what it was made from, except for
//! the layers below it, which the image needs too: so a `COPY --from=builder` that is known spares the whole builder.
//! What is missing is done by a few threads, each node when everything it is made from is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};

use skycap_image::progress::Task;
use skycap_image::{Compression, Digest, Event, Layer, Progress};
use skycap_sandbox::Cancel;
use skycap_store::{Store, Temporary};

use crate::cache::import::Imports;
use crate::cache::{self, Made};
use crate::commit::Packing;
use crate::context::Contexts;
use crate::error::{BuildError, Fault};
use crate::graph::{Graph, NodeId, Operation};
use crate::inputs::Inputs;
use crate::key;
use crate::remote::Remote;
use crate::request::Request;
use crate::run::Upper;
use crate::takeover::{self, Parked};
use crate::world::SandboxAccess;

/// Steps under way at once for each thread of the request: many a program waits, for the network or for time to pass.
const PER_THREAD: usize = 4;

/// How directories outside of the store begin in which RUNs write.
pub(crate) const UPPERS: &str = "skycap-run-";

/// What the steps of a build are done with.
pub(crate) struct Tools<'a> {
    pub request: &'a Request,
    pub contexts: &'a Contexts,
    pub remote: &'a dyn Remote,
    pub inputs: &'a Inputs,
    /// What the nodes read of directories outside.
    pub in_context: &'a BTreeMap<NodeId, Digest>,
    pub store: &'a Store,
    pub sandbox: SandboxAccess<'a>,
    pub progress: &'a dyn Progress,
    /// What errors call the Dockerfile.
    pub file: &'a str,
}

/// Everything that a step may need.
pub(crate) struct Engine<'a> {
    pub tools: Tools<'a>,
    pub graph: &'a Graph,
    /// By node.
    keys: &'a [Digest],
    /// What the file systems are as a whole, by node.
    pub file_systems: Vec<Digest>,
    /// The first node of the same key: equal steps of several platforms or targets are done once.
    same: Vec<NodeId>,
    /// Nodes whose layers go into an image; those of others need not be packed well.
    shipped: BTreeSet<NodeId>,
    state: Mutex<State>,
    changed: Condvar,
    /// Stops the programs of this build only; the request's own stops them, too.
    pub cancel: Cancel,
    /// Whether it was said how RUNs are isolated.
    pub announced: Once,
    /// Whether the store's file system can carry an overlay's upper directory.
    pub carries_overlays: OnceLock<bool>,
    /// Where nothing can be mounted: trees that RUNs have left.
    pub parked: Parked,
}

#[derive(Default)]
pub(crate) struct State {
    pub made: BTreeMap<NodeId, Made>,
    /// What RUNs of this build wrote, to stack the next RUN upon.
    uppers: BTreeMap<NodeId, Upper>,
    /// Nodes still to do.
    pub open: BTreeSet<NodeId>,
    /// What other builds made.
    pub imports: Imports,
    done: BTreeSet<NodeId>,
    failed: Option<BuildError>,
}

/// What became of the nodes.
pub(crate) struct Executed {
    /// The layers that were needed.
    pub made: BTreeMap<NodeId, Made>,
    /// Those that had to be made.
    pub done: BTreeSet<NodeId>,
    /// What other builds made, needed or not.
    pub imports: Imports,
    same: Vec<NodeId>,
}

impl Executed {
    /// A node's own layer.
    pub fn made(&self, id: NodeId) -> Option<&Made> {
        self.made.get(&self.same[id.number()])
    }

    /// Whether the node had to be made.
    pub fn was_done(&self, id: NodeId) -> bool {
        self.done.contains(&self.same[id.number()])
    }
}

/// What came of a node's turn.
struct Stepped {
    made: Made,
    /// What a RUN left as a directory.
    upper: Option<Upper>,
    /// Whether it had to be done after all.
    is_done: bool,
}

/// A node's turn. Others wait for what becomes of it, so it is told also if the step panics.
struct Turn<'e, 'a> {
    engine: &'e Engine<'a>,
    id: NodeId,
    /// Until the step ends, that it died.
    result: Option<Result<Stepped, BuildError>>,
}

impl Drop for Turn<'_, '_> {
    fn drop(&mut self) {
        if let Some(result) = self.result.take() {
            self.engine.settle(self.id, result);
        }
    }
}

impl<'a> Engine<'a> {
    /// An engine for a graph whose targets are `heads`.
    pub fn new(tools: Tools<'a>, graph: &'a Graph, keys: &'a [Digest], heads: &[NodeId]) -> Self {
        let mut first: BTreeMap<Digest, NodeId> = BTreeMap::new();
        let same: Vec<NodeId> = graph.iter().map(|(id, _)| *first.entry(keys[id.number()]).or_insert(id)).collect();
        let shipped = heads.iter().flat_map(|head| graph.chain(*head)).map(|id| same[id.number()]).collect();
        Self {
            cancel: tools.request.cancel.child(),
            tools,
            graph,
            keys,
            file_systems: key::file_systems(graph, keys),
            same,
            shipped,
            state: Mutex::default(),
            changed: Condvar::new(),
            announced: Once::new(),
            carries_overlays: OnceLock::new(),
            parked: Parked::default(),
        }
    }

    /// Finds or makes the layers of every target.
    pub fn run(self, heads: &[NodeId]) -> Result<Executed, BuildError> {
        // Whether this build writes there or not.
        if let Some(scratch) = &self.tools.request.scratch {
            Temporary::sweep(scratch, UPPERS);
        }
        self.look_up(heads)?;
        std::thread::scope(|scope| {
            let threads = (self.tools.request.threads * PER_THREAD).clamp(1, self.lock().open.len().max(1));
            let threads = takeover::steps_at_once(self.tools.sandbox, threads);
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work())).collect();
            for worker in workers {
                // One that died has left an error behind.
                let _ = worker.join();
            }
        });
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(error) => Err(error),
            None => Ok(Executed { made: state.made, done: state.done, imports: state.imports, same: self.same }),
        }
    }

    /// Nothing is done if something that is needed cannot be run.
    pub fn check_sandbox(&self) -> Result<(), BuildError> {
        let SandboxAccess::Refused(_) = self.tools.sandbox else { return Ok(()) };
        let state = self.lock();
        let mut open = state.open.iter().map(|id| self.graph.node(*id));
        match open.find(|node| matches!(node.operation, Operation::Run(_))) {
            Some(node) => Err(self.refused(node.text()).at(self.tools.file, node.line)),
            None => Ok(()),
        }
    }

    /// Does nodes until none is left or one failed.
    fn work(&self) {
        while let Some(id) = self.next() {
            let node = self.graph.node(id);
            let died = Fault::new("this step was given up: a fault of the builder").at(self.tools.file, node.line);
            let mut turn = Turn { engine: self, id, result: Some(Err(died)) };
            turn.result = Some(self.step(id));
        }
    }

    /// Records what became of a node.
    fn settle(&self, id: NodeId, result: Result<Stepped, BuildError>) {
        let mut state = self.lock();
        match result {
            Ok(Stepped { made, upper, is_done }) => {
                state.made.insert(id, made);
                if is_done {
                    state.done.insert(id);
                }
                state.uppers.extend(upper.map(|upper| (id, upper)));
            }
            // What fails because another step failed first is not the reason.
            Err(error) if state.failed.is_none() => {
                // What fails once the build is cancelled fails for that.
                state.failed = Some(if self.cancel.is_cancelled() { BuildError::Cancelled } else { error });
                self.cancel.cancel();
            }
            Err(_) => {}
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits for a node whose inputs are all there.
    fn next(&self) -> Option<NodeId> {
        let mut state = self.lock();
        loop {
            if self.cancel.is_cancelled() && state.failed.is_none() {
                state.failed = Some(BuildError::Cancelled);
            }
            if state.failed.is_some() || state.open.is_empty() {
                self.changed.notify_all();
                return None;
            }
            let ready =
                state.open.iter().copied().find(|id| self.inputs_of(*id).iter().all(|i| state.made.contains_key(i)));
            if let Some(id) = ready {
                state.open.remove(&id);
                return Some(id);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Every layer that a node is made from.
    fn inputs_of(&self, id: NodeId) -> Vec<NodeId> {
        let node = self.graph.node(id);
        // A layer that fits any base must not wait for the one that this node happens to have: with equal nodes on several
        // bases, it may be one that nobody asked for.
        let parent = match &node.operation {
            Operation::Copy(copy) if copy.is_free_of_parent() => None,
            _ => node.parent(),
        };
        let heads = parent.into_iter().chain(node.sources());
        let ids = heads.flat_map(|head| self.graph.chain(head)).map(|id| self.canonical(id));
        ids.filter(|id| !matches!(self.graph.node(*id).operation, Operation::Base(_))).collect()
    }

    fn step(&self, id: NodeId) -> Result<Stepped, BuildError> {
        let node = self.graph.node(id);
        let task = Task::start(self.tools.progress, &node.label, None);
        let since = self.since(id);
        let at = |fault: Fault| fault.at(self.tools.file, node.line);
        let late = self.late_key(id).map_err(at)?;
        if let Some(made) = late.as_ref().and_then(|late| self.find_late(id, late)) {
            task.finish("cached");
            return Ok(Stepped { made, upper: None, is_done: false });
        }
        let (blob, diff_id, upper) = match &node.operation {
            // Bases are never open.
            Operation::Base(_) => return Err(at(Fault::new("a base cannot be made"))),
            Operation::Run(run) => self.run_program(id, run, &task).map_err(at)?,
            Operation::Fetch(fetch) => {
                self.fetch(id, fetch).map(|(blob, diff_id)| (blob, diff_id, None)).map_err(at)?
            }
            Operation::Copy(copy) => self.copy(id, copy).map(|(blob, diff_id)| (blob, diff_id, None)).map_err(at)?,
            Operation::Workdir(dir) => {
                self.workdir(id, dir).map(|(blob, diff_id)| (blob, diff_id, None)).map_err(at)?
            }
        };
        let created = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let made = Made { blob, diff_id, created, since };
        for key in std::iter::once(self.key(id)).chain(&late) {
            cache::keep(self.tools.store, key, &made);
        }
        task.finish("done");
        Ok(Stepped { made, upper, is_done: true })
    }

    /// What a second key stands for, kept from then on under the first one, too.
    fn find_late(&self, id: NodeId, late: &Digest) -> Option<Made> {
        let made = cache::find(self.tools.store, late).filter(|_| !self.is_fresh(id))?;
        let made =
            if self.is_shipped(id) { cache::packed(self.tools.store, made, self.packing(id)).ok()? } else { made };
        cache::keep(self.tools.store, self.key(id), &made);
        let label = &self.graph.node(id).label;
        self.tools
            .progress
            .event(Event::Debug(&format!("cache: {label}: hit, for what it is made from came out as before")));
        Some(made)
    }

    /// Whether a step is to be done whatever is known: it, or an equal one of another stage, was asked for anew.
    pub fn is_fresh(&self, id: NodeId) -> bool {
        let canonical = self.canonical(id);
        let mut equal = self.graph.iter().filter(|(other, _)| self.canonical(*other) == canonical);
        equal.any(|(_, node)| self.tools.request.is_fresh(node.line))
    }

    /// When the first of the programs began, or begins now, that may write files of a node's layer.
    fn since(&self, id: NodeId) -> Option<i64> {
        let is_run = matches!(self.graph.node(id).operation, Operation::Run(_));
        let now = is_run.then(|| jiff::Timestamp::now().as_second());
        let state = self.lock();
        let before = self.inputs_of(id).into_iter().filter_map(|input| state.made.get(&input)?.since);
        before.chain(now).min()
    }

    /// The layers of a node, lowest first. Everything that it is made from must have been made.
    pub fn layers(&self, id: NodeId) -> Result<Vec<Layer>, Fault> {
        let state = self.lock();
        let mut layers = Vec::new();
        for id in self.graph.chain(id) {
            if let Operation::Base(base) = &self.graph.node(id).operation {
                layers.extend(base.layers.iter().cloned());
                continue;
            }
            let made = state.made.get(&self.canonical(id));
            layers.push(made.ok_or_else(|| Fault::new("a layer below is missing"))?.layer(self.tools.store));
        }
        Ok(layers)
    }

    /// What a RUN of this build wrote as the layer of a node, if it was one.
    pub fn upper(&self, id: NodeId) -> Option<std::path::PathBuf> {
        self.lock().uppers.get(&self.canonical(id)).map(Upper::path)
    }

    /// How a node's layer is packed. Layers that no image gets are packed fast.
    pub fn packing(&self, id: NodeId) -> Packing<'_> {
        let packing = Packing { cancel: &self.cancel, ..Packing::of(self.tools.request) };
        if self.is_shipped(id) { packing } else { Packing { compression: Compression::Zstd, ..packing } }
    }

    /// Whether a node's layer goes into an image.
    pub fn is_shipped(&self, id: NodeId) -> bool {
        self.shipped.contains(&self.canonical(id))
    }

    /// What a node depends on.
    pub fn key(&self, id: NodeId) -> &Digest {
        &self.keys[id.number()]
    }

    /// What is still to be done.
    pub fn open(&self) -> BTreeSet<NodeId> {
        self.lock().open.clone()
    }

    /// The first of the nodes that are the same as this one.
    pub fn canonical(&self, id: NodeId) -> NodeId {
        self.same[id.number()]
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
