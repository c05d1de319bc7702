//! What we know about a registry after having asked: which URL answers, how it wants to know who we are, and the tokens
//! that it gave us. One session serves all repositories that share registry, credentials and certificates.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, Request, Response, StatusCode};
use skycap_image::Kind;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use url::Url;

use crate::Credentials;
use crate::challenge::{Challenge, challenge};
use crate::client::lock;
use crate::error::{Failure, LARGEST_ERROR, shown};
use crate::guard::{Route, is_private, judge, literal, refused};
use crate::origin::Origin;
use crate::transport::{Lane, Transport};

/// Redirects beyond this are a loop.
const MOST_HOPS: usize = 10;
/// How long HTTPS is ahead of plain HTTP where both are allowed.
const HEAD_START: Duration = Duration::from_millis(300);

/// A registry, as one user.
pub(crate) struct Session {
    pub origin: Origin,
    pub credentials: Credentials,
    pub transport: Arc<Transport>,
    /// For the registry itself, where it is trusted in another way than everybody else.
    at_home: Option<Arc<Transport>>,
    pinged: Mutex<Option<Arc<Pinged>>>,
    pub(crate) tokens: Mutex<Tokens>,
    home_is_private: OnceCell<bool>,
    limits: std::sync::Mutex<Option<RateLimit>>,
}

/// What a registry says of how often it may be asked, in its own words (`76;w=21600`); empty where it says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RateLimit {
    /// How often within a time.
    pub limit: String,
    /// How often that leaves.
    pub remaining: String,
}

/// What a ping taught us.
pub(crate) struct Pinged {
    /// The registry's base URL, with path `/`.
    pub base: Url,
    /// What it asked for.
    pub challenge: Option<Challenge>,
}

/// Access tokens by their scopes, and the token that renews them.
#[derive(Default)]
pub(crate) struct Tokens {
    pub by_scope: HashMap<String, Token>,
    pub refresh: Option<skycap_image::Secret>,
}

/// An access token as a header.
pub(crate) struct Token {
    pub header: HeaderValue,
    pub until: Instant,
}

/// A request whose body, if any, is in memory, so that it can be sent again.
#[derive(Clone)]
pub(crate) struct Ask {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// Whether the body is a credential, which no redirect may carry to another origin.
    pub secret: bool,
    pub lane: Lane,
}

impl Ask {
    /// A GET without anything.
    pub fn get(url: Url) -> Self {
        Self { method: Method::GET, url, headers: HeaderMap::new(), body: None, secret: false, lane: Lane::Small }
    }

    fn request(&self, url: Url) -> Request {
        let mut request = Request::new(self.method.clone(), url);
        *request.headers_mut() = self.headers.clone();
        if let Some(body) = &self.body {
            *request.body_mut() = Some(body.clone().into());
        }
        request
    }
}

/// Credentials, and the one origin that may see them.
pub(crate) struct Pass {
    pub origin: Url,
    pub value: HeaderValue,
}

/// The answer to a request after all redirects.
pub(crate) struct Answer {
    pub response: Response,
    /// Whether the registry itself gave it.
    pub at_home: bool,
}

impl Session {
    /// Not contacted yet.
    pub fn new(
        origin: Origin,
        credentials: Credentials,
        transport: Arc<Transport>,
        at_home: Option<Arc<Transport>>,
    ) -> Self {
        Self {
            origin,
            credentials,
            transport,
            at_home,
            pinged: Mutex::new(None),
            tokens: Mutex::new(Tokens::default()),
            home_is_private: OnceCell::new(),
            limits: std::sync::Mutex::default(),
        }
    }

    /// What a request goes through on this route.
    pub fn transport_on(&self, route: Route) -> &Arc<Transport> {
        self.at_home.as_ref().filter(|_| route == Route::Home).unwrap_or(&self.transport)
    }

    /// Remembers what an answer says of the registry's limits.
    pub fn note_limits(&self, headers: &HeaderMap) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(crate::error::plain);
        let limits = RateLimit {
            limit: text("ratelimit-limit").unwrap_or_default(),
            remaining: text("ratelimit-remaining").unwrap_or_default(),
        };
        if limits != RateLimit::default() {
            *lock(&self.limits) = Some(limits);
        }
    }

    /// What the registry said last of its limits.
    pub fn limits(&self) -> Option<RateLimit> {
        lock(&self.limits).clone()
    }

    /// Forgets what was learned.
    pub async fn forget(&self) {
        *self.pinged.lock().await = None;
        *self.tokens.lock().await = Tokens::default();
    }

    /// Pings once, however many ask at the same time.
    pub async fn pinged(&self) -> Result<Arc<Pinged>, Failure> {
        let mut slot = self.pinged.lock().await;
        if let Some(pinged) = &*slot {
            return Ok(Arc::clone(pinged));
        }
        let pinged = Arc::new(self.ping().await?);
        *slot = Some(Arc::clone(&pinged));
        Ok(pinged)
    }

    /// A later answer asked for something else than the ping did.
    pub async fn adopt(&self, base: &Url, challenge: Challenge) -> Arc<Pinged> {
        let pinged = Arc::new(Pinged { base: base.clone(), challenge: Some(challenge) });
        *self.pinged.lock().await = Some(Arc::clone(&pinged));
        pinged
    }

    async fn ping(&self) -> Result<Pinged, Failure> {
        let (https, http) = match &self.origin {
            Origin::Told(base) => return self.ping_at(base).await,
            Origin::Named { https, http: None } => return self.ping_at(https).await,
            Origin::Named { https, http: Some(http) } => (https, http),
        };
        let mut first = std::pin::pin!(self.ping_at(https));
        let early = tokio::time::timeout(HEAD_START, &mut first).await;
        let first_error = match early {
            Ok(Ok(pinged)) => return Ok(pinged),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let mut second = std::pin::pin!(self.ping_at(http));
        if let Some(error) = first_error {
            return second.await.map_err(|other| both(&error, &other));
        }
        tokio::select! {
            pinged = &mut first => match pinged {
                Ok(pinged) => Ok(pinged),
                Err(error) => second.await.map_err(|other| both(&error, &other)),
            },
            pinged = &mut second => match pinged {
                Ok(pinged) => Ok(pinged),
                Err(other) => first.await.map_err(|error| both(&error, &other)),
            },
        }
    }

    async fn ping_at(&self, base: &Url) -> Result<Pinged, Failure> {
        let url = join(base, "v2/")?;
        let answer = self.follow(base, Ask::get(url.clone()), None).await?;
        let base = settled(base, answer.response.url())?;
        match answer.response.status() {
            StatusCode::OK => Ok(Pinged { base, challenge: None }),
            StatusCode::UNAUTHORIZED => match (challenge(answer.response.headers()), &self.credentials) {
                (Some(challenge), _) => Ok(Pinged { base, challenge: Some(challenge) }),
                // Some registries say 401 and nothing else; if there is a password, it is what they can mean.
                (None, Credentials::Basic { .. } | Credentials::RegistryToken(_)) => {
                    Ok(Pinged { base, challenge: Some(Challenge::Basic) })
                }
                (None, _) => {
                    let what = format!("GET {}: 401 without a challenge that names Basic or Bearer", shown(&url));
                    Err(Failure::lasting(Kind::Denied, what))
                }
            },
            _ => Err(self.failure(&Method::GET, answer.response).await),
        }
    }

    /// Turns an unwanted answer into an error.
    pub async fn failure(&self, method: &Method, response: Response) -> Failure {
        let (url, status, headers) = (response.url().clone(), response.status(), response.headers().clone());
        let body = if *method == Method::HEAD {
            Bytes::new()
        } else {
            self.transport.read_some(response, LARGEST_ERROR).await
        };
        Failure::of_status(method, &url, status, &headers, &body, &self.hint(status))
    }

    fn hint(&self, status: StatusCode) -> String {
        match (&self.credentials, status) {
            (Credentials::Anonymous, StatusCode::TOO_MANY_REQUESTS) => {
                "without credentials; a registry allows more requests to users it knows".to_owned()
            }
            (Credentials::Anonymous, _) => "no credentials were given".to_owned(),
            (Credentials::Basic { username, .. }, _) => format!("as user {username}"),
            (Credentials::IdentityToken(_), _) => "with an identity token".to_owned(),
            (Credentials::RegistryToken(_), _) => "with a registry token".to_owned(),
        }
    }

    /// Sends a request and follows redirects, each judged as something that the registry at `base` chose.
    pub async fn follow(&self, base: &Url, ask: Ask, pass: Option<&Pass>) -> Result<Answer, Failure> {
        let mut url = ask.url.clone();
        let mut route = self.route(base, base, &url).await?;
        for _ in 0..=MOST_HOPS {
            let mut request = ask.request(url.clone());
            if let Some(pass) = pass.filter(|pass| pass.origin.origin() == url.origin()) {
                request.headers_mut().insert(AUTHORIZATION, pass.value.clone());
            }
            let response = self.transport_on(route).send(route, ask.lane, request).await?;
            let Some(next) = redirect(&ask.method, &response)? else {
                return Ok(Answer { response, at_home: route == Route::Home });
            };
            if ask.secret && next.origin() != ask.url.origin() {
                let why = "the request holds credentials, which stay with the host that they were meant for";
                return Err(refused(&url, &next, why));
            }
            route = self.route(base, &url, &next).await?;
            url = next;
        }
        let what = format!("{} {}: more than {MOST_HOPS} redirects", ask.method, shown(&ask.url));
        Err(Failure::lasting(Kind::Other, what))
    }

    /// How to go from `from` to `to`, both chosen by the registry at `home`.
    pub async fn route(&self, home: &Url, from: &Url, to: &Url) -> Result<Route, Failure> {
        let private = to.origin() != home.origin() && self.home_is_private().await;
        judge(home, private, from, to)
    }

    /// Whether the registry is on our side of the network (or was named by the settings) and may lead to neighbours.
    async fn home_is_private(&self) -> bool {
        let home = match &self.origin {
            Origin::Told(_) => return true,
            Origin::Named { https, .. } => https,
        };
        *self
            .home_is_private
            .get_or_init(|| async {
                if let Some(address) = literal(home) {
                    return is_private(address);
                }
                let found = self.transport.names.find(home.host_str().unwrap_or_default().to_owned()).await;
                found.is_ok_and(|addresses| addresses.iter().any(|address| is_private(address.ip())))
            })
            .await
    }
}

/// The base URL of a registry that was asked at `base` and answered at `end`. One that moves its plain requests to HTTPS
/// lives there: whatever follows, credentials above all, must not go past it in clear text.
fn settled(base: &Url, end: &Url) -> Result<Url, Failure> {
    if base.scheme() == end.scheme() {
        return Ok(base.clone());
    }
    if base.host() == end.host() { join(end, "/") } else { Err(refused(base, end, "it is another host")) }
}

/// The next URL, if the answer is a redirect that may be followed.
fn redirect(method: &Method, response: &Response) -> Result<Option<Url>, Failure> {
    let keeps_method = matches!(response.status().as_u16(), 307 | 308);
    let moves = matches!(response.status().as_u16(), 301..=303);
    let is_read = *method == Method::GET || *method == Method::HEAD;
    if !(keeps_method || moves && is_read) {
        return Ok(None);
    }
    let Some(location) = response.headers().get(LOCATION) else { return Ok(None) };
    let unusable = || {
        let what = format!("{method} {}: the redirect's Location is not a URL", shown(response.url()));
        Failure::lasting(Kind::Other, what)
    };
    let text = std::str::from_utf8(location.as_bytes()).map_err(|_| unusable())?;
    response.url().join(text).map(Some).map_err(|_| unusable())
}

/// Both ways failed: the texts are joined, and it is worth another try if one of them is. Where a server speaks TLS and
/// there is no trust, that does not get better, and what it makes of plain HTTP tells nothing.
fn both(https: &Failure, http: &Failure) -> Failure {
    if https.no_trust {
        return Failure::lasting(https.kind, https.what.clone());
    }
    let kind = if https.passing { http.kind } else { https.kind };
    Failure {
        passing: https.passing || http.passing,
        nobody_there: https.nobody_there && http.nobody_there,
        retry_after: https.retry_after.max(http.retry_after),
        ..Failure::lasting(kind, format!("{}; {}", https.what, http.what))
    }
}

/// `path` below a base URL.
pub(crate) fn join(base: &Url, path: &str) -> Result<Url, Failure> {
    base.join(path).map_err(|error| Failure::lasting(Kind::Other, format!("cannot make a URL of {path:?}: {error}")))
}

/// A name and password as a header.
pub(crate) fn basic(username: &str, password: &str) -> Result<HeaderValue, Failure> {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{username}:{password}"));
    header(&format!("Basic {encoded}"))
}

/// A header that debug output shows as `Sensitive`.
pub(crate) fn header(value: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| Failure::lasting(Kind::Other, "a token holds characters that no header can"))?;
    value.set_sensitive(true);
    Ok(value)
}
