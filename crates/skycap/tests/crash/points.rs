//! One fault at every point of an operation.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skycap_testkit::process::{Finished, finish};

use crate::faults::takes_space;
use crate::full;
use crate::operation::{Operation, Site, is_json_or_nothing};
use crate::trace::{Fault, Line, Point, hits, injected, lines, log_file, logged, points};
use crate::world::{Ran, with_stdin};

/// As many at once as there are processors here.
const AT_ONCE: usize = 2;
/// Longer than anything takes that does not hang.
const HANG: Duration = Duration::from_mins(1);

/// All the points of an operation where a call is made for which this holds.
pub fn find(operation: &dyn Operation, matters: impl Fn(&Line) -> bool) -> Vec<Point> {
    let site = operation.site();
    let log = log_file(&site.world.path(""));
    let (program, arguments) = (operation.program(), operation.arguments(&site));
    let mut command = logged(&site.world, operation.calls(), &log, &program, &arguments);
    operation.dress(&site, &mut command);
    let ran = with_stdin(command, operation.input(&site).as_bytes());
    operation.check_done(&site, &ran.ok(), "undisturbed");
    let lines = lines(&log);
    points(&lines, |line| operation.matters(&site, line) && matters(line))
}

/// As many of them as are wanted, spread evenly; all in a full run.
pub fn sample(points: Vec<Point>, wanted: usize) -> Vec<Point> {
    if full() || points.len() <= wanted {
        return points;
    }
    spread(&points, wanted)
}

/// The same where there are so many that a full run does not try them all either.
pub fn sample_of_many(points: Vec<Point>, wanted: usize, wanted_of_all: usize) -> Vec<Point> {
    let wanted = if full() { wanted_of_all } else { wanted };
    if points.len() <= wanted { points } else { spread(&points, wanted) }
}

fn spread(points: &[Point], wanted: usize) -> Vec<Point> {
    let count = points.len();
    (0..wanted).map(|number| points[number * count / wanted].clone()).collect()
}

/// What came of the points of an operation.
#[derive(Default)]
pub struct Tally(Mutex<BTreeMap<&'static str, usize>>);

impl Tally {
    fn add(&self, what: &'static str) {
        *self.0.lock().unwrap().entry(what).or_default() += 1;
    }
}

/// Tries a fault at each point, in a fresh place each time. Afterwards the same is done undisturbed in that place.
pub fn try_all(operation: &dyn Operation, fault: Fault, points: &[Point]) {
    let (next, tally) = (AtomicUsize::new(0), Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    try_one(operation, fault, point, &tally);
                }
            });
        }
    });
    eprintln!("{}, {fault:?}: {} points: {:?}", operation.name(), points.len(), tally.0.lock().unwrap());
}

fn try_one(operation: &dyn Operation, fault: Fault, point: &Point, tally: &Tally) {
    let site = operation.site();
    let log = log_file(&site.world.path(""));
    let mut command = injected(&site.world, point, fault, &log, &operation.program(), &operation.arguments(&site));
    operation.dress(&site, &mut command);
    let Finished { output, hung } = finish(&mut command, operation.input(&site).as_bytes(), HANG);
    let ran = Ran::from(output);
    let mut hits = hits(&log);
    // What wakes a program's own threads cannot fail so in earnest: they may then sleep for ever, or give up.
    let is_own = hits.iter().any(|line| line.text.contains("anon_inode:"));
    // Where nothing can be said, nothing is.
    let is_said = hits.iter().any(|line| line.text.starts_with("write(2<"));
    let hit = hits.pop();
    let text = hit.as_ref().map_or("not reached", |line| &line.text);
    let what = format!("{}, {fault:?} at {} {}: {text}\n{}", operation.name(), point.call, point.when, ran.stderr);
    assert!(!hung || is_own, "it hangs: {what}");
    is_json_or_nothing_of(operation, &ran, &what);
    operation.check_left(&site, &what);
    let about_us = !is_own && !is_said && hit.as_ref().is_some_and(|line| operation.matters(&site, line));
    match fault {
        Fault::Kill => tally.add(if ran.code.is_none() { "killed" } else { "not reached" }),
        Fault::Error(name) => {
            assert!(!ran.stderr.contains("panicked") || !about_us, "{what}");
            tally.add(judge(operation, &site, &ran, name, hit.as_ref().filter(|_| about_us), &what));
        }
    }
    let again = operation.run(&site);
    assert_eq!(again.code, Some(0), "the next run fails: {}\nafter {what}", again.stderr);
    operation.check_done(&site, &again, &what);
}

fn is_json_or_nothing_of(operation: &dyn Operation, ran: &Ran, what: &str) {
    if operation.name().starts_with("get") || operation.name().starts_with("put") {
        is_json_or_nothing(&ran.stdout, what);
    }
}

/// A call that failed, as far as it was about something of ours, must be an error that says so.
fn judge(
    operation: &dyn Operation,
    site: &Site,
    ran: &Ran,
    name: &str,
    hit: Option<&Line>,
    what: &str,
) -> &'static str {
    let Some(line) = hit else { return "elsewhere" };
    // Another thread was faster, with a call that cannot fail so.
    if matches!(name, "ENOSPC" | "EDQUOT") && !takes_space(line) {
        return "elsewhere";
    }
    if ran.code == Some(0) {
        // What a cache cannot keep costs time, not the answer, which is looked at next.
        let is_cache = line.text.contains("/store/");
        assert!(is_cache || may_fail(line), "success, although something was not written: {what}");
        operation.check_left(site, what);
        return "tolerated";
    }
    assert_eq!(ran.code, Some(1), "{what}");
    assert_eq!(ran.stdout, "", "{what}");
    let says = |line: &&str| line.contains(text_of(name));
    let said = ran.stderr.lines().find(says).unwrap_or_else(|| panic!("the error does not say what happened: {what}"));
    let where_to = site.world.path("out").display().to_string();
    let is_put = operation.name().starts_with("put");
    assert!(is_put || said.contains(&site.root()) || said.contains(&where_to), "the error does not say where: {what}");
    if !may_fail(line) {
        operation.check_tidy(site, what);
    }
    "refused"
}

/// Cleaning up, locks and hints to the kernel: their failure loses nothing.
fn may_fail(line: &Line) -> bool {
    let harmless = ["unlink", "unlinkat", "rmdir", "flock", "close", "sync_file_range", "fallocate", "copy_file_range"];
    // Looking for left-overs of others is no reason not to work.
    let looks = line.text.contains("O_DIRECTORY") && !line.text.contains("O_CREAT");
    looks || harmless.contains(&line.call.as_str())
}

fn text_of(name: &str) -> &'static str {
    match name {
        "ENOSPC" => "No space left on device",
        "EDQUOT" => "Disk quota exceeded",
        "EIO" => "Input/output error",
        "EMFILE" => "Too many open files",
        other => panic!("what does {other} say?"),
    }
}
