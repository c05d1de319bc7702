//! What every build of a pipeline shares: the pipeline, the machine it runs on, and what is known so far.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

use skycap_concourse::{Failure, Host, Store};
use skycap_image::{Digest, Event};
use skycap_sandbox::{Refused, Sandbox};

use super::interpret::Version;
use super::log::StepLog;
use super::redact::Redactor;
use super::scope::Scope;
use super::stop::Stop;
use super::types::{Rules, TypeChain};
use crate::config::Config;
use crate::state::State;
use crate::vars::{Lookup, Missing, Reference, VarError, Vars, interpolate};
use crate::yaml::Node;
use crate::{Events, Options, Outcome};

/// Why a step did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    /// A script said no; what it said has been shown.
    Failed,
    /// Something around it went wrong.
    Errored(String),
    /// It was cancelled.
    Aborted,
}

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Failed => Self::Failed,
            Trouble::Errored(error) => Self::Errored(error),
            Trouble::Aborted => Self::Aborted,
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Errored(error.to_string())
    }
}

impl From<VarError> for Trouble {
    fn from(error: VarError) -> Self {
        Self::Errored(error.to_string())
    }
}

/// Says what was being done when the file system said no.
pub(crate) fn during(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> Trouble {
    move |error| Trouble::Errored(format!("{what}: {error}"))
}

/// See the module.
pub(crate) struct Engine {
    pub config: Config,
    pub options: Options,
    pub host: Host,
    pub store: Store,
    pub sandbox: Arc<Result<Sandbox, Refused>>,
    pub state: State,
    pub events: Arc<dyn Events>,
    pub redactor: Arc<Redactor>,
    var_sources: BTreeMap<String, Vars>,
    /// Newest versions of images, which are looked for at most once a minute.
    pub image_versions: Mutex<HashMap<Digest, (Instant, Version)>>,
    /// Who fetches what, so that two steps do not fetch the same at once.
    fetching: Mutex<HashMap<Digest, Arc<Mutex<()>>>>,
    /// Whether overlays work in the work directory, tried out once.
    pub overlays: bool,
    next: AtomicU64,
    /// Whether it was said how containers are isolated.
    announced: Once,
}

impl Engine {
    pub fn new(
        config: Config,
        host: Host,
        store: Store,
        sandbox: Arc<Result<Sandbox, Refused>>,
        options: Options,
        state: State,
        events: Arc<dyn Events>,
    ) -> Result<Self, String> {
        let overlays =
            sandbox.as_ref().as_ref().is_ok_and(|sandbox| sandbox.overlay_upper_works(&state.work()).is_ok());
        let var_sources = var_sources(&config, &options)?;
        Ok(Self {
            config,
            options,
            host,
            store,
            sandbox,
            state,
            events,
            redactor: Arc::default(),
            var_sources,
            image_versions: Mutex::default(),
            fetching: Mutex::default(),
            overlays,
            next: AtomicU64::new(1),
            announced: Once::new(),
        })
    }

    pub fn log(&self, kind: &'static str, name: &str) -> StepLog {
        StepLog::new(Arc::clone(&self.events), Arc::clone(&self.redactor), kind, name)
    }

    /// Says once how containers are isolated.
    pub fn announce(&self, sandbox: &Sandbox) {
        self.announced.call_once(|| self.host.progress.event(Event::Note(&format!("sandbox: {}", sandbox.describe()))));
    }

    /// A fresh, empty directory for this run.
    pub fn fresh(&self, what: &str) -> io::Result<PathBuf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.state.work().join(format!("{number}-{what}"));
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    pub fn rules(&self) -> Rules<'_> {
        Rules { native: self.options.native, base_types: &self.options.base_types }
    }

    /// The vars that are known outside of any step.
    pub fn late_vars(&self) -> LateVars<'_> {
        LateVars { engine: self, scope: None }
    }

    /// The vars that a step knows.
    pub fn vars<'v>(&'v self, scope: &'v Scope) -> LateVars<'v> {
        LateVars { engine: self, scope: Some(scope) }
    }

    pub fn chain(&self, kind: &str) -> Result<TypeChain, Trouble> {
        TypeChain::resolve(&self.config, &self.rules(), kind, &self.late_vars()).map_err(Trouble::Errored)
    }

    /// The lock of something that is being fetched.
    pub fn fetching(&self, key: Digest) -> Arc<Mutex<()>> {
        Arc::clone(self.fetching.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
    }

    /// Fills in whatever is known; everything must be.
    pub fn fill(&self, node: &Node, scope: &Scope) -> Result<Node, VarError> {
        interpolate(node, &self.vars(scope), Missing::Refuse)
    }

    /// What the sandbox is for: without one, only what runs in process can run.
    pub fn sandbox(&self) -> Result<&Sandbox, Trouble> {
        self.sandbox.as_ref().as_ref().map_err(|refused| Trouble::Errored(refused.to_string()))
    }
}

/// The pipeline's var sources: given ones, and dummies.
fn var_sources(config: &Config, options: &Options) -> Result<BTreeMap<String, Vars>, String> {
    let mut sources = BTreeMap::new();
    for source in &config.var_sources {
        let vars = match options.var_sources.get(&source.name) {
            Some(vars) => vars.clone(),
            None if source.kind == "dummy" => {
                let vars = source.config.as_map().and_then(|config| config.get("vars")).and_then(Node::as_map);
                Vars::of(vars.cloned().unwrap_or_default())
            }
            None => {
                return Err(format!(
                    "var source '{}' of type {} cannot be reached from here: give a file of its vars instead",
                    source.name, source.kind
                ));
            }
        };
        sources.insert(source.name.clone(), vars);
    }
    Ok(sources)
}

/// Secrets, var sources and, inside a step, local vars. Secrets are redacted from the moment they are asked for.
pub(crate) struct LateVars<'v> {
    engine: &'v Engine,
    scope: Option<&'v Scope>,
}

impl Lookup for LateVars<'_> {
    fn get(&self, reference: &Reference) -> Result<Option<Node>, VarError> {
        if reference.is_local() {
            return self.scope.map_or(Ok(None), |scope| scope.get(reference));
        }
        let found = match &reference.source {
            None => self.engine.options.secrets.get(reference)?,
            Some(name) => match self.engine.var_sources.get(name) {
                Some(vars) => vars.get(&reference.without_source())?,
                None => {
                    return Err(VarError::MissingSource { source_name: name.clone(), name: reference.to_string() });
                }
            },
        };
        if let Some(value) = &found {
            self.engine.redactor.track(value);
        }
        Ok(found)
    }
}

/// What becomes of something that cannot be interrupted when its step is cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cancelled {
    /// It is left to itself: nobody looks at what it does.
    Leave,
    /// It is waited for: it changes something that a next attempt, a hook or the user would see.
    Wait,
}

/// Runs something of this process that cannot be interrupted. What it says when it fails is shown, as its script's
/// standard error would be.
pub(crate) fn in_process<T: Send + 'static>(
    log: &StepLog,
    stop: &Stop,
    cancelled: Cancelled,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Trouble> {
    const LOOK: Duration = Duration::from_millis(20);
    if stop.is_cancelled() {
        return Err(Trouble::Aborted);
    }
    let (send, receive) = channel();
    thread::spawn(move || {
        // Nobody listens any more if it was left to itself.
        let _ = send.send(work());
    });
    let died = || Trouble::Errored("the step's thread ended without an answer".to_owned());
    loop {
        match receive.recv_timeout(LOOK) {
            Ok(result) => return result.map_err(|failure| failed(log, &failure)),
            Err(RecvTimeoutError::Timeout) if stop.is_cancelled() => break,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(died()),
        }
    }
    if cancelled == Cancelled::Wait {
        log.note("cancelled: waiting for what is under way to end");
        match receive.recv().map_err(|_| died())? {
            Ok(_) => log.note("it ended well after all: what it made is there, though this step counts as cancelled"),
            Err(failure) => drop(failed(log, &failure)),
        }
    }
    Err(Trouble::Aborted)
}

/// What a resource or task in this process says when it fails, as its script would on standard error.
pub(crate) fn failed(log: &StepLog, failure: &Failure) -> Trouble {
    for line in failure.to_string().lines() {
        log.note(line);
    }
    Trouble::Failed
}

/// Makes a directory and its parents.
pub(crate) fn make(path: &Path) -> Result<(), Trouble> {
    fs::create_dir_all(path).map_err(during(format_args!("make {}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::events::Mute;

    #[test]
    fn what_changes_the_world_is_waited_for_when_it_is_cancelled() {
        let log = StepLog::new(Arc::new(Mute), Arc::default(), "put", "p");
        for (cancelled, has_ended) in [(Cancelled::Wait, true), (Cancelled::Leave, false)] {
            let ended = Arc::new(AtomicBool::new(false));
            let (stop, end) = (Stop::default(), Arc::clone(&ended));
            let (result, expired) = stop.deadline(Duration::from_millis(5), || {
                in_process(&log, &stop, cancelled, move || {
                    thread::sleep(Duration::from_millis(500));
                    end.store(true, Ordering::SeqCst);
                    Ok(())
                })
            });
            assert_eq!((result, expired), (Err(Trouble::Aborted), true));
            assert_eq!(ended.load(Ordering::SeqCst), has_ended, "{cancelled:?}");
        }
    }
}
