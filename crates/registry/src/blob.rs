//! A blob as a blocking reader. A connection that breaks is opened again where it broke: bytes already handed out are
//! never fetched twice, as far as the registry knows `Range`.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use skycap_image::progress::Task;
use skycap_image::{Descriptor, Event, Kind, SourceError};

use crate::error::{Failure, shown};
use crate::remote::{Call, Remote};
use crate::retry::Tries;
use crate::transport::stalled;

/// So many bytes between two cuts count as progress, which renews the tries.
const PROGRESS: u64 = 64 * 1024;
/// A body slower than this many bytes a second, for as long as the stall time, counts as cut.
const SLOWEST: u64 = 1024;

/// The body of a blob.
pub(crate) struct BlobStream {
    remote: Remote,
    blob: Descriptor,
    body: Option<Response>,
    /// Fetched, not handed out yet.
    ready: Bytes,
    /// Bytes fetched so far.
    position: u64,
    /// Bytes that a registry without `Range` sends again.
    skip: u64,
    /// The registry answered `Range` wrongly once.
    without_range: bool,
    tries: Tries,
    /// The position at the last cut.
    cut_at: u64,
    pace: Pace,
    task: Option<Task<'static>>,
    ended: bool,
}

impl BlobStream {
    /// Asks for the blob; fails here if the registry does not have it.
    pub fn open(remote: Remote, blob: &Descriptor) -> Result<Self, SourceError> {
        let label = format!("pull {}", label(blob));
        let task = Task::start_shared(remote.progress.clone(), &label, Some(blob.size));
        let mut stream = Self {
            tries: Tries::new(remote.inner.settings.retries),
            remote,
            blob: blob.clone(),
            body: None,
            ready: Bytes::new(),
            position: 0,
            skip: 0,
            without_range: false,
            cut_at: 0,
            pace: Pace::default(),
            task: Some(task),
            ended: false,
        };
        let inner = stream.remote.inner.clone();
        inner.block_on(stream.connect())?;
        Ok(stream)
    }

    /// Makes sure that there is a body to read from.
    async fn connect(&mut self) -> Result<(), Failure> {
        while self.body.is_none() && !self.ended {
            if let Err(failure) = self.connect_once().await {
                self.pause(failure).await?;
            }
        }
        Ok(())
    }

    async fn connect_once(&mut self) -> Result<(), Failure> {
        let mut call = Call::new(Method::GET, format!("blobs/{}", self.blob.digest));
        let resume = self.position > 0 && !self.without_range;
        if resume && let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", self.position)) {
            call.headers.insert(RANGE, range);
        }
        let response = match self.remote.once(&call).await {
            Err(failure) if failure.is(StatusCode::RANGE_NOT_SATISFIABLE) && self.position == self.blob.size => {
                self.ended = true;
                return Ok(());
            }
            other => other?,
        };
        self.pace = Pace::default();
        if response.status() == StatusCode::PARTIAL_CONTENT {
            self.check_range(&response, resume)?;
        } else {
            self.check_length(&response)?;
            self.skip = self.position;
        }
        self.body = Some(response);
        Ok(())
    }

    fn check_range(&mut self, response: &Response, resume: bool) -> Result<(), Failure> {
        let range = content_range(response.headers());
        if resume
            && range.is_some_and(|(start, total)| {
                start == self.position && total.unwrap_or(self.blob.size) == self.blob.size
            })
        {
            return Ok(());
        }
        self.without_range = true;
        let what = format!("GET {}: the answer is not the range that was asked for", shown(response.url()));
        Err(Failure::passing(what))
    }

    /// A length that differs from the descriptor's would only be noticed after the last byte.
    fn check_length(&self, response: &Response) -> Result<(), Failure> {
        let stated = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match stated {
            Some(length) if length != self.blob.size => {
                let what = format!(
                    "GET {}: the registry has {length} bytes, the descriptor says {}",
                    shown(response.url()),
                    self.blob.size
                );
                Err(Failure::lasting(Kind::Corrupt, what))
            }
            _ => Ok(()),
        }
    }

    /// The next bytes; empty at the end.
    async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            self.connect().await?;
            let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
            let url = body.url().clone();
            let failure = match self.pace.chunk(body, self.remote.session.transport.stall).await {
                Ok(Some(mut chunk)) => {
                    let again = self.skip.min(chunk.len() as u64);
                    chunk.advance(usize::try_from(again).unwrap_or(usize::MAX));
                    self.skip -= again;
                    if chunk.is_empty() {
                        continue;
                    }
                    self.position += chunk.len() as u64;
                    return Ok(chunk);
                }
                Ok(None) if self.position >= self.blob.size => {
                    self.ended = true;
                    self.body = None;
                    return Ok(Bytes::new());
                }
                Ok(None) => Failure::passing(format!("GET {}: the body ends early", shown(&url))),
                Err(Cut::Broken(error)) => Failure::of_transport(&Method::GET, &url, error),
                Err(Cut::Slow(time)) => stalled(&Method::GET, &url, "the body makes no progress", time),
            };
            let what = format!("{} after {} of {} bytes", failure.what, self.position, self.blob.size);
            self.pause(Failure { what, ..failure }).await?;
        }
    }

    async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        self.body = None;
        if self.position - self.cut_at >= PROGRESS {
            self.tries.progressed();
        }
        self.cut_at = self.position;
        let wait = self.tries.after(failure)?;
        self.remote.progress.event(Event::Note(&wait.note));
        tokio::time::sleep(wait.time).await;
        Ok(())
    }
}

impl Read for BlobStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.is_empty() && !self.ended && !buffer.is_empty() {
            let inner = self.remote.inner.clone();
            self.ready = inner.block_on(self.next()).map_err(|failure| io::Error::from(SourceError::from(failure)))?;
            if let Some(task) = &self.task {
                task.advance(self.ready.len() as u64);
            }
        }
        if self.ended && self.ready.is_empty() {
            if let Some(task) = self.task.take() {
                task.finish("done");
            }
            return Ok(0);
        }
        let count = buffer.len().min(self.ready.len());
        self.ready.split_to(count).copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// How a blob is called in a line of progress.
pub(crate) fn label(blob: &Descriptor) -> String {
    let kind = if blob.media_type.is_image_config() { "config" } else { "layer" };
    format!("{kind} {}", &blob.digest.hex()[..12])
}

/// The first byte of an answer, and the total where it is stated.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (start, _, total) = crate::parse::content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)?;
    Some((start, total))
}

enum Cut {
    Broken(reqwest::Error),
    Slow(Duration),
}

/// Watches the speed of a body. Only time spent waiting for the network counts, not the time that the reader takes.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    async fn chunk(&mut self, body: &mut Response, stall: Duration) -> Result<Option<Bytes>, Cut> {
        let start = Instant::now();
        let chunk = tokio::time::timeout(stall, body.chunk()).await.map_err(|_| Cut::Slow(stall))?;
        let chunk = chunk.map_err(Cut::Broken)?;
        self.waited += start.elapsed();
        self.bytes += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        if self.waited >= stall {
            let slow = chunk.is_some() && self.bytes < SLOWEST * self.waited.as_secs();
            *self = Self::default();
            if slow {
                return Err(Cut::Slow(stall));
            }
        }
        Ok(chunk)
    }
}
