//! The network beside images, for builds: files by HTTP as the registry client fetches them, git repositories by the
//! program git.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use skycap_build::remote::{GitAsk, GitCheckout, GitCommit, GitTree, HttpAnswer, HttpAsk, Remote};
use skycap_image::{Kind, SourceError};

use crate::Host;

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
    fn http(&self, _ask: &HttpAsk<'_>, _into: &mut File) -> Result<HttpAnswer, SourceError> {
        let _ = &self.host;
        Err(SourceError::new(Kind::Other, "files cannot be fetched yet"))
    }

    fn git_commit(&self, _ask: &GitAsk<'_>) -> Result<GitCommit, SourceError> {
        Err(SourceError::new(Kind::Other, "git repositories cannot be fetched yet"))
    }

    fn git_checkout(&self, _: &GitAsk<'_>, _: &GitCheckout<'_>, _: &Path) -> Result<GitTree, SourceError> {
        Err(SourceError::new(Kind::Other, "git repositories cannot be fetched yet"))
    }
}
