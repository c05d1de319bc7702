//! `check`, `in` and `out` of the resource types, and `build` of the oci-build task: standard streams around
//! `skycap_concourse`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;
use skycap_concourse::{Kind, encode, oci_build, resource};
use skycap_image::Event;
use skycap_store::{Store, Temporary};

use super::Context;
use crate::args::{Limit, Resource, TagResource};
use crate::failure::Failure;
use crate::report::log;

/// What a task's cache is pruned to after each build: what was not used for longest goes first.
const CACHE_LIMIT: u64 = 10 << 30;
/// What was not used for so long goes, too.
const CACHE_AGE: Duration = Duration::from_hours(14 * 24);
const FOREIGN_CACHE: &str = "cache holds what BuildKit left there: it is not read, and its blobs go when they are old";

/// How the stores of tasks without a cache are called.
const SCRATCH: &str = "skycap-task-";

/// Requests beyond this are not read.
const LARGEST_REQUEST: u64 = 64 * 1024 * 1024;

/// What a resource is asked to do.
#[derive(Debug, Clone)]
pub enum Script {
    Check,
    In(Option<PathBuf>),
    Out(Option<PathBuf>),
}

impl From<&Resource> for Script {
    fn from(command: &Resource) -> Self {
        match command {
            Resource::Check => Self::Check,
            Resource::In { dir } => Self::In(dir.clone()),
            Resource::Out { dir } => Self::Out(dir.clone()),
        }
    }
}

impl From<&TagResource> for Script {
    fn from(command: &TagResource) -> Self {
        match command {
            TagResource::Check => Self::Check,
            TagResource::In { dir } => Self::In(dir.clone()),
        }
    }
}

/// Reads the request from stdin, does it, prints the answer on stdout.
pub fn run(kind: Kind, script: &Script, context: &Context) -> Result<(), Failure> {
    let mut request = Vec::new();
    io::stdin().lock().take(LARGEST_REQUEST).read_to_end(&mut request)?;
    let started = Instant::now();
    let answer = answer(kind, script, &request, context)?;
    context.summarise(started.elapsed(), None);
    let mut out = io::stdout().lock();
    writeln!(out, "{}", encode(&answer))?;
    Ok(out.flush()?)
}

fn answer(kind: Kind, script: &Script, request: &[u8], context: &Context) -> Result<Value, Failure> {
    let host = context.host()?;
    let host = match kind {
        Kind::RegistryImage => host.with_progress(log::lines(&context.progress)),
        Kind::RegistryTag | Kind::Git => host,
    };
    let resource = resource(kind);
    Ok(match script {
        Script::Check => resource.check(request, &host)?,
        Script::In(directory) => resource.get(request, destination(kind, directory.as_deref())?, &host)?,
        Script::Out(directory) => resource.put(request, destination(kind, directory.as_deref())?, &host)?,
    })
}

/// Prints what a source of registry-image does; exit code 1 if something in it is wrong.
pub fn explain(asks: bool, context: &Context) -> Result<ExitCode, Failure> {
    let mut request = Vec::new();
    io::stdin().lock().take(LARGEST_REQUEST).read_to_end(&mut request)?;
    let explained = skycap_concourse::explain(&request, &context.host()?, asks)?;
    io::stdout().lock().write_all(explained.text.as_bytes())?;
    Ok(ExitCode::from(u8::from(explained.has_mistakes)))
}

/// The texts are those of the originals.
fn destination(kind: Kind, directory: Option<&Path>) -> Result<&Path, Failure> {
    directory.ok_or_else(|| {
        Failure::new(match kind {
            Kind::RegistryTag => "destination ($1) not given",
            Kind::RegistryImage | Kind::Git => "destination path not specified",
        })
    })
}

/// The oci-build task: parameters from the environment, inputs and outputs in the working directory.
pub fn oci_build(context: &Context) -> Result<(), Failure> {
    build_task(&oci_build::Params::from_environment(&context.environment)?, context)
}

/// The same with the parameters as JSON on stdin, as the original's `build` hands them to its `task`.
pub fn oci_build_request(context: &Context) -> Result<(), Failure> {
    let mut request = Vec::new();
    io::stdin().lock().take(LARGEST_REQUEST).read_to_end(&mut request)?;
    build_task(&oci_build::Params::from_request(&request, &context.environment)?, context)
}

fn build_task(params: &oci_build::Params, context: &Context) -> Result<(), Failure> {
    let started = Instant::now();
    let working_directory = std::env::current_dir()?;
    let cache =
        Some(working_directory.join("cache")).filter(|cache| cache.is_dir() && context.means.kept.store.is_none());
    if cache.as_deref().is_some_and(skycap_store::has_foreign_layout) {
        context.progress.event(Event::Note(FOREIGN_CACHE));
    }
    let (kept, cache) = task_store(context, cache)?;
    let (host, workshop) = (context.host()?, context.workshop(&kept.store)?);
    oci_build::run_cancellable(params, &working_directory, &host, &workshop, &context.cancel)?;
    context.summarise(started.elapsed(), None);
    drop((host, kept));
    if let Some(cache) = cache {
        tidy(&cache, context);
    }
    Ok(())
}

/// What is in use stays, so nobody holds the store any more. The build is done, whatever becomes of its cache.
fn tidy(cache: &Path, context: &Context) {
    let (limit, age) = match context.means.bounds.store_limit {
        Some(Limit::None) => (u64::MAX, Duration::MAX),
        Some(Limit::Size(size)) => (size, CACHE_AGE),
        None => (CACHE_LIMIT, CACHE_AGE),
    };
    let tidied = Store::open(cache).map_err(Failure::from).and_then(|store| Ok(store.gc_for_moving(limit, age)?));
    if let Err(failure) = tidied {
        context.progress.event(Event::Warning(&format!("the cache could not be pruned: {}", failure.message)));
    }
}

/// The store of a task, and the directory that goes away with it where the task keeps no cache.
struct TaskStore {
    store: Store,
    _scratch: Option<Temporary>,
}

/// The task's `cache` directory where the task declares one; else a place that an overlay can work on, for this build. A cache
/// that cannot be used, because it is read-only or somebody else's, costs time and not the build.
fn task_store(context: &Context, cache: Option<PathBuf>) -> Result<(TaskStore, Option<PathBuf>), Failure> {
    if context.means.kept.store.is_some() {
        return Ok((TaskStore { store: context.store()?, _scratch: None }, None));
    }
    match cache.as_deref().map(Store::open) {
        Some(Ok(store)) => {
            // What one left that had no cache.
            Temporary::sweep(&context.world.roomy, SCRATCH);
            return Ok((TaskStore { store, _scratch: None }, cache));
        }
        Some(Err(error)) => {
            let text = format!("the cache cannot be used, so nothing is kept for the next build: {error}");
            context.progress.event(Event::Warning(&text));
        }
        None => {}
    }
    let scratch = Temporary::create(&context.world.roomy, SCRATCH)?;
    Ok((TaskStore { store: Store::open(scratch.path())?, _scratch: Some(scratch) }, None))
}
