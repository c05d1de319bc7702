//! From every place to every other: what arrives is what left.

use skycap_image::Artifact;

use crate::artifacts::{Parts, foreign, image, nested, parts, tag};
use crate::rooms::{Open, Peer};
use crate::{local, registries};

/// Every kind of place that keeps manifests and can be had here.
fn peers() -> Vec<Peer> {
    let all: [(&str, Open); 12] = [
        ("memory", local::memory),
        ("layout", local::layout),
        ("oci archive", local::oci_archive),
        ("directory", local::directory),
        ("embedded", registries::embedded),
        ("embedded_tls_basic", registries::embedded_tls_basic),
        ("served", registries::served),
        ("served_tls_basic", registries::served_tls_basic),
        ("distribution", registries::distribution),
        ("distribution_tls", registries::distribution_tls),
        ("distribution_basic", registries::distribution_basic),
        ("distribution_bearer", registries::distribution_bearer),
    ];
    let open = |(name, open): (&str, Open)| match open() {
        Ok(peer) => Some(peer),
        Err(why) => {
            skycap_testkit::skipped!("copies::{name}: {why}");
            None
        }
    };
    all.into_iter().filter_map(open).collect()
}

/// All of it, or a sample that does not take long.
fn full() -> bool {
    skycap_testkit::wants_everything()
}

#[test]
fn every_pair_of_places_copies_without_a_difference() {
    let peers = peers();
    let mut artifacts = vec![nested("copied")];
    if full() {
        artifacts.extend([Artifact::Image(image("copied")), foreign("copied")]);
    }
    let expected: Vec<Parts> = artifacts.iter().map(|artifact| parts(artifact).unwrap()).collect();
    let mut copies = 0;
    for from in &peers {
        for (artifact, expected) in artifacts.iter().zip(&expected) {
            let source = from.room();
            source.put(artifact, &[tag("1")]).unwrap();
            let read = source.get(&tag("1")).unwrap();
            for to in &peers {
                let target = to.room();
                target.put(&read, &[tag("1")]).unwrap();
                let arrived = parts(&target.get(&tag("1")).unwrap()).unwrap();
                assert_eq!(arrived, *expected, "{} to {}", from.name, to.name);
                copies += 1;
            }
        }
    }
    eprintln!("sampled: {} of 3 artifacts, copied {copies} times between {} places", artifacts.len(), peers.len());
}
