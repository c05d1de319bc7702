//! Requests to token services. Their bodies are credentials: nothing of them is shown, no redirect is followed.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqsign_core::HttpSend;
use reqwest::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use reqwest::{Method, Request};
use skycap_image::{Kind, SourceError};
use url::Url;

use crate::error::{Failure, shown};
use crate::guard::Route;
use crate::retry::answered;
use crate::transport::Lane;
use crate::{Client, Retries};

/// Answers beyond this are refused.
const LARGEST: usize = 1024 * 1024;
/// A machine without a metadata service does not answer at all.
const METADATA: Duration = Duration::from_secs(2);

/// A client that asks token services.
#[derive(Clone)]
pub(super) struct Wire(pub Client);

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

/// An answer, read whole.
pub(super) struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A question to a token service.
pub(super) struct Question {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Question {
    /// A GET.
    pub fn get(url: &str) -> Result<Self, SourceError> {
        Ok(Self { method: Method::GET, url: parse(url)?, headers: HeaderMap::new(), body: Bytes::new() })
    }

    /// A POST of a form.
    pub fn form(url: &str, fields: &[(&str, &str)]) -> Result<Self, SourceError> {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        let body = body.extend_pairs(fields).finish();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        Ok(Self { method: Method::POST, url: parse(url)?, headers, body: body.into() })
    }

    /// With a header, whose value may be a secret.
    pub fn with(mut self, name: &'static str, value: &str) -> Result<Self, SourceError> {
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| SourceError::new(Kind::Other, format!("a {name} header cannot hold what was found for it")))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }
}

fn parse(url: &str) -> Result<Url, SourceError> {
    Url::parse(url).map_err(|error| SourceError::caused(Kind::Other, format!("{url:?} is not a URL"), error))
}

impl Wire {
    /// Asks, and asks again what may pass. Every status is an answer.
    pub fn ask(&self, question: &Question) -> Result<Answer, SourceError> {
        Ok(self.0.inner.block_on(self.send(question))?)
    }

    /// Asks; anything but 200 is an error that shows the service's own words.
    pub fn ask_ok(&self, question: &Question) -> Result<Bytes, SourceError> {
        let answer = self.ask(question)?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let status = reqwest::StatusCode::from_u16(answer.status).unwrap_or_default();
        let hint = "";
        Err(Failure::of_status(&question.method, &question.url, status, &answer.headers, &answer.body, hint).into())
    }

    async fn send(&self, question: &Question) -> Result<Answer, Failure> {
        let is_metadata = question.url.host_str().is_some_and(|host| host.starts_with("169.254."));
        let retries = self.0.inner.settings.retries;
        let retries = if is_metadata { Retries { attempts: 1, ..retries } } else { retries };
        answered(retries, &*self.0.progress, || self.send_once(question, is_metadata)).await
    }

    /// The answer, and what is wrong with it where another try may cure that.
    async fn send_once(&self, question: &Question, is_metadata: bool) -> Result<(Answer, Option<Failure>), Failure> {
        let transport = self.0.inner.transport(&[])?;
        let answering = self.0.answering(&question.url);
        let mut request = Request::new(question.method.clone(), question.url.clone());
        *request.headers_mut() = question.headers.clone();
        if let Some(base) = &answering {
            *request.url_mut() = crate::http::moved(&question.url, base);
            // The name that was asked for is part of what is signed.
            if let Some(host) = question.url.host_str().and_then(|host| HeaderValue::from_str(host).ok()) {
                request.headers_mut().insert(HOST, host);
            }
        }
        *request.body_mut() = Some(question.body.clone().into());
        let sent = transport.send(Route::Home, Lane::Small, request);
        let response = if is_metadata && answering.is_none() {
            let late = |_| Failure::passing(format!("{} {}: no answer", question.method, shown(&question.url)));
            tokio::time::timeout(METADATA, sent).await.map_err(late)??
        } else {
            sent.await?
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = transport.read(&question.method, response, LARGEST).await?;
        let failure = matches!(status.as_u16(), 429 | 500..)
            .then(|| Failure::of_status(&question.method, &question.url, status, &headers, &body, ""));
        Ok((Answer { status: status.as_u16(), headers, body }, failure))
    }
}

impl HttpSend for Wire {
    async fn http_send(&self, request: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |what: String| reqsign_core::Error::unexpected(what);
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| failed(error.to_string()))?;
        let question = Question { method: parts.method, url, headers: parts.headers, body };
        let answer = self.send(&question).await.map_err(|failure| failed(failure.what))?;
        let mut response = http::Response::new(answer.body);
        *response.status_mut() = http::StatusCode::from_u16(answer.status).unwrap_or_default();
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}
