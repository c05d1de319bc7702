//! A blob as a blocking reader. A connection that breaks is opened again where it broke: bytes already handed out are
//! never fetched twice, as far as the registry knows `Range`. Where one connection is slow, parts are fetched over several.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use skycap_image::progress::Task;
use skycap_image::{Descriptor, Event, Kind, SourceError};
use url::Url;

use crate::encoding;
use crate::error::{Failure, shown};
use crate::pace::{Cut, Pace};
use crate::ranges::{PART, Ranges};
use crate::remote::{Call, PORTAL, Remote, Target, is_page};
use crate::retry::Tries;
use crate::transport::{Lane, stalled};

/// So many bytes between two cuts count as progress, which renews the tries.
const PROGRESS: u64 = 64 * 1024;
/// Blobs with less than this many parts ahead are not worth more connections.
const FEWEST_PARTS: u64 = 4;
/// How often parts are tried after they failed.
const PARTINGS: u32 = 3;

/// The body of a blob.
pub(crate) struct BlobStream {
    remote: Remote,
    blob: Descriptor,
    /// Where the blob is asked for.
    from: Target,
    body: Option<Response>,
    /// Fetched, not handed out yet.
    ready: Bytes,
    /// Bytes fetched so far.
    position: u64,
    /// Bytes that a registry without `Range` sends again.
    skip: u64,
    /// The registry answered `Range` wrongly once.
    without_range: bool,
    /// The body is packed in a way of the server's own; its length says nothing.
    is_packed: bool,
    /// What follows the present body, if the rest comes in parts, and where it begins.
    parts: Option<(Ranges, u64)>,
    partings: u32,
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
        let from = Target::Path(format!("blobs/{}", blob.digest));
        Self::open_at(remote, blob, from)
    }

    /// Asks for the blob at an address of its descriptor. Nobody there is shown who we are.
    pub fn open_elsewhere(remote: Remote, blob: &Descriptor, url: Url) -> Result<Self, SourceError> {
        Self::open_at(remote, blob, Target::Stranger(url))
    }

    fn open_at(remote: Remote, blob: &Descriptor, from: Target) -> Result<Self, SourceError> {
        let label = format!("pull {}", label(blob));
        let task = Task::start_shared(remote.progress.clone(), &label, Some(blob.size));
        let mut stream = Self {
            tries: Tries::new(remote.inner.settings.retries),
            remote,
            blob: blob.clone(),
            from,
            body: None,
            ready: Bytes::new(),
            position: 0,
            skip: 0,
            without_range: false,
            is_packed: false,
            parts: None,
            partings: PARTINGS,
            cut_at: 0,
            pace: Pace::default(),
            task: Some(task),
            ended: false,
        };
        let remote = stream.remote.clone();
        remote.drive(stream.connect())?;
        Ok(stream)
    }

    /// Whether the bytes have to be unpacked to be those of the blob.
    pub fn is_packed(&self) -> bool {
        self.is_packed
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
        let mut call = Call::to(Method::GET, self.from.clone());
        call.lane = Lane::Blob;
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
            && range.is_some_and(|(start, _, total)| {
                start == self.position && total.unwrap_or(self.blob.size) == self.blob.size
            })
        {
            return Ok(());
        }
        self.without_range = true;
        let what = format!("GET {}: the answer is not the range that was asked for", shown(response.url()));
        Err(Failure::passing(what))
    }

    /// A length that differs from the descriptor's would only be noticed after the last byte. Where the server says that it
    /// packed the body, a length that is the blob's shows that it did not.
    fn check_length(&mut self, response: &Response) -> Result<(), Failure> {
        let stated = response.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let what = match (stated, encoding::stated(response.headers())) {
            (Some(length), _) if length == self.blob.size => return Ok(()),
            _ if is_page(response) => format!("the answer is a page of text/html, not a blob ({PORTAL})"),
            (None, None) => return Ok(()),
            (_, Some(encoding)) if encoding::is_known(encoding) => {
                // Ranges of what is packed are nothing that could be relied on.
                (self.is_packed, self.without_range) = (true, true);
                return Ok(());
            }
            (_, Some(encoding)) => format!("the body has the Content-Encoding {encoding:?}, which nobody asked for"),
            (Some(length), None) => {
                format!("the registry has {length} bytes, the descriptor says {}", self.blob.size)
            }
        };
        Err(Failure::lasting(Kind::Corrupt, format!("GET {}: {what}", shown(response.url()))))
    }

    /// The next bytes; empty at the end.
    async fn next(&mut self) -> Result<Bytes, Failure> {
        loop {
            if let Some(bytes) = self.next_part().await? {
                return Ok(bytes);
            }
            self.connect().await?;
            let Some(body) = &mut self.body else { return Ok(Bytes::new()) };
            let url = body.url().clone();
            let failure = match self.pace.chunk(body, self.remote.session.transport.stall).await {
                Ok(Some(chunk)) => match self.taken(chunk) {
                    Some(chunk) => return Ok(chunk),
                    None => continue,
                },
                Ok(None) if self.position >= self.blob.size || self.is_packed => {
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

    /// Takes note of bytes that came, without those that are here already.
    fn taken(&mut self, mut chunk: Bytes) -> Option<Bytes> {
        let again = self.skip.min(chunk.len() as u64);
        chunk.advance(usize::try_from(again).unwrap_or(usize::MAX));
        self.skip -= again;
        if let Some((_, begin)) = self.parts {
            chunk.truncate(usize::try_from(begin - self.position).unwrap_or(usize::MAX));
        }
        if chunk.is_empty() {
            return None;
        }
        self.position += chunk.len() as u64;
        self.part();
        Some(chunk)
    }

    /// Goes over to parts where that helps.
    fn part(&mut self) {
        let begin = self.position + PART;
        let worth_it = self.blob.size > begin + FEWEST_PARTS * PART && self.partings > 0;
        if self.parts.is_some() || self.without_range || !worth_it || !self.pace.is_slow() {
            return;
        }
        let Some(url) = self.body.as_ref().map(|body| body.url().clone()) else { return };
        let Some(ranges) = Ranges::start(&self.remote, url, begin, self.blob.size) else { return };
        self.partings -= 1;
        let note = format!("{} is slow: the rest comes in parts, several at once", label(&self.blob));
        self.remote.progress.event(Event::Debug(&note));
        self.parts = Some((ranges, begin));
    }

    /// The next part, if it is their turn. Parts that fail are given up, and the rest is asked for in one piece again.
    async fn next_part(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some((parts, _)) = self.parts.as_mut().filter(|(_, begin)| *begin <= self.position) else {
            return Ok(None);
        };
        // The connection that brought the beginning is not needed any more.
        self.body = None;
        match parts.next().await {
            Ok(Some(bytes)) => {
                self.position += bytes.len() as u64;
                return Ok(Some(bytes));
            }
            Ok(None) => self.ended = true,
            Err(failure) if failure.passing => {
                let what = format!("{} after {} of {} bytes", failure.what, self.position, self.blob.size);
                self.pause(Failure { what, ..failure }).await?;
            }
            // The address may have been good for a while only.
            Err(_) => {}
        }
        self.parts = None;
        Ok(None)
    }

    async fn pause(&mut self, failure: Failure) -> Result<(), Failure> {
        self.body = None;
        self.parts = None;
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
            let remote = self.remote.clone();
            self.ready = remote.drive(self.next()).map_err(|failure| io::Error::from(SourceError::from(failure)))?;
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

/// The first and the last byte of an answer, and the total where it is stated.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    crate::parse::content_range(headers.get(CONTENT_RANGE)?.to_str().ok()?)
}
