//! How do I talk to a registry?

mod client;
mod credentials;
pub mod http;
mod place;
mod registries;
pub mod server;
mod settings;

pub use client::Client;
pub use credentials::Keychain;
pub use place::Place;
pub use registries::Registries;
pub use settings::{Access, ClientCertificate, Credentials, Mirror, Proxies, Retries, Settings};
