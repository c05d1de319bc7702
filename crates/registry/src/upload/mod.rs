//! One blob, from a reader to a registry: can it be mounted, else POST for a place and PUT the bytes, all at once. What
//! breaks goes on where the registry says that it stopped. A registry (or a proxy before it) that does not take that much at
//! once gets it in chunks. An upload that fails for good is cancelled, so that nothing of it stays.

mod feed;
mod place;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Request, Response, StatusCode};
use skycap_image::progress::Task;
use skycap_image::{Descriptor, Event, Kind, SourceError};

use crate::error::Failure;
use crate::guard::Route;
use crate::remote::{Call, Remote, Target, no_page};
use crate::retry::Tries;
use crate::session::Answer;
use crate::stop::Stop;
use feed::{Feed, Handing, feed};
pub(crate) use place::check_digest;
use place::{LARGEST_CHUNK, Mount, Place, had, with_digest};

/// The length of chunks, where everything at once is too much.
const CHUNK: u64 = 16 * 1024 * 1024;
/// So many bytes between two failures count as progress, which renews the tries.
const PROGRESS: u64 = 64 * 1024;
/// A registry that is told to forget an upload has this long to hear it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Opens a blob's bytes from the beginning, checked while they are read.
pub(crate) type Open<'a> = dyn Fn() -> Result<Box<dyn Read + Send>, SourceError> + Sync + 'a;

impl Remote {
    /// Brings the blob, which the repository does not have, to it; says how: `mounted`, `exists` or `done`.
    pub fn upload(&self, blob: &Descriptor, open: &Open<'_>, task: &Task<'_>) -> Result<&'static str, Failure> {
        let place = match self.drive(async { Ok(self.mount(blob).await) })? {
            Mount::Done => return Ok("mounted"),
            Mount::Upload(place) => Some(place),
            Mount::Refused => None,
        };
        let mut upload = Upload {
            remote: self,
            blob,
            open,
            task,
            tries: Tries::new(self.inner.settings.retries),
            place,
            reader: None,
            chunk: None,
            counted: 0,
            failed_at: 0,
            renewed: false,
            reread: false,
        };
        let result = upload.run();
        if result.is_err() {
            upload.abandon();
        }
        result
    }

    /// A registry that does not answer the question is told the blob; if it refuses that as well, it says why.
    pub async fn has(&self, blob: &Descriptor) -> Result<bool, Failure> {
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
        Mount::of(self.once(&call).await)
    }
}

/// The upload of one blob.
struct Upload<'u> {
    remote: &'u Remote,
    blob: &'u Descriptor,
    open: &'u Open<'u>,
    task: &'u Task<'u>,
    tries: Tries,
    /// Where it goes on; a new place is asked for where there is none.
    place: Option<Place>,
    /// The blob's bytes, and how many of them were read.
    reader: Option<(Box<dyn Read + Send>, u64)>,
    /// The length of chunks; everything at once where there is none.
    chunk: Option<u64>,
    /// How far the bytes were reported as sent.
    counted: u64,
    /// How far it had got at the last failure.
    failed_at: u64,
    /// The last answer was a 401, and there was a new token to show.
    renewed: bool,
    /// The blob's own place gave wrong bytes once.
    reread: bool,
}

/// What one request came to.
enum Step {
    Done,
    More,
}

/// What went wrong, and what is known of how far the upload got.
enum Trouble {
    Failed(Failure),
    /// The blob's own place failed.
    Source(SourceError),
    /// The registry says how far it is, at this place.
    At(Box<Place>, Failure),
    /// The registry knows nothing of the upload (any more).
    Unknown(Failure),
    /// That much at once is more than it takes.
    TooLarge(Failure),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Upload<'_> {
    fn run(&mut self) -> Result<&'static str, Failure> {
        loop {
            match self.step() {
                Ok(Step::Done) => return Ok("done"),
                Ok(Step::More) => self.renewed = false,
                Err(trouble) => {
                    if let Some(outcome) = self.recover(trouble)? {
                        return Ok(outcome);
                    }
                }
            }
        }
    }

    /// One request with bytes, after one for a place if there is none.
    fn step(&mut self) -> Result<Step, Trouble> {
        let place = match self.place.take() {
            Some(place) => place,
            None => self.remote.drive(self.begin())?,
        };
        self.place = Some(place.clone());
        if place.start > self.blob.size {
            let what = format!("the registry has more of blob {} than there is", self.blob.digest);
            return Err(Trouble::Unknown(Failure::passing(what)));
        }
        let end = match self.chunk {
            Some(_) if place.least > LARGEST_CHUNK => {
                let what = format!("the registry wants chunks of {} bytes, more than {LARGEST_CHUNK}", place.least);
                return Err(Failure::lasting(Kind::Other, what).into());
            }
            Some(chunk) => place.start.saturating_add(chunk.max(place.least)).min(self.blob.size),
            None => self.blob.size,
        };
        let answer = self.stream(&place, end)?;
        self.remote.drive(async { Ok(self.judge(&place, end, answer).await) })?
    }

    async fn begin(&self) -> Result<Place, Failure> {
        let mut call = Call::new(Method::POST, "blobs/uploads/");
        call.body = Some(Bytes::new());
        Place::of(&self.remote.once(&call).await?)
    }

    /// Sends the bytes from the place's start to `end`: this thread reads them, the network threads send them.
    fn stream(&mut self, place: &Place, end: u64) -> Result<Answer, Trouble> {
        let (mut reader, _) = self.reader_at(place.start)?;
        let length = end - place.start;
        let sent = Arc::new(AtomicU64::new(0));
        let (pump, body) = feed(length, Arc::clone(&sent));
        let remote = self.remote.clone();
        let (route, request) = remote.drive(self.request(place, end, body))?;
        let transport = Arc::clone(remote.session.transport_on(route));
        // A connection that is full does not let go of the body when its request is given up, so the reader is told.
        let (sending, ended) = (remote.clone(), Stop::default());
        let ends = ended.clone();
        let answer = remote.inner.spawn(async move {
            let answer = sending.until_stopped(transport.send_slowly(route, request, &sent, length)).await;
            ends.stop();
            answer
        });
        let hand = |piece: Handing<'_>| {
            remote.inner.block_on(async {
                tokio::select! {
                    () = ended.stopped() => false,
                    taken = piece => taken,
                }
            })
        };
        let (mut position, counted, task) = (place.start, &mut self.counted, self.task);
        let pumped = pump.run(&mut *reader, end == self.blob.size, &hand, &mut |count| {
            position += count;
            // What is sent again counts once.
            task.advance(position.saturating_sub(*counted));
            *counted = position.max(*counted);
        });
        let answer = remote.inner.block_on(answer);
        let answer = answer.unwrap_or_else(|_| Err(Failure::lasting(Kind::Other, "a network thread ended")));
        // A pipe that breaks because the registry has said enough is no error of the reader's.
        pumped.map_err(|error| Trouble::Source(error.into()))?;
        if position == end && end < self.blob.size {
            self.reader = Some((reader, position));
        }
        Ok(Answer { response: answer?, at_home: route == Route::Home })
    }

    /// The blob's bytes from `start` on.
    fn reader_at(&mut self, start: u64) -> Result<(Box<dyn Read + Send>, u64), Trouble> {
        if let Some((reader, _)) = self.reader.take_if(|(_, position)| *position == start) {
            return Ok((reader, start));
        }
        self.reader = None;
        let mut reader = (self.open)().map_err(Trouble::Source)?;
        let skipped = std::io::copy(&mut (&mut reader).take(start), &mut std::io::sink());
        skipped.map_err(|error| Trouble::Source(error.into()))?;
        Ok((reader, start))
    }

    /// The last bytes go with PUT, which also names the digest; those before with PATCH.
    async fn request(&self, place: &Place, end: u64, body: Feed) -> Result<(Route, Request), Failure> {
        let remote = self.remote;
        let pinged = remote.session.pinged().await?;
        let route = remote.session.route(&pinged.base, &pinged.base, &place.url).await?;
        let (method, url) = if end == self.blob.size {
            (Method::PUT, with_digest(place.url.clone(), self.blob.digest))
        } else {
            (Method::PATCH, place.url.clone())
        };
        let mut request = Request::new(method, url);
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let is_part = place.start > 0 || end < self.blob.size;
        if is_part && end > place.start {
            let range = format!("{}-{}", place.start, end - 1);
            headers.extend(HeaderValue::from_str(&range).ok().map(|range| (CONTENT_RANGE, range)));
        }
        // An upload that the registry sends elsewhere goes there without credentials.
        if route == Route::Home
            && let Some(pass) = remote.pass(&pinged, &remote.scopes(&[]), None).await?
        {
            request.headers_mut().insert(AUTHORIZATION, pass.value);
        }
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        Ok((route, request))
    }

    async fn judge(&mut self, place: &Place, end: u64, answer: Answer) -> Result<Step, Trouble> {
        let Answer { response, at_home } = answer;
        let is_last = end == self.blob.size;
        let (status, method) = (response.status(), if is_last { Method::PUT } else { Method::PATCH });
        if status.is_success() {
            let response = no_page(&method, response)?;
            if is_last {
                check_digest(&method, &response, self.blob.digest)?;
                return Ok(Step::Done);
            }
            self.place = Some(place.moved(&response, end));
            return Ok(Step::More);
        }
        let known = had(&response).map(|_| place.moved(&response, place.start));
        let renewed = at_home && status == StatusCode::UNAUTHORIZED && self.renew(&response).await?;
        let failure = self.remote.session.failure(&method, response).await;
        let says = |codes: &[&str]| failure.codes.iter().any(|code| codes.contains(&code.as_str()));
        let is_unknown = status == StatusCode::NOT_FOUND || says(&["BLOB_UPLOAD_INVALID", "UNKNOWN", "DIGEST_INVALID"]);
        Err(match (status.as_u16(), known) {
            (401, _) if renewed => Trouble::Failed(Failure { passing: true, ..failure }),
            (413, _) => Trouble::TooLarge(failure),
            (416, Some(place)) => Trouble::At(Box::new(place), Failure { passing: true, ..failure }),
            (416, None) => Trouble::Unknown(Failure { passing: true, ..failure }),
            _ if is_unknown => Trouble::Unknown(Failure { passing: true, ..failure }),
            _ => Trouble::Failed(failure),
        })
    }

    /// Whether there is something new to show a registry that said 401. What another host asks for is not the registry's to
    /// be answered.
    async fn renew(&mut self, response: &Response) -> Result<bool, Failure> {
        if self.renewed {
            return Ok(false);
        }
        self.renewed = true;
        let remote = self.remote;
        let pinged = remote.session.pinged().await?;
        let scopes = remote.scopes(&[]);
        let pass = remote.pass(&pinged, &scopes, None).await?;
        Ok(remote.renewed(&pinged, &scopes, response, pass.as_ref()).await?.is_some())
    }

    /// Prepares the next try, or gives up. An outcome says that there is nothing left to send.
    fn recover(&mut self, trouble: Trouble) -> Result<Option<&'static str>, Failure> {
        self.reader = None;
        let failure = match trouble {
            Trouble::Source(error) => return self.reread(error).map(|()| None),
            Trouble::TooLarge(failure) => return self.cut_up(failure).map(|()| None),
            Trouble::At(place, failure) => {
                self.place = Some(*place);
                return self.wait(failure).map(|()| None);
            }
            Trouble::Unknown(failure) => {
                self.abandon();
                failure
            }
            Trouble::Failed(failure) => failure,
        };
        let is_renewed = failure.passing && failure.is(StatusCode::UNAUTHORIZED);
        self.wait(failure)?;
        if is_renewed {
            // Nobody looked at the bytes that came with the old token.
            return Ok(None);
        }
        // An answer that was lost may have been a good one.
        if self.remote.drive(self.remote.has(self.blob))? {
            self.place = None;
            return Ok(Some("done"));
        }
        self.ask();
        Ok(None)
    }

    /// Counts the failure as a try, and lets some time pass.
    fn wait(&mut self, failure: Failure) -> Result<(), Failure> {
        let start = self.place.as_ref().map_or(0, |place| place.start);
        if start >= self.failed_at + PROGRESS {
            self.tries.progressed();
        }
        self.failed_at = start;
        let wait = self.tries.after(failure)?;
        self.remote.progress.event(Event::Note(&wait.note));
        self.remote.drive(async {
            tokio::time::sleep(wait.time).await;
            Ok(())
        })
    }

    /// Asks how far the upload got; a registry that does not say is asked for a new place.
    fn ask(&mut self) {
        let Some(place) = self.place.take() else { return };
        let asked =
            self.remote.drive(async { self.remote.send(&Call::to(Method::GET, Target::Url(place.url.clone()))).await });
        self.place = match asked {
            Ok(answer) if had(&answer).is_some() => Some(place.moved(&answer, 0)),
            _ => None,
        };
    }

    /// Wrong bytes from the blob's own place may be right the second time.
    fn reread(&mut self, error: SourceError) -> Result<(), Failure> {
        if error.kind != Kind::Corrupt || self.reread {
            return Err(error.into());
        }
        self.reread = true;
        self.abandon();
        self.remote.progress.event(Event::Note(&format!("{error}; trying again from its first byte")));
        Ok(())
    }

    /// Goes over to chunks, if the registry did not get chunks already.
    fn cut_up(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.chunk.is_some() || self.blob.size <= CHUNK {
            return Err(failure);
        }
        self.abandon();
        self.chunk = Some(CHUNK);
        self.remote.progress.event(Event::Note(&format!("{}; trying again in chunks", failure.what)));
        Ok(())
    }

    /// Tells the registry to forget the upload, as far as it listens. Not under the switch that stops everything else: this
    /// is a part of stopping.
    fn abandon(&mut self) {
        let Some(place) = self.place.take() else { return };
        let call = Call::to(Method::DELETE, Target::Url(place.url));
        let _ = self.remote.inner.block_on(async { tokio::time::timeout(FAREWELL, self.remote.once(&call)).await });
    }
}
