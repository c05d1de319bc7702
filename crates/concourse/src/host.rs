//! What the binary or the runner lends us: the network, the environment, a place for temporary files, an ear.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use skycap_build::SandboxAccess;
use skycap_image::Progress;
use skycap_registry::{Client, Keychain, Settings};
use skycap_store::Store;

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
    /// Is told what happens.
    pub progress: Arc<dyn Progress>,
}

impl Host {
    /// A host whose registries are reached as `settings` say. Opens no connection; nobody is known to the keychain.
    pub fn new(
        settings: Settings,
        environment: Environment,
        scratch: impl Into<PathBuf>,
        progress: Arc<dyn Progress>,
    ) -> Result<Self, Failure> {
        let hosts = settings.hosts.clone();
        let client = Client::new(settings, Arc::clone(&progress))?;
        let environment = Arc::new(environment);
        Ok(Self { client, hosts, keychain: Keychain::default(), environment, scratch: scratch.into(), progress })
    }

    /// A copy with a keychain.
    #[must_use]
    pub fn with_keychain(self, keychain: Keychain) -> Self {
        Self { keychain, ..self }
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

    /// A copy that tells somebody else what happens. What the client says of its transfers still goes where it went.
    #[must_use]
    pub fn with_progress(self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self }
    }
}

/// What building needs beyond a [`Host`].
#[derive(Clone, Copy)]
pub struct Workshop<'a> {
    /// Keeps layers and the results of steps.
    pub store: &'a Store,
    /// Whether `RUN` can be run, and how.
    pub sandbox: SandboxAccess<'a>,
    /// How many threads may work at once; at least 1.
    pub threads: usize,
}
