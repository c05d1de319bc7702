//! The loops: every fault at every call of every operation.

use crate::building::{Everything, Grounds, Task};
use crate::fixture::Fixture;
use crate::operation::{Build, Get, Operation, Put};
use crate::points::{find, sample, sample_of_many, try_all};
use crate::trace::{Fault, Line, can_trace};

/// How many points of each operation a default run tries.
pub const KILLS: usize = 14;
const ERRORS: usize = 6;

const FORMATS: [&str; 3] = ["rootfs", "oci", "oci-layout"];

pub fn kill(operation: &dyn Operation, wanted: usize) {
    let points = find(operation, |_| true);
    eprintln!("{}: {} points to kill at", operation.name(), points.len());
    assert!(points.len() > 10, "{points:?}");
    try_all(operation, Fault::Kill, &sample(points, wanted));
}

pub fn fail(operation: &dyn Operation, error: &'static str, at: impl Fn(&Line) -> bool) {
    fail_some(operation, error, at, ERRORS);
}

pub fn fail_some(operation: &dyn Operation, error: &'static str, at: impl Fn(&Line) -> bool, wanted: usize) {
    let points = find(operation, at);
    eprintln!("{}: {} points for {error}", operation.name(), points.len());
    try_all(operation, Fault::Error(error), &sample(points, wanted));
}

/// What needs space.
pub fn takes_space(line: &Line) -> bool {
    match line.call.as_str() {
        "openat" | "openat2" => line.text.contains("O_CREAT") || line.text.contains("O_TMPFILE"),
        "close" | "flock" | "unlink" | "unlinkat" | "rmdir" | "fchmod" | "fchmodat" | "chmod" | "fchown"
        | "fchownat" => false,
        _ => true,
    }
}

pub fn touches_the_disk(line: &Line) -> bool {
    !matches!(line.call.as_str(), "close" | "flock")
}

pub fn opens(line: &Line) -> bool {
    matches!(line.call.as_str(), "openat" | "openat2" | "creat")
}

/// K01, K02, K03, K25
#[test]
fn a_get_killed_at_any_call_leaves_nothing_that_looks_whole() {
    if !can_trace("a_get_killed_at_any_call_leaves_nothing_that_looks_whole") {
        return;
    }
    let fixture = Fixture::new();
    for format in FORMATS {
        kill(&Get::new(&fixture, format), KILLS);
    }
}

/// K02, K17
#[test]
fn a_put_killed_at_any_call_leaves_no_tag_without_its_parts() {
    if !can_trace("a_put_killed_at_any_call_leaves_no_tag_without_its_parts") {
        return;
    }
    let fixture = Fixture::new();
    archive(&fixture);
    for image in ["layout", "image.tar"] {
        kill_anywhere(&Put { fixture: &fixture, image });
    }
}

/// A put changes nothing on our disk: what can be interrupted is its talk.
fn kill_anywhere(put: &Put<'_>) {
    let points = crate::push::talk(put);
    eprintln!("{}: {} points to kill at", put.name(), points.len());
    assert!(points.len() > 10, "{points:?}");
    try_all(put, Fault::Kill, &sample(points, KILLS));
}

/// A docker archive of the image beside its layout.
fn archive(fixture: &Fixture) {
    let get = Get::new(fixture, "oci");
    let site = get.site();
    get.run(&site).ok();
    std::fs::copy(site.world.path("out/image.tar"), fixture.world.path("image.tar")).unwrap();
}

/// K01, K02, K03, K12: the store after each kill is clean, without help.
#[test]
fn a_build_killed_at_any_call_leaves_a_store_that_is_right() {
    if !can_trace("a_build_killed_at_any_call_leaves_a_store_that_is_right") {
        return;
    }
    let fixture = Fixture::new();
    kill(&Build::new(&fixture), KILLS);
}

/// K01, K02, K03, K10, K11, K12, M49: a build with every kind of step, cache and output; of its points, which are thousands, a
/// full run tries some hundreds.
#[test]
fn a_build_of_everything_killed_at_any_call_leaves_nothing_that_looks_whole() {
    const TEST: &str = "a_build_of_everything_killed_at_any_call_leaves_nothing_that_looks_whole";
    if !can_trace(TEST) {
        return;
    }
    let Some(grounds) = Grounds::new(TEST) else { return };
    kill_some(&Everything::new(&grounds), 5, 300);
}

/// K01, K02, K03, K10, K11, K12: the same for the task.
#[test]
fn a_task_killed_at_any_call_leaves_nothing_that_looks_whole() {
    const TEST: &str = "a_task_killed_at_any_call_leaves_nothing_that_looks_whole";
    if !can_trace(TEST) {
        return;
    }
    let Some(grounds) = Grounds::new(TEST) else { return };
    kill_some(&Task::new(&grounds, false), 4, 200);
}

/// K01, K02, K03: the same with layouts as outputs.
#[test]
fn a_task_with_layouts_killed_at_any_call_leaves_nothing_that_looks_whole() {
    const TEST: &str = "a_task_with_layouts_killed_at_any_call_leaves_nothing_that_looks_whole";
    if !can_trace(TEST) {
        return;
    }
    let Some(grounds) = Grounds::new(TEST) else { return };
    kill_some(&Task::new(&grounds, true), 2, 100);
}

fn kill_some(operation: &dyn Operation, wanted: usize, wanted_of_all: usize) {
    let points = find(operation, |_| true);
    eprintln!("{}: {} points to kill at", operation.name(), points.len());
    assert!(points.len() > 300, "{}", points.len());
    try_all(operation, Fault::Kill, &sample_of_many(points, wanted, wanted_of_all));
}

/// K06, R95
#[test]
fn a_full_disk_at_any_call_of_a_get_is_said_and_leaves_nothing() {
    if !can_trace("a_full_disk_at_any_call_of_a_get_is_said_and_leaves_nothing") {
        return;
    }
    let fixture = Fixture::new();
    for format in FORMATS {
        let get = Get::new(&fixture, format);
        fail(&get, "ENOSPC", takes_space);
        fail(&get, "EDQUOT", takes_space);
    }
}

/// K06
#[test]
fn a_full_disk_at_any_call_of_a_build_is_said_and_leaves_a_store_that_is_right() {
    if !can_trace("a_full_disk_at_any_call_of_a_build_is_said_and_leaves_a_store_that_is_right") {
        return;
    }
    let fixture = Fixture::new();
    fail(&Build::new(&fixture), "ENOSPC", takes_space);
    fail(&Build::new(&fixture), "EDQUOT", takes_space);
}

/// K07
#[test]
fn a_failing_disk_is_never_a_success() {
    if !can_trace("a_failing_disk_is_never_a_success") {
        return;
    }
    let fixture = Fixture::new();
    for format in FORMATS {
        fail(&Get::new(&fixture, format), "EIO", touches_the_disk);
    }
    fail(&Put { fixture: &fixture, image: "layout" }, "EIO", touches_the_disk);
    fail(&Build::new(&fixture), "EIO", touches_the_disk);
}

/// K08
#[test]
fn too_many_open_files_is_said() {
    if !can_trace("too_many_open_files_is_said") {
        return;
    }
    let fixture = Fixture::new();
    for format in FORMATS {
        fail(&Get::new(&fixture, format), "EMFILE", opens);
    }
    fail(&Put { fixture: &fixture, image: "layout" }, "EMFILE", opens);
    fail(&Build::new(&fixture), "EMFILE", opens);
}
