//! An embedded registry on disk.
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use skycap_image::Secret;

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only this user may do anything.
    pub basic_auth: Option<(String, Secret)>,
    /// Serve HTTPS with this certificate chain and key, both in PEM.
    pub tls: Option<Tls>,
}

/// A server's certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: String,
    /// The private key in PEM.
    pub key: Secret,
}

/// A registry that runs until it is stopped or dropped.
pub struct Server {}

impl Server {
    /// Starts to listen; port 0 picks a free one.
    pub fn start(_listen: SocketAddr, _dir: &Path, _options: Options) -> io::Result<Self> {
        unimplemented!()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Stops: no new requests; those under way end.
    pub fn stop(self) {
        unimplemented!()
    }
}
