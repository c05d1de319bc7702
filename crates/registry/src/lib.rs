//! How do I talk to a registry?
//!
//! ```text
//! Place (BlobSource, ImageSource, ImageSink)      what others use; blocking
//!   Remote: manifests, tags, blob, upload, push   requests about one repository; retries
//!     Session: ping, token                        what a registry wants to see, and redirects (guard judges each)
//!       Transport: trust                          connections, TLS, proxies, time limits
//! ```
//!
//! Inside, the network is asynchronous (`docs/decisions/0001-blocking-or-async.md`); outside, every function blocks and blobs
//! are plain readers. Whatever a registry says, its credentials go to its own origin only and bytes are compared with the
//! digest they were asked for by. [`server`] is the other side: a small registry on disk, for offline work and tests.

mod blob;
mod challenge;
mod client;
pub mod cloud;
pub mod cosign;
mod credentials;
mod download;
mod encoding;
mod error;
mod guard;
pub mod http;
mod keys;
mod link;
mod manifests;
mod mounts;
mod names;
pub mod notary;
mod origin;
mod pace;
#[doc(hidden)]
pub mod parse;
mod place;
mod proxies;
mod push;
mod ranges;
mod referrers;
mod registries;
mod remote;
mod retry;
pub mod server;
mod session;
mod settings;
mod stop;
mod tags;
mod token;
mod transport;
mod trust;
mod upload;

pub use client::Client;
pub use credentials::Keychain;
pub use download::{Download, Downloaded};
pub use place::{ELSEWHERE, Place};
pub use registries::Registries;
pub use session::RateLimit;
pub use settings::{Access, ClientCertificate, Credentials, Mirror, Proxies, Retries, Settings};
pub use stop::Stop;
pub use trust::check_certificates;
