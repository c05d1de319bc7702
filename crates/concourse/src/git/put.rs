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
use crate::inputs::{Inputs, Reader};
use crate::{Failure, Host};

/// What names the repository.
const REPOSITORY: &str = "params.repository";

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
    let inputs = Inputs::new(Reader::Put, source, host.confinement())?;
    let made = if climbs { None } else { inputs.find_if_there(REPOSITORY, relative)? };
    let Some(made) = made.filter(|made| is_repository(made)) else {
        return Err(Failure::new(format!("{REPOSITORY} {:?} is no repository", request.put.repository)));
    };
    check_inside(&inputs, &made)?;

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

/// A repository can say that parts of it are elsewhere, and git goes there. Where that could be outside of the put's inputs
/// it is an error.
fn check_inside(inputs: &Inputs, repository: &Path) -> Result<(), Failure> {
    if !inputs.is_confined() {
        return Ok(());
    }
    let own = inputs.find_if_there(REPOSITORY, &repository.join(".git"))?;
    let directory = match own {
        None => repository.to_owned(),
        Some(file) if file.is_file() => {
            let text = inputs.text(REPOSITORY, &file)?;
            let target = text.strip_prefix("gitdir:").unwrap_or_default().trim();
            inputs.find(REPOSITORY, &repository.join(target))?
        }
        Some(directory) => directory,
    };
    inputs.check_below(REPOSITORY, &directory)?;
    let elsewhere = |what: &str| {
        let failure = Failure::new(format!("{REPOSITORY} keeps a part of itself elsewhere: {what}"));
        Err(failure.with_hint("push a whole clone"))
    };
    for name in ["commondir", "objects/info/alternates", "objects/info/http-alternates"] {
        if inputs.find_if_there(REPOSITORY, &directory.join(name))?.is_some() {
            return elsewhere(name);
        }
    }
    for name in ["config", "config.worktree"] {
        let text = inputs.read_if_there(REPOSITORY, &directory.join(name))?.unwrap_or_default();
        if String::from_utf8_lossy(&text).to_lowercase().contains("[include") {
            return elsewhere(&format!("{name} includes other files"));
        }
    }
    Ok(())
}
