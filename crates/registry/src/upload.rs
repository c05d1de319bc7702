//! One blob, from a reader to a registry: is it there, can it be mounted, else POST for a place and PUT the bytes.

use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Method, Request, Response, StatusCode};
use skycap_image::progress::Task;
use skycap_image::{Descriptor, Digest, Event, Kind, SourceError};
use tokio::sync::mpsc;
use url::Url;

use crate::error::{Failure, shown};
use crate::guard::Route;
use crate::manifests::DIGEST;
use crate::remote::{Call, Remote};
use crate::retry::Tries;
use crate::session::Answer;

/// Bytes read at once; so many pieces wait between the reader and the socket.
const PIECE: usize = 128 * 1024;
const PIECES: usize = 8;

/// Opens a blob's bytes from the beginning, checked while they are read.
pub(crate) type Open<'a> = dyn Fn() -> Result<Box<dyn Read + Send>, SourceError> + Sync + 'a;

impl Remote {
    /// Makes sure that the repository has the blob; says how: `exists`, `mounted` or `done`.
    pub fn upload(&self, blob: &Descriptor, open: &Open<'_>, task: &Task<'_>) -> Result<&'static str, Failure> {
        let mut tries = Tries::new(self.inner.settings.retries);
        let mut renewed = false;
        if self.inner.block_on(self.has(blob))? {
            return Ok("exists");
        }
        let mut place = match self.inner.block_on(self.mount(blob)) {
            Mount::Done => return Ok("mounted"),
            Mount::Upload(url) => Some(url),
            Mount::Refused => None,
        };
        loop {
            let failure = match self.upload_once(blob, open, task, place.take(), &mut renewed) {
                Ok(()) => return Ok("done"),
                Err(failure) => failure,
            };
            let wait = tries.after(failure)?;
            self.progress.event(Event::Note(&wait.note));
            std::thread::sleep(wait.time);
            // An answer that was lost may have been a good one.
            if self.inner.block_on(self.has(blob))? {
                return Ok("done");
            }
        }
    }

    /// A registry that does not answer the question is told the blob; if it refuses that as well, it says why.
    async fn has(&self, blob: &Descriptor) -> Result<bool, Failure> {
        match self.send(&Call::new(Method::HEAD, format!("blobs/{}", blob.digest))).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.passing => Err(failure),
            Err(_) => Ok(false),
        }
    }

    /// Asks the registry to link the blob from another of its repositories. A refusal never fails the push.
    async fn mount(&self, blob: &Descriptor) -> Mount {
        let Some(from) = self.inner.mounts.from(blob.digest, &self.repository) else { return Mount::Refused };
        let path = format!("blobs/uploads/?mount={}&from={}", blob.digest, from.path());
        let mut call = Call::new(Method::POST, path);
        call.body = Some(Bytes::new());
        call.scopes.push(format!("repository:{}:pull", from.path()));
        match self.once(&call).await {
            Ok(response) if response.status() == StatusCode::CREATED => Mount::Done,
            Ok(response) => location(&response).map_or(Mount::Refused, Mount::Upload),
            Err(_) => Mount::Refused,
        }
    }

    fn upload_once(
        &self,
        blob: &Descriptor,
        open: &Open<'_>,
        task: &Task<'_>,
        place: Option<Url>,
        renewed: &mut bool,
    ) -> Result<(), Failure> {
        let place = match place {
            Some(place) => place,
            None => self.inner.block_on(self.begin())?,
        };
        let mut reader = open()?;
        let answer = self.stream(place, blob, &mut *reader, task)?;
        self.inner.block_on(self.judge_upload(answer, blob, renewed))
    }

    async fn begin(&self) -> Result<Url, Failure> {
        let mut call = Call::new(Method::POST, "blobs/uploads/");
        call.body = Some(Bytes::new());
        location(&self.once(&call).await?)
    }

    /// Sends the bytes: this thread reads them, the network threads send them.
    fn stream(&self, place: Url, blob: &Descriptor, reader: &mut dyn Read, task: &Task<'_>) -> Result<Answer, Failure> {
        let (pieces, feed) = mpsc::channel(PIECES);
        let sent = Arc::new(AtomicU64::new(0));
        let feed = Feed { pieces: feed, left: blob.size, sent: Arc::clone(&sent) };
        let (route, request) = self.inner.block_on(self.put_request(place, blob, feed))?;
        let transport = Arc::clone(&self.session.transport);
        let size = blob.size;
        let answer = self.inner.spawn(async move { transport.send_slowly(route, request, &sent, size).await });
        let pumped = pump(reader, &pieces, task);
        drop(pieces);
        let answer = self.inner.block_on(answer);
        let answer = answer.unwrap_or_else(|_| Err(Failure::lasting(Kind::Other, "a network thread ended")));
        // What the registry says while we send, such as "too large", explains more than the pipe that then breaks.
        match pumped {
            Err(error) if answer.is_err() => Err(SourceError::from(error).into()),
            _ => Ok(Answer { response: answer?, at_home: route == Route::Home }),
        }
    }

    async fn put_request(&self, place: Url, blob: &Descriptor, feed: Feed) -> Result<(Route, Request), Failure> {
        let pinged = self.session.pinged().await?;
        let route = self.session.route(&pinged.base, &pinged.base, &place).await?;
        let mut request = Request::new(Method::PUT, with_digest(place, blob.digest));
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        // An upload that the registry sends elsewhere goes there without credentials.
        if route == Route::Home
            && let Some(pass) = self.pass(&pinged, &self.scopes(&[]), None).await?
        {
            request.headers_mut().insert(AUTHORIZATION, pass.value);
        }
        *request.body_mut() = Some(reqwest::Body::wrap(feed));
        Ok((route, request))
    }

    async fn judge_upload(&self, answer: Answer, blob: &Descriptor, renewed: &mut bool) -> Result<(), Failure> {
        let Answer { response, at_home } = answer;
        let status = response.status();
        if status.is_success() {
            return check_digest(&Method::PUT, &response, blob.digest);
        }
        let mut again = matches!(status.as_u16(), 404 | 416);
        // What another host asks for is not the registry's to be answered.
        if status == StatusCode::UNAUTHORIZED && at_home && !*renewed {
            let pinged = self.session.pinged().await?;
            let scopes = self.scopes(&[]);
            let pass = self.pass(&pinged, &scopes, None).await?;
            again = self.renewed(&pinged, &scopes, &response, pass.as_ref()).await?.is_some();
            *renewed = true;
        }
        let failure = self.session.failure(&Method::PUT, response).await;
        let again = again || failure.codes.iter().any(|code| code == "BLOB_UPLOAD_INVALID" || code == "UNKNOWN");
        Err(Failure { passing: failure.passing || again, ..failure })
    }
}

/// A digest that the registry states must be ours.
pub(crate) fn check_digest(method: &Method, response: &Response, ours: Digest) -> Result<(), Failure> {
    let stated = response.headers().get(DIGEST).and_then(|value| value.to_str().ok()?.parse::<Digest>().ok());
    match stated {
        Some(stated) if stated.algorithm() == ours.algorithm() && stated != ours => {
            let what = format!("{method} {}: the registry stored {stated} instead of {ours}", shown(response.url()));
            Err(Failure::lasting(Kind::Corrupt, what))
        }
        _ => Ok(()),
    }
}

enum Mount {
    Done,
    Upload(Url),
    Refused,
}

/// Where an upload goes on: absolute or relative.
fn location(response: &Response) -> Result<Url, Failure> {
    let text = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let url = if text.is_empty() { None } else { response.url().join(text).ok() };
    url.ok_or_else(|| {
        let what =
            format!("POST {}: the registry does not say where the upload goes (Location)", shown(response.url()));
        Failure::lasting(Kind::Other, what)
    })
}

/// The query is the registry's own state: it stays byte for byte as it was.
fn with_digest(mut place: Url, digest: Digest) -> Url {
    let kept =
        place.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("digest="));
    let mut query: Vec<String> = kept.map(str::to_owned).collect();
    query.push(format!("digest={digest}"));
    place.set_query(Some(&query.join("&")));
    place
}

/// Moves the bytes from a reader to the socket's side; stops when that side has closed.
fn pump(reader: &mut dyn Read, pieces: &mpsc::Sender<io::Result<Bytes>>, task: &Task<'_>) -> io::Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let count = match reader.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let _ = pieces.blocking_send(Err(io::Error::other("the blob cannot be read")));
                return Err(error);
            }
        };
        if count == 0 {
            return Ok(());
        }
        piece.truncate(count);
        if pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
        task.advance(count as u64);
    }
}

/// A request body of known length, fed by a thread.
struct Feed {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    left: u64,
    sent: Arc<AtomicU64>,
}

impl Body for Feed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match ready!(self.pieces.poll_recv(context)) {
            Some(piece) => piece?,
            None if self.left == 0 => return Poll::Ready(None),
            None => return Poll::Ready(Some(Err(io::Error::other("the blob is shorter than its descriptor says")))),
        };
        let length = piece.len() as u64;
        self.left = match self.left.checked_sub(length) {
            Some(left) => left,
            None => return Poll::Ready(Some(Err(io::Error::other("the blob is longer than its descriptor says")))),
        };
        self.sent.fetch_add(length, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_an_upload_survives_the_digest() {
        let digest = Digest::sha256(b"");
        for (place, expected) in [
            ("http://r/v2/u/1", format!("http://r/v2/u/1?digest={digest}")),
            ("http://r/u?_state=a%2Fb==", format!("http://r/u?_state=a%2Fb==&digest={digest}")),
            ("http://r/u?digest=old&x=1", format!("http://r/u?x=1&digest={digest}")),
        ] {
            assert_eq!(with_digest(Url::parse(place).unwrap(), digest).as_str(), expected);
        }
    }
}
