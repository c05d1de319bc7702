//! Plain requests, for web APIs beside the registry protocol, such as Docker Hub's list of tags.

use reqwest::Request;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use skycap_image::{Event, Kind, SourceError};
use url::Url;

use crate::error::Failure;
use crate::guard::Route;
use crate::retry::Tries;
use crate::session::basic;
use crate::{Client, Credentials};

/// Answers beyond this are refused.
const LARGEST: usize = 32 * 1024 * 1024;

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Response {
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
}

impl Client {
    /// GETs a URL. `hosts`, proxies and retries apply; redirects are not followed. Every status is an answer, those that
    /// pass (429, 5xx) after they have been tried again. Credentials are sent without being asked for.
    pub fn get(&self, url: &str, headers: &[(&str, &str)], credentials: &Credentials) -> Result<Response, SourceError> {
        let invalid = |why: &str| SourceError::new(Kind::Other, format!("cannot GET {url:?}: {why}"));
        let parsed = Url::parse(url).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid("not an http or https URL"));
        }
        let mut request = Request::new(Method::GET, self.redirected(parsed));
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name is not one"))?;
            let value = HeaderValue::from_str(value).map_err(|_| invalid("a header's value is not one"))?;
            request.headers_mut().insert(name, value);
        }
        match credentials {
            Credentials::Anonymous => {}
            Credentials::Basic { username, password } => {
                request.headers_mut().insert(AUTHORIZATION, basic(username, password.reveal())?);
            }
            Credentials::IdentityToken(_) => return Err(invalid("an identity token is of no use here")),
        }
        Ok(self.inner.block_on(self.fetch(&request))?)
    }

    /// The URL of whoever answers instead, with the same path and query.
    fn redirected(&self, url: Url) -> Url {
        let authority = match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => return url,
        };
        let Some(base) = self.inner.hosts.get(&authority) else { return url };
        let mut there = base.clone();
        there.set_path(url.path());
        there.set_query(url.query());
        there
    }

    async fn fetch(&self, request: &Request) -> Result<Response, Failure> {
        let transport = self.inner.transport(&[])?;
        let mut tries = Tries::new(self.inner.settings.retries);
        loop {
            let copy = request.try_clone().ok_or_else(|| Failure::lasting(Kind::Other, "a request without a copy"))?;
            let answer = async {
                let response = transport.send(Route::Elsewhere, copy).await?;
                let (status, headers) = (response.status(), response.headers().clone());
                let body = transport.read(&Method::GET, response, LARGEST).await?;
                Ok((status, headers, body))
            };
            let failure = match answer.await {
                Ok((status, headers, body)) => {
                    let failure = Failure::of_status(&Method::GET, request.url(), status, &headers, &body, "");
                    let response = plain(status, &headers, &body);
                    if status.is_success() || !failure.passing {
                        return Ok(response);
                    }
                    match tries.after(failure) {
                        Ok(wait) => Ok(wait),
                        Err(_) => return Ok(response),
                    }
                }
                Err(failure) => tries.after(failure),
            };
            let wait = failure?;
            self.inner.progress.event(Event::Note(&wait.note));
            tokio::time::sleep(wait.time).await;
        }
    }
}

fn plain(status: StatusCode, headers: &reqwest::header::HeaderMap, body: &[u8]) -> Response {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    Response { status: status.as_u16(), headers, body: body.to_vec() }
}
