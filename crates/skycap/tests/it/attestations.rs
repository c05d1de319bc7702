//! Attestations of `skycap build`, from the command line through a registry and other people's tools.

use serde_json::Value;

use crate::interop::{PASSWORD, Registry, USER, skopeo};
use crate::world::{World, peer, run};

const STATUS: &str = "Package: libc6\nStatus: install ok installed\nVersion: 2.36-9\nArchitecture: amd64\n";

fn world() -> World {
    let world = World::new();
    world.file("context/Dockerfile", "FROM scratch\nARG V=1\nCOPY status /var/lib/dpkg/status\nLABEL v=$V\n");
    world.file("context/status", STATUS);
    world
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The commands of `docs/commands/attestations.md` say the same.
#[test]
fn what_is_attested_is_seen_by_inspect_and_stays_through_copies() {
    let world = world();
    let build =
        ["build", "--sbom=true", "--provenance=mode=max", "--platform", "linux/amd64", "-o", "oci:built:1", "context"];
    run(world.skycap(build)).ok();
    let shown = run(world.skycap(["inspect", "oci:built:1"])).ok().stdout;
    let line = "Attested:    linux/amd64  https://spdx.dev/Document, https://slsa.dev/provenance/v1\n";
    assert!(shown.contains(line), "{shown}");
    let shown = json(&run(world.skycap(["inspect", "--json", "oci:built:1"])).ok().stdout);
    assert_eq!(shown["Attested"][0]["Platform"], "linux/amd64");
    assert_eq!(shown["Attested"][0]["Types"][1], "https://slsa.dev/provenance/v1");
    let raw = |place: &str| run(world.skycap(["inspect", "--raw", place])).ok().stdout;
    run(world.skycap(["copy", "oci:built:1", "oci-archive:copied.tar:1"])).ok();
    assert_eq!(raw("oci-archive:copied.tar:1"), raw("oci:built:1"));
}

#[test]
fn skopeo_takes_an_attested_index_into_a_docker_registry_and_back() {
    let test = "skopeo_takes_an_attested_index_into_a_docker_registry_and_back";
    let world = world();
    let Some(registry) = Registry::start(test, &world) else { return };
    if peer(test, "skopeo").is_none() {
        return;
    }
    let build = [
        "build",
        "--sbom=true",
        "--provenance=true",
        "--platform",
        "linux/amd64,linux/arm64",
        "-o",
        "oci:built:1",
        "context",
    ];
    run(world.skycap(build)).ok();
    let place = format!("docker://{}/app:1", registry.address);
    let (trusted, credentials) = (world.path("trusted").display().to_string(), format!("{USER}:{PASSWORD}"));
    skopeo(
        &world,
        &registry,
        &["copy", "--all", "--dest-cert-dir", &trusted, "--dest-creds", &credentials, "oci:built:1", &place],
    );
    skopeo(
        &world,
        &registry,
        &["copy", "--all", "--src-cert-dir", &trusted, "--src-creds", &credentials, &place, "oci:back:1"],
    );
    let raw = |place: &str| run(world.skycap(["inspect", "--raw", place])).ok().stdout;
    assert_eq!(raw("oci:back:1"), raw("oci:built:1"));
    let index = json(&raw("oci:back:1"));
    let kinds: Vec<&str> =
        index["manifests"].as_array().unwrap().iter().map(|entry| entry["platform"]["os"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["linux", "linux", "unknown", "unknown"]);
    // Every blob came along.
    run(world.skycap(["copy", "oci:back:1", "oci:again:1"])).ok();
}
