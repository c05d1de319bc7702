//! The client: one runtime, one set of connections, one set of tokens for everything that a process does.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use skycap_image::{Kind, Progress, Repository, SourceError};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use crate::mounts::Mounts;
use crate::names::{Names, System};
use crate::origin::{Hosts, Origin, origin};
use crate::remote::Remote;
use crate::session::Session;
use crate::transport::Transport;
use crate::trust::Trust;
use crate::{Access, Credentials, Place, Settings, Stop};

/// Threads that move bytes. The threads that use them (inflating, hashing) are the callers' own.
const WORKERS: usize = 2;

/// Talks to registries. Clones share connections, tokens and the threads that move bytes.
///
/// Its functions block; do not call them from async code.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    /// Told what this clone does.
    pub(crate) progress: Arc<dyn Progress>,
    /// Ends what this clone does.
    pub(crate) stop: Stop,
}

pub(crate) struct Inner {
    pub settings: Settings,
    pub hosts: Hosts,
    pub mounts: Mounts,
    names: Arc<dyn Names>,
    /// Room for parts of large blobs.
    pub parts: Arc<Semaphore>,
    /// What registries warned of.
    pub warned: Mutex<HashSet<String>>,
    transports: Mutex<Transports>,
    sessions: Mutex<HashMap<Key, Arc<Session>>>,
    /// Always there until the last clone is dropped.
    runtime: Option<Runtime>,
}

/// By the certificates that they trust beside the system's.
type Transports = HashMap<(Vec<String>, Trust), Arc<Transport>>;

/// What makes two repositories share a session.
#[derive(PartialEq, Eq, Hash)]
struct Key {
    origin: Origin,
    credentials: Credentials,
    ca_certs: Vec<String>,
    trust: Trust,
}

impl Client {
    /// Checks the settings; opens no connection.
    pub fn new(settings: Settings, progress: Arc<dyn Progress>) -> Result<Self, SourceError> {
        Self::with_names(settings, progress, Arc::new(System))
    }

    /// With another way to find the addresses of names.
    pub(crate) fn with_names(
        settings: Settings,
        progress: Arc<dyn Progress>,
        names: Arc<dyn Names>,
    ) -> Result<Self, SourceError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("registry")
            .enable_all()
            .build()
            .map_err(|error| SourceError::caused(Kind::Other, "cannot start the network threads", error))?;
        let hosts = Hosts::parse(&settings.hosts)?;
        crate::trust::certificates(&settings.ca_certs)?;
        let parts = Arc::new(Semaphore::new(settings.ranges.min(Semaphore::MAX_PERMITS)));
        let inner = Inner {
            parts,
            names,
            warned: Mutex::default(),
            settings,
            hosts,
            mounts: Mounts::default(),
            transports: Mutex::default(),
            sessions: Mutex::default(),
            runtime: Some(runtime),
        };
        inner.transport(&[])?;
        Ok(Self { inner: Arc::new(inner), progress, stop: Stop::default() })
    }

    /// A client with the same connections and tokens that tells somebody else what it does.
    #[must_use]
    pub fn with_progress(&self, progress: Arc<dyn Progress>) -> Self {
        Self { progress, ..self.clone() }
    }

    /// A client with the same connections and tokens whose work ends when the switch is thrown.
    #[must_use]
    pub fn with_stop(&self, stop: Stop) -> Self {
        Self { stop, ..self.clone() }
    }

    /// A repository, not contacted yet.
    pub fn place(&self, repository: Repository, access: Access) -> Result<Place, SourceError> {
        let insecure = access.insecure_plain_http;
        let remote = |repository: Repository, credentials, push, trust| -> Result<Remote, SourceError> {
            let origin = origin(repository.registry(), &self.inner.hosts, insecure)?;
            let session = self.inner.session(origin, credentials, &access.ca_certs, trust)?;
            Ok(Remote::new(self.clone(), session, repository, push))
        };
        let mirror = match access.mirror {
            Some(mirror) if repository.is_docker_hub() => {
                // Parsed again, so that a mirror that is no host is refused.
                let name = format!("{}/{}", mirror.registry, repository.path());
                let copy = name.parse::<Repository>().ok().filter(|copy| copy.registry() == mirror.registry);
                let copy = copy.ok_or_else(|| {
                    let what = format!("the mirror {:?} is not a host or host:port", mirror.registry);
                    SourceError::new(Kind::Other, what)
                })?;
                Some(remote(copy, mirror.credentials, false, Trust::Certificates)?)
            }
            _ => None,
        };
        let trust = if access.danger_skip_tls_verification { Trust::Anybody } else { Trust::Certificates };
        Ok(Place::new(remote(repository, access.credentials.clone(), access.push, trust)?, mirror))
    }
}

impl Inner {
    /// Drives a future on the calling thread.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime().block_on(future)
    }

    /// Runs a future beside the calling thread.
    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime().spawn(future)
    }

    #[allow(clippy::expect_used, reason = "only Drop takes it away")]
    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime lives as long as the client")
    }

    /// The connections that trust these certificates beside those of the settings.
    pub fn transport(&self, extra: &[String]) -> Result<Arc<Transport>, SourceError> {
        self.transport_that_trusts(extra, Trust::Certificates)
    }

    fn transport_that_trusts(&self, extra: &[String], trust: Trust) -> Result<Arc<Transport>, SourceError> {
        let certificates: Vec<String> = self.settings.ca_certs.iter().chain(extra).cloned().collect();
        let key = (certificates, trust);
        let mut transports = lock(&self.transports);
        if let Some(transport) = transports.get(&key) {
            return Ok(Arc::clone(transport));
        }
        let roots = crate::trust::system_roots().clone();
        let transport = Arc::new(Transport::new(&self.settings, roots, &key.0, trust, &self.names)?);
        transports.insert(key, Arc::clone(&transport));
        Ok(transport)
    }

    pub(crate) fn session(
        &self,
        origin: Origin,
        credentials: Credentials,
        ca_certs: &[String],
        trust: Trust,
    ) -> Result<Arc<Session>, SourceError> {
        let transport = self.transport(ca_certs)?;
        let at_home = match trust {
            Trust::Certificates => None,
            Trust::Anybody => Some(self.transport_that_trusts(ca_certs, trust)?),
        };
        let key = Key { origin: origin.clone(), credentials: credentials.clone(), ca_certs: ca_certs.to_vec(), trust };
        let mut sessions = lock(&self.sessions);
        let new = || Arc::new(Session::new(origin, credentials, transport, at_home));
        let session = sessions.entry(key).or_insert_with(new);
        Ok(Arc::clone(session))
    }
}

impl Drop for Inner {
    /// The last clone may go in any thread, also in one that must not wait.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// No code panics while it holds one of these locks in a way that leaves them half-changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
