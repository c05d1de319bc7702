//! What steps leave for later steps: artifacts and local vars. `across` gives each of its leaves a scope of its own, from
//! which nothing escapes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::vars::{Lookup, Reference, VarError, traverse};
use crate::yaml::Node;

/// A directory that a step left. Whoever uses it must not change it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Artifact {
    pub dir: PathBuf,
}

/// One scope; lookups go on to its parent.
#[derive(Default, Debug)]
pub(crate) struct Scope {
    parent: Option<Arc<Scope>>,
    artifacts: Mutex<BTreeMap<String, Artifact>>,
    vars: Mutex<BTreeMap<String, Node>>,
}

impl Scope {
    pub fn child(parent: &Arc<Self>) -> Self {
        Self { parent: Some(Arc::clone(parent)), ..Self::default() }
    }

    pub fn add_artifact(&self, name: &str, artifact: Artifact) {
        lock(&self.artifacts).insert(name.to_owned(), artifact);
    }

    pub fn artifact(&self, name: &str) -> Option<Artifact> {
        let found = lock(&self.artifacts).get(name).cloned();
        found.or_else(|| self.parent.as_ref()?.artifact(name))
    }

    /// Every artifact by name, the inner scope's over the outer's.
    pub fn artifacts(&self) -> BTreeMap<String, Artifact> {
        let mut all = self.parent.as_ref().map(|parent| parent.artifacts()).unwrap_or_default();
        all.extend(lock(&self.artifacts).clone());
        all
    }

    pub fn set_var(&self, name: &str, value: Node) {
        lock(&self.vars).insert(name.to_owned(), value);
    }

    pub fn var(&self, name: &str) -> Option<Node> {
        let found = lock(&self.vars).get(name).cloned();
        found.or_else(|| self.parent.as_ref()?.var(name))
    }
}

impl Lookup for Scope {
    /// Only `((.:name))` is a local var.
    fn get(&self, reference: &Reference) -> Result<Option<Node>, VarError> {
        if !reference.is_local() {
            return Ok(None);
        }
        self.var(&reference.path).map(|value| traverse(&value, reference)).transpose()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
