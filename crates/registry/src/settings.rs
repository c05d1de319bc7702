//! What a client is told once, before it opens its first socket.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use skycap_image::Secret;

/// How a [`Client`](crate::Client) behaves, whatever registry it talks to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who answers instead of a registry, for pull and push: `docker.io` (or `index.docker.io`, or `host:port`) to the
    /// base URL `http://127.0.0.1:5000`. The names of images stay as they are.
    pub hosts: BTreeMap<String, String>,
    /// Certificates in PEM that are trusted beside the system's.
    pub ca_certs: Vec<String>,
    /// Shown to servers that ask who we are.
    pub client_certificate: Option<ClientCertificate>,
    /// Which proxies to go through.
    pub proxies: Proxies,
    /// The `User-Agent` of every request.
    pub user_agent: String,
    /// How often and how long to try again.
    pub retries: Retries,
    /// A connection, an answer or a body that makes no progress for this long counts as broken.
    pub stall: Duration,
    /// How many blobs are sent at once. Small requests (HEAD) run at eight times this number.
    pub concurrency: usize,
    /// How many parts of large blobs, of 1 MiB each, may be under way or waiting in memory where a single connection turns
    /// out to be slow (`docs/decisions/0009-large-blobs.md`). All blobs of a client share this number; less than 2 turns
    /// parts off.
    pub ranges: usize,
    /// Whether layers that a registry does not have may be fetched from the addresses in their descriptors (`urls`), without
    /// credentials. Off, because whoever wrote the manifest chose those addresses.
    pub foreign_layers: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            hosts: BTreeMap::new(),
            ca_certs: Vec::new(),
            client_certificate: None,
            proxies: Proxies::default(),
            user_agent: concat!("skycap/", env!("CARGO_PKG_VERSION")).to_owned(),
            retries: Retries::default(),
            stall: Duration::from_mins(1),
            concurrency: 4,
            ranges: 8,
            foreign_layers: false,
        }
    }
}

/// When a request that failed for a passing reason is tried again: after `first`, then twice that and so on, each wait
/// shortened or lengthened by up to half at random. A registry's `Retry-After` goes before, as far as `limit` allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retries {
    /// The first wait.
    pub first: Duration,
    /// How often a request is sent at most; 1 means never again.
    pub attempts: u32,
    /// The longest single wait; also caps `Retry-After`.
    pub limit: Duration,
    /// Whether 429 is tried again like other passing failures. If not, it comes back at once, with the kind
    /// [`RateLimited`](skycap_image::Kind::RateLimited), and the caller decides.
    pub rate_limited: bool,
}

impl Default for Retries {
    fn default() -> Self {
        Self { first: Duration::from_millis(500), attempts: 6, limit: Duration::from_mins(1), rate_limited: true }
    }
}

impl Retries {
    /// Every request is sent once.
    pub const NEVER: Self = Self { first: Duration::ZERO, attempts: 1, limit: Duration::ZERO, rate_limited: false };
}

/// Proxies as the usual environment variables describe them; the binary reads those.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For `http` URLs, such as `http://user:password@proxy:3128`.
    pub http: Option<String>,
    /// For `https` URLs.
    pub https: Option<String>,
    /// Hosts that are reached directly: names, `.suffix`, addresses, CIDR, `*`, separated by commas.
    pub no: Option<String>,
}

impl fmt::Debug for Proxies {
    /// Proxy URLs may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = |value: &Option<String>| value.as_ref().map(|_| "***");
        f.debug_struct("Proxies")
            .field("http", &set(&self.http))
            .field("https", &set(&self.https))
            .field("no", &self.no)
            .finish()
    }
}

/// A certificate of our own.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The chain in PEM, our own certificate first.
    pub certificate: String,
    /// The private key in PEM.
    pub key: Secret,
}

/// How one repository may be used.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Who we are there.
    pub credentials: Credentials,
    /// Fall back to plain HTTP where HTTPS does not answer. TLS certificates are checked all the same.
    pub insecure_plain_http: bool,
    /// Ask for the right to push as well.
    pub push: bool,
    /// Ask here first when reading; only for repositories on Docker Hub.
    pub mirror: Option<Mirror>,
    /// Certificates in PEM that are trusted for this repository (and its mirror) beside those of the client.
    pub ca_certs: Vec<String>,
    /// Believe whatever certificate the registry shows: anybody in between can read and change everything, the password
    /// included. Holds for the registry's own host and port only, not for a mirror, nor where the registry leads to.
    pub danger_skip_tls_verification: bool,
}

/// A registry that holds copies of Docker Hub's repositories.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its `host` or `host:port`.
    pub registry: String,
    /// Who we are there; the origin's credentials never go to a mirror.
    pub credentials: Credentials,
}

/// Who we are to a registry.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum Credentials {
    /// Nobody.
    #[default]
    Anonymous,
    /// A name and a password (or a personal access token).
    Basic {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// A token that is exchanged for access tokens (`identitytoken` in Docker's configuration).
    IdentityToken(Secret),
    /// A token that is shown to the registry as it is (`registrytoken` in Docker's configuration).
    RegistryToken(Secret),
}

impl Credentials {
    /// Tells identities apart without giving anything of them away: the name, and a number that only this process can make
    /// of the secret, so that nobody can try passwords against it later.
    pub(crate) fn fingerprint(&self) -> String {
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let number = KEY.get_or_init(RandomState::new).hash_one(self);
        match self {
            Self::Anonymous => "anonymous".to_owned(),
            Self::Basic { username, .. } => format!("{username}-{number:016x}"),
            Self::IdentityToken(_) | Self::RegistryToken(_) => format!("token-{number:016x}"),
        }
    }
}
