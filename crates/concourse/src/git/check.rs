//! check: which commits, or tags, there are.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::program::Git;
use super::source::{Request, Source};
use crate::{Failure, Host};

/// The versions from the caller's on, oldest first.
pub(super) fn check(request: &Request, host: &Host) -> Result<Vec<Value>, Failure> {
    let source = &request.source;
    let git = Git::new(source, host)?;
    if is_unchanged(&git, request)? {
        return Ok(vec![json!({"ref": request.reference()})]);
    }
    let history = History { repository: clone(&git, source)?, git: &git, source };
    if source.tag_filter.is_empty() { history.commits(request.reference()) } else { history.tags(request.reference()) }
}

/// Whether the branch still is where the caller is, found out without fetching anything.
fn is_unchanged(git: &Git<'_>, request: &Request) -> Result<bool, Failure> {
    let source = &request.source;
    let filtered = !source.paths.is_empty() || !source.ignore_paths.is_empty() || !source.tag_filter.is_empty();
    if filtered || request.reference().is_empty() {
        return Ok(false);
    }
    let name = if source.branch.is_empty() { "HEAD".to_owned() } else { format!("refs/heads/{}", source.branch) };
    let found = git.run(git.scratch(), &["ls-remote", "--", &source.uri, &name])?;
    Ok(found.split_whitespace().next() == Some(request.reference()))
}

/// Fetches the history without the files.
fn clone(git: &Git<'_>, source: &Source) -> Result<PathBuf, Failure> {
    let repository = git.scratch().join("history");
    let filter = if source.paths.is_empty() && source.ignore_paths.is_empty() { "tree:0" } else { "blob:none" };
    let mut arguments =
        vec!["clone".to_owned(), "--quiet".to_owned(), "--bare".to_owned(), format!("--filter={filter}")];
    if source.tag_filter.is_empty() {
        arguments.extend(["--single-branch".to_owned(), "--no-tags".to_owned()]);
    }
    if !source.branch.is_empty() {
        arguments.push(format!("--branch={}", source.branch));
    }
    arguments.extend(["--".to_owned(), source.uri.clone(), repository.display().to_string()]);
    git.run(git.scratch(), &arguments)?;
    Ok(repository)
}

struct History<'h> {
    repository: PathBuf,
    git: &'h Git<'h>,
    source: &'h Source,
}

impl History<'_> {
    fn run(&self, arguments: &[String]) -> Result<Vec<String>, Failure> {
        Ok(self.git.run(&self.repository, arguments)?.lines().map(str::to_owned).collect())
    }

    /// Commits of the first-parent line that touch the paths and do not ask to be skipped.
    fn select(&self, options: &[&str], range: &[&str]) -> Result<Vec<String>, Failure> {
        let mut arguments = words(&["rev-list", "--first-parent"]);
        arguments.extend(words(options));
        if !self.source.disable_ci_skip {
            arguments.extend(words(&["--fixed-strings", "--grep=[ci skip]", "--grep=[skip ci]", "--invert-grep"]));
        }
        arguments.extend(words(range));
        arguments.push("--".to_owned());
        arguments.extend(self.source.paths.iter().cloned());
        arguments.extend(self.source.ignore_paths.iter().map(|path| format!(":!{path}")));
        self.run(&arguments)
    }

    fn commits(&self, cursor: &str) -> Result<Vec<Value>, Failure> {
        let found = if self.is_ancestor(cursor)? {
            // The caller's own commit is a version as long as it passes.
            let own = self.select(&["--max-count=1"], &[cursor])?.into_iter().filter(|commit| commit == cursor);
            own.chain(self.select(&["--reverse"], &["HEAD", &format!("^{cursor}")])?).collect()
        } else {
            self.newest()?
        };
        Ok(found.into_iter().map(|commit| json!({"ref": commit})).collect())
    }

    fn newest(&self) -> Result<Vec<String>, Failure> {
        let mut newest = self.select(&[&format!("--max-count={}", self.source.version_depth)], &["HEAD"])?;
        newest.reverse();
        Ok(newest)
    }

    fn is_ancestor(&self, commit: &str) -> Result<bool, Failure> {
        let is_full = commit.len() >= 40 && commit.bytes().all(|b| b.is_ascii_hexdigit());
        Ok(is_full && self.git.test(&self.repository, &["merge-base", "--is-ancestor", commit, "HEAD"])?)
    }

    /// Tags that match, by age, whose commits pass.
    fn tags(&self, cursor: &str) -> Result<Vec<Value>, Failure> {
        let mut arguments = words(&["tag", "--sort=creatordate", "--list"]);
        if !self.source.branch.is_empty() {
            arguments.push("--merged=HEAD".to_owned());
        }
        arguments.extend(["--".to_owned(), self.source.tag_filter.clone()]);
        let mut tags = self.run(&arguments)?;
        let known = tags.iter().position(|tag| tag == cursor);
        tags.drain(..known.unwrap_or_default());
        let mut versions = Vec::new();
        for tag in tags {
            let commit = self.run(&words(&["rev-list", "-1", &format!("refs/tags/{tag}")]))?.concat();
            if self.select(&["--max-count=1"], &[&commit])?.concat() == commit {
                versions.push(json!({"ref": tag, "commit": commit}));
            }
        }
        if known.is_none() {
            let newest = usize::try_from(self.source.version_depth).unwrap_or(usize::MAX);
            versions.drain(..versions.len().saturating_sub(newest));
        }
        Ok(versions)
    }
}

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Whether a directory is a repository, for errors.
pub(super) fn is_repository(directory: &Path) -> bool {
    directory.join(".git").exists() || (directory.join("HEAD").is_file() && directory.join("objects").is_dir())
}
