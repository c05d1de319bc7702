//! Files by their URL, of any size, written to a file. The rules are those of [`Client::get`]: redirects are followed, and
//! credentials stay with the host that was asked.

use std::fs::File;
use std::io::{Seek as _, Write as _};

use reqwest::header::{HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode};
use skycap_image::{Kind, SourceError};
use url::Url;

use crate::Client;
use crate::error::{Failure, shown};
use crate::http::moved;
use crate::origin::Origin;
use crate::pace::{Cut, Pace};
use crate::retry::retried;
use crate::session::{Ask, Pass, Session, basic, header};
use crate::transport::{Lane, stalled};

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Download<'a> {
    /// An http or https URL.
    pub url: &'a str,
    /// The value of `Authorization`, for the URL's origin only.
    pub authorization: Option<&'a skycap_image::Secret>,
    /// The `ETag` of a file that is known.
    pub etag: Option<&'a str>,
    /// Its `Last-Modified`.
    pub last_modified: Option<&'a str>,
    /// More bytes than that are an error.
    pub largest: u64,
}

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Downloaded {
    /// The file is as it was; nothing was written.
    Unchanged,
    /// The whole file was written.
    Whole {
        /// The answer's `ETag`.
        etag: Option<String>,
        /// The answer's `Last-Modified`.
        last_modified: Option<String>,
    },
}

impl Client {
    /// GETs a file into `into`, which is truncated first. What may pass is tried again, from the beginning. Every status
    /// but 200, and 304 where something is known, is an error.
    pub fn download(&self, download: &Download<'_>, into: &mut File) -> Result<Downloaded, SourceError> {
        let asked = Url::parse(download.url)
            .map_err(|error| SourceError::caused(Kind::Other, "cannot GET what is not a URL", error))?;
        let invalid = |why: &str| SourceError::new(Kind::Other, format!("cannot GET {}: {why}", shown(&asked)));
        if !matches!(asked.scheme(), "http" | "https") {
            return Err(invalid("not an http or https URL"));
        }
        let plain = without_user(&asked).ok_or_else(|| invalid("its user cannot be taken out"))?;
        let origin =
            self.answering(&asked).map_or_else(|| Origin::Named { https: plain.clone(), http: None }, Origin::Told);
        let mut ask = Ask::get(match &origin {
            Origin::Told(base) => moved(&plain, base),
            Origin::Named { .. } => plain,
        });
        ask.lane = Lane::Blob;
        let known = [(IF_NONE_MATCH, download.etag), (IF_MODIFIED_SINCE, download.last_modified)];
        // Where both are known, the tag decides (RFC 9110, 13.1.3).
        if let Some((name, value)) = known.into_iter().find_map(|(name, value)| Some((name, value?))) {
            let value = HeaderValue::from_str(value).map_err(|_| invalid("what is known of it is no header"))?;
            ask.headers.insert(name, value);
        }
        let pass = pass(&asked, &ask, download)?;
        let session = Session::new(origin, crate::Credentials::Anonymous, self.inner.transport(&[])?, None);
        let whole = Whole { session: &session, ask: &ask, pass: pass.as_ref(), largest: download.largest };
        let into = tokio::sync::Mutex::new(into);
        let once = || async {
            let mut into = into.lock().await;
            whole.fetch(&mut into).await
        };
        Ok(self.inner.block_on(retried(self.inner.settings.retries, &*self.progress, once))?)
    }
}

/// The credentials that are given, else those of the URL itself.
fn pass(asked: &Url, ask: &Ask, download: &Download<'_>) -> Result<Option<Pass>, Failure> {
    let value = match (download.authorization, asked.username(), asked.password()) {
        (Some(given), ..) => header(given.reveal())?,
        (None, "", None) => return Ok(None),
        (None, user, password) => basic(&decoded(user), &decoded(password.unwrap_or_default()))?,
    };
    Ok(Some(Pass { origin: ask.url.clone(), value }))
}

/// What a part of a URL stands for, as far as it is text.
fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// A URL without the credentials that are in it: they go into a header.
fn without_user(url: &Url) -> Option<Url> {
    let mut plain = url.clone();
    plain.set_username("").and_then(|()| plain.set_password(None)).ok()?;
    plain.set_fragment(None);
    Some(plain)
}

/// A file to fetch whole.
struct Whole<'a> {
    session: &'a Session,
    ask: &'a Ask,
    pass: Option<&'a Pass>,
    largest: u64,
}

impl Whole<'_> {
    async fn fetch(&self, into: &mut File) -> Result<Downloaded, Failure> {
        let response = self.session.follow(&self.ask.url, self.ask.clone(), self.pass).await?.response;
        let is_conditional = !self.ask.headers.is_empty();
        match response.status() {
            StatusCode::NOT_MODIFIED if is_conditional => return Ok(Downloaded::Unchanged),
            StatusCode::OK => {}
            _ => return Err(self.session.failure(&Method::GET, response).await),
        }
        let text = |headers: &HeaderMap, name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        let etag = text(response.headers(), "etag");
        let last_modified = text(response.headers(), "last-modified");
        self.write(response, into).await?;
        Ok(Downloaded::Whole { etag, last_modified })
    }

    async fn write(&self, mut response: Response, into: &mut File) -> Result<(), Failure> {
        let url = response.url().clone();
        let too_long = || {
            let what = format!("GET {}: the answer is longer than {} bytes", shown(&url), self.largest);
            Failure::lasting(Kind::Corrupt, what)
        };
        let unwritten = |error: std::io::Error| {
            let what = format!("GET {}: the answer cannot be written: {error}", shown(&url));
            Failure::lasting(Kind::Other, what)
        };
        let stated = response.content_length();
        if stated.is_some_and(|length| length > self.largest) {
            return Err(too_long());
        }
        into.set_len(0).and_then(|()| into.rewind()).map_err(unwritten)?;
        let stall = self.session.transport.stall;
        let (mut pace, mut length) = (Pace::default(), 0_u64);
        loop {
            match pace.chunk(&mut response, stall).await {
                Ok(Some(chunk)) => {
                    length += chunk.len() as u64;
                    if length > self.largest {
                        return Err(too_long());
                    }
                    into.write_all(&chunk).map_err(unwritten)?;
                }
                Ok(None) if stated.is_none_or(|stated| stated == length) => return Ok(()),
                Ok(None) => return Err(Failure::passing(format!("GET {}: the body ends early", shown(&url)))),
                Err(Cut::Broken(error)) => return Err(Failure::of_transport(&Method::GET, &url, error)),
                Err(Cut::Slow(time)) => {
                    return Err(stalled(&Method::GET, &url, "the body makes no progress", time));
                }
            }
        }
    }
}
