//! Few descriptors, little memory, calls that do less than they were asked.

use crate::fixture::Fixture;
use crate::full;
use crate::operation::{Build, Get, Operation, Put, Site};
use crate::trace::{can_trace, log_file, traced};
use crate::world::{Ran, peer, with_stdin};

fn under(operation: &dyn Operation, site: &Site, program: &str, flags: &[&str]) -> Ran {
    let mut command = site.world.command(program);
    command.args(flags).arg(operation.program()).args(operation.arguments(site));
    operation.dress(site, &mut command);
    with_stdin(command, operation.input(site).as_bytes())
}

fn all(fixture: &Fixture) -> Vec<Box<dyn Operation + '_>> {
    vec![
        Box::new(Get::new(fixture, "rootfs")),
        Box::new(Get::new(fixture, "oci")),
        Box::new(Get::new(fixture, "oci-layout")),
        Box::new(Put { fixture, image: "layout" }),
        Box::new(Build::new(fixture)),
    ]
}

/// K08: 32 descriptors are enough; fewer are an error that says so.
#[test]
fn few_descriptors_are_enough_or_an_error() {
    if peer("few_descriptors_are_enough_or_an_error", "prlimit").is_none() {
        return;
    }
    let fixture = Fixture::new();
    for operation in all(&fixture) {
        for &limit in if full() { &[32, 20, 12, 8][..] } else { &[32, 20] } {
            let site = operation.site();
            let what = format!("{} with {limit} descriptors", operation.name());
            let ran = under(&*operation, &site, "prlimit", &[&format!("--nofile={limit}")]);
            operation.check_left(&site, &what);
            if ran.code == Some(0) {
                operation.check_done(&site, &ran, &what);
                continue;
            }
            assert!(limit < 32, "{what}: {ran:?}");
            assert_eq!(ran.code, Some(1), "{what}: {ran:?}");
            assert!(ran.stderr.contains("Too many open files"), "{what}: {ran:?}");
            let again = operation.run(&site).ok();
            operation.check_done(&site, &again, &what);
        }
    }
}

/// K08: too little address space ends a program, but spoils nothing.
#[test]
fn little_memory_spoils_nothing() {
    if peer("little_memory_spoils_nothing", "prlimit").is_none() {
        return;
    }
    let fixture = Fixture::new();
    for operation in all(&fixture) {
        for &megabytes in if full() { &[400_u64, 200, 150, 100, 60, 40][..] } else { &[200, 60] } {
            let site = operation.site();
            let what = format!("{} with {megabytes} MB of address space", operation.name());
            let ran = under(&*operation, &site, "prlimit", &[&format!("--as={}", megabytes << 20)]);
            operation.check_left(&site, &what);
            let again = if ran.code == Some(0) { ran } else { operation.run(&site).ok() };
            operation.check_done(&site, &again, &what);
        }
    }
}

/// K08: writes and reads of files that are interrupted are made again.
#[test]
fn interrupted_calls_are_made_again() {
    if !can_trace("interrupted_calls_are_made_again") {
        return;
    }
    let fixture = Fixture::new();
    let get = Get::new(&fixture, "oci");
    let put = Put { fixture: &fixture, image: "image.tar" };
    let site = get.site();
    get.run(&site).ok();
    std::fs::copy(site.world.path("out/image.tar"), fixture.world.path("image.tar")).unwrap();
    let archive = |site: &Site| site.world.path("out/.image.tar.partial").display().to_string();
    let input = fixture.world.path("image.tar").display().to_string();
    for (operation, call) in [(&get as &dyn Operation, "write,pwrite64"), (&put, "read,pread64")] {
        let site = operation.site();
        let log = log_file(&site.world.path(""));
        let is_get = call.starts_with("write");
        let path = if is_get { archive(&site) } else { input.clone() };
        let inject = format!("inject={call}:error=EINTR:when=2+3");
        let flags = ["-P".to_owned(), path, "-e".to_owned(), format!("trace={call}"), "-e".to_owned(), inject];
        let command = traced(&site.world, &flags, &log, &operation.program(), &operation.arguments(&site));
        let ran = with_stdin(command, operation.input(&site).as_bytes()).ok();
        operation.check_done(&site, &ran, call);
        let injected = crate::trace::lines(&log).iter().filter(|line| line.text.contains("INJECTED")).count();
        assert!(injected > 0, "{call} was not interrupted");
    }
}
