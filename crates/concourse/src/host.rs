//! What the binary or the runner lends us: the network, the environment, a place for temporary files, an ear.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use skycap_build::SandboxAccess;
use skycap_image::{BlobSource, Progress};
use skycap_registry::{Client, Keychain, Place, Settings, Stop};
use skycap_rootfs::Owners;
use skycap_store::Store;

use crate::registry_image::Restarts;
use crate::{Environment, Failure};

/// Everything a resource may use of the machine it runs on. Copies share the client's connections and tokens.
#[derive(Clone)]
pub struct Host {
    /// Talks to registries, trying again what may pass.
    pub client: Client,
    /// Who answers instead of a host: registries (`docker.io` to `http://127.0.0.1:5000`) and, for the git resource, git
    /// servers (`github.com` to `file:///srv/git`).
    pub hosts: BTreeMap<String, String>,
    /// Who we are where a source names no credentials.
    pub keychain: Keychain,
    /// The environment of the resource's process.
    pub environment: Arc<Environment>,
    /// A directory for temporary files.
    pub scratch: PathBuf,
    /// Whether unpacked files get the owners that layers name. [`Host::new`] keeps them for root.
    pub owners: Owners,
    /// Keeps the blobs of images that are fetched, for the next get and for builds; `None` keeps nothing.
    pub store: Option<Store>,
    /// Is told what happens.
    pub progress: Arc<dyn Progress>,
    confinement: Option<PathBuf>,
    stop: Option<Stop>,
    settings: Settings,
    restarting: Arc<OnceLock<Client>>,
    checking: Arc<OnceLock<Client>>,
}

/// The concurrency of checks: 48 requests at once. At 20 ms an answer that is 1,000 tags in half a second, over the connections
/// that a registry grants to a browser with some tabs.
const CHECKING: usize = 6;
/// How often a get begins again that was answered 429: with the pauses, some six minutes.
const RESTARTS: u32 = 9;
/// The first pause before that. The original's is 5 s, and 5 ms where `TEST` is `true`.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE_IN_TESTS: Duration = Duration::from_millis(5);

impl Host {
    /// A host whose registries are reached as `settings` say. Opens no connection; nobody is known to the keychain.
    pub fn new(
        settings: Settings,
        environment: Environment,
        scratch: impl Into<PathBuf>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, Failure> {
        let mut settings = settings;
        if is_test(&environment) {
            settings.retries.first = settings.retries.first.min(FIRST_PAUSE_IN_TESTS);
        }
        let hosts = settings.hosts.clone();
        // A registry cannot be a directory; a git server can.
        settings.hosts.retain(|_, base| !base.starts_with("file:"));
        let owners = if rustix::process::geteuid().is_root() { Owners::Keep } else { Owners::Squash };
        Ok(Self {
            client: Client::new(settings.clone(), Arc::clone(&progress))?,
            hosts,
            keychain: Keychain::default(),
            environment: Arc::new(environment),
            scratch: scratch.into(),
            owners,
            store: None,
            progress,
            confinement: None,
            stop: None,
            settings,
            restarting: Arc::default(),
            checking: Arc::default(),
        })
    }

    /// Like the client, but a 429 comes back at once: who asked begins again with everything.
    pub(crate) fn restarting_client(&self) -> Result<Client, Failure> {
        self.other_client(&self.restarting, |settings| settings.retries.rate_limited = false)
    }

    /// Whether the switch of [`Host::with_stop`] was thrown.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(Stop::is_stopped)
    }

    /// What clients of ours are made with.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Like the client, but more small requests may be under way: a check of a repository with many tags is nothing else.
    pub(crate) fn checking_client(&self) -> Result<Client, Failure> {
        self.other_client(&self.checking, |settings| settings.concurrency = settings.concurrency.max(CHECKING))
    }

    /// A client with other settings, made when it is first wanted.
    fn other_client(&self, kept: &OnceLock<Client>, change: impl FnOnce(&mut Settings)) -> Result<Client, Failure> {
        let told = |client: &Client| {
            let client = client.with_progress(Arc::clone(&self.progress));
            self.stop.iter().fold(client, |client, stop| client.with_stop(stop.clone()))
        };
        if let Some(client) = kept.get() {
            return Ok(told(client));
        }
        let mut settings = self.settings.clone();
        change(&mut settings);
        let client = Client::new(settings, Arc::clone(&self.progress))?;
        Ok(told(kept.get_or_init(|| client)))
    }

    /// How a get that was answered 429 is begun again.
    pub(crate) fn restarts(&self) -> Restarts {
        let pause = if is_test(&self.environment) { FIRST_PAUSE_IN_TESTS } else { FIRST_PAUSE };
        Restarts { left: RESTARTS, pause, rereads: 1 }
    }

    /// A copy with a keychain.
    #[must_use]
    pub fn with_keychain(self, keychain: Keychain) -> Self {
        Self { keychain, ..self }
    }

    /// A copy that reaches servers in another way.
    pub(crate) fn with_settings(self, settings: Settings) -> Result<Self, Failure> {
        let client = self.client_with(settings.clone())?;
        Ok(Self { client, settings, restarting: Arc::default(), checking: Arc::default(), ..self })
    }

    /// A client of our own that reaches servers in another way.
    pub(crate) fn client_with(&self, settings: Settings) -> Result<Client, Failure> {
        let client = Client::new(settings, Arc::clone(&self.progress))?;
        Ok(self.stop.iter().fold(client, |client, stop| client.with_stop(stop.clone())))
    }

    /// A copy with another environment, for another step.
    #[must_use]
    pub fn with_environment(self, environment: Environment) -> Self {
        Self { environment: Arc::new(environment), ..self }
    }

    /// A copy with another directory for temporary files.
    #[must_use]
    pub fn with_scratch(self, scratch: impl Into<PathBuf>) -> Self {
        Self { scratch: scratch.into(), ..self }
    }

    /// A copy whose gets go through a store.
    #[must_use]
    pub fn with_store(self, store: Store) -> Self {
        Self { store: Some(store), ..self }
    }

    /// A place's blobs: through the store, if there is one.
    pub(crate) fn blobs_of(&self, place: &Place) -> Arc<dyn BlobSource> {
        let place: Arc<dyn BlobSource> = Arc::new(place.clone());
        match &self.store {
            Some(store) => store.through(place),
            None => place,
        }
    }

    /// A copy for a task or a put whose inputs are below `root` while everything else on the machine is somebody else's:
    /// paths that parameters give, and links in inputs, that lead out of `root` are errors. Without this the process is
    /// taken to have a container of its own, as the installed executables have.
    #[must_use]
    pub fn confined_to(self, root: impl Into<PathBuf>) -> Self {
        Self { confinement: Some(root.into()), ..self }
    }

    /// A copy whose requests and transfers can be ended.
    #[must_use]
    pub fn with_stop(self, stop: Stop) -> Self {
        Self { client: self.client.with_stop(stop.clone()), stop: Some(stop), ..self }
    }

    /// What inputs may not lead out of, if there is such a place.
    pub(crate) fn confinement(&self) -> Option<&Path> {
        self.confinement.as_deref()
    }

    /// A copy that tells somebody else what happens.
    #[must_use]
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { client: self.client.with_progress(Arc::clone(&progress)), progress, ..self }
    }
}

fn is_test(environment: &Environment) -> bool {
    environment.get("TEST") == Some("true")
}

/// What building needs beyond a [`Host`].
#[derive(Clone, Copy)]
pub struct Workshop<'a> {
    /// Keeps layers and the results of steps.
    pub store: &'a Store,
    /// Whether `RUN` can be run, and how.
    pub sandbox: SandboxAccess<'a>,
    /// A directory for what `RUN` writes, should the store's file system not be able to carry an overlay.
    pub scratch: Option<&'a Path>,
    /// How many threads may work at once; at least 1.
    pub threads: usize,
}
