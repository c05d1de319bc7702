//! Several processes that want the same blobs at once.

use std::collections::BTreeMap;
use std::process::Stdio;

use skycap_store::Store;
use skycap_testkit::registry::{Reply, Scripted};

use crate::fixture::Fixture;
use crate::world::{World, listing};

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
