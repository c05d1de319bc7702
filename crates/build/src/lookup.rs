//! Asking what is known: the store, and the caches of other builds.
//!
//! It goes backwards from the targets. A node that is known never asks for what it was made from, except for the layers
//! below it. Of what other builds made, layers are copied when all answers are there, and only those that count; if one
//! cannot be had after all, its node is not known, and everything is asked again.

use std::collections::{BTreeMap, BTreeSet};

use skycap_image::progress::Task;
use skycap_image::{Digest, Event};

use crate::cache::import::{self, Imported, Imports};
use crate::cache::{self, Made};
use crate::error::BuildError;
use crate::execute::Engine;
use crate::graph::{NodeId, Operation};
use crate::{key, reason};

/// What the answers are.
#[derive(Default)]
struct Answers {
    /// Steps of this store.
    known: BTreeMap<NodeId, Made>,
    /// Steps of other builds, by node.
    imported: BTreeMap<NodeId, Imported>,
    /// What nobody knows.
    open: BTreeSet<NodeId>,
}

impl Engine<'_> {
    /// Asks for everything that the targets need. What remains open has to be done.
    pub fn look_up(&self, heads: &[NodeId]) -> Result<(), BuildError> {
        let request = self.tools.request;
        let mut imports =
            if request.no_cache { Imports::new() } else { import::read(&request.cache_from, self.tools.progress) };
        let mut answers = self.ask(heads, &imports);
        let mut from: BTreeMap<NodeId, String> = BTreeMap::new();
        while !answers.imported.is_empty() {
            let wanted: Vec<(Digest, Imported)> =
                answers.imported.iter().map(|(id, step)| (*self.key(*id), step.clone())).collect();
            import::fetch(&wanted, self.tools.store, request.threads, self.tools.progress);
            from.extend(answers.imported.into_iter().map(|(id, step)| (id, step.label)));
            // What was fetched is in the store now. What is not, because the cache does not give it or the store cannot keep it,
            // is known to nobody.
            for (key, _) in wanted {
                imports.remove(&key);
            }
            answers = self.ask(heads, &imports);
        }
        self.explain(&answers, &from);
        self.take(answers, imports)?;
        self.check_sandbox()?;
        let known = self.lock().made.len();
        let open = self.lock().open.len();
        self.tools.progress.event(Event::Expected { steps: (known + open) as u64 });
        for id in self.lock().made.keys() {
            Task::start(self.tools.progress, &self.graph.node(*id).label, None).finish("cached");
        }
        Ok(())
    }

    fn ask(&self, heads: &[NodeId], imports: &Imports) -> Answers {
        let mut answers = Answers::default();
        let mut asked = BTreeSet::new();
        let mut open: Vec<NodeId> = heads.to_vec();
        while let Some(head) = open.pop() {
            for id in self.graph.chain(head) {
                let id = self.canonical(id);
                let node = self.graph.node(id);
                if !asked.insert(id) || matches!(node.operation, Operation::Base(_)) {
                    continue;
                }
                let is_fresh = self.is_fresh(id);
                let known = if is_fresh { None } else { cache::find(self.tools.store, self.key(id)) };
                if let Some(made) = known {
                    answers.known.insert(id, made);
                } else if let Some(step) = imports.get(self.key(id)).filter(|_| !is_fresh) {
                    answers.imported.insert(id, step.clone());
                } else {
                    answers.open.insert(id);
                    open.extend(node.sources());
                }
            }
        }
        answers
    }

    /// Takes the answers over, with layers of images in the packing that was asked for.
    fn take(&self, answers: Answers, imports: Imports) -> Result<(), BuildError> {
        let mut made = BTreeMap::new();
        for (id, step) in answers.known {
            let step = match self.packing(id) {
                packing if self.is_shipped(id) => cache::packed(self.tools.store, step, packing),
                _ => Ok(step),
            };
            made.insert(id, step.map_err(|fault| fault.at(self.tools.file, self.graph.node(id).line))?);
        }
        let mut state = self.lock();
        state.made.extend(made);
        state.open.extend(answers.open);
        state.imports = imports;
        Ok(())
    }

    /// Tells for every step whether it is known, and if not, what is new about it.
    fn explain(&self, answers: &Answers, from: &BTreeMap<NodeId, String>) {
        let say = |id: NodeId, what: &str| {
            let key = &self.key(id).hex()[..12];
            let label = &self.graph.node(id).label;
            self.tools.progress.event(Event::Debug(&format!("cache: {label}: key {key}: {what}")));
        };
        for id in answers.known.keys() {
            match from.get(id) {
                Some(label) => say(*id, &format!("hit in {label}")),
                None => say(*id, "hit"),
            }
        }
        let mut reasons = reason::Reasons::read(self.tools.store, self.tools.file);
        for (id, node) in self.graph.iter().filter(|(_, node)| !matches!(node.operation, Operation::Base(_))) {
            let context = self.tools.in_context.get(&id);
            let parts = key::parts(node, &self.file_systems, context, self.tools.request.keep_file_times);
            let why = reasons.compare(&format!("{} {}", node.platform, node.text()), &parts);
            if answers.open.contains(&id) {
                say(
                    id,
                    &if self.tools.request.no_cache { "not looked for".to_owned() } else { format!("miss: {why}") },
                );
            }
        }
        reasons.keep(self.tools.store, self.tools.file);
    }
}
