//! `pull` and `copy`, interrupted.

use std::ffi::OsString;

use skycap_image::layout::Layout;
use skycap_store::Store;

use crate::faults::{KILLS, fail, fail_some, kill, opens, takes_space, touches_the_disk};
use crate::fixture::{Fixture, State};
use crate::operation::{Operation, Site};
use crate::trace::can_trace;
use crate::world::{Ran, listing};

/// Where `copy` or `pull` puts the image.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Rootfs,
    Layout,
    OciArchive,
    DockerArchive,
}

/// One of them. A rootfs is pulled through a store.
struct Move<'f> {
    fixture: &'f Fixture,
    to: To,
    good: Vec<String>,
}

impl<'f> Move<'f> {
    fn new(fixture: &'f Fixture, to: To) -> Self {
        let mut operation = Self { fixture, to, good: Vec::new() };
        let site = operation.site();
        operation.run(&site).ok();
        operation.good = operation.result(&site);
        operation
    }

    /// What is at the destination: a tree with times, or bytes. An index of a layout lists the image or is not there.
    fn result(&self, site: &Site) -> Vec<String> {
        let out = site.world.path("out");
        match self.to {
            To::Rootfs if out.exists() => listing(&out).lines().map(str::to_owned).collect(),
            To::Layout if out.join("index.json").exists() => {
                let layout = Layout::open(&out).unwrap();
                let listed = layout.artifacts().unwrap();
                listed.iter().map(|(name, descriptor)| format!("{name:?} {}", descriptor.digest)).collect()
            }
            To::OciArchive | To::DockerArchive if out.exists() => {
                vec![skycap_image::Digest::sha256(&std::fs::read(out).unwrap()).to_string()]
            }
            _ => Vec::new(),
        }
    }
}

/// Fails if a blob of a layout is not what its name says.
fn check_blobs(site: &Site, what: &str) {
    let out = site.world.path("out");
    for blob in std::fs::read_dir(out.join("blobs/sha256")).into_iter().flatten().flatten() {
        let digest = skycap_image::Digest::sha256(&std::fs::read(blob.path()).unwrap()).hex();
        assert_eq!(digest, blob.file_name().to_string_lossy(), "{what}");
    }
}

impl Operation for Move<'_> {
    fn name(&self) -> String {
        let name = match self.to {
            To::Rootfs => "pull to a rootfs",
            To::Layout => "copy to a layout",
            To::OciArchive => "copy to an OCI archive",
            To::DockerArchive => "copy to a docker archive",
        };
        name.to_owned()
    }

    fn site(&self) -> Site {
        Site::new()
    }

    fn arguments(&self, site: &Site) -> Vec<OsString> {
        let source = format!("docker://{}/app:1", self.fixture.server.address());
        let out = site.world.path("out").display().to_string();
        let store = site.world.path("store").display().to_string();
        let words: Vec<String> = match self.to {
            To::Rootfs => vec!["pull".into(), "--store".into(), store, "--rootfs".into(), out, source],
            To::Layout => vec!["copy".into(), source, format!("oci:{out}:1")],
            To::OciArchive => vec!["copy".into(), source, format!("oci-archive:{out}:1")],
            To::DockerArchive => vec!["copy".into(), source, format!("docker-archive:{out}:app:1")],
        };
        words.into_iter().map(OsString::from).collect()
    }

    fn check_left(&self, site: &Site, what: &str) {
        let left = self.result(site);
        assert!(left.is_empty() || left == self.good, "half of it is there: {what}\n{left:?}\n{:?}", self.good);
        check_blobs(site, what);
        if site.world.path("store/sessions-1").exists() {
            let damaged = Store::open(&site.world.path("store")).unwrap().audit(&mut |_| {}).unwrap().damaged;
            assert!(damaged.is_empty(), "{damaged:?}: {what}");
        }
        // A tree that is there is whole, and is not written to again.
        if self.to == To::Rootfs && !left.is_empty() {
            std::fs::remove_dir_all(site.world.path("out")).unwrap();
        }
    }

    fn check_done(&self, site: &Site, _: &Ran, what: &str) {
        assert_eq!(self.result(site), self.good, "{what}");
        self.check_tidy(site, what);
    }

    fn check_tidy(&self, site: &Site, what: &str) {
        assert_eq!(listing(&site.world.dir("tmp")), "", "{what}");
        let known = ["home", "tmp", "out", "store", "strace.log"];
        let left: Vec<_> = std::fs::read_dir(site.world.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| known.iter().any(|known| name == known)), "{left:?}: {what}");
        if self.to == To::Layout {
            State::of(&site.world.path("out")).has_nothing_temporary(what);
        }
        let sessions = std::fs::read_dir(site.world.path("store/sessions-1")).into_iter().flatten().flatten();
        let left: Vec<_> = sessions.map(|session| session.path()).collect();
        assert!(left.is_empty(), "left over: {left:?}: {what}");
    }
}

const PLACES: [To; 4] = [To::Rootfs, To::Layout, To::OciArchive, To::DockerArchive];

/// K01, K02, K03
#[test]
fn a_pull_and_a_copy_killed_at_any_call_leave_nothing_that_looks_whole() {
    if !can_trace("a_pull_and_a_copy_killed_at_any_call_leave_nothing_that_looks_whole") {
        return;
    }
    let fixture = Fixture::new();
    for to in PLACES {
        kill(&Move::new(&fixture, to), KILLS / 2);
    }
}

/// K06
#[test]
fn a_full_disk_at_any_call_of_a_pull_and_a_copy_is_said() {
    if !can_trace("a_full_disk_at_any_call_of_a_pull_and_a_copy_is_said") {
        return;
    }
    let fixture = Fixture::new();
    for to in PLACES {
        fail(&Move::new(&fixture, to), "ENOSPC", takes_space);
    }
}

/// The same code as that of gets and builds; two points each show that it is asked here too.
#[test]
fn a_failing_disk_and_too_many_open_files_are_no_success_of_a_pull_and_a_copy() {
    if !can_trace("a_failing_disk_and_too_many_open_files_are_no_success_of_a_pull_and_a_copy") {
        return;
    }
    let fixture = Fixture::new();
    for to in PLACES {
        fail_some(&Move::new(&fixture, to), "EIO", touches_the_disk, 2);
        fail_some(&Move::new(&fixture, to), "EMFILE", opens, 2);
    }
}

/// K09, R93
#[test]
fn a_pull_and_a_copy_that_are_asked_to_stop_stop_and_leave_nothing() {
    let fixture = Fixture::new();
    for to in PLACES {
        crate::signals::signal_often(&Move::new(&fixture, to));
    }
}
