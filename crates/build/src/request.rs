//! What a build is asked for, and what it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use skycap_image::{Compression, Image, Platform, SecretBytes};
use skycap_sandbox::Cancel;

use crate::attest::Scanned;
use crate::attest::recipe::Recipe;
use crate::attest::{Attest, Material};
use crate::cache::{CacheSource, CacheTarget};
use crate::dockerfile::Network;
use crate::ignore::Ignore;
use crate::named::NamedContext;
use crate::ssh::SshSource;

/// Everything that decides what a build gives.
#[derive(Clone)]
pub struct Request {
    /// The directory that `COPY` and `ADD` read.
    pub context: PathBuf,
    /// Where the context is from, if it was fetched.
    pub context_origin: Option<Material>,
    /// What in the context is left out.
    pub ignore: Ignore,
    /// The Dockerfile's bytes.
    pub dockerfile: Vec<u8>,
    /// What errors call it.
    pub dockerfile_name: String,
    /// Stages to build, by name or number; `None` is the last. Every one gives an image.
    pub targets: Vec<Option<String>>,
    /// Values for `ARG`.
    pub build_args: BTreeMap<String, String>,
    /// Labels that are set last, in every target.
    pub labels: BTreeMap<String, String>,
    /// What to build for; empty means the machine's own platform.
    pub platforms: Vec<Platform>,
    /// What names stand for: the Dockerfile's names after expansion, or `name::platform` for one platform. They win over
    /// stages and registries; `scratch` and `context` mean what they always mean.
    pub contexts: BTreeMap<String, NamedContext>,
    /// What `RUN --mount=type=secret` may ask for, by id. Those that are named `HTTP_AUTH_HEADER_<host>`,
    /// `HTTP_AUTH_TOKEN_<host>`, `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN` (also with `.<host>`) are what `ADD` and contexts
    /// show to servers.
    pub secrets: BTreeMap<String, SecretBytes>,
    /// What `RUN --mount=type=ssh` may ask for, by id.
    pub ssh: BTreeMap<String, SshSource>,
    /// What a Dockerfile may ask for beyond the rights of an ordinary `RUN`.
    pub allow: BTreeSet<Entitlement>,
    /// The network of every `RUN` that does not ask for another.
    pub network: Network,
    /// Further lines of `/etc/hosts` in every `RUN`.
    pub add_hosts: Vec<(String, IpAddr)>,
    /// Docker's media types instead of OCI's.
    pub docker_media_types: bool,
    /// How new layers are packed: [`Compression::None`], [`Compression::Gzip`] or [`Compression::Zstd`].
    pub compression: Compression,
    /// Seconds since 1970 that the configuration and the history state as their times.
    pub source_date_epoch: Option<i64>,
    /// When the build context changed last, in seconds since 1970, if it is a commit or a file of a server: what the build
    /// argument `SOURCE_DATE_EPOCH=context` means.
    pub context_time: Option<i64>,
    /// Gives files of the context the times that they have, as BuildKit does, instead of a fixed one.
    pub keep_file_times: bool,
    /// Where to look for what other builds made; the first that knows a step counts.
    pub cache_from: Vec<CacheSource>,
    /// Where to put what this build made.
    pub cache_to: Vec<CacheTarget>,
    /// Runs every step even if its result is known.
    pub no_cache: bool,
    /// The same for the steps on these lines of the Dockerfile.
    pub fresh_lines: Vec<std::ops::RangeInclusive<usize>>,
    /// How many threads read and compress; at least 1. Four times as many steps run at once.
    pub threads: usize,
    /// A directory for what `RUN` writes, used where the store's file system cannot carry an overlay (it is one itself).
    pub scratch: Option<PathBuf>,
    /// What is to be attested of the images; [`crate::attest::artifact`] does it.
    pub attest: Attest,
    /// Ends the build early.
    pub cancel: Cancel,
}

impl Request {
    /// A request with defaults for everything but the context and the Dockerfile.
    pub fn new(context: impl Into<PathBuf>, dockerfile: impl Into<Vec<u8>>) -> Self {
        Self {
            context: context.into(),
            context_origin: None,
            ignore: Ignore::default(),
            dockerfile: dockerfile.into(),
            dockerfile_name: "Dockerfile".to_owned(),
            targets: vec![None],
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            platforms: Vec::new(),
            contexts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            allow: BTreeSet::new(),
            network: Network::Default,
            add_hosts: Vec::new(),
            docker_media_types: false,
            compression: Compression::Gzip,
            source_date_epoch: None,
            context_time: None,
            keep_file_times: false,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            no_cache: false,
            fresh_lines: Vec::new(),
            threads: 1,
            scratch: None,
            attest: Attest::default(),
            cancel: Cancel::default(),
        }
    }
}

impl Request {
    /// Whether the steps on a line of the Dockerfile are run even if their results are known.
    pub(crate) fn is_fresh(&self, line: usize) -> bool {
        self.no_cache || self.fresh_lines.iter().any(|lines| lines.contains(&line))
    }
}

/// A right that is given by name only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entitlement {
    /// `RUN --security=insecure`: every capability that the builder has, and no filter of system calls.
    SecurityInsecure,
    /// `RUN --network=host`, which every build may use: it is also the default.
    NetworkHost,
}

/// A name that is none of the entitlements'.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown entitlement {0:?}: known are security.insecure and network.host")]
pub struct UnknownEntitlement(String);

impl std::str::FromStr for Entitlement {
    type Err = UnknownEntitlement;

    fn from_str(name: &str) -> Result<Self, UnknownEntitlement> {
        match name {
            "security.insecure" => Ok(Self::SecurityInsecure),
            "network.host" => Ok(Self::NetworkHost),
            _ => Err(UnknownEntitlement(name.to_owned())),
        }
    }
}

/// An image that was built.
pub struct Built {
    /// The target as it was asked for.
    pub target: Option<String>,
    /// What it was built for.
    pub platform: Platform,
    /// The image. New layers are in the store, a base's are read from where the base is.
    pub image: Image,
    /// The instructions of the target and of the stages it needs, in the order of the Dockerfile.
    pub steps: Vec<StepReport>,
    /// What it was made from that came from elsewhere, sorted.
    pub materials: Vec<Material>,
    /// How it came to be.
    pub(crate) recipe: Recipe,
    /// Stages of which an SBOM was asked for.
    pub(crate) scanned: Vec<Scanned>,
    /// Whether one of the build context was asked for.
    pub(crate) scans_context: bool,
    /// How many lines of its history are its base's.
    pub(crate) base_history: usize,
}

/// What became of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// As progress shows it: `[stage 2/5] RUN make`.
    pub label: String,
    /// The line in the Dockerfile.
    pub line: usize,
    /// Whether it had to be done.
    pub outcome: Outcome,
}

/// What became of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It only changes the configuration.
    Config,
    /// The store knew its result.
    Cached,
    /// It was done now.
    Done,
    /// Nobody needed its files, because a later step was known.
    Skipped,
}
