//! What a request can come to, and how it reads: `GET https://host/v2/…: MANIFEST_UNKNOWN: manifest unknown`.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use skycap_image::{Digest, Kind, SourceError};
use url::Url;

/// Error bodies are read this far.
pub(crate) const LARGEST_ERROR: usize = 64 * 1024;
/// How the C libraries say that a name has no address. A server of names that fails or does not answer is another matter,
/// and passes.
const NO_SUCH_HOST: [&str; 4] =
    ["Name or service not known", "No address associated", "Name does not resolve", "Name has no usable address"];
/// So much of a body that is no error document is shown.
const SHOWN: usize = 1024;

/// An error with what the retry loop and the callers decide by.
#[derive(Debug)]
pub(crate) struct Failure {
    pub what: String,
    pub kind: Kind,
    /// The status, if there was an answer.
    pub status: Option<StatusCode>,
    /// The error codes of the answer's body, such as `MANIFEST_UNKNOWN`.
    pub codes: Box<[String]>,
    /// The digests that the answer's body names.
    pub digests: Vec<Digest>,
    /// How long the server asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether the same request may succeed later.
    pub passing: bool,
    /// Whether the connection was refused by a host that has not answered anything since this client began.
    pub nobody_there: bool,
    /// Whether the server speaks TLS, and one of us does not trust the other.
    pub no_trust: bool,
    /// How often it was tried.
    pub tries: u32,
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure that trying again does not cure.
    pub fn lasting(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            kind,
            status: None,
            codes: Box::default(),
            digests: Vec::new(),
            retry_after: None,
            passing: false,
            nobody_there: false,
            no_trust: false,
            tries: 1,
            source: None,
        }
    }

    /// A failure that may be over in a moment.
    pub fn passing(what: impl Into<String>) -> Self {
        Self { passing: true, ..Self::lasting(Kind::Transient, what) }
    }

    /// Somebody threw the switch.
    pub fn stopped(what: &str) -> Self {
        Self::lasting(Kind::Other, format!("{what}: stopped"))
    }

    /// A request that got no answer, or whose body broke off.
    pub fn of_transport(method: &Method, url: &Url, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let request = format!("{method} {}", shown(url));
        let text = chain(&error);
        if let Some(reason) = tls_reason(&error) {
            let no_trust = matches!(
                find::<rustls::Error>(&error),
                Some(rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_))
            );
            let failure = Self::lasting(Kind::Other, format!("{request}: TLS: {reason}"));
            return Self { no_trust, ..failure };
        }
        if find::<hyper::Error>(&error).is_some_and(hyper::Error::is_parse) {
            return Self::lasting(Kind::Other, format!("{request}: the answer is not HTTP: {text}"));
        }
        if NO_SUCH_HOST.iter().any(|unknown| text.contains(unknown)) {
            return Self::lasting(
                Kind::Other,
                format!("{request}: no such host (check the registry's name, and this machine's network)"),
            );
        }
        if let Some(refusal) = find::<crate::guard::Refused>(&error) {
            return Self::lasting(Kind::Denied, format!("{request}: {refusal}"));
        }
        let what = if error.is_timeout() { format!("{request}: timed out") } else { format!("{request}: {text}") };
        let nobody_there =
            find::<std::io::Error>(&error).is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        Self { nobody_there, ..Self::passing(what) }
    }

    /// An answer whose status is not what was hoped for. `body` is the part of it that was read.
    pub fn of_status(
        method: &Method,
        url: &Url,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        hint: &str,
    ) -> Self {
        let document = serde_json::from_slice::<Document>(body).unwrap_or_default();
        let mut what = format!("{method} {}: ", shown(url));
        if document.errors.is_empty() {
            let _ = write!(what, "unexpected status code {}", described(status));
            if method == Method::HEAD {
                what.push_str(" (HEAD responses have no body, use GET for details)");
            } else if !body.is_empty() {
                let _ = write!(what, ": {}", excerpt(body));
            }
        } else {
            let errors: Vec<String> = document.errors.iter().map(Entry::text).collect();
            if errors.len() > 1 {
                what.push_str("multiple errors returned: ");
            }
            what.push_str(&errors.join("; "));
        }
        let digests = document.errors.iter().flat_map(Entry::digests).collect();
        let codes: Box<[String]> = document.errors.into_iter().map(|entry| entry.code).collect();
        let kind = kind_of(status, &codes);
        if !hint.is_empty() && matches!(kind, Kind::Denied | Kind::RateLimited) {
            let _ = write!(what, " ({hint})");
        }
        let retry_after = crate::retry::retry_after(headers);
        if let Some(wait) = retry_after {
            let _ = write!(what, "; retry after {} s", wait.as_secs());
        }
        let passing = is_passing(status);
        Self { status: Some(status), codes, digests, retry_after, passing, ..Self::lasting(kind, what) }
    }

    /// Says how often it was tried.
    pub fn after(mut self, tries: u32) -> Self {
        if tries > 1 {
            let _ = write!(self.what, " (tried {tries} times)");
        }
        if self.nobody_there {
            self.what.push_str(": nothing listens there; check that it runs, and its host and port");
        }
        self.tries = tries;
        self
    }

    /// Keeps the error that caused this one.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether the answer had this status.
    pub fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }
}

impl From<Failure> for SourceError {
    fn from(failure: Failure) -> Self {
        Self { what: failure.what, kind: failure.kind, source: failure.source }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let passing = error.kind == Kind::Transient;
        Self { passing, source: error.source, ..Self::lasting(error.kind, error.what) }
    }
}

/// The error document of the distribution specification.
#[derive(Default, Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

impl Entry {
    fn text(&self) -> String {
        let mut text = format!("{}: {}", plain(&self.code), plain(&self.message));
        match &self.detail {
            serde_json::Value::Null => {}
            serde_json::Value::String(detail) if detail.is_empty() => {}
            serde_json::Value::String(detail) => {
                let _ = write!(text, "; {}", plain(detail));
            }
            detail => {
                let _ = write!(text, "; {}", plain(&detail.to_string()));
            }
        }
        text
    }
}

impl Entry {
    /// Every digest in the detail and the message, wherever it stands.
    fn digests(&self) -> Vec<Digest> {
        let text = format!("{} {}", self.message, self.detail);
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
        words.filter(|word| word.contains(':')).filter_map(|word| word.parse().ok()).collect()
    }
}

fn kind_of(status: StatusCode, codes: &[String]) -> Kind {
    match status.as_u16() {
        _ if codes.iter().any(|code| code == "TOOMANYREQUESTS") => Kind::RateLimited,
        401 | 403 => Kind::Denied,
        404 => Kind::NotFound,
        429 => Kind::RateLimited,
        _ if is_passing(status) => Kind::Transient,
        _ => Kind::Other,
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=524)
}

fn described(status: StatusCode) -> String {
    status
        .canonical_reason()
        .map_or_else(|| status.as_str().to_owned(), |reason| format!("{} {reason}", status.as_str()))
}

/// A URL as it may be printed: without user, password and any part of the query that might be a secret.
pub fn shown(url: &Url) -> String {
    let harmless = ["n", "last", "mount", "from", "digest", "service", "scope", "page", "page_size"];
    let mut shown = url.clone();
    let _ = shown.set_username("");
    let _ = shown.set_password(None);
    shown.set_fragment(None);
    shown.set_query(None);
    let kept: Vec<String> = url
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| harmless.contains(&pair.split_once('=').map_or(*pair, |(name, _)| name)))
        .map(str::to_owned)
        .collect();
    if !kept.is_empty() {
        shown.set_query(Some(&kept.join("&")));
    }
    shown.to_string()
}

/// What a server said, cut to a length and without anything that moves a terminal's cursor.
fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(SHOWN)]);
    plain(text.trim())
}

pub(crate) fn plain(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN).collect();
    cut.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The innermost causes of a transport error; the outer ones only repeat that sending failed.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        cause = error.source();
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

fn tls_reason(error: &(dyn Error + 'static)) -> Option<String> {
    let error = find::<rustls::Error>(error)?;
    if error.to_string().contains("CaUsedAsEndEntity") {
        return Some(
            "the server shows an authority's own certificate, as `openssl req -x509` makes it by default (make one for the \
             server with -addext basicConstraints=critical,CA:FALSE)"
                .to_owned(),
        );
    }
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => format!(
            "the server's certificate is not valid: {reason} (a registry with an authority of its own needs it in ca_certs)"
        ),
        rustls::Error::InvalidMessage(_) => {
            "the server does not speak TLS here (plain HTTP is only spoken where it is allowed: insecure)".to_owned()
        }
        other => other.to_string(),
    })
}

/// Looks for a type of error along the chain, also inside I/O errors, which hide what they wrap.
fn find<'e, T: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e T> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(found) = find::<T>(inner)
        {
            return Some(found);
        }
        current = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(method: &Method, status: u16, body: &str) -> Failure {
        let url = Url::parse("https://user:pw@r.example/v2/a/manifests/1?sig=hidden&n=5").unwrap();
        Failure::of_status(
            method,
            &url,
            StatusCode::from_u16(status).unwrap(),
            &HeaderMap::new(),
            body.as_bytes(),
            "hint",
        )
    }

    #[test]
    fn an_error_document_gives_its_codes() {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"1"}}]}"#;
        let failure = failure(&Method::GET, 404, body);
        let text = "GET https://r.example/v2/a/manifests/1?n=5: MANIFEST_UNKNOWN: manifest unknown; {\"Tag\":\"1\"}";
        assert_eq!((failure.what.as_str(), failure.kind), (text, Kind::NotFound));
    }

    #[test]
    fn other_bodies_are_shown_in_part_and_harmlessly() {
        let failed = failure(&Method::GET, 503, &format!("\u{1b}[31mbusy{}", "x".repeat(5000)));
        assert!(failed.what.contains("unexpected status code 503 Service Unavailable:  [31mbusyxx"), "{}", failed.what);
        assert!(failed.what.len() < 1300 && failed.passing);
        let failed = failure(&Method::HEAD, 401, "");
        assert!(failed.what.ends_with("401 Unauthorized (HEAD responses have no body, use GET for details) (hint)"));
        assert_eq!(failed.kind, Kind::Denied);
    }

    #[test]
    fn kinds_follow_status_and_code() {
        for (status, body, kind, passing) in [
            (429, "", Kind::RateLimited, true),
            (403, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#, Kind::RateLimited, false),
            (403, "", Kind::Denied, false),
            (400, "", Kind::Other, false),
            (501, "", Kind::Other, false),
            (522, "", Kind::Transient, true),
        ] {
            let failure = failure(&Method::GET, status, body);
            assert_eq!((failure.kind, failure.passing), (kind, passing), "{status}");
        }
    }
}
