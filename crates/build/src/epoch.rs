//! `SOURCE_DATE_EPOCH`: from what it names to a number.

use std::borrow::Cow;

use skycap_image::Digest;

use crate::dockerfile::Dockerfile;
use crate::error::{BuildError, Fault};
use crate::graph::{Found, Wanted};
use crate::plan::epoch::{self, Epoch};
use crate::remote::fetch::{Checkout, check_out};
use crate::remote::resolve;
use crate::request::Request;
use crate::world::World;

/// The times of commits, by repository and commit.
const TIMES: &str = "build-git-time-v1";

/// The request with its time as a number: where it said `context` or a name, servers are asked. `ARG SOURCE_DATE_EPOCH` has
/// that number as its value.
pub(crate) fn settled<'r>(
    request: &'r Request,
    world: &World<'_>,
    dockerfile: &Dockerfile,
) -> Result<Cow<'r, Request>, BuildError> {
    let Some(epoch) = epoch::epoch(request, dockerfile)? else { return Ok(Cow::Borrowed(request)) };
    let (seconds, line) = match epoch {
        Epoch::Seconds(seconds) if request.source_date_epoch.is_some() => {
            check(seconds)?;
            return Ok(Cow::Borrowed(request));
        }
        Epoch::Seconds(seconds) => (Ok(seconds), None),
        Epoch::Context => (request.context_time.ok_or_else(timeless_context), None),
        Epoch::Wanted(wanted, line) => (of_server(&wanted, request, world), Some(line)),
    };
    let seconds = seconds.map_err(|fault| match line {
        Some(line) if line > 1 => fault.at(&dockerfile.name, line),
        _ => BuildError::of_request("SOURCE_DATE_EPOCH", fault),
    })?;
    check(seconds)?;
    let mut settled = Request { source_date_epoch: Some(seconds), ..request.clone() };
    settled.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), seconds.to_string());
    Ok(Cow::Owned(settled))
}

fn check(seconds: i64) -> Result<(), BuildError> {
    let invalid = |_| BuildError::Request { what: format!("SOURCE_DATE_EPOCH={seconds} is no time"), hint: None };
    jiff::Timestamp::from_second(seconds).map(drop).map_err(invalid)
}

fn timeless_context() -> Fault {
    Fault::new("the build context is a directory, which has no time of its own")
        .with_hint("give a number of seconds since 1970, or build from a git repository or a URL")
}

fn of_server(wanted: &Wanted, request: &Request, world: &World<'_>) -> Result<i64, Fault> {
    match (wanted, resolve::find(wanted, request, world)?) {
        (Wanted::Git { address, keep_git_dir }, Found::Git { commit, reference }) => {
            let key = Digest::sha256(format!("{} {commit}", address.url).as_bytes()).hex();
            let known = world.store.record(TIMES, &key).and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
            if let Some(seconds) = known {
                return Ok(seconds);
            }
            let scratch = world.store.scratch()?;
            let checkout =
                Checkout { address, keep_git_dir: *keep_git_dir, commit: &commit, reference: reference.as_deref() };
            let tree = check_out(&checkout, &scratch.path().join("tree"), request, world.remote, world.store)?;
            // Failing to remember costs time only.
            let _ = world.store.set_record(TIMES, &key, tree.time.to_string().as_bytes());
            Ok(tree.time)
        }
        (Wanted::Http { url, .. }, Found::Http { modified, .. }) => modified.ok_or_else(|| {
            let what = format!("the server of {} does not say when it changed", crate::remote::shown(url));
            Fault::new(what).with_hint("give a number of seconds since 1970")
        }),
        _ => Err(Fault::new("the server's answer is of another kind")),
    }
}
