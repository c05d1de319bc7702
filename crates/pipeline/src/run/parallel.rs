//! Several things at once, with a limit, in the way `in_parallel` and `across` mean it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::stop::Stop;
use crate::Outcome;

/// More threads than this never run at once, whatever a pipeline says; the rest waits.
const MOST: usize = 64;

/// Runs `count` things, at most `limit` at a time (0: all), and joins their outcomes.
///
/// With `fail_fast` the first that does not succeed cancels those that run and keeps the others from starting; what it
/// cancelled does not count.
pub(crate) fn all(
    count: usize,
    limit: usize,
    fail_fast: bool,
    stop: &Stop,
    run: &(dyn Fn(usize, &Stop) -> Outcome + Sync),
) -> Outcome {
    let group = stop.child();
    let next = AtomicUsize::new(0);
    let ended = Mutex::new(Vec::new());
    let work = || {
        while !group.is_cancelled() {
            let index = next.fetch_add(1, Ordering::SeqCst);
            if index >= count {
                return;
            }
            let outcome = run(index, &group);
            if fail_fast && outcome != Outcome::Succeeded {
                group.cancel();
            }
            ended.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
        }
    };
    let threads = if limit == 0 { count } else { limit.min(count) }.min(MOST);
    if threads <= 1 {
        work();
    } else {
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|(index, _)| *index);
    if stop.is_cancelled() { Outcome::Aborted } else { join(ended.into_iter().map(|(_, outcome)| outcome)) }
}

/// Errors win over failures, failures over success. Steps that were cancelled inside do not count.
fn join(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    let mut errors = Vec::new();
    let mut failed = false;
    for outcome in outcomes {
        match outcome {
            Outcome::Errored(error) => errors.push(error),
            Outcome::Failed => failed = true,
            Outcome::Succeeded | Outcome::Aborted => {}
        }
    }
    match (errors.is_empty(), failed) {
        (false, _) => Outcome::Errored(several(&errors)),
        (true, true) => Outcome::Failed,
        (true, false) => Outcome::Succeeded,
    }
}

/// The text of hashicorp's `go-multierror`, which Concourse shows even for a single error.
pub(crate) fn several(errors: &[String]) -> String {
    let heading =
        if errors.len() == 1 { "1 error occurred:".to_owned() } else { format!("{} errors occurred:", errors.len()) };
    let lines: Vec<String> = errors.iter().map(|error| format!("* {error}")).collect();
    format!("{heading}\n\t{}\n\n", lines.join("\n\t"))
}
