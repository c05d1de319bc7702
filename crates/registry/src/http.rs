//! Plain requests, for web APIs beside the registry protocol.
use skycap_image::SourceError;

use crate::{Client, Credentials};

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// GETs a URL. `hosts`, proxies and retries apply; redirects are not followed; any final status is an answer.
    pub fn get(
        &self,
        _url: &str,
        _headers: &[(&str, &str)],
        _credentials: &Credentials,
    ) -> Result<Response, SourceError> {
        unimplemented!()
    }
}
