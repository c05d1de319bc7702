//! From a request to an answer: who asks, what about, and which part of the server knows.

use std::io;
use std::path::Path;

use base64::Engine as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, Response, StatusCode};
use skycap_image::Secret;

use super::answer::{Answer, Content, Refusal, empty};
use super::repository::Repository;
use super::route::{RepositoryName, Route, Unknown, route};
use super::storage::Storage;
use super::uploads::Uploads;

/// What every request needs.
pub(super) struct Service {
    pub storage: Storage,
    pub uploads: Uploads,
    /// The only `Authorization` that is let in.
    authorization: Option<Secret>,
}

/// A request without its body.
pub(super) struct Asked {
    pub method: Method,
    pub headers: hyper::HeaderMap,
    /// The parameters behind `?`, decoded.
    pub query: Vec<(String, String)>,
    /// `http://host:port` as the client knows us.
    pub base: String,
}

impl Asked {
    /// A parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A header, if it is text.
    pub fn header(&self, name: impl hyper::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether this only reads.
    pub fn reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }
}

impl Service {
    /// Opens the directory.
    pub fn new(dir: &Path, basic_auth: Option<(String, Secret)>) -> io::Result<Self> {
        let authorization = basic_auth.map(|(user, password)| {
            let pair = format!("{user}:{}", password.reveal());
            Secret::new(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
        });
        let storage = Storage::open(dir)?;
        let uploads = Uploads::new(storage.staging())?;
        Ok(Self { storage, uploads, authorization })
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>, scheme: &str) -> Answer {
        let (parts, body) = request.into_parts();
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
        let query =
            url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        let asked = Asked { method: parts.method, base: format!("{scheme}://{host}"), headers: parts.headers, query };
        self.judge(&asked, parts.uri.path(), body).await.unwrap_or_else(Refusal::answer)
    }

    async fn judge(&self, asked: &Asked, path: &str, body: Incoming) -> Result<Answer, Refusal> {
        let shown = asked.header(AUTHORIZATION);
        if self.authorization.as_ref().is_some_and(|wanted| Some(wanted.reveal()) != shown) {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required")
                .with("WWW-Authenticate", "Basic realm=\"skycap\""));
        }
        let route = route(path).map_err(|unknown| match unknown {
            Unknown::Path => Refusal::missing("NAME_UNKNOWN", "there is nothing at this path"),
            Unknown::Name => Refusal::bad("NAME_INVALID", "invalid repository name"),
            Unknown::Tag => Refusal::bad("TAG_INVALID", "invalid tag"),
            Unknown::Digest => Refusal::bad("DIGEST_INVALID", "invalid digest"),
        })?;
        match route {
            Route::Manifest(name, reference) => self.manifest(asked, &name, &reference, body).await,
            Route::Blob(name, digest) => self.blob(asked, &name, digest),
            Route::Uploads(name) => self.begin_upload(asked, &name, body).await,
            Route::Upload(name, id) => self.go_on_with_upload(asked, &name, &id, body).await,
            _ if !asked.reads() => Err(Refusal::unsupported()),
            Route::Base => Ok(base()),
            Route::Catalog => self.catalog(asked),
            Route::Tags(name) => self.tags(asked, &name),
            Route::Referrers(name, digest) => self.referrers(asked, &name, digest),
            Route::HubTags(name) => self.hub_tags(asked, &name),
            Route::HubTag(name, tag) => self.hub_tag(&name, &tag),
        }
    }

    /// A repository that must be there.
    pub fn known(&self, name: &RepositoryName) -> Result<Repository, Refusal> {
        let repository = Some(self.storage.repository(name)).filter(Repository::is_known);
        repository.ok_or_else(|| Refusal::missing("NAME_UNKNOWN", "repository name not known to registry"))
    }
}

fn base() -> Answer {
    let builder = Response::builder().header("Docker-Distribution-Api-Version", "registry/2.0");
    super::answer::json_answer(builder, &serde_json::json!({}))
}

/// An answer without a body for something done.
pub(super) fn done(status: StatusCode, headers: &[(&str, String)]) -> Response<Content> {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    empty(builder)
}
