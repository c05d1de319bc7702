//! The commands: each translates arguments, calls a library, prints.

pub mod build;
pub mod demo;
pub mod doctor;
pub mod images;
pub mod install;
pub mod pipeline;
pub mod registry;
pub mod resource;
pub mod store;

use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skycap_build::SandboxAccess;
use skycap_concourse::{Environment, Host, Workshop};
use skycap_image::transport::Transport;
use skycap_image::{Event, Progress};
use skycap_registry::{Keychain, Settings, Stop};
use skycap_sandbox::{Cancel, Refused, Sandbox};
use skycap_store::Store;

use crate::args::{Limit, Means};
use crate::environment::World;
use crate::failure::Failure;
use crate::report::{self, Counting, Display, Look};

/// What was not used for so long goes from the store by itself.
const UNUSED_FOR: Duration = Duration::from_hours(30 * 24);

/// What every command is given.
pub struct Context {
    pub world: World,
    pub means: Means,
    pub debug: bool,
    pub environment: Environment,
    pub progress: Arc<dyn Progress>,
    /// What shows the progress.
    pub display: Arc<dyn Display>,
    counting: Arc<Counting>,
    /// Whether RUN and tasks can be run, for the commands that may need it.
    sandbox: Option<Arc<Result<Sandbox, Refused>>>,
    /// Set by the second signal: even what cleans up stops.
    pub kill: Cancel,
    /// Set by SIGINT and SIGTERM.
    pub cancel: Cancel,
    /// Ends what talks to registries for people.
    pub stop: Stop,
}

impl Context {
    pub fn new(world: World, means: Means, debug: bool, look: Look, sandbox: Option<Result<Sandbox, Refused>>) -> Self {
        let (cancel, kill) = (Cancel::default(), Cancel::default());
        let display = report::display(look, world.terminal, debug, &cancel);
        let counting = Arc::new(Counting::new(Arc::clone(&display) as Arc<dyn Progress>));
        let progress: Arc<dyn Progress> = Arc::clone(&counting) as Arc<dyn Progress>;
        let environment = world.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let sandbox = sandbox.map(Arc::new);
        let stop = Stop::default();
        Self { world, means, debug, environment, progress, display, counting, sandbox, kill, cancel, stop }
    }

    /// One line for people.
    pub fn say(&self, text: &str) {
        self.progress.event(Event::Note(text));
    }

    /// Says what was moved, if anything was. `of` is how many layers were wanted, where those that were not fetched were
    /// here already.
    pub fn summarise(&self, elapsed: Duration, of: Option<usize>) {
        if let Some(summary) = self.counting.summary(elapsed, of) {
            self.progress.event(Event::Note(&summary));
        }
    }

    /// How registries are reached.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let ca_certs = self.means.network.ca_cert.iter().map(|path| {
            std::fs::read_to_string(path)
                .map_err(|error| Failure::because(format!("cannot read {}", path.display()), &error))
        });
        Ok(Settings {
            hosts: self.hosts()?,
            ca_certs: ca_certs.collect::<Result<_, _>>()?,
            proxies: self.world.proxies.clone(),
            foreign_layers: self.means.network.foreign_layers,
            ..Settings::default()
        })
    }

    /// The `--host NAME=URL` pairs.
    pub fn hosts(&self) -> Result<BTreeMap<String, String>, Failure> {
        pairs(&self.means.network.hosts, "--host")
    }

    /// What the configuration files of Docker, podman and skopeo know.
    pub fn keychain(&self) -> Result<Keychain, Failure> {
        let mut keychain = Keychain::default();
        for path in self.world.auth_files.iter().filter(|path| path.exists()) {
            keychain = keychain.or(Keychain::open_file(path)?);
        }
        Ok(self.with_helpers(keychain))
    }

    /// A keychain that finds credential helpers.
    pub fn with_helpers(&self, keychain: Keychain) -> Keychain {
        let path = self.world.variables.get("PATH").map(String::as_str).unwrap_or_default();
        keychain.with_search_path(path.as_ref())
    }

    /// What resources and tasks are lent.
    pub fn host(&self) -> Result<Host, Failure> {
        self.host_with(self.settings()?)
    }

    /// The same with settings that a command has changed.
    pub fn host_with(&self, settings: Settings) -> Result<Host, Failure> {
        let host = Host::new(settings, self.environment.clone(), &self.world.scratch, Arc::clone(&self.progress))?;
        Ok(host.with_keychain(self.keychain()?).with_stop(self.stop.clone()))
    }

    /// Where layers and cached steps are kept.
    pub fn store_directory(&self) -> PathBuf {
        self.means.kept.store.clone().unwrap_or_else(|| self.world.cache.directory().join("store"))
    }

    pub fn store(&self) -> Result<Store, Failure> {
        let directory = self.store_directory();
        Store::open(&directory).map_err(|error| {
            Failure::because(format!("cannot open the store {}", directory.display()), &error)
                .with_hint("--store DIR puts it elsewhere")
        })
    }

    /// Takes from the store what was not used for longest, once in a while: for commands that have used it. They are done,
    /// whatever becomes of it.
    pub fn prune_store(&self) {
        let directory = self.store_directory();
        if !directory.is_dir() {
            return;
        }
        let pruned = Store::open(&directory).and_then(|store| {
            let limit = match self.means.bounds.store_limit {
                Some(Limit::None) => return Ok(None),
                Some(Limit::Size(size)) => size,
                None => store.usual_limit(),
            };
            store.prune(limit, UNUSED_FOR)
        });
        match pruned {
            Ok(Some(collected)) if collected.freed > 0 => {
                let (count, freed) = (collected.removed.len(), report::bytes(collected.freed));
                self.progress.event(Event::Debug(&format!("the store was pruned: {count} items, {freed}")));
            }
            Ok(_) => {}
            Err(error) => {
                let text = format!("the store {} could not be pruned: {error}", directory.display());
                self.progress.event(Event::Warning(&text));
            }
        }
    }

    /// Only for commands that entered the sandbox's world at their start.
    pub fn sandbox(&self) -> Result<SandboxAccess<'_>, Failure> {
        let entered = self.sandbox.as_ref().ok_or_else(not_entered)?;
        Ok(match &**entered {
            Ok(sandbox) => SandboxAccess::Available(sandbox),
            Err(refused) => SandboxAccess::Refused(refused),
        })
    }

    /// The same, to keep.
    pub fn shared_sandbox(&self) -> Result<Arc<Result<Sandbox, Refused>>, Failure> {
        self.sandbox.clone().ok_or_else(not_entered)
    }

    /// What building needs beyond a host.
    pub fn workshop<'a>(&'a self, store: &'a Store) -> Result<Workshop<'a>, Failure> {
        Ok(Workshop { store, sandbox: self.sandbox()?, scratch: Some(&self.world.roomy), threads: threads() })
    }
}

fn not_entered() -> Failure {
    Failure::new("this command does not run processes")
}

/// An answer, to standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same, byte for byte.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::because("cannot write to standard output".to_owned(), &error)),
    }
}

/// Whether what is written to this path ends in standard output.
pub fn is_stdout(path: &Path) -> bool {
    let ours = rustix::fs::fstat(std::io::stdout());
    let same = |ours: rustix::fs::Stat| {
        path.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (ours.st_dev, ours.st_ino))
    };
    ours.is_ok_and(same)
}

/// Whether it is an archive on standard output, which has no room for anything else.
pub fn is_archive_on_stdout(place: &Transport) -> bool {
    match place {
        Transport::OciArchive { file, .. } | Transport::DockerArchive { file, .. } => is_stdout(file),
        _ => false,
    }
}

/// How many things may be computed at once.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// `NAME=VALUE` arguments; the last of a name wins.
pub fn pairs(arguments: &[String], flag: &str) -> Result<BTreeMap<String, String>, Failure> {
    arguments
        .iter()
        .map(|argument| match argument.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(Failure::usage(format!("{flag} {argument}: expected NAME=VALUE"))),
        })
        .collect()
}
