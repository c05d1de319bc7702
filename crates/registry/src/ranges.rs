//! Parts of a large blob, several under way at once, handed out in order. For links on which one connection is slow
//! (`docs/decisions/0009-large-blobs.md`).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use reqwest::header::{HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use url::Url;

use crate::blob::content_range;
use crate::error::{Failure, shown};
use crate::remote::{Call, Remote, Target};
use crate::transport::{Lane, stalled};

/// Bytes in a part: enough that a round trip between two parts does not matter, few enough to keep some in memory.
pub(crate) const PART: u64 = 1024 * 1024;

/// The rest of a blob, in parts.
pub(crate) struct Ranges {
    remote: Remote,
    /// Where the bytes were found, after all redirects.
    url: Url,
    size: u64,
    /// Where the next part begins.
    next: u64,
    parts: VecDeque<Part>,
    /// How many parts may be there; each stands for memory that the client has to spare.
    room: Vec<OwnedSemaphorePermit>,
}

/// A part under way.
struct Part(JoinHandle<Result<Bytes, Failure>>);

impl Drop for Part {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ranges {
    /// Starts to fetch the bytes from `start` on; `None` if there is no room for more than one part.
    pub fn start(remote: &Remote, url: Url, start: u64, size: u64) -> Option<Self> {
        let free = || Arc::clone(&remote.inner.parts).try_acquire_owned().ok();
        // Half of what is there, so that another blob finds something as well.
        let share = remote.inner.settings.ranges.div_ceil(2);
        let room: Vec<OwnedSemaphorePermit> = std::iter::from_fn(free).take(share.max(2)).collect();
        if room.len() < 2 {
            return None;
        }
        let mut ranges = Self { remote: remote.clone(), url, size, next: start, parts: VecDeque::new(), room };
        ranges.fill();
        Some(ranges)
    }

    fn fill(&mut self) {
        while self.parts.len() < self.room.len() && self.next < self.size {
            let end = (self.next + PART).min(self.size);
            let (remote, url, start, size) = (self.remote.clone(), self.url.clone(), self.next, self.size);
            self.parts
                .push_back(Part(self.remote.inner.spawn(async move { part(&remote, url, start, end, size).await })));
            self.next = end;
        }
    }

    /// The next part; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(first) = self.parts.front_mut() else { return Ok(None) };
        let bytes = (&mut first.0).await.unwrap_or_else(|_| Err(Failure::passing("a network thread ended")))?;
        self.parts.pop_front();
        self.fill();
        Ok(Some(bytes))
    }
}

async fn part(remote: &Remote, url: Url, start: u64, end: u64, size: u64) -> Result<Bytes, Failure> {
    let mut call = Call::to(Method::GET, Target::Url(url));
    call.lane = Lane::Blob;
    if let Ok(range) = HeaderValue::from_str(&format!("bytes={start}-{}", end - 1)) {
        call.headers.insert(RANGE, range);
    }
    let mut response = remote.once(&call).await?;
    let url = response.url().clone();
    let stated = content_range(response.headers());
    let sound = stated.is_some_and(|(first, last, total)| {
        first == start
            && last == end - 1
            && total.unwrap_or(size) == size
            && response.status() == StatusCode::PARTIAL_CONTENT
    });
    if !sound {
        return Err(Failure::passing(format!("GET {}: the answer is not the range that was asked for", shown(&url))));
    }
    let length = usize::try_from(end - start).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(length);
    let stall = remote.session.transport.stall;
    while bytes.len() < length {
        let chunk = tokio::time::timeout(stall, response.chunk()).await;
        let chunk = chunk.map_err(|_| stalled(&Method::GET, &url, "the body makes no progress", stall))?;
        match chunk.map_err(|error| Failure::of_transport(&Method::GET, &url, error))? {
            Some(chunk) if bytes.len() + chunk.len() <= length => bytes.extend_from_slice(&chunk),
            Some(_) => return Err(Failure::passing(format!("GET {}: the range is too long", shown(&url)))),
            None => return Err(Failure::passing(format!("GET {}: the body ends early", shown(&url)))),
        }
    }
    // The end of the body is read as well, or the connection could not be used again.
    let _ = tokio::time::timeout(stall, response.chunk()).await;
    Ok(bytes.freeze())
}
