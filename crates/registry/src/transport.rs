//! One request, one answer: connections, TLS, proxies and time limits. No redirects, no credentials, no retries.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Request, Response};
use rustls::{ClientConfig, RootCertStore};
use skycap_image::{Kind, SourceError};
use url::Url;

use crate::Settings;
use crate::client::lock;
use crate::error::{Failure, shown};
use crate::guard::Route;
use crate::names::{AnyNames, Names, PublicNames};
use crate::proxies::proxies;
use crate::trust::Trust;

/// No server needs longer to accept a connection.
const CONNECT: Duration = Duration::from_secs(30);
/// A registry may think for this many stall times after the last byte of an upload: it may be hashing or copying it.
const THINKING: u32 = 10;

/// What a request carries. Over TLS, many small ones share a connection (HTTP/2), while blobs go each over its own
/// (HTTP/1.1): that takes less work per byte, and one that is slow or broken does not hold up the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lane {
    Small,
    Blob,
}

/// The connections under one set of trusted certificates.
pub(crate) struct Transport {
    small: Clients,
    blobs: Clients,
    pub stall: Duration,
    /// How addresses are found.
    pub names: Arc<dyn Names>,
    /// Hosts with ports that have answered.
    heard: Mutex<HashSet<String>>,
}

struct Clients {
    anywhere: reqwest::Client,
    public_only: reqwest::Client,
}

impl Transport {
    /// Opens nothing yet.
    pub fn new(
        settings: &Settings,
        roots: RootCertStore,
        extra: &[String],
        trust: Trust,
        names: &Arc<dyn Names>,
    ) -> Result<Self, SourceError> {
        let mut tls = crate::trust::client_config(roots, extra, settings.client_certificate.as_ref(), trust)?;
        let proxies = proxies(&settings.proxies)?;
        let exempt: BTreeSet<String> = [&settings.proxies.http, &settings.proxies.https]
            .into_iter()
            .flatten()
            .filter_map(|proxy| Url::parse(proxy).ok()?.host_str().map(str::to_owned))
            .collect();
        let exempt = Arc::new(exempt);
        let clients = |builder: &dyn Fn() -> reqwest::ClientBuilder| {
            let failed = |error| SourceError::caused(Kind::Other, "cannot set up the HTTP client", error);
            let any = AnyNames { names: Arc::clone(names) };
            let public = PublicNames { exempt: Arc::clone(&exempt), names: Arc::clone(names) };
            Ok::<_, SourceError>(Clients {
                anywhere: builder().dns_resolver(Arc::new(any)).build().map_err(failed)?,
                public_only: builder().dns_resolver(Arc::new(public)).build().map_err(failed)?,
            })
        };
        let builder = |tls: &ClientConfig| {
            let mut builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .user_agent(&settings.user_agent)
                .connect_timeout(CONNECT.min(settings.stall))
                .http2_adaptive_window(true);
            for proxy in &proxies {
                builder = builder.proxy(proxy.clone());
            }
            builder
        };
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let small = clients(&|| builder(&tls))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let blobs = clients(&|| builder(&tls).http1_only())?;
        Ok(Self { small, blobs, stall: settings.stall, names: Arc::clone(names), heard: Mutex::default() })
    }

    fn client(&self, route: Route, lane: Lane, url: &Url) -> &reqwest::Client {
        // Without TLS everything is HTTP/1.1, and can share its connections.
        let clients = if lane == Lane::Blob && url.scheme() == "https" { &self.blobs } else { &self.small };
        if route == Route::PublicOnly { &clients.public_only } else { &clients.anywhere }
    }

    /// Sends a request with a small body or none; the answer's headers must come within the stall time.
    pub async fn send(&self, route: Route, lane: Lane, request: Request) -> Result<Response, Failure> {
        let (method, url) = (request.method().clone(), request.url().clone());
        let sent = tokio::time::timeout(self.stall, self.client(route, lane, &url).execute(request)).await;
        match sent {
            Ok(sent) => self.known(&method, &url, sent),
            Err(_) => Err(stalled(&method, &url, "no answer", self.stall)),
        }
    }

    /// Remembers who has answered: where that is nobody, a refused connection is not worth much patience.
    fn known(&self, method: &Method, url: &Url, sent: Result<Response, reqwest::Error>) -> Result<Response, Failure> {
        let host =
            format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
        match sent {
            Ok(response) => {
                lock(&self.heard).insert(host);
                Ok(response)
            }
            Err(error) => {
                let failure = Failure::of_transport(method, url, error);
                let nobody_there = failure.nobody_there && !lock(&self.heard).contains(&host);
                Err(Failure { nobody_there, ..failure })
            }
        }
    }

    /// Sends a request whose body takes its time; `sent` counts the bytes that have left, `total` of them.
    pub async fn send_slowly(
        &self,
        route: Route,
        request: Request,
        sent: &AtomicU64,
        total: u64,
    ) -> Result<Response, Failure> {
        let (method, url) = (request.method().clone(), request.url().clone());
        let mut answer = std::pin::pin!(self.client(route, Lane::Blob, &url).execute(request));
        let mut before = sent.load(Ordering::Relaxed);
        loop {
            let patience = if before >= total { self.stall * THINKING } else { self.stall };
            if let Ok(answer) = tokio::time::timeout(patience, &mut answer).await {
                return self.known(&method, &url, answer);
            }
            let now = sent.load(Ordering::Relaxed);
            if now == before {
                return Err(stalled(&method, &url, "the upload makes no progress", patience));
            }
            before = now;
        }
    }

    /// Reads a body up to a limit.
    pub async fn read(&self, method: &Method, mut response: Response, limit: usize) -> Result<Bytes, Failure> {
        let url = response.url().clone();
        let mut body = BytesMut::new();
        loop {
            match tokio::time::timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) if body.len() + chunk.len() > limit => {
                    let what = format!("{method} {}: the answer is longer than {limit} bytes", shown(&url));
                    return Err(Failure::lasting(Kind::Corrupt, what));
                }
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None)) => return Ok(body.freeze()),
                Ok(Err(error)) => return Err(Failure::of_transport(method, &url, error)),
                Err(_) => return Err(stalled(method, &url, "the answer broke off", self.stall)),
            }
        }
    }

    /// Reads the beginning of a body, for an error message; a body that breaks off is as good as its beginning.
    pub async fn read_some(&self, mut response: Response, limit: usize) -> Bytes {
        let mut body = BytesMut::new();
        while body.len() < limit {
            match tokio::time::timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                _ => break,
            }
        }
        body.truncate(limit);
        body.freeze()
    }
}

pub(crate) fn stalled(method: &Method, url: &Url, what: &str, time: Duration) -> Failure {
    Failure::passing(format!("{method} {}: {what} for {} s", shown(url), time.as_secs_f64()))
}
