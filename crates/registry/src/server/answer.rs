//! Answers and the error documents of the distribution specification.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::http::response::Builder;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// Bytes read from a file at once.
const PIECE: usize = 256 * 1024;

/// A body in memory or in a file.
pub(super) enum Content {
    Bytes(Bytes),
    File {
        file: File,
        left: u64,
        /// Used again as soon as what was in it has been sent: memory fresh from the system costs more than the read.
        buffer: BytesMut,
    },
}

pub(super) type Answer = Response<Content>;

/// A refusal, with one of the specification's codes.
#[derive(Debug)]
pub(super) struct Refusal {
    pub status: StatusCode,
    code: &'static str,
    message: String,
    headers: Vec<(&'static str, String)>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), headers: Vec::new() }
    }

    pub fn with(mut self, header: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((header, value.into()));
        self
    }

    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn missing(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub fn unsupported() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "the operation is unsupported")
    }

    /// As an answer.
    pub fn answer(self) -> Answer {
        let body = json!({"errors": [{"code": self.code, "message": self.message, "detail": null}]});
        let mut builder = Response::builder().status(self.status);
        for (name, value) in self.headers {
            builder = builder.header(name, value);
        }
        json_answer(builder, &body)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        let status = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StatusCode::INSUFFICIENT_STORAGE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, "UNKNOWN", error.to_string())
    }
}

/// An answer with a JSON document.
pub(super) fn json_answer(builder: Builder, document: &Value) -> Answer {
    bytes_answer(builder.header(CONTENT_TYPE, "application/json"), document.to_string().into())
}

/// An answer without a body.
pub(super) fn empty(builder: Builder) -> Answer {
    bytes_answer(builder, Bytes::new())
}

/// An answer with bytes.
pub(super) fn bytes_answer(builder: Builder, bytes: Bytes) -> Answer {
    let length = bytes.len();
    finished(builder.header(CONTENT_LENGTH, length), Content::Bytes(bytes))
}

/// An answer with a part of a file, from where it stands.
pub(super) fn file_answer(builder: Builder, file: File, length: u64) -> Answer {
    finished(builder.header(CONTENT_LENGTH, length), Content::File { file, left: length, buffer: BytesMut::new() })
}

/// A header that cannot be built is a fault of ours; it becomes an answer like any other.
fn finished(builder: Builder, content: Content) -> Answer {
    builder.body(content).unwrap_or_else(|_| {
        let mut answer = Response::new(Content::Bytes(Bytes::new()));
        *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        answer
    })
}

impl Body for Content {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Self::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::File { left: 0, .. } => Poll::Ready(None),
            Self::File { file, left, buffer } => {
                // Files of a registry are mostly in the page cache; a hop to another thread costs more than the read.
                buffer.resize(PIECE.min(usize::try_from(*left).unwrap_or(PIECE)), 0);
                let count = file.read(buffer)?;
                if count == 0 {
                    return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
                }
                *left -= count as u64;
                Poll::Ready(Some(Ok(Frame::data(buffer.split_to(count).freeze()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::File { left, .. } => *left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { left, .. } => *left,
        })
    }
}
