//! Requests about one repository: authorised, tried again when that helps, and judged by their status.

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, WARNING};
use reqwest::{Method, Response, StatusCode};
use skycap_image::{Event, Kind, Progress, Repository};
use url::Url;

use crate::challenge::challenge;
use crate::client::{Client, Inner, lock};
use crate::encoding;
use crate::error::{Failure, plain, shown};
use crate::retry::retried;
use crate::session::{Ask, Pass, Pinged, Session, join};
use crate::stop::Stop;
use crate::transport::Lane;

/// What a page for people may be.
pub(crate) const PORTAL: &str = "something between here and the registry may have answered, such as a login page";
/// A registry that warns of more things than these is not listened to any longer.
const MOST_WARNINGS: usize = 100;

/// A repository as seen through a session.
#[derive(Clone)]
pub(crate) struct Remote {
    pub inner: Arc<Inner>,
    pub progress: Arc<dyn Progress>,
    pub session: Arc<Session>,
    pub repository: Repository,
    stop: Stop,
    push: bool,
}

/// A request about the repository.
#[derive(Clone)]
pub(crate) struct Call {
    pub method: Method,
    pub target: Target,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// Scopes beside the repository's own.
    pub scopes: Vec<String>,
    pub lane: Lane,
}

/// Where a request goes.
#[derive(Clone)]
pub(crate) enum Target {
    /// Below `/v2/<repository>/`.
    Path(String),
    /// A URL that the registry gave us.
    Url(Url),
    /// A URL that somebody else gave us: nobody there is shown who we are, even if it is the registry.
    Stranger(Url),
}

impl Call {
    /// A request below the repository, without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self::to(method, Target::Path(path.into()))
    }

    /// A request to a URL that the registry gave us.
    pub fn to(method: Method, target: Target) -> Self {
        Self { method, target, headers: HeaderMap::new(), body: None, scopes: Vec::new(), lane: Lane::Small }
    }
}

/// An answer of the status that was hoped for, read whole. All documents of the protocol are JSON.
pub(crate) struct Document {
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Whether an answer is a page for people.
pub(crate) fn is_page(response: &Response) -> bool {
    let stated = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    stated.is_some_and(|stated| stated.trim_start().to_ascii_lowercase().starts_with("text/html"))
}

/// An answer, unless it is a page for people: nothing that a registry says is one.
pub(crate) fn no_page(method: &Method, response: Response) -> Result<Response, Failure> {
    if !is_page(&response) {
        return Ok(response);
    }
    let what =
        format!("{method} {}: the answer is a page of text/html, not a registry's ({PORTAL})", shown(response.url()));
    Err(Failure::lasting(Kind::Other, what))
}

impl Remote {
    pub fn new(client: Client, session: Arc<Session>, repository: Repository, push: bool) -> Self {
        let Client { inner, progress, stop } = client;
        Self { inner, progress, session, repository, stop, push }
    }

    /// Drives a future on the calling thread, until it ends or the client is stopped.
    pub fn drive<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        self.inner.block_on(self.until_stopped(future))
    }

    /// The same within a future.
    pub async fn until_stopped<T>(&self, future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.stop.stopped() => Err(Failure::stopped(&self.repository.to_string())),
            result = future => result,
        }
    }

    /// Whether the session asks for the right to push.
    pub fn may_push(&self) -> bool {
        self.push
    }

    /// Sends, as often as the settings allow, until the answer is a success.
    pub async fn send(&self, call: &Call) -> Result<Response, Failure> {
        self.retried(|| self.once(call)).await
    }

    /// Sends and reads the answer, all of which counts as one try.
    pub async fn document(&self, call: &Call, limit: usize) -> Result<Document, Failure> {
        self.retried(|| self.document_once(call, limit)).await
    }

    /// Like [`Remote::document`], without another try.
    pub async fn document_once(&self, call: &Call, limit: usize) -> Result<Document, Failure> {
        let response = self.once(call).await?;
        let (url, headers) = (response.url().clone(), response.headers().clone());
        let body = self.session.transport.read(&call.method, response, limit).await?;
        let body = encoding::chosen(body, &headers, limit, encoding::is_json);
        Ok(Document { url, headers, body })
    }

    /// Repeats a piece of work while it fails for passing reasons.
    pub async fn retried<T, F>(&self, work: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        Box::pin(retried(self.inner.settings.retries, &*self.progress, work)).await
    }

    /// Sends once (twice if the token had expired); anything but a success is an error.
    pub async fn once(&self, call: &Call) -> Result<Response, Failure> {
        let pinged = self.session.pinged().await?;
        let scopes = self.scopes(&call.scopes);
        let url = self.url(&pinged, &call.target)?;
        let mut headers = call.headers.clone();
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let ask =
            Ask { method: call.method.clone(), url, headers, body: call.body.clone(), secret: false, lane: call.lane };
        let is_known = !matches!(call.target, Target::Stranger(_));
        let pass = if is_known { self.pass(&pinged, &scopes, None).await? } else { None };
        let asked = Instant::now();
        let mut answer = self.session.follow(&pinged.base, ask.clone(), pass.as_ref()).await?;
        if answer.response.status() == StatusCode::UNAUTHORIZED
            && answer.at_home
            && is_known
            && let Some(pass) = self.renewed(&pinged, &scopes, &answer.response, pass.as_ref()).await?
        {
            answer = self.session.follow(&pinged.base, ask, Some(&pass)).await?;
        }
        self.trace(&call.method, &answer.response, asked);
        self.pass_on_warnings(answer.response.headers());
        if answer.at_home {
            self.session.note_limits(answer.response.headers());
        }
        if answer.response.status().is_success() {
            // What a GET brought is looked at anyway.
            let is_read = call.method == Method::GET;
            return if is_read { Ok(answer.response) } else { no_page(&call.method, answer.response) };
        }
        Err(self.session.failure(&call.method, answer.response).await)
    }

    fn trace(&self, method: &Method, response: &Response, asked: Instant) {
        let (status, time) = (response.status().as_u16(), asked.elapsed().as_millis());
        self.progress.event(Event::Debug(&format!("{method} {} {status} in {time} ms", shown(response.url()))));
    }

    /// Says what the registry warns of (`Warning: 299`), once for each text.
    fn pass_on_warnings(&self, headers: &HeaderMap) {
        for text in headers.get_all(WARNING).iter().filter_map(|value| crate::parse::warning(value.to_str().ok()?)) {
            let line = format!("{} warns: {}", self.repository.registry(), plain(&text));
            let mut warned = lock(&self.inner.warned);
            if warned.len() < MOST_WARNINGS && warned.insert(line.clone()) {
                self.progress.event(Event::Warning(&line));
            }
        }
    }

    /// What to show the registry after it said 401; `None` if we have nothing new to show.
    pub async fn renewed(
        &self,
        pinged: &Pinged,
        scopes: &[String],
        response: &Response,
        shown: Option<&Pass>,
    ) -> Result<Option<Pass>, Failure> {
        let Some(challenge) = challenge(response.headers()) else { return Ok(None) };
        let pinged = self.session.adopt(&pinged.base, challenge).await;
        let pass = self.pass(&pinged, scopes, shown.map(|pass| &pass.value)).await?;
        Ok(pass.filter(|pass| shown.is_none_or(|shown| shown.value != pass.value)))
    }

    /// Credentials for the registry itself.
    pub async fn pass(
        &self,
        pinged: &Pinged,
        scopes: &[String],
        stale: Option<&HeaderValue>,
    ) -> Result<Option<Pass>, Failure> {
        let value = self.session.authorization(pinged, scopes, stale).await?;
        Ok(value.map(|value| Pass { origin: pinged.base.clone(), value }))
    }

    /// The repository's own scope and the given ones.
    pub fn scopes(&self, more: &[String]) -> Vec<String> {
        let actions = if self.push { "push,pull" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository.path());
        std::iter::once(own).chain(more.iter().cloned()).collect()
    }

    fn url(&self, pinged: &Pinged, target: &Target) -> Result<Url, Failure> {
        match target {
            Target::Path(path) => join(&pinged.base, &format!("v2/{}/{path}", self.repository.path())),
            Target::Url(url) | Target::Stranger(url) => Ok(url.clone()),
        }
    }
}
