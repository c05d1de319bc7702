//! Homes that are missing, read-only or full.

use std::process::Command;

use crate::fixture::Fixture;
use crate::operation::{Build, Get, Operation, Put, Site};
use crate::world::{Ran, root, with_stdin};

/// Runs with another home; temporary files as before.
fn at_home(operation: &dyn Operation, site: &Site, home: Option<&str>) -> Ran {
    let mut command = site.world.command(crate::binary());
    match home {
        Some(home) => command.env("HOME", site.world.path(home)),
        None => command.env_remove("HOME"),
    };
    command.args(operation.arguments(site));
    with_stdin(command, operation.input(site).as_bytes())
}

/// K24: what needs no cache needs no home.
#[test]
fn a_get_and_a_put_need_no_home() {
    let fixture = Fixture::new();
    let operations: [&dyn Operation; 2] = [&Get::new(&fixture, "rootfs"), &Put { fixture: &fixture, image: "layout" }];
    for operation in operations {
        for home in [None, Some("missing/home"), Some("tmp/../home")] {
            let site = operation.site();
            let ran = at_home(operation, &site, home);
            assert_eq!(ran.code, Some(0), "{home:?}: {}", ran.stderr);
            operation.check_done(&site, &ran, &format!("{home:?}"));
        }
    }
}

/// K24: a build whose cache cannot be written says which and what to do.
#[test]
fn a_build_without_room_for_its_cache_says_so() {
    const TEST: &str = "a_build_without_room_for_its_cache_says_so";
    if !root(TEST) {
        return;
    }
    let fixture = Fixture::new();
    let build = Build::new(&fixture);
    for (options, text) in [("ro", "Read-only file system"), ("size=64k", "No space left on device")] {
        let site = build.site();
        let home = site.world.dir("small");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&home).status();
        if !mounted.is_ok_and(|status| status.success()) {
            return crate::world::skip(TEST, "a tmpfs cannot be mounted here");
        }
        let mut command = site.world.command(crate::binary());
        let arguments = build.arguments(&site).into_iter().enumerate();
        // Without its --store the cache is in the home.
        command.args(arguments.filter(|(number, _)| !(1..=2).contains(number)).map(|(_, argument)| argument));
        command.env("HOME", &home);
        let ran = with_stdin(command, b"");
        let _ = Command::new("umount").arg("-l").arg(&home).status();
        let ran = ran.fails(1, text);
        assert!(ran.stderr.contains(&home.display().to_string()), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
        assert!(!site.world.path("layout/index.json").exists());
    }
}
