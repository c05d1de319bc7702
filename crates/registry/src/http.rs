//! Plain requests, for web APIs beside the registry protocol, such as Docker Hub's list of tags. Redirects are followed by
//! the rules that hold for registries: credentials stay with the host that was asked.

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use skycap_image::{Kind, SourceError};
use url::Url;

use crate::error::Failure;
pub use crate::error::shown;
use crate::link::next_in;
use crate::origin::Origin;
use crate::retry::answered;
use crate::session::{Ask, Pass, Session, basic, header};
use crate::{Client, Credentials};

/// Answers beyond this are refused.
const LARGEST: usize = 32 * 1024 * 1024;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// Where redirects led: what another host answers instead of the one that was asked goes by the latter's name.
    pub url: Url,
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, at most 32 MiB.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The target of the `Link` header that names the next page (RFC 8288).
    pub fn next_page(&self) -> Option<&str> {
        self.headers.iter().filter(|(key, _)| key == "link").find_map(|(_, value)| next_in(value))
    }
}

impl Client {
    /// GETs a URL. `hosts`, proxies and retries apply. Redirects are followed: with the credentials on the host that was
    /// asked, without them on others, and not from HTTPS to HTTP or from a public host to a private one. Every other
    /// status is an answer, those that pass (429, 5xx) after they have been tried again. Credentials are sent without being
    /// asked for.
    pub fn get(&self, url: &str, headers: &[(&str, &str)], credentials: &Credentials) -> Result<Response, SourceError> {
        let asked =
            Url::parse(url).map_err(|error| SourceError::caused(Kind::Other, "cannot GET what is not a URL", error))?;
        let invalid = |why: &str| SourceError::new(Kind::Other, format!("cannot GET {}: {why}", shown(&asked)));
        if !matches!(asked.scheme(), "http" | "https") {
            return Err(invalid("not an http or https URL"));
        }
        let origin =
            self.answering(&asked).map_or_else(|| Origin::Named { https: asked.clone(), http: None }, Origin::Told);
        let mut ask = Ask::get(match &origin {
            Origin::Told(base) => moved(&asked, base),
            Origin::Named { .. } => asked.clone(),
        });
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name is not one"))?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid("a header's value is not one"))?;
            ask.headers.insert(name, value);
        }
        let value = match credentials {
            Credentials::Anonymous => None,
            Credentials::Basic { username, password } => Some(basic(username, password.reveal())?),
            Credentials::IdentityToken(_) => return Err(invalid("an identity token is of no use here")),
            Credentials::RegistryToken(token) => Some(header(&format!("Bearer {}", token.reveal()))?),
        };
        let pass = value.map(|value| Pass { origin: ask.url.clone(), value });
        let session = Session::new(origin, Credentials::Anonymous, self.inner.transport(&[])?, None);
        let mut response = self.inner.block_on(self.fetch(&session, &ask, pass.as_ref()))?;
        if response.url.origin() == ask.url.origin() {
            response.url = moved(&response.url, &asked);
        }
        Ok(response)
    }

    /// Who answers instead of a URL's host.
    pub(crate) fn answering(&self, url: &Url) -> Option<Url> {
        let host = url.host_str()?;
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        self.inner.hosts.get(&authority).cloned()
    }

    async fn fetch(&self, session: &Session, ask: &Ask, pass: Option<&Pass>) -> Result<Response, Failure> {
        answered(self.inner.settings.retries, &*self.progress, || fetch_once(session, ask, pass)).await
    }
}

/// An answer, and why it may be another one in a moment.
async fn fetch_once(session: &Session, ask: &Ask, pass: Option<&Pass>) -> Result<(Response, Option<Failure>), Failure> {
    let response = session.follow(&ask.url, ask.clone(), pass).await?.response;
    let (url, status, headers) = (response.url().clone(), response.status(), response.headers().clone());
    let body = session.transport.read(&Method::GET, response, LARGEST).await?;
    let failure = (!status.is_success())
        .then(|| Failure::of_status(&Method::GET, &url, status, &headers, &body, ""))
        .filter(|failure| failure.passing);
    Ok((plain(url, status, &headers, &body), failure))
}

/// A URL's path and query at another origin.
pub(crate) fn moved(url: &Url, to: &Url) -> Url {
    let mut there = to.clone();
    there.set_path(url.path());
    there.set_query(url.query());
    there
}

fn plain(url: Url, status: StatusCode, headers: &reqwest::header::HeaderMap, body: &[u8]) -> Response {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Response { url, status: status.as_u16(), headers, body: body.to_vec() }
}
