//! `out`: commits that a step made go to the remote.
//!
//! The step's repository is not trusted: its configuration and hooks could run commands with our rights. So its commits
//! are fetched into a repository of our own, which git does safely, and pushed from there.

use std::path::{Component, Path};

use serde_json::{Value, json};
use skycap_image::Event;

use super::check::is_repository;
use super::commits::metadata;
use super::program::Git;
use super::source::Request;
use crate::{Failure, Host};

/// Pushes the commit that is checked out in `params.repository`, and the repository's tags.
pub(super) fn put(request: &Request, source: &Path, host: &Host) -> Result<Value, Failure> {
    let overridden = !request.put.branch.is_empty();
    let branch = if overridden { &request.put.branch } else { &request.source.branch };
    if branch.is_empty() {
        return Err(Failure::new("invalid payload (missing branch)").with_hint("a put needs source.branch"));
    }
    if request.put.repository.is_empty() {
        return Err(Failure::new("invalid payload (missing repository)")
            .with_hint("params.repository is the directory to push, below the put's inputs"));
    }
    let relative = Path::new(&request.put.repository);
    let climbs = relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
    let made = source.join(relative);
    if climbs || !is_repository(&made) {
        return Err(Failure::new(format!("params.repository {:?} is no repository", request.put.repository)));
    }

    let git = Git::new(&request.source, host)?;
    let ours = git.scratch().join("push");
    let ours_text = ours.display().to_string();
    git.run(git.scratch(), &["init", "--quiet", "--bare", "--", &ours_text])?;
    let made = made.canonicalize().map_err(|error| crate::files::io_failure("find", &made, &error))?;
    let from = format!("file://{}", made.display());
    let refspecs = ["+HEAD:refs/heads/skycap-put", "+refs/tags/*:refs/tags/*"];
    git.run(&ours, &[&["fetch", "--quiet", "--no-tags", "--update-shallow", "--", &from], &refspecs[..]].concat())?;
    git.run(&ours, &["symbolic-ref", "HEAD", "refs/heads/skycap-put"])?;

    host.progress.event(Event::Note(&format!("pushing to {} {branch}", request.source.uri)));
    let to = format!("refs/heads/skycap-put:refs/heads/{branch}");
    let mut push = vec!["push", "--quiet", "--tags"];
    if request.put.force {
        push.push("--force");
    }
    push.extend(["--", &request.source.uri, &to]);
    git.run(&ours, &push).map_err(|failure| {
        if failure.message.contains("[rejected]") {
            failure.with_hint("somebody pushed in between: get the newest commit and try again, or set params.force")
        } else {
            failure
        }
    })?;

    git.run(&ours, &["branch", "--quiet", "--move", "skycap-put", branch])?;
    let commit = git.run(&ours, &["rev-parse", "HEAD"])?;
    let version = if overridden { json!({"branch": branch, "ref": commit}) } else { json!({"ref": commit}) };
    Ok(json!({"version": version, "metadata": metadata(&git, &ours, &request.source.uri)?}))
}
