//! Real file systems that are too small, or not ours to write to.

use std::path::Path;
use std::process::Command;

use crate::building::{Everything, Grounds, Task};
use crate::fixture::Fixture;
use crate::full;
use crate::operation::{Get, Operation, Site};
use crate::world::{Ran, noise, root, skip, with_stdin};

/// A file system in memory that goes with its end.
struct Small<'s> {
    site: &'s Site,
    name: &'static str,
}

impl<'s> Small<'s> {
    /// `None` with a printed reason where we may not mount.
    fn mount(test: &str, site: &'s Site, name: &'static str, options: &str) -> Option<Self> {
        let at = site.world.dir(name);
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self { site, name }),
            _ => {
                skip(test, "a tmpfs cannot be mounted here");
                None
            }
        }
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.site.world.path(self.name)).output();
    }
}

/// A get into a directory of its own below `below`.
fn get_below(get: &Get<'_>, site: &Site, below: &Path) -> Ran {
    let mut command = site.world.command(crate::binary());
    command.args(["registry-image", "in"]).arg(below.join("out"));
    with_stdin(command, get.input(site).as_bytes())
}

/// K06, R95: a disk of every size between too small and large enough.
#[test]
fn a_disk_that_is_too_small_is_said_and_nothing_is_left_on_it() {
    const TEST: &str = "a_disk_that_is_too_small_is_said_and_nothing_is_left_on_it";
    if !root(TEST) {
        return;
    }
    let fixture = Fixture::new();
    let (mut refused, mut enough) = (0, 0);
    for format in ["rootfs", "oci", "oci-layout"] {
        let get = Get::new(&fixture, format);
        // The image has about 400 kB: the sizes are around that, in 64 steps of 16 KiB.
        for step in (1..=64).step_by(if full() { 1 } else { 9 }) {
            let site = get.site();
            let Some(_disk) = Small::mount(TEST, &site, "small", &format!("size={}k", step * 16)) else { return };
            let disk = site.world.path("small");
            let ran = get_below(&get, &site, &disk);
            let what = format!("{format} on {} KiB: {}", step * 16, ran.stderr);
            let left = crate::fixture::State::of(&disk.join("out"));
            left.is_whole_as_far_as_it_goes(&get.good, &what);
            if ran.code == Some(0) {
                enough += 1;
                assert_eq!(left, get.good, "{what}");
                continue;
            }
            refused += 1;
            assert_eq!((ran.code, &*ran.stdout), (Some(1), ""), "{what}");
            assert!(ran.stderr.contains("No space left on device"), "{what}");
            assert!(ran.stderr.contains(&disk.display().to_string()), "{what}");
            left.has_nothing_temporary(&what);
            site.is_tidy(&what);
        }
    }
    eprintln!("{refused} disks too small, {enough} large enough");
    assert!(refused > 5 && enough > 2, "{refused} {enough}");
}

/// K24: temporary files are made beside their target, so it does not matter what kind of file system `TMPDIR` is on.
#[test]
fn the_directory_for_temporary_files_may_be_anything() {
    const TEST: &str = "the_directory_for_temporary_files_may_be_anything";
    if !root(TEST) {
        return;
    }
    let fixture = Fixture::new();
    for format in ["rootfs", "oci", "oci-layout"] {
        let get = Get::new(&fixture, format);
        for options in ["size=4k", "ro", "noexec,nodev,nosuid"] {
            let site = get.site();
            let Some(_disk) = Small::mount(TEST, &site, "tmp", options) else { return };
            let ran = get.run(&site);
            assert_eq!(ran.code, Some(0), "{options}: {}", ran.stderr);
            get.check_done(&site, &ran, options);
        }
        // The destination itself.
        let site = get.site();
        let Some(_disk) = Small::mount(TEST, &site, "small", "noexec,nodev,nosuid") else { return };
        get_below(&get, &site, &site.world.path("small")).ok();
        assert_eq!(crate::fixture::State::of(&site.world.path("small/out")), get.good);
    }
}

/// K24, K06
#[test]
fn a_destination_that_is_read_only_is_named() {
    const TEST: &str = "a_destination_that_is_read_only_is_named";
    if !root(TEST) {
        return;
    }
    let fixture = Fixture::new();
    let get = Get::new(&fixture, "rootfs");
    let site = get.site();
    let Some(_disk) = Small::mount(TEST, &site, "small", "ro") else { return };
    let disk = site.world.path("small");
    let ran = get_below(&get, &site, &disk).fails(1, "Read-only file system");
    assert!(ran.stderr.contains(&disk.display().to_string()), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

/// K24, M49: a task whose cache is read-only, small or on another file system, or whose directory for temporary files is full.
#[test]
fn a_task_does_not_depend_on_where_its_cache_is() {
    const TEST: &str = "a_task_does_not_depend_on_where_its_cache_is";
    if !root(TEST) {
        return;
    }
    let Some(grounds) = Grounds::new(TEST) else { return };
    let task = Task::new(&grounds, false);
    // Its own file system, which is another than that of the outputs.
    for name in ["work/cache", "work/image"] {
        let site = task.site();
        let Some(_disk) = Small::mount(TEST, &site, name, "size=64m") else { return };
        task.check_done(&site, &task.run(&site).ok(), name);
        task.check_done(&site, &task.run(&site).ok(), name);
    }
    // One that cannot be written: nothing is kept, and it is said.
    let site = task.site();
    let Some(_disk) = Small::mount(TEST, &site, "work/cache", "ro") else { return };
    let ran = task.run(&site).ok();
    assert!(ran.stderr.contains("the cache cannot be used"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Read-only file system"), "{}", ran.stderr);
    task.check_outputs(&site, "a cache that is read-only");
    task.check_tidy(&site, "a cache that is read-only");
    // One that is too small.
    let site = task.site();
    let Some(disk) = Small::mount(TEST, &site, "work/cache", "size=128k") else { return };
    let ran = task.run(&site).fails(1, "No space left on device");
    task.check_left(&site, &ran.stderr);
    task.check_tidy(&site, &ran.stderr);
    drop(disk);
    task.check_done(&site, &task.run(&site).ok(), "there is room now");
}

/// K24: what a build needs besides its store goes beside its target, or where there is room.
#[test]
fn a_build_needs_no_room_for_temporary_files() {
    const TEST: &str = "a_build_needs_no_room_for_temporary_files";
    if !root(TEST) {
        return;
    }
    let Some(grounds) = Grounds::new(TEST) else { return };
    let everything = Everything::new(&grounds);
    for options in ["size=8k", "noexec,nodev,nosuid"] {
        let site = everything.site();
        let Some(_disk) = Small::mount(TEST, &site, "tmp", options) else { return };
        everything.check_done(&site, &everything.run(&site).ok(), options);
    }
}

/// K06: a store with no room for a file of the context, however much of it fits.
#[test]
fn a_store_that_is_too_small_for_a_file_is_said_to_be_full() {
    const TEST: &str = "a_store_that_is_too_small_for_a_file_is_said_to_be_full";
    if !root(TEST) {
        return;
    }
    let fixture = Fixture::new();
    for kilobytes in [60, 128, 1024] {
        let site = Get::new(&fixture, "rootfs").site();
        site.world.file("context/large", noise(2 << 20));
        site.world.file("context/Dockerfile", "FROM scratch\nCOPY large /\n");
        let Some(disk) = Small::mount(TEST, &site, "small", &format!("size={kilobytes}k")) else { return };
        let mut command = site.world.command(crate::binary());
        command.args(["build", "-o", "oci:layout", "context", "--store", "small"]);
        let ran = with_stdin(command, b"").fails(1, "the layer cannot be written to the store: ");
        assert!(ran.stderr.contains("No space left on device"), "{kilobytes}: {}", ran.stderr);
        drop(disk);
    }
}
