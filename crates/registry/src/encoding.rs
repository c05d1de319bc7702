//! `Content-Encoding`, which we ask nobody for: a document is taken as it was sent if it is right that way, and unpacked only
//! if it is not.

use std::io::Read;

use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use skycap_image::compress;

/// What an answer says that was done to its body; `None` if nothing was.
pub(crate) fn stated(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim();
    (!text.is_empty() && !text.eq_ignore_ascii_case("identity")).then_some(text)
}

/// Whether we can undo it.
pub(crate) fn is_known(encoding: &str) -> bool {
    ["gzip", "x-gzip", "zstd"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
}

/// The body as it was sent, or unpacked if only that is right. A body that is right in neither way stays as it was sent:
/// whoever asked for it says what is wrong with it.
pub(crate) fn chosen(body: Bytes, headers: &HeaderMap, limit: usize, is_right: impl Fn(&[u8]) -> bool) -> Bytes {
    match stated(headers) {
        Some(encoding) if is_known(encoding) && !is_right(&body) => {
            unpacked(&body, limit).filter(|unpacked| is_right(unpacked)).map_or(body, Bytes::from)
        }
        _ => body,
    }
}

/// A beginning that JSON documents have and packed ones do not.
pub(crate) fn is_json(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| matches!(byte, b'{' | b'['))
}

fn unpacked(body: &[u8], limit: usize) -> Option<Vec<u8>> {
    let (_, decoder) = compress::decoder(body).ok()?;
    let mut unpacked = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() <= limit).then_some(unpacked)
}
