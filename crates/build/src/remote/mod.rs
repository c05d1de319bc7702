//! What a build asks of the network beside images: files by their address, and trees of git repositories.
//!
//! Nothing here opens a socket or starts a program: a [`Remote`] is handed in. Everything that has to be decided is decided
//! on this side of it, so that an implementation only carries bytes.

pub(crate) mod address;
pub(crate) mod fetch;
mod main_context;
pub(crate) mod resolve;
mod secrets;
mod time;

use std::fs::File;
use std::path::Path;

use skycap_image::{Kind, Secret, SourceError};

pub use main_context::{LARGEST_DOCKERFILE, MainContext, main_context, unpack_context};

/// Fetches what an address names. Addresses in errors are without what stands before `@` and after `?`.
pub trait Remote: Send + Sync {
    /// GETs a file into `into`, which is empty. Redirects are followed without credentials to other origins, and what may
    /// pass is tried again.
    fn http(&self, ask: &HttpAsk<'_>, into: &mut File) -> Result<HttpAnswer, SourceError>;

    /// Which commit a name stands for now, without fetching it.
    fn git_commit(&self, ask: &GitAsk<'_>) -> Result<GitCommit, SourceError>;

    /// Writes the files of a commit into an empty directory, `.git` included where it is asked for.
    fn git_checkout(&self, ask: &GitAsk<'_>, checkout: &GitCheckout<'_>, into: &Path) -> Result<GitTree, SourceError>;
}

/// How a server is told who we are.
#[derive(Clone, Debug)]
pub enum Authorization {
    /// The whole value of the `Authorization` header.
    Header(Secret),
    /// A token: shown as a bearer of it for a file, as the password of `x-access-token` to git.
    Token(Secret),
}

/// A file to GET.
#[derive(Clone, Copy)]
pub struct HttpAsk<'a> {
    /// An http or https URL.
    pub url: &'a str,
    /// Who we are, for the URL's own origin only.
    pub authorization: Option<&'a Authorization>,
    /// What is known of the file: the server may answer that it is still so.
    pub known: Option<&'a Validators>,
    /// More bytes than that are an error.
    pub largest: u64,
}

/// What a server says of a file so that it can be asked about it later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// The `ETag`, quotes and all.
    pub etag: Option<String>,
    /// The `Last-Modified`, as it was written.
    pub last_modified: Option<String>,
}

/// What a server answered. An answer that is no success is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAnswer {
    /// The file is what [`HttpAsk::known`] says; nothing was written.
    Unchanged,
    /// The whole file was written.
    Fetched(Validators),
}

/// A repository, and a name in it.
#[derive(Clone, Copy)]
pub struct GitAsk<'a> {
    /// The address as git takes it: an https, http, ssh, git or (where allowed) file URL, or `user@host:path`.
    pub url: &'a str,
    /// A branch, tag, full reference or commit; `None` for the remote's `HEAD`. It never begins with a dash.
    pub reference: Option<&'a str>,
    /// Who we are, for the host of `url` only.
    pub authorization: Option<&'a Authorization>,
    /// The socket of an SSH agent.
    pub ssh_agent: Option<&'a Path>,
}

/// What a name in a repository stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitCommit {
    /// The commit, in full, in lower-case hexadecimal digits.
    pub commit: String,
    /// For an annotated tag the tag's own object.
    pub tag: Option<String>,
    /// The reference's full name (`refs/heads/main`); `None` if it was asked for by its commit.
    pub reference: Option<String>,
}

/// What to check out.
#[derive(Clone, Copy)]
pub struct GitCheckout<'a> {
    /// The commit.
    pub commit: &'a str,
    /// The full name that led to it, where there is one: servers give commits by name more readily.
    pub reference: Option<&'a str>,
    /// Whether `.git` stays.
    pub keep_git_dir: bool,
    /// Whether submodules are filled.
    pub submodules: bool,
}

/// What was checked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GitTree {
    /// The commit's time, in seconds since 1970.
    pub time: i64,
}

/// Refuses everything: for builds that must not touch the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

impl Remote for Offline {
    fn http(&self, ask: &HttpAsk<'_>, _into: &mut File) -> Result<HttpAnswer, SourceError> {
        Err(refused(ask.url))
    }

    fn git_commit(&self, ask: &GitAsk<'_>) -> Result<GitCommit, SourceError> {
        Err(refused(ask.url))
    }

    fn git_checkout(&self, ask: &GitAsk<'_>, _: &GitCheckout<'_>, _: &Path) -> Result<GitTree, SourceError> {
        Err(refused(ask.url))
    }
}

fn refused(url: &str) -> SourceError {
    SourceError::new(Kind::Denied, format!("cannot fetch {}: this build may not fetch anything", shown(url)))
}

/// Whether an address is a git repository's and no file's, as buildx tells them apart: a git URL, or an http(s) one whose path
/// ends in `.git`.
pub fn is_repository(address: &str) -> bool {
    let path = address.split(['#', '?']).next().unwrap_or(address);
    let is_web = path.starts_with("http://") || path.starts_with("https://");
    (is_web && path.strip_suffix(".git").is_some())
        || ["git@", "git://", "ssh://"].iter().any(|start| address.starts_with(start))
}

/// An address without user, password and query, for messages.
pub(crate) fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    if scheme.is_empty() {
        return rest.to_owned();
    }
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// A text whose addresses are without users and passwords: what an image or a line of progress shows is seen by everybody. The
/// user `git` of SSH is a name like any other.
pub fn without_users(text: &str) -> String {
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>' | '\\');
        let authority = after.find(ends).map_or(after, |end| &after[..end]);
        let user = authority.rfind('@').map_or(0, |at| at + 1);
        let is_plain_git = authority.starts_with("git@") && user == 4;
        rest = &after[if is_plain_git { 0 } else { user }..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_progress_show_no_users() {
        for (text, expected) in [
            ("ADD https://u:hunter2@h/a@b /x", "ADD https://h/a@b /x"),
            ("ADD a http://hunter2@h ssh://git@h/r", "ADD a http://h ssh://git@h/r"),
            ("ADD [\"https://u:hunter2@h\", \"/\"]", "ADD [\"https://h\", \"/\"]"),
            ("ADD git@h:r /", "ADD git@h:r /"),
        ] {
            assert_eq!(without_users(text), expected);
        }
    }

    #[test]
    fn messages_show_neither_users_nor_queries() {
        for (url, expected) in [
            ("https://hunter2@h/a?token=hunter2#x", "https://h/a"),
            ("https://u:hunter2@h", "https://h"),
            ("git@h:a/b.git#v1", "git@h:a/b.git"),
            ("https://h/a@b", "https://h/a@b"),
        ] {
            assert_eq!(shown(url), expected, "{url}");
        }
    }
}
