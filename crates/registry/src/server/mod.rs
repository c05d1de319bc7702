//! A registry on disk: for pipelines that keep their images on the machine they run on, for work without a network, and
//! for tests. It speaks the OCI distribution specification (pull, push, mount, tags, catalog, delete, referrers) and answers
//! Docker Hub's list of tags for what it holds.

mod answer;
mod blobs;
mod collect;
mod connection;
mod documents;
mod files;
mod hub;
mod listings;
mod manifests;
mod names;
mod referrers;
mod repository;
mod route;
mod service;
mod storage;
mod uploads;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use skycap_image::Secret;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

pub use collect::{Collect, Collected, collect};
use service::Service;

/// Threads that serve. Requests write files on them, so there are more than cores need.
const WORKERS: usize = 4;
/// How long requests under way may take once the server is told to stop.
const FAREWELL: Duration = Duration::from_secs(5);

/// How the server behaves.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only this user, with this password, may do anything.
    pub basic_auth: Option<(String, Secret)>,
    /// Serve HTTPS.
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

/// A registry that serves until it is stopped or dropped.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: Option<tokio::task::JoinHandle<()>>,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts to listen; port 0 picks a free one. Several servers may share a directory.
    pub fn start(listen: SocketAddr, dir: &Path, options: Options) -> io::Result<Self> {
        let service = Arc::new(Service::new(dir, options.basic_auth)?);
        let tls = options.tls.as_ref().map(connection::acceptor).transpose()?;
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime =
            Builder::new_multi_thread().worker_threads(WORKERS).thread_name("registry-server").enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let accepting = runtime.spawn(connection::accept(listener, tls, service, stopped));
        Ok(Self { address, stop, accepting: Some(accepting), runtime: Some(runtime) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no new requests and waits a few seconds for those under way. Dropping does the same without waiting.
    pub fn stop(mut self) {
        let _ = self.stop.send(true);
        if let (Some(runtime), Some(accepting)) = (self.runtime.take(), self.accepting.take()) {
            let _ = runtime.block_on(async { tokio::time::timeout(FAREWELL, accepting).await });
            runtime.shutdown_timeout(FAREWELL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
