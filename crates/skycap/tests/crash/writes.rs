//! What is written to, as a trace of the paths shows.

use std::path::Path;

use crate::fixture::{Fixture, words};
use crate::operation::{Get, Operation, Put, check};
use crate::trace::{CHANGING, Line, can_trace, lines, log_file, logged};
use crate::world::{World, listing, with_stdin};

/// Files that calls make, change or remove, except pipes, sockets and other things without a name on disk.
fn written(log: &[Line]) -> Vec<&str> {
    let changes = |line: &&Line| match line.call.as_str() {
        "openat" | "openat2" => {
            ["O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC"].iter().any(|flag| line.text.contains(flag))
        }
        "close" | "flock" => false,
        "write" | "writev" | "sendfile" => line.text.split_once('<').is_some_and(|(_, path)| path.starts_with('/')),
        _ => true,
    };
    let no_file = |text: &str| {
        let harmless = ["/dev/", "pipe:[", "socket:[", "anon_inode:", "/dev/null", "(deleted)"];
        harmless.iter().any(|word| text.contains(word)) || text.contains("= -1 ")
    };
    log.iter().filter(changes).map(|line| &*line.text).filter(|text| !no_file(text)).collect()
}

fn log_of(world: &World, arguments: &[std::ffi::OsString], input: &str) -> Vec<Line> {
    let logs = tempfile::tempdir().unwrap();
    let log = log_file(logs.path());
    let calls = format!("{CHANGING},open");
    with_stdin(logged(world, &calls, &log, crate::binary(), arguments), input.as_bytes()).ok();
    lines(&log)
}

/// K18
#[test]
fn a_check_writes_nothing() {
    if !can_trace("a_check_writes_nothing") {
        return;
    }
    let fixture = Fixture::new();
    check(&fixture).ok();
    let request = serde_json::json!({"source": crate::fixture::source(fixture.server.address())}).to_string();
    let world = World::new();
    world.dir("tmp");
    let before = listing(&world.path(""));
    let log = log_of(&world, &words(["registry-image", "check"]), &request);
    assert!(log.len() > 5, "the log has calls");
    assert_eq!(written(&log), [""; 0]);
    assert_eq!(listing(&world.path("")), before);
}

/// K18
#[test]
fn a_get_writes_only_below_its_destination() {
    if !can_trace("a_get_writes_only_below_its_destination") {
        return;
    }
    let fixture = Fixture::new();
    for format in ["rootfs", "oci", "oci-layout"] {
        let get = Get::new(&fixture, format);
        let site = get.site();
        let out = site.world.path("out");
        let log = log_of(&site.world, &get.arguments(&site), &get.input(&site));
        let inside = out.display().to_string();
        let writes = written(&log);
        assert!(writes.len() > 10, "{writes:?}");
        // Beside the destination is only its own name.
        let outside: Vec<_> = writes.into_iter().filter(|text| !text.contains(&inside)).collect();
        assert_eq!(outside, [""; 0], "{format}");
    }
}

/// K18
#[test]
fn a_put_writes_nothing_but_what_it_sends() {
    if !can_trace("a_put_writes_nothing_but_what_it_sends") {
        return;
    }
    let fixture = Fixture::new();
    let put = Put { fixture: &fixture, image: "layout" };
    let site = put.site();
    let before = listing(Path::new(&fixture.world.path("layout")));
    let log = log_of(&site.world, &put.arguments(&site), &put.input(&site));
    let temporary = site.world.path("tmp").display().to_string();
    let outside: Vec<_> = written(&log).into_iter().filter(|text| !text.contains(&temporary)).collect();
    assert_eq!(outside, [""; 0]);
    assert_eq!(listing(&fixture.world.path("layout")), before);
}
