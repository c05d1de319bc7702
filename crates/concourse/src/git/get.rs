//! `in`: a commit becomes a working tree.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde_json::{Value, json};
use skycap_image::Event;

use super::commits::{Notes, metadata, write_notes};
use super::program::Git;
use super::source::Request;
use crate::files::io_failure;
use crate::inputs::read_small;
use crate::{Failure, Host};

/// Clones into `destination`, which is empty.
pub(super) fn get(request: &Request, destination: &Path, host: &Host) -> Result<Value, Failure> {
    let git = Git::new(&request.source, host)?;
    let source = &request.source;
    let reference = if request.reference().is_empty() { "HEAD" } else { request.reference() };
    host.progress.event(Event::Note(&format!("fetching {} at {reference}", source.uri)));
    clone(&git, request, destination)?;
    check_out(&git, request, reference, destination)?;
    if !request.get.without_submodules && destination.join(".gitmodules").symlink_metadata().is_ok() {
        submodules(&git, request, destination)?;
    }
    check_lfs(request, destination)?;

    let commit = git.run(destination, &["rev-parse", "HEAD"])?;
    let reference = if reference == "HEAD" { commit.as_str() } else { reference };
    let metadata = metadata(&git, destination, &source.uri)?;
    if request.get.clean_tags {
        let tags = git.run(destination, &["tag", "--list"])?;
        for tag in tags.lines() {
            git.run(destination, &["tag", "--delete", "--", tag])?;
        }
    }
    let short_ref_format = &request.get.short_ref_format;
    write_notes(
        &git,
        destination,
        &Notes { reference, branch: &source.branch, short_ref_format, metadata: &metadata },
    )?;

    let version = if request.version.is_empty() { json!({"ref": reference}) } else { json!(request.version) };
    Ok(json!({"version": version, "metadata": metadata}))
}

fn clone(git: &Git<'_>, request: &Request, destination: &Path) -> Result<(), Failure> {
    let source = &request.source;
    let mut arguments = vec!["clone".to_owned(), "--quiet".to_owned(), "--single-branch".to_owned()];
    if request.get.depth > 0 {
        arguments.push(format!("--depth={}", request.get.depth));
    }
    if !source.branch.is_empty() {
        arguments.push(format!("--branch={}", source.branch));
    }
    let place = destination.display().to_string();
    arguments.extend(["--".to_owned(), source.uri.clone(), place]);
    git.run(git.scratch(), &arguments)?;
    let mut fetch = vec!["fetch", "--quiet", "origin", "refs/notes/*:refs/notes/*"];
    if !source.tag_filter.is_empty() || source.fetch_tags || request.get.fetch_tags {
        fetch.push("--tags");
    }
    git.run(destination, &fetch).map(drop)
}

fn check_out(git: &Git<'_>, request: &Request, reference: &str, destination: &Path) -> Result<(), Failure> {
    let commit = format!("{reference}^{{commit}}");
    let is_there = || git.test(destination, &["cat-file", "-e", &commit]);
    if request.get.depth > 0 && !is_there()? {
        // Not every server hands out a commit by its name; any hands out all of the history.
        let depth = format!("--depth={}", request.get.depth);
        if !git.test(destination, &["fetch", "--quiet", &depth, "origin", reference])? || !is_there()? {
            git.run(destination, &["fetch", "--quiet", "--unshallow", "origin"])?;
        }
    }
    if !is_there()? {
        let branch = if request.source.branch.is_empty() { "the default branch" } else { &request.source.branch };
        return Err(Failure::new(format!("{} has no {reference} on {branch}", request.source.uri)).with_hint(
            "the commit may have been removed by a forced push, or the resource follows another branch now",
        ));
    }
    git.run(destination, &["checkout", "--quiet", "--detach", &commit]).map(drop)
}

fn submodules(git: &Git<'_>, request: &Request, destination: &Path) -> Result<(), Failure> {
    let mut arguments = vec!["submodule", "update", "--quiet", "--init"];
    if !request.get.flat_submodules {
        arguments.push("--recursive");
    }
    let fetched = git.run_for_submodules(destination, &arguments);
    fetched.map(drop).map_err(|failure| failure.with_hint("params.submodules: none leaves submodules out"))
}

/// Files that git-lfs keeps elsewhere would be short texts without saying so.
fn check_lfs(request: &Request, destination: &Path) -> Result<(), Failure> {
    let attributes = attributes(destination)?;
    let uses_lfs = String::from_utf8_lossy(&attributes)
        .lines()
        .any(|line| !line.trim_start().starts_with('#') && line.contains("filter=lfs"));
    if !uses_lfs || request.get.disable_git_lfs {
        return Ok(());
    }
    Err(Failure::new(format!("{} keeps files in git-lfs, which is not supported yet", request.source.uri))
        .with_hint("params.disable_git_lfs: true fetches the pointers instead of the files"))
}

/// `.gitattributes`. Git takes no notice of one that is a link, and following it could lead anywhere.
fn attributes(destination: &Path) -> Result<Vec<u8>, Failure> {
    let path = destination.join(".gitattributes");
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path);
    let content = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(Vec::new()),
        opened => opened.and_then(regular).and_then(read_small),
    };
    content.map_err(|error| io_failure("read", &path, &error))
}

fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}
