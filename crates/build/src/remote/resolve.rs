//! Asks servers what they hold now, before keys are made: which commit, which content.
//!
//! A file is kept in the store, with what its server said of it. Next time the server is asked whether that is still so
//! (it decides, the store does not); a file whose digest the Dockerfile states is not asked for again at all.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use skycap_image::progress::Task;
use skycap_image::{Descriptor, Digest, Hasher, Kind, MediaType, SourceError};

use super::address::{self, GitAddress};
use super::secrets::Secrets;
use super::{GitAsk, HttpAnswer, HttpAsk, Validators, shown};
use crate::error::{BuildError, Fault};
use crate::graph::{Fetch, Found, Graph, Wanted};
use crate::request::Request;
use crate::world::World;

/// Files by the digest of their URL.
const FILES: &str = "build-http-v1";
/// Larger files are refused: 20 GiB.
const LARGEST: u64 = 20 << 30;
/// How many servers are asked at the same time.
const ASKED: usize = 8;

/// What is known of a file at a URL.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    blob: Descriptor,
    etag: Option<String>,
    last_modified: Option<String>,
}

/// Finds out what everything in the graph is that servers hold.
pub(crate) fn resolve(graph: &mut Graph, request: &Request, world: &World<'_>, file: &str) -> Result<(), BuildError> {
    let fetches: Vec<(&mut Fetch, usize)> = graph.fetches().collect();
    let wanted: Vec<Wanted> = fetches.iter().map(|(fetch, _)| fetch.what.clone()).collect();
    let found: Mutex<Vec<Option<Result<Found, Fault>>>> = Mutex::new(wanted.iter().map(|_| None).collect());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((number, what)) = {
            let number = next.fetch_add(1, Ordering::Relaxed);
            wanted.get(number).map(|what| (number, what))
        } {
            // Two platforms or targets want the same.
            if wanted[..number].contains(what) {
                continue;
            }
            let answer = find(what, request, world);
            found.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(answer);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..wanted.len().min(ASKED) {
            scope.spawn(work);
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for (number, (fetch, line)) in fetches.into_iter().enumerate() {
        let first = wanted.iter().position(|what| *what == fetch.what).unwrap_or(number);
        let died = || Err(Fault::new("a thread died"));
        let answer = match &found[first] {
            Some(Ok(found)) => Ok(found.clone()),
            _ => found[first].take().unwrap_or_else(died),
        };
        fetch.found = Some(answer.map_err(|fault| fault.at(file, line))?);
    }
    Ok(())
}

/// Asks about one thing.
pub(crate) fn find(what: &Wanted, request: &Request, world: &World<'_>) -> Result<Found, Fault> {
    if request.cancel.is_cancelled() {
        return Err(Fault::Cancelled);
    }
    match what {
        Wanted::Http { url, checksum, .. } => http(url, checksum.as_ref(), request, world),
        Wanted::Git { address, .. } => git(address, request, world),
    }
}

fn http(url: &str, checksum: Option<&Digest>, request: &Request, world: &World<'_>) -> Result<Found, Fault> {
    let key = Digest::sha256(url.as_bytes()).hex();
    let known = world.store.record(FILES, &key).filter(|_| !request.no_cache);
    let known: Option<Known> = known.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let known = known.filter(|known| world.store.verify(&known.blob));
    if let Some(known) = known.as_ref().filter(|known| checksum == Some(&known.blob.digest)) {
        return Ok(found(known));
    }
    let secrets = Secrets(&request.secrets);
    let authorization = secrets.for_file(url);
    let validators = known
        .as_ref()
        .filter(|_| checksum.is_none())
        .map(|known| Validators { etag: known.etag.clone(), last_modified: known.last_modified.clone() });
    let label = format!("fetch {}", shown(url));
    let task = Task::start(world.progress, &label, None);
    let scratch = world.store.scratch()?;
    let path = scratch.path().join("fetched");
    let mut into = File::options().create_new(true).read(true).write(true).open(&path)?;
    let ask = HttpAsk { url, authorization: authorization.as_ref(), known: validators.as_ref(), largest: LARGEST };
    let answer = world.remote.http(&ask, &mut into);
    let answer = answer.map_err(|error| refused(url, error))?;
    let known = match (answer, known) {
        (HttpAnswer::Unchanged, Some(known)) => known,
        (HttpAnswer::Unchanged, None) => {
            return Err(Fault::new(format!("{} has not changed, says its server, but nobody knows it", shown(url))));
        }
        (HttpAnswer::Fetched(validators), _) => {
            let blob = keep(into, url, checksum, world)?;
            Known { blob, etag: validators.etag, last_modified: validators.last_modified }
        }
    };
    if let Ok(bytes) = serde_json::to_vec(&known) {
        // Failing to remember costs a transfer next time.
        let _ = world.store.set_record(FILES, &key, &bytes);
    }
    task.finish("done");
    Ok(found(&known))
}

/// A server that wants to know who asks is told so by a secret.
fn refused(url: &str, error: SourceError) -> Fault {
    let is_denied = error.kind == Kind::Denied;
    let fault = Fault::caused(format!("cannot fetch {}", shown(url)), error);
    if is_denied { fault.with_hint("a file that is not public needs the secret HTTP_AUTH_TOKEN_<host>") } else { fault }
}

/// Moves what was fetched into the store, if it is what it should be.
fn keep(mut file: File, url: &str, checksum: Option<&Digest>, world: &World<'_>) -> Result<Descriptor, Fault> {
    file.rewind()?;
    let mut writer = world.store.writer()?;
    let mut hasher = checksum.map(|checksum| Hasher::new(checksum.algorithm()));
    let mut buffer = vec![0; 128 * 1024];
    loop {
        let count = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(hasher) = &mut hasher {
            hasher.update(&buffer[..count]);
        }
        writer.write_all(&buffer[..count])?;
    }
    if let (Some(hasher), Some(expected)) = (hasher, checksum) {
        let actual = hasher.finish();
        if actual != *expected {
            return Err(Fault::new(format!("digest mismatch: {} is {actual}, not {expected}", shown(url))));
        }
    }
    Ok(writer.commit(MediaType::Other("application/octet-stream".to_owned()))?)
}

fn found(known: &Known) -> Found {
    let modified = known.last_modified.as_deref().and_then(super::time::parse);
    Found::Http { blob: known.blob.clone(), modified }
}

fn git(address: &GitAddress, request: &Request, world: &World<'_>) -> Result<Found, Fault> {
    let reference = address.reference.as_deref();
    let pinned = address.checksum.as_deref().filter(|_| address.fetch_by_commit);
    if let Some(commit) = pinned.or(reference.filter(|name| address::is_commit(name))) {
        check(address, commit, None)?;
        return Ok(Found::Git { commit: commit.to_owned(), reference: None });
    }
    let secrets = Secrets(&request.secrets);
    let authorization = secrets.for_repository(&address.url);
    let agent = super::fetch::agent(address, request, world.store)?;
    let ask = GitAsk {
        url: &address.url,
        reference,
        authorization: authorization.as_ref(),
        ssh_agent: agent.as_ref().map(super::fetch::Agent::path),
    };
    let task = Task::start(world.progress, &format!("look up {}", address.shown()), None);
    let commit = world.remote.git_commit(&ask);
    let commit = commit.map_err(|error| Fault::caused(format!("cannot look up {}", address.shown()), error))?;
    check(address, &commit.commit, commit.tag.as_deref())?;
    task.finish("done");
    Ok(Found::Git { commit: commit.commit, reference: commit.reference })
}

/// A stated commit may be that of the tag itself.
fn check(address: &GitAddress, commit: &str, tag: Option<&str>) -> Result<(), Fault> {
    match &address.checksum {
        Some(expected)
            if !commit.starts_with(expected.as_str()) && !tag.is_some_and(|tag| tag.starts_with(expected.as_str())) =>
        {
            Err(Fault::new(format!("expected checksum to match {expected}, got {commit}")))
        }
        _ => Ok(()),
    }
}
