//! What git knows of a commit: the metadata of an answer, and the files that later steps read.

use std::path::Path;

use serde_json::{Value, json};
use url::Url;

use super::program::Git;
use crate::Failure;
use crate::files::write_file;

/// The longest message in the metadata, in bytes.
const LONGEST_MESSAGE: usize = 10 * 1024;

/// The metadata of the commit that is checked out.
pub(super) fn metadata(git: &Git<'_>, repository: &Path, uri: &str) -> Result<Vec<Value>, Failure> {
    let log = |format: &str| git.run(repository, &["log", "-1", &format!("--format=format:{format}")]);
    let commit = git.run(repository, &["rev-parse", "HEAD"])?;
    let (author, author_date) = (log("%an")?, log("%ai")?);
    let (committer, committer_date) = (log("%cn")?, log("%ci")?);
    let mut fields = vec![
        json!({"name": "commit", "value": commit}),
        json!({"name": "author", "value": author}),
        json!({"name": "author_date", "value": author_date, "type": "time"}),
    ];
    if (&committer, &committer_date) != (&author, &author_date) {
        fields.push(json!({"name": "committer", "value": committer}));
        fields.push(json!({"name": "committer_date", "value": committer_date, "type": "time"}));
    }
    let heads = ["for-each-ref", "--points-at=HEAD", "--format=%(refname:short)"];
    for (name, refs) in [("branch", "refs/heads"), ("tags", "refs/tags")] {
        let found = git.run(repository, &[&heads[..], &[refs]].concat())?;
        if !found.is_empty() {
            fields.push(json!({"name": name, "value": found.lines().collect::<Vec<_>>().join(",")}));
        }
    }
    fields.push(json!({"name": "message", "value": shortened(&log("%B")?), "type": "message"}));
    if let Some(url) = page(uri, &commit) {
        fields.push(json!({"name": "url", "value": url}));
    }
    Ok(fields)
}

fn shortened(message: &str) -> &str {
    let end = (0..=LONGEST_MESSAGE.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    message.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// The page of a commit, at hosts whose pages are known: by a part of the host's name, because many have such a host of
/// their own.
fn page(uri: &str, commit: &str) -> Option<String> {
    let (host, authority, path) = match Url::parse(uri) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "ssh") => {
            let host = url.host_str()?.to_owned();
            // The page has its own port, whatever that of ssh is.
            let port = url.port().filter(|_| url.scheme() != "ssh");
            let authority = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
            (host, authority, url.path().to_owned())
        }
        _ if uri.contains("://") => return None,
        _ => {
            let (authority, path) = uri.split_once(':')?;
            let host = authority.rsplit('@').next()?.to_owned();
            (host.clone(), host, path.to_owned())
        }
    };
    let known = |names: &[&str]| host.split('.').any(|label| names.iter().any(|name| label.eq_ignore_ascii_case(name)));
    let part = if known(&["github", "gogs"]) {
        "commit"
    } else if known(&["gitlab"]) {
        "-/commit"
    } else if known(&["bitbucket"]) {
        "commits"
    } else {
        return None;
    };
    let path = path.trim_start_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    Some(format!("https://{authority}/{path}/{part}/{commit}"))
}

/// What is written below `.git`.
pub(super) struct Notes<'n> {
    /// The commit or tag that was asked for.
    pub(super) reference: &'n str,
    pub(super) branch: &'n str,
    /// `%s` stands for the first seven characters of the reference.
    pub(super) short_ref_format: &'n str,
    pub(super) metadata: &'n [Value],
}

/// Writes the files that steps after a get read.
pub(super) fn write_notes(git: &Git<'_>, repository: &Path, notes: &Notes<'_>) -> Result<(), Failure> {
    let log = |arguments: &[&str]| git.run(repository, &[&["log", "-1"], arguments].concat());
    let short: String = notes.reference.chars().take(7).collect();
    let format = if notes.short_ref_format.is_empty() { "%s" } else { notes.short_ref_format };
    let branch = match notes.branch {
        "" => git.run(repository, &["for-each-ref", "--count=1", "--format=%(refname:short)", "refs/heads"])?,
        branch => branch.to_owned(),
    };
    let describe = git.run(repository, &["describe", "--always", "--dirty", "--broken"])?;
    let url = notes.metadata.iter().find(|field| field["name"] == "url").and_then(|field| field["value"].as_str());
    let files = [
        ("ref", format!("{}\n", notes.reference)),
        ("short_ref", format.replace("%s", &short)),
        ("branch", format!("{branch}\n")),
        ("committer", log(&["--format=format:%ae"])?),
        ("committer_name", log(&["--format=format:%an"])?),
        ("commit_message", log(&["--format=format:%B"])?),
        ("commit_timestamp", format!("{}\n", log(&["--format=format:%cd", "--date=iso8601"])?)),
        ("describe_ref", format!("{describe}\n")),
        ("metadata.json", format!("{}\n", Value::Array(notes.metadata.to_vec()))),
        ("url", url.map(|url| format!("{url}\n")).unwrap_or_default()),
    ];
    let directory = repository.join(".git");
    files
        .iter()
        .filter(|(_, content)| !content.is_empty())
        .try_for_each(|(name, content)| write_file(&directory, name, content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_have_pages_at_known_hosts() {
        let cases = [
            ("https://github.com/a/b.git", Some("https://github.com/a/b/commit/1")),
            ("git@github.com:a/b.git", Some("https://github.com/a/b/commit/1")),
            ("ssh://git@gitlab.example/a/b", Some("https://gitlab.example/a/b/-/commit/1")),
            ("https://bitbucket.org/a/b", Some("https://bitbucket.org/a/b/commits/1")),
            ("https://tok@github.com/a/b", Some("https://github.com/a/b/commit/1")),
            ("https://github.corp.example:8443/a/b", Some("https://github.corp.example:8443/a/b/commit/1")),
            ("ssh://me@gitlab.example:2222/a/b", Some("https://gitlab.example/a/b/-/commit/1")),
            ("https://github@evil.example/a/b", None),
            ("https://notgithub.example/a/b", None),
            ("github@git.example:a/b", None),
            ("https://git.example/a/b", None),
            ("file:///srv/github/a", None),
        ];
        for (uri, expected) in cases {
            assert_eq!(page(uri, "1").as_deref(), expected, "{uri}");
        }
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let message = "é".repeat(LONGEST_MESSAGE);
        assert_eq!(shortened(&message).len(), LONGEST_MESSAGE);
        assert_eq!(shortened("short"), "short");
    }
}
