//! Blobs: reading (also in part), deleting, mounting, uploading in one piece or several.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use hyper::{Method, Response, StatusCode};
use skycap_image::Digest;

use tokio::task::block_in_place;

use super::answer::{Answer, Refusal, empty, file_answer};
use super::files::{present, remove};
use super::repository::mark_used;
use super::route::RepositoryName;
use super::service::{Asked, Service, done};
use super::uploads::Upload;

/// A client that sends nothing of its blob for so long has gone.
const STALL: Duration = Duration::from_mins(2);

impl Service {
    pub(super) fn blob(&self, asked: &Asked, name: &RepositoryName, digest: Digest) -> Result<Answer, Refusal> {
        if asked.method == Method::DELETE {
            return self.delete_blob(name, digest);
        }
        if !asked.reads() {
            return Err(Refusal::unsupported());
        }
        let path = self.storage.repository(name).blob(digest);
        let mut file = present(File::open(&path))?.ok_or_else(unknown)?;
        let size = file.metadata()?.len();
        let builder = Response::builder()
            .header(CONTENT_TYPE, "application/octet-stream")
            .header("Docker-Content-Digest", digest.to_string())
            .header("Accept-Ranges", "bytes")
            .header("Cache-Control", "max-age=31536000");
        if asked.method == Method::HEAD {
            mark_used(&path)?;
            return Ok(empty_of(builder, size));
        }
        match asked.header(RANGE).map(|range| parse_range(range, size)) {
            None | Some(Part::Whole) => Ok(file_answer(builder, file, size)),
            Some(Part::None) => Err(Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "no such range")
                .with("Content-Range", format!("bytes */{size}"))),
            Some(Part::Bytes(start, end)) => {
                file.seek(SeekFrom::Start(start))?;
                let builder = builder
                    .status(StatusCode::PARTIAL_CONTENT)
                    .header(CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1));
                Ok(file_answer(builder, file, end - start))
            }
        }
    }

    fn delete_blob(&self, name: &RepositoryName, digest: Digest) -> Result<Answer, Refusal> {
        let repository = self.storage.repository(name);
        let removed = block_in_place(|| {
            if !repository.blob(digest).exists() {
                return Ok(false);
            }
            let _guard = repository.removing()?;
            remove(&repository.blob(digest))
        })?;
        if removed { Ok(done(StatusCode::ACCEPTED, &[])) } else { Err(unknown()) }
    }

    /// `POST …/blobs/uploads/`: mounts, takes the whole blob at once, or names a place for its bytes.
    pub(super) async fn begin_upload(
        &self,
        asked: &Asked,
        name: &RepositoryName,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        if asked.method != Method::POST {
            return Err(Refusal::unsupported());
        }
        if let Some(digest) = asked.parameter("mount") {
            let digest = parse_digest(digest)?;
            let from = asked.parameter("from").and_then(RepositoryName::parse);
            if let Some(from) = from.map(|from| self.storage.repository(&from))
                && block_in_place(|| self.storage.repository(name).mount(&from, digest))?
            {
                return Ok(created(name, digest));
            }
        }
        let mut upload = self.uploads.begin(name)?;
        if let Some(digest) = asked.parameter("digest") {
            let digest = parse_digest(digest)?;
            append(&mut upload, body).await?;
            return self.finish(upload, name, digest);
        }
        upload.leave();
        Ok(accepted(name, &upload.id, 0, StatusCode::ACCEPTED))
    }

    /// `PATCH`, `PUT`, `GET` and `DELETE` of an upload.
    pub(super) async fn go_on_with_upload(
        &self,
        asked: &Asked,
        name: &RepositoryName,
        id: &str,
        body: Incoming,
    ) -> Result<Answer, Refusal> {
        let wanted = match asked.method {
            Method::PUT => Some(parse_digest(asked.parameter("digest").unwrap_or_default())?),
            Method::PATCH | Method::GET | Method::DELETE => None,
            _ => return Err(Refusal::unsupported()),
        };
        let mut upload = self.uploads.open(name, id)?;
        match asked.method {
            Method::GET => Ok(accepted(name, id, upload.length, StatusCode::NO_CONTENT)),
            Method::DELETE => {
                upload.give_up();
                Ok(done(StatusCode::NO_CONTENT, &[]))
            }
            _ => {
                check_place(asked, name, &upload)?;
                append(&mut upload, body).await?;
                match wanted {
                    Some(digest) => self.finish(upload, name, digest),
                    None => Ok(accepted(name, id, upload.length, StatusCode::ACCEPTED)),
                }
            }
        }
    }

    fn finish(&self, upload: Upload<'_>, name: &RepositoryName, digest: Digest) -> Result<Answer, Refusal> {
        block_in_place(|| upload.finish(&self.storage.repository(name), digest))?;
        Ok(created(name, digest))
    }
}

/// A piece must begin where the last one ended, and be as long as it says.
fn check_place(asked: &Asked, name: &RepositoryName, upload: &Upload<'_>) -> Result<(), Refusal> {
    let Some(text) = asked.header(CONTENT_RANGE) else { return Ok(()) };
    let parts = text.trim_start_matches("bytes").trim().split_once('-');
    let part = parts.and_then(|(start, last)| Some((start.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    let Some((start, last)) = part.filter(|(start, _)| *start == upload.length) else {
        let refusal = Refusal::new(StatusCode::RANGE_NOT_SATISFIABLE, "BLOB_UPLOAD_INVALID", "not the next bytes");
        return Err(refusal.with("Range", range(upload.length)).with("Location", location(name, &upload.id)));
    };
    let length = asked.header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| start.checked_add(length) != last.checked_add(1)) {
        return Err(Refusal::bad("SIZE_INVALID", "Content-Range and Content-Length differ"));
    }
    Ok(())
}

/// A client that sends nothing for a while has gone; what it sent stays for the next request.
async fn append(upload: &mut Upload<'_>, mut body: Incoming) -> Result<(), Refusal> {
    loop {
        let frame = tokio::time::timeout(STALL, body.frame()).await;
        let frame =
            frame.map_err(|_| Refusal::new(StatusCode::REQUEST_TIMEOUT, "BLOB_UPLOAD_INVALID", "no more bytes"))?;
        let Some(frame) = frame else { return Ok(()) };
        let frame = frame.map_err(|error| Refusal::bad("BLOB_UPLOAD_INVALID", error.to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            upload.write(&bytes)?;
        }
    }
}

fn unknown() -> Refusal {
    Refusal::missing("BLOB_UNKNOWN", "blob unknown to registry")
}

pub(super) fn parse_digest(text: &str) -> Result<Digest, Refusal> {
    text.parse().map_err(|error: skycap_image::InvalidDigest| Refusal::bad("DIGEST_INVALID", error.to_string()))
}

/// The answer to a HEAD: the length of a body that does not follow.
fn empty_of(builder: hyper::http::response::Builder, size: u64) -> Answer {
    let mut answer = empty(builder);
    answer.headers_mut().insert(CONTENT_LENGTH, size.into());
    answer
}

fn created(name: &RepositoryName, digest: Digest) -> Answer {
    let location = format!("/v2/{}/blobs/{digest}", name.as_str());
    done(StatusCode::CREATED, &[("Location", location), ("Docker-Content-Digest", digest.to_string())])
}

fn accepted(name: &RepositoryName, id: &str, length: u64, status: StatusCode) -> Answer {
    let headers = [("Location", location(name, id)), ("Range", range(length)), ("Docker-Upload-UUID", id.to_owned())];
    done(status, &headers)
}

fn location(name: &RepositoryName, id: &str) -> String {
    format!("/v2/{}/blobs/uploads/{id}", name.as_str())
}

/// Inclusive, so that nothing and one byte read alike; every registry writes it so.
fn range(length: u64) -> String {
    format!("0-{}", length.saturating_sub(1))
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Whole,
    /// From, and up to but not including.
    Bytes(u64, u64),
    None,
}

/// One range; several, or text that is no range, are as if nothing had been said (RFC 9110, 14.2).
fn parse_range(text: &str, size: u64) -> Part {
    let Some((start, end)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Part::Whole;
    };
    let (start, end) = match (start.trim().parse::<u64>(), end.trim().parse::<u64>()) {
        (Ok(start), Ok(last)) if start <= last => (start, last.saturating_add(1).min(size)),
        (Ok(start), Err(_)) if end.trim().is_empty() => (start, size),
        (Err(_), Ok(count)) if start.trim().is_empty() => (size.saturating_sub(count), size),
        _ => return Part::Whole,
    };
    if start < end { Part::Bytes(start, end) } else { Part::None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, expected) in [
            ("bytes=0-4", Part::Bytes(0, 5)),
            ("bytes=5-", Part::Bytes(5, 10)),
            ("bytes=-3", Part::Bytes(7, 10)),
            ("bytes=-30", Part::Bytes(0, 10)),
            ("bytes=8-100", Part::Bytes(8, 10)),
            ("bytes=10-", Part::None),
            ("bytes=-0", Part::None),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=0-18446744073709551615", Part::Bytes(0, 10)),
        ] {
            assert_eq!(parse_range(text, 10), expected, "{text}");
        }
    }
}
