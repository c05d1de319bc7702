//! The network beside images, for builds: files by HTTP as the registry client fetches them, git repositories by the
//! program git.

mod repository;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use skycap_build::remote::{
    Authorization, GitAsk, GitCheckout, GitCommit, GitTree, HttpAnswer, HttpAsk, Remote, Validators,
};
use skycap_image::{Kind, Secret, SourceError};
use skycap_registry::{Download, Downloaded};

use crate::{Failure, Host};

/// Fetches what `ADD` and contexts of a build name, with the connections, proxies and certificates of a host.
#[derive(Clone)]
pub struct Fetcher {
    host: Arc<Host>,
}

impl Fetcher {
    /// Opens nothing.
    pub fn new(host: &Host) -> Self {
        Self { host: Arc::new(host.clone()) }
    }
}

impl Remote for Fetcher {
    fn http(&self, ask: &HttpAsk<'_>, into: &mut File) -> Result<HttpAnswer, SourceError> {
        let authorization = ask.authorization.map(|authorization| match authorization {
            Authorization::Header(header) => header.clone(),
            Authorization::Token(token) => Secret::new(format!("Bearer {}", token.reveal())),
        });
        let known = ask.known;
        let download = Download {
            url: ask.url,
            authorization: authorization.as_ref(),
            etag: known.and_then(|known| known.etag.as_deref()),
            last_modified: known.and_then(|known| known.last_modified.as_deref()),
            largest: ask.largest,
        };
        Ok(match self.host.client.download(&download, into)? {
            Downloaded::Unchanged => HttpAnswer::Unchanged,
            Downloaded::Whole { etag, last_modified } => HttpAnswer::Fetched(Validators { etag, last_modified }),
        })
    }

    fn git_commit(&self, ask: &GitAsk<'_>) -> Result<GitCommit, SourceError> {
        repository::commit(&self.host, ask).map_err(error_of)
    }

    fn git_checkout(&self, ask: &GitAsk<'_>, checkout: &GitCheckout<'_>, into: &Path) -> Result<GitTree, SourceError> {
        repository::check_out(&self.host, ask, checkout, into).map_err(error_of)
    }
}

/// The failure as what a build passes on. What the user can do is said on the same line: such an error has no hint.
fn error_of(failure: Failure) -> SourceError {
    let kind = failure.kind().unwrap_or(Kind::Other);
    let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    SourceError::new(kind, failure.message + &hint)
}
