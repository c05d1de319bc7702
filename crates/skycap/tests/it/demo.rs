//! The first thing a newcomer sees.

use crate::world::{World, run};

#[test]
fn the_demo_pushes_then_rests_then_follows_a_new_upstream_tag() {
    let world = World::new();
    let first = run(world.skycap(["demo"])).ok();
    assert!(first.stdout.contains("pushed registry.example/hello:latest@sha256:"), "{}", first.stdout);
    let second = run(world.skycap(["demo"])).ok();
    assert!(second.stdout.contains("nothing changed"), "{}", second.stdout);
    assert!(!second.stdout.contains("pushed"), "{}", second.stdout);
    let third = run(world.skycap(["demo", "--new-upstream-tag", "3.4.0"])).ok();
    assert!(third.stdout.contains("pushed registry.example/hello:latest@sha256:"), "{}", third.stdout);
    assert_ne!(first.stdout, third.stdout);
}

#[test]
fn the_demo_refuses_a_version_that_its_pipeline_would_not_see() {
    let world = World::new();
    run(world.skycap(["demo", "--new-upstream-tag", "latest"])).fails(2, "expected a version such as 3.4.0");
}
