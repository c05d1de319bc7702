//! The oci-build task in this process: its directories are laid out as real ones below one directory.

use std::fs;
use std::path::{Component, Path, PathBuf};

use skycap_concourse::{Environment, SandboxAccess, Workshop, oci_build};

use super::Task;
use super::layout::Layout;
use crate::config::ImageResource;
use crate::run::container::{resolve_path, working_dir};
use crate::run::engine::{Cancelled, Trouble, during, failed, in_process};
use crate::run::files;
use crate::run::scope::Artifact;

pub(super) fn run(task: &Task<'_>, image: &ImageResource) -> Result<(), Trouble> {
    let layout = Layout::new(task)?;
    let root = task.build.engine.fresh("task").map_err(during("make a working directory"))?;
    lay_out(&layout, &working_dir(&task.step.name), &root)?;
    let name = image.source.as_map().and_then(|source| source.get("repository")).map(crate::yaml::Node::env_text);
    task.log.note(&format!("built in: {} is not fetched", name.unwrap_or_default()));
    task.log.running(&task.config.run.path, &[]);
    let result = build(task, &root);
    keep(&layout, task, &root)?;
    result
}

fn build(task: &Task<'_>, root: &Path) -> Result<(), Trouble> {
    let engine = task.build.engine;
    let environment: Environment = task.env().into_iter().collect();
    let params = oci_build::Params::from_environment(&environment).map_err(|failure| failed(task.log, &failure))?;
    let scratch = engine.fresh("scratch").map_err(during("make a directory for temporary files"))?;
    let host = engine.host.clone().with_environment(environment).with_scratch(&scratch);
    let host = host.with_progress(task.log.progress()).confined_to(root);
    let (store, sandbox, threads) = (engine.store.clone(), engine.sandbox.clone(), engine.options.threads.max(1));
    let dir = resolve_path(root, &task.config.run.dir);
    let token = task.cx.stop.token().clone();
    // A cancelled build ends soon; until then it uses the directories that are tidied up next.
    in_process(task.log, &task.cx.stop, Cancelled::Wait, move || {
        let sandbox = match sandbox.as_ref() {
            Ok(sandbox) => SandboxAccess::Available(sandbox),
            Err(refused) => SandboxAccess::Refused(refused),
        };
        let workshop = Workshop { store: &store, sandbox, scratch: Some(&host.scratch), threads };
        let result = oci_build::run_cancellable(&params, &dir, &host, &workshop, &token);
        // Left-overs go with the work directory at the next start.
        let _ = fs::remove_dir_all(&scratch);
        result.map(drop)
    })
}

/// Copies inputs to their paths and makes outputs, parents first.
fn lay_out(layout: &Layout, inside: &Path, root: &Path) -> Result<(), Trouble> {
    for (path, place) in &layout.places {
        let dir = directory(root, path.strip_prefix(inside).unwrap_or(path))?;
        if let Some(input) = &place.input {
            files::copy(input, &dir).map_err(during(format_args!("copy an input to {}", path.display())))?;
        } else if let Some(cache) = place.cache.as_ref().filter(|_| dir != root) {
            cache.take(&dir)?;
        }
    }
    Ok(())
}

/// Makes a directory below `root`, through real directories only: a link in an input must not lead out.
fn directory(root: &Path, relative: &Path) -> Result<PathBuf, Trouble> {
    let mut dir = root.to_owned();
    for part in relative.components() {
        let Component::Normal(part) = part else { continue };
        dir.push(part);
        match fs::symlink_metadata(&dir) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Trouble::Errored(format!(
                    "{} is not a directory in the input around it, so nothing can be placed there",
                    relative.display()
                )));
            }
            Err(_) => fs::create_dir(&dir).map_err(during(format_args!("make {}", relative.display())))?,
        }
    }
    Ok(dir)
}

/// Takes each output out of the directories around it, deepest first: an artifact holds no other one's files, only the empty
/// directory on which a worker would have mounted it.
fn keep(layout: &Layout, task: &Task<'_>, root: &Path) -> Result<(), Trouble> {
    let engine = task.build.engine;
    let inside = working_dir(&task.step.name);
    for (path, place) in layout.places.iter().rev() {
        let dir = directory(root, path.strip_prefix(&inside).unwrap_or(path))?;
        let own = engine.fresh("artifact").map_err(during("make an artifact"))?;
        fs::rename(&dir, &own).map_err(during("keep an artifact"))?;
        fs::create_dir(&dir).map_err(during("keep an artifact"))?;
        if place.outputs.is_empty() {
            match &place.cache {
                Some(cache) => cache.put_back(&own)?,
                None => drop(fs::remove_dir_all(&own)),
            }
        }
        for output in &place.outputs {
            task.cx.scope.add_artifact(output, Artifact { dir: own.clone() });
        }
    }
    Ok(())
}
