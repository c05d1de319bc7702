//! Several processes that want the same blobs at once.

use std::collections::BTreeMap;
use std::process::Stdio;

use skycap_store::Store;
use skycap_testkit::registry::{Reply, Scripted};

use crate::building::{Everything, Grounds, is_gone};
use crate::fixture::Fixture;
use crate::operation::Operation as _;
use crate::world::{World, listing, run};

/// R94
#[test]
fn what_several_pulls_want_at_once_is_fetched_once() {
    const AT_ONCE: usize = 6;
    let fixture = Fixture::new();
    let server = Scripted::in_front_of(fixture.server.address(), |_| Reply::forward()).unwrap();
    let world = World::new();
    let pull = |number: usize| {
        let out = format!("out-{number}");
        let mut command = world.command(crate::binary());
        command.args(["pull", "--store", "store", "--rootfs", &out, &format!("{}/app:1", server.address())]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..AT_ONCE).map(pull).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let mut fetched: BTreeMap<String, usize> = BTreeMap::new();
    for line in server.lines().into_iter().filter(|line| line.starts_with("GET ") && line.contains("/blobs/")) {
        *fetched.entry(line).or_default() += 1;
    }
    // Configs are small and are read before a store is asked for.
    let layers = fixture.layers();
    for layer in &layers {
        let times = fetched.iter().find(|(line, _)| line.contains(layer)).map_or(0, |(_, times)| *times);
        assert_eq!(times, 1, "{layer}: {fetched:?}");
    }
    assert_eq!(layers.len(), 3);
    let first = listing(&world.path("out-0"));
    for number in 1..AT_ONCE {
        assert_eq!(listing(&world.path(&format!("out-{number}"))), first);
    }
    assert!(Store::open(&world.path("store")).unwrap().audit(&mut |_| {}).unwrap().damaged.is_empty());
}

/// K12, K15, M49: builds that share a store, cache mounts and a cache in a directory, while somebody collects all of it
/// again and again.
#[test]
fn builds_at_once_on_one_store_and_a_collector_do_not_disturb_each_other() {
    const AT_ONCE: usize = 3;
    let rounds = if crate::full() { 10 } else { 1 };
    let Some(grounds) = Grounds::new("builds_at_once_on_one_store_and_a_collector_do_not_disturb_each_other") else {
        return;
    };
    let everything = Everything::new(&grounds);
    let site = everything.site();
    let mut command = everything.command(&site);
    let digest = run(everything.command(&site)).ok().stdout;
    for round in 0..rounds {
        let build = |number: usize| {
            let mut command = everything.command(&site);
            // Outputs of their own; what is shared is named from there.
            let directory = site.world.dir(&format!("{round}-{number}"));
            for name in ["store", "exchange"] {
                let _ = std::os::unix::fs::symlink(format!("../{name}"), directory.join(name));
            }
            command.current_dir(directory).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let mut builds: Vec<_> = (0..AT_ONCE).map(build).collect();
        let mut collections = 0;
        while builds.iter_mut().any(|build| build.try_wait().unwrap().is_none()) {
            run(site.world.skycap(["store", "gc", "--store", "store", "--limit", "0"])).ok();
            collections += 1;
        }
        for build in builds {
            let output = build.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(String::from_utf8_lossy(&output.stdout), digest);
        }
        assert!(collections > 0);
        let first = listing(&site.world.path(&format!("{round}-0/files")));
        for number in 1..AT_ONCE {
            assert_eq!(listing(&site.world.path(&format!("{round}-{number}/files"))), first);
        }
    }
    is_gone(&site.root(), "several at once");
    let store = Store::open(&site.world.path("store")).unwrap();
    assert!(store.audit(&mut |_| {}).unwrap().damaged.is_empty());
    drop(store);
    command.stdout(Stdio::piped());
    assert_eq!(run(command).ok().stdout, digest);
}
