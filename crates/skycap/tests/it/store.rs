//! `skycap store`.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::copy::{INDEX, layout};
use crate::world::{World, registry, run};

/// A store that a pull has filled.
fn filled() -> (World, usize) {
    let world = World::new();
    let server = registry(&world.dir("registry"));
    layout(&world, "source", INDEX, "1");
    let app = format!("{}/app:1", server.address());
    run(world.skycap(["copy", "oci:source:1", &app])).ok();
    run(world.skycap(["pull", &app, "--rootfs", "a", "--platform", "linux/amd64"])).ok();
    let items = blobs(&world).len();
    assert_eq!(items, 2, "a blob for each layer");
    (world, items)
}

fn json(world: &World, arguments: &[&str]) -> Value {
    run(world.skycap([&["store"], arguments, &["--json"]].concat())).ok().json()
}

fn blobs(world: &World) -> Vec<Value> {
    let items = json(world, &["ls"])["items"].as_array().unwrap().clone();
    items.into_iter().filter(|item| item["sort"] == "blob").collect()
}

#[test]
fn the_store_is_listed() {
    let (world, _) = filled();
    let listed = run(world.skycap(["store", "ls"])).ok();
    assert_eq!(listed.stdout.matches("blob").count(), 2, "{}", listed.stdout);
    assert!(
        listed.stderr.contains("items in") && listed.stderr.contains("home/.cache/skycap/store"),
        "{}",
        listed.stderr
    );
    let elsewhere = run(world.skycap(["store", "ls", "--json", "--store", "empty"])).ok().json();
    assert_eq!(elsewhere["bytes"], 0);
}

#[test]
fn what_goes_is_said_first_and_done_then() {
    let (world, blobs_before) = filled();
    run(world.skycap(["store", "gc"])).fails(2, "--limit");
    run(world.skycap(["store", "gc", "--limit", "plenty"])).fails(2, "expected a size");
    run(world.skycap(["store", "gc", "--unused-for", "7"])).fails(2, "expected an age");
    let dry = json(&world, &["gc", "--limit", "0", "--dry-run"]);
    assert!(dry["freed"].as_u64().unwrap() > 200_000, "{dry}");
    assert_eq!(blobs(&world).len(), blobs_before);
    assert_eq!(json(&world, &["gc", "--unused-for", "7d", "--limit", "10GB"])["removed"].as_array().unwrap().len(), 0);
    let said = run(world.skycap(["store", "gc", "--limit", "1kB"])).ok();
    assert!(said.stderr.contains("removed "), "{}", said.stderr);
    assert!(blobs(&world).len() < blobs_before);
    run(world.skycap(["store", "gc", "--unused-for", "0s"])).ok();
    assert!(blobs(&world).is_empty());
}

#[test]
fn damage_is_found_removed_and_told_by_the_exit_code() {
    let (world, _) = filled();
    run(world.skycap(["store", "verify"])).ok();
    let largest = blobs(&world).into_iter().max_by_key(|item| item["size"].as_u64()).unwrap();
    let path = world.path("home/.cache/skycap/store").join(largest["name"].as_str().unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&path, permissions).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let found = run(world.skycap(["store", "verify"]));
    assert_eq!(found.code, Some(1), "{}", found.stderr);
    assert!(found.stdout.contains("damaged: blob") && found.stdout.contains("removed"), "{}", found.stdout);
    assert!(!path.exists());
    let again = run(world.skycap(["store", "verify", "--json"])).ok().json();
    assert_eq!(again["damaged"].as_array().unwrap().len(), 0);
}

/// Who fills the store prunes it, once an hour: to a limit, and what was not used for 30 days.
#[test]
fn a_store_is_pruned_by_those_who_use_it() {
    let (world, items) = filled();
    let store = world.path("home/.cache/skycap/store");
    let set = |path: &std::path::Path, days: u64| {
        let time = SystemTime::now() - Duration::from_hours(24 * days);
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    let later = || set(&store.join("pruned-1"), 1);
    world.file("context/Dockerfile", "FROM scratch\nCOPY file /\n");
    world.file("context/file", "file");
    let build = |arguments: &[&str]| run(world.skycap([&["build"], arguments, &["context"]].concat()));
    build(&["--store-limit", "0"]).ok();
    assert_eq!(blobs(&world).len(), items + 1, "it was pruned a moment ago");
    later();
    build(&["--store-limit", "none"]).ok();
    build(&[]).ok();
    assert_eq!(blobs(&world).len(), items + 1, "far less than the usual limit");
    later();
    for seal in std::fs::read_dir(store.join("seals-1")).unwrap() {
        set(&seal.unwrap().path(), 31);
    }
    build(&[]).ok();
    assert_eq!(blobs(&world).len(), 1, "what the build used is young again");
    later();
    let mut command = world.skycap(["--debug", "build", "context"]);
    command.env("SKYCAP_STORE_LIMIT", "0");
    let ran = run(command).ok();
    assert!(ran.stderr.contains("the store was pruned"), "{}", ran.stderr);
    assert!(blobs(&world).is_empty());
    build(&["--store-limit", "plenty"]).fails(2, "expected a size such as 500MB, 10GB or 8GiB, or none");
}

/// Whatever they point at stays as it is, and may be somebody else's.
#[test]
fn looking_at_a_store_makes_nothing() {
    let (world, _) = filled();
    let listing = |directory: &str| {
        let mut find = world.command("find");
        find.args([directory, "-printf", "%p %T@ %C@\n"]);
        run(find).stdout
    };
    let other = world.dir("other");
    std::fs::write(other.join("file"), "").unwrap();
    let kept = "home/.cache/skycap/store";
    let before = (listing("other"), listing(kept));
    for look in [&["ls"][..], &["ls", "--json"], &["gc", "--dry-run", "--limit", "0"]] {
        for directory in ["missing", "missing/deeper", "other", "other/file"] {
            let ran = run(world.skycap([&["store"], look, &["--store", directory]].concat())).ok();
            assert!(ran.stderr.contains(&format!("there is no store in {directory}")), "{look:?}: {}", ran.stderr);
        }
        let ran = run(world.skycap([&["store"], look].concat())).ok();
        assert!(!ran.stderr.contains("there is no store"), "{}", ran.stderr);
    }
    assert!(!world.path("missing").exists());
    assert_eq!((listing("other"), listing(kept)), before);
    // What a tool that carries no empty directories leaves of one.
    for name in ["sessions-1", "locks-1", "mounts-1", "lowers-2"] {
        let _ = std::fs::remove_dir_all(world.path(kept).join(name));
    }
    assert_eq!(blobs(&world).len(), 2);
}
