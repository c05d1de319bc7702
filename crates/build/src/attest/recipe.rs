//! How a target came to be: the part of the graph that it is made from, kept for provenance.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use skycap_image::{Descriptor, Platform};

use super::Material;
use crate::dockerfile::{MountKind, Network};
use crate::graph::{ContextId, Copy, Fetch, Found, From, Graph, NodeId, Operation, Run, Wanted};

/// What provenance tells of a target.
#[derive(Default)]
pub(crate) struct Recipe {
    /// Each after those that it is made from.
    pub steps: Vec<Step>,
    /// Ids of secrets, and whether the build can do without.
    pub secrets: BTreeMap<String, bool>,
    /// Likewise of agents.
    pub agents: BTreeMap<String, bool>,
    /// Whether some program may have talked to the network.
    pub network: bool,
}

/// A node of the graph, in the words of BuildKit's `Op`.
pub(crate) struct Step {
    /// What is done. Texts may hold whatever the Dockerfile holds.
    pub operation: Value,
    /// Numbers of earlier steps.
    pub inputs: Vec<usize>,
    /// Where it stands in the Dockerfile; none for the context.
    pub line: Option<usize>,
    /// The layers that it gave: a base's all, else its own.
    pub layers: Vec<Descriptor>,
}

/// Writes a target's recipe down. `layers` are what a node brought to the target.
pub(crate) fn record(graph: &Graph, head: NodeId, layers: &dyn Fn(NodeId) -> Vec<Descriptor>) -> Recipe {
    let mut writer =
        Writer { graph, layers, recipe: Recipe::default(), contexts: BTreeMap::new(), numbers: BTreeMap::new() };
    for id in reached(graph, head) {
        writer.node(id);
    }
    writer.recipe
}

/// What a target is made from that came from elsewhere, sorted.
pub(crate) fn materials(graph: &Graph, head: NodeId) -> Vec<Material> {
    let materials: BTreeSet<Material> =
        reached(graph, head).into_iter().filter_map(|id| material(&graph.node(id).operation)).collect();
    materials.into_iter().collect()
}

/// What a node is that came from elsewhere; `scratch` is nothing.
fn material(operation: &Operation) -> Option<Material> {
    match operation {
        Operation::Base(base) => base.material.clone(),
        Operation::Fetch(fetch) => fetched(fetch),
        _ => None,
    }
}

/// Everything that a node is made from, in the graph's order.
fn reached(graph: &Graph, head: NodeId) -> BTreeSet<NodeId> {
    let mut reached = BTreeSet::new();
    let mut open = vec![head];
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(graph.node(id).parent());
            open.extend(graph.node(id).sources());
        }
    }
    reached
}

struct Writer<'a> {
    graph: &'a Graph,
    layers: &'a dyn Fn(NodeId) -> Vec<Descriptor>,
    recipe: Recipe,
    /// The steps that are directories outside.
    contexts: BTreeMap<ContextId, usize>,
    /// Steps by node; `scratch` has none.
    numbers: BTreeMap<NodeId, usize>,
}

impl Writer<'_> {
    fn node(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let mut inputs = Vec::new();
        let operation = match &node.operation {
            Operation::Base(_) | Operation::Fetch(_) => {
                let Some(material) = material(&node.operation) else { return };
                let digest = format!("{}:{}", material.algorithm, material.digest);
                json!({"source": {"identifier": material.uri, "attrs": {"digest": digest}}})
            }
            Operation::Run(run) => self.run(run, &mut inputs),
            Operation::Copy(copy) => self.copy(copy, &mut inputs),
            Operation::Workdir(dir) => {
                let parent = self.input(From::Node(dir.parent), &mut inputs);
                let action = json!({"mkdir": {"path": dir.path, "mode": 0o755, "makeParents": true}});
                json!({"file": {"actions": [{"input": parent, "secondaryInput": -1, "output": 0, "Action": action}]}})
            }
        };
        let layers = match &node.operation {
            Operation::Base(base) => base.layers.iter().map(|layer| layer.descriptor.clone()).collect(),
            _ => (self.layers)(id),
        };
        let operation = json!({"Op": operation, "platform": platform(&node.platform)});
        self.numbers.insert(id, self.recipe.steps.len());
        self.recipe.steps.push(Step { operation, inputs, line: Some(node.line), layers });
    }

    fn run(&mut self, run: &Run, inputs: &mut Vec<usize>) -> Value {
        let mut mounts = vec![json!({"input": self.input(From::Node(run.parent), inputs), "dest": "/", "output": 0})];
        for mount in &run.mounts {
            let id = || mount.mount.id.clone().or_else(|| mount.mount.source.clone());
            let optional = !mount.mount.required;
            let value = match mount.mount.kind {
                MountKind::Bind => {
                    let input = self.input(mount.from, inputs);
                    json!({"input": input, "dest": mount.target, "selector": mount.mount.source, "readonly": mount.mount.read_only})
                }
                MountKind::Cache => {
                    json!({"input": -1, "dest": mount.target, "mountType": 3, "cacheOpt": {"ID": id()}})
                }
                MountKind::Tmpfs => json!({"input": -1, "dest": mount.target, "mountType": 4}),
                MountKind::Secret => {
                    let id = id().unwrap_or_else(|| file_name(&mount.target));
                    merge(&mut self.recipe.secrets, &id, optional);
                    json!({"input": -1, "dest": mount.target, "mountType": 2, "secretOpt": {"ID": id, "optional": optional}})
                }
                MountKind::Ssh => {
                    let id = id().unwrap_or_else(|| "default".to_owned());
                    merge(&mut self.recipe.agents, &id, optional);
                    json!({"input": -1, "dest": mount.target, "mountType": 1, "SSHOpt": {"ID": id, "optional": optional}})
                }
            };
            mounts.push(value);
        }
        self.recipe.network |= run.network != Network::None;
        let env: Vec<String> = run.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut meta = json!({"args": run.args, "env": env, "cwd": run.cwd});
        if !run.user.is_empty() {
            meta["user"] = run.user.as_str().into();
        }
        json!({"exec": {"meta": meta, "mounts": mounts, "network": network(&run.network)}})
    }

    fn copy(&mut self, copy: &Copy, inputs: &mut Vec<usize>) -> Value {
        let parent = self.input(From::Node(copy.parent), inputs);
        let mut actions = Vec::new();
        for source in &copy.sources {
            let from = self.input(source.from, inputs);
            let action = json!({"copy": {"src": source.path, "dest": copy.destination}});
            actions.push(json!({"input": parent, "secondaryInput": from, "output": 0, "Action": action}));
        }
        for (name, _) in &copy.documents {
            let action = json!({"mkfile": {"path": name, "dest": copy.destination}});
            actions.push(json!({"input": parent, "secondaryInput": -1, "output": 0, "Action": action}));
        }
        json!({"file": {"actions": actions}})
    }

    /// Which of a step's inputs a file system is; -1 is nothing, as in BuildKit.
    fn input(&mut self, from: From, inputs: &mut Vec<usize>) -> i64 {
        let number = match from {
            From::Node(id) => self.numbers.get(&id).copied(),
            From::Context(context) => Some(self.context(context)),
        };
        let Some(number) = number else { return -1 };
        let place = inputs.iter().position(|input| *input == number).unwrap_or_else(|| {
            inputs.push(number);
            inputs.len() - 1
        });
        i64::try_from(place).unwrap_or(-1)
    }

    fn context(&mut self, context: ContextId) -> usize {
        if let Some(known) = self.contexts.get(&context) {
            return *known;
        }
        let name = context.number().checked_sub(1).and_then(|number| self.graph.directories().get(number));
        let identifier = format!("local://{}", name.map_or("context", String::as_str));
        let operation = json!({"Op": {"source": {"identifier": identifier}}});
        let number = self.recipe.steps.len();
        self.recipe.steps.push(Step { operation, inputs: Vec::new(), line: None, layers: Vec::new() });
        self.contexts.insert(context, number);
        number
    }
}

/// What a server held.
fn fetched(fetch: &Fetch) -> Option<Material> {
    match (&fetch.what, fetch.found.as_ref()?) {
        (Wanted::Http { url, .. }, Found::Http { blob, .. }) => Some(Material::http(url, blob.digest)),
        (Wanted::Git { address, .. }, Found::Git { commit, .. }) => Some(Material::git(&address.shown(), commit)),
        _ => None,
    }
}

/// Needed once is needed.
fn merge(ids: &mut BTreeMap<String, bool>, id: &str, optional: bool) {
    let known = ids.entry(id.to_owned()).or_insert(true);
    *known &= optional;
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn network(network: &Network) -> u8 {
    match network {
        Network::Default => 0,
        Network::Host => 1,
        Network::None => 2,
    }
}

fn platform(platform: &Platform) -> Value {
    let platform = platform.normalized();
    let mut value = json!({"Architecture": platform.architecture, "OS": platform.os});
    if let Some(variant) = platform.variant {
        value["Variant"] = variant.into();
    }
    value
}
