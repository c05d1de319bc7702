//! What every registry must do beyond holding artifacts.

use std::time::Duration;

use skycap_image::{Artifact, Compression, Descriptor, Digest, Image, Kind, MediaType, Memory, Name, Secret};
use skycap_registry::Credentials;
use skycap_testkit::listing::Style;

use crate::artifacts::{image, parts, platforms, platforms_sharing, read, referrer, tag};
use crate::registries::client;
use crate::rooms::{Peer, Room, fresh};

fn blobs(image: &Image) -> Vec<Digest> {
    let layers = image.manifest().layers.iter().map(|layer| layer.digest);
    layers.chain([image.manifest().config.digest]).collect()
}

pub fn tags_are_listed_page_by_page(peer: &Peer) {
    let place = peer.registry().place(&fresh("tags"));
    let names: Vec<Name> = (0..130).map(|number| tag(&format!("v{number:03}"))).collect();
    Room::put(&place, &Artifact::Image(image("tags")), &names).unwrap();
    let mut listed = place.tags().unwrap();
    listed.sort();
    assert_eq!(listed, names.iter().map(ToString::to_string).collect::<Vec<_>>(), "{}", peer.name);
}

pub fn a_second_push_sends_nothing(peer: &Peer) {
    let registry = peer.registry();
    let place = registry.place(&fresh("twice"));
    let image = image(&format!("twice on {}", peer.name).replace(' ', "-"));
    let blobs = blobs(&image);
    Room::put(&place, &Artifact::Image(image.clone()), &[tag("1")]).unwrap();
    let first = registry.events.outcomes(&blobs);
    assert!(first.len() == 3 && first.iter().all(|outcome| outcome == "done"), "{}: {first:?}", peer.name);
    Room::put(&place, &Artifact::Image(image), &[tag("1"), tag("2")]).unwrap();
    let second = registry.events.outcomes(&blobs).split_off(3);
    assert!(!second.iter().any(|outcome| outcome == "done"), "{}: {second:?}", peer.name);
}

pub fn a_changed_image_sends_what_changed(peer: &Peer) {
    let registry = peer.registry();
    let place = registry.place(&fresh("changed"));
    let of = |seed: &str| platforms_sharing(60_001, seed, Style::default());
    let (old, new) = (of("before"), of("after"));
    Room::put(&place, &old, &[tag("1")]).unwrap();
    let shared = match &old {
        Artifact::Index(index) => match index.child(&index.manifests()[0]).unwrap() {
            Artifact::Image(image) => image.manifest().layers[0].digest,
            Artifact::Index(_) => panic!("an image"),
        },
        Artifact::Image(_) => panic!("an index"),
    };
    let before = registry.events.outcomes(&[shared]).len();
    Room::put(&place, &new, &[tag("1")]).unwrap();
    let after = registry.events.outcomes(&[shared]).split_off(before);
    assert!(!after.iter().any(|outcome| outcome == "done"), "{}: {after:?}", peer.name);
    assert_eq!(parts(&place.get(&tag("1")).unwrap()).unwrap(), parts(&new).unwrap());
}

pub fn what_another_repository_has_is_mounted(peer: &Peer) {
    let registry = peer.registry();
    let (from, to) = (registry.place(&fresh("from")), registry.place(&fresh("to")));
    let image = image(&format!("mounted on {}", peer.name).replace(' ', "-"));
    let blobs = blobs(&image);
    Room::put(&from, &Artifact::Image(image), &[tag("1")]).unwrap();
    let got = from.get(&tag("1")).unwrap();
    let before = registry.events.outcomes(&blobs).len();
    Room::put(&to, &got, &[tag("1")]).unwrap();
    let outcomes = registry.events.outcomes(&blobs).split_off(before);
    assert!(!outcomes.iter().any(|outcome| outcome == "done"), "{}: {outcomes:?}", peer.name);
    assert!(outcomes.iter().any(|outcome| outcome == "mounted"), "{}: {outcomes:?}", peer.name);
    assert_eq!(parts(&to.get(&tag("1")).unwrap()).unwrap(), parts(&got).unwrap(), "{}", peer.name);
}

pub fn deleting_by_digest_takes_the_tags_along(peer: &Peer) {
    let place = peer.registry().place(&fresh("delete"));
    let keep = Artifact::Image(image("keep"));
    Room::put(&place, &keep, &[tag("keep")]).unwrap();
    let put = Room::put(&place, &Artifact::Image(image("drop")), &[tag("1"), tag("2")]).unwrap();
    place.delete(&Name::Digest(put.digest)).unwrap();
    assert!(place.find(&Name::Digest(put.digest)).unwrap().is_none(), "{}", peer.name);
    for name in ["1", "2"] {
        assert!(place.find(&tag(name)).unwrap().is_none(), "{}", peer.name);
    }
    assert_eq!(place.tags().unwrap(), ["keep"], "{}", peer.name);
    assert_eq!(place.delete(&Name::Digest(put.digest)).unwrap_err().kind, Kind::NotFound, "{}", peer.name);
    // What was deleted can be pushed again.
    Room::put(&place, &Artifact::Image(image("drop")), &[tag("1")]).unwrap();
    assert!(place.find(&tag("1")).unwrap().is_some(), "{}", peer.name);
}

pub fn deleting_a_tag_spares_the_manifest(peer: &Peer) {
    let place = peer.registry().place(&fresh("untag"));
    let put = Room::put(&place, &Artifact::Image(image("untag")), &[tag("1"), tag("2")]).unwrap();
    place.delete(&tag("1")).unwrap();
    assert_eq!(place.tags().unwrap(), ["2"]);
    assert!(place.find(&Name::Digest(put.digest)).unwrap().is_some());
    assert_eq!(place.delete(&tag("1")).unwrap_err().kind, Kind::NotFound);
}

pub fn parts_of_an_index_are_found_by_digest(peer: &Peer) {
    let place = peer.registry().place(&fresh("children"));
    let Artifact::Index(index) = platforms("children", Style::default()) else { panic!("an index") };
    Room::put(&place, &Artifact::Index(index.clone()), &[tag("1")]).unwrap();
    let names: Vec<Name> = index.manifests().iter().map(|child| Name::Digest(child.digest)).collect();
    for (found, child) in place.find_all(&names).into_iter().zip(index.manifests()) {
        assert_eq!(found.unwrap().unwrap().digest, child.digest, "{}", peer.name);
    }
    assert_eq!(place.tags().unwrap(), ["1"], "{}: children have no names", peer.name);
}

/// R58: by the registry's interface, or where it has none by the tag that stands in for it.
pub fn what_refers_to_an_image_is_found(peer: &Peer) {
    let place = peer.registry().place(&fresh("referrers"));
    let subject = Room::put(&place, &Artifact::Image(image("referred")), &[tag("1")]).unwrap();
    assert_eq!(place.referrers(&subject.digest).unwrap(), [], "{}", peer.name);
    let mut expected = Vec::new();
    for seed in ["one", "two", "three"] {
        expected.push(Room::put(&place, &referrer(&subject, seed), &[]).unwrap().digest);
    }
    let found = place.referrers(&subject.digest).unwrap();
    let mut digests: Vec<Digest> = found.iter().map(|found| found.digest).collect();
    digests.sort();
    expected.sort();
    assert_eq!(digests, expected, "{}", peer.name);
    assert!(found.iter().all(|found| found.artifact_type.as_deref() == Some("application/vnd.example.signature")));
}

/// R89.
pub fn repositories_at_the_limit(peer: &Peer) {
    let number = fresh("n").replace('/', "");
    let long = format!("{number}/{}/a", "b".repeat(250 - number.len()));
    for path in [
        format!("{long}{}", "c".repeat(255 - long.len())),
        format!("{number}-a/b_c/d__e/f.g/h---i/0"),
        format!("{number}xy"),
    ] {
        let place = peer.registry().place(&path);
        let image = Artifact::Image(image("limit"));
        Room::put(&place, &image, &[tag("1")]).unwrap();
        assert_eq!(parts(&place.get(&tag("1")).unwrap()).unwrap(), parts(&image).unwrap(), "{}: {path}", peer.name);
        assert_eq!(place.tags().unwrap(), ["1"], "{}: {path}", peer.name);
    }
}

/// An image of one layer that does not compress.
fn large(seed: u64, size: usize) -> Image {
    let mut state = seed | 1;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(size / 8)
    .flatten()
    .collect();
    let memory = Memory::default();
    let layer = memory.add(MediaType::from("application/vnd.example.large"), bytes);
    let config = memory.add(MediaType::from("application/vnd.example.config"), b"{}".to_vec());
    let document = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    match crate::artifacts::by_hand(&memory, MediaType::OciManifest, &document) {
        Artifact::Image(image) => image,
        Artifact::Index(_) => panic!("an image"),
    }
}

pub fn a_large_blob_goes_in_and_out(peer: &Peer) {
    let place = peer.registry().place(&fresh("large"));
    let image = large(7, 24 << 20);
    Room::put(&place, &Artifact::Image(image.clone()), &[tag("1")]).unwrap();
    let layer: &Descriptor = &image.manifest().layers[0];
    assert_eq!(layer.media_type.compression(), Compression::None);
    assert_eq!(read(&place, layer).unwrap(), (layer.digest, layer.size), "{}", peer.name);
}

pub fn many_at_once(peer: &Peer) {
    let registry = peer.registry();
    let path = fresh("at-once");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let place = registry.place(&path);
            scope.spawn(move || {
                let image = Artifact::Image(image(&format!("at-once-{}", number % 3)));
                let name = tag(&number.to_string());
                Room::put(&place, &image, &[name.clone(), tag("latest")]).unwrap();
                assert_eq!(parts(&place.get(&name).unwrap()).unwrap(), parts(&image).unwrap());
            });
        }
    });
    assert_eq!(registry.place(&path).tags().unwrap().len(), 9, "{}", peer.name);
}

pub fn absence_of_a_repository(peer: &Peer) {
    let place = peer.registry().place(&fresh("nowhere"));
    assert!(place.find(&tag("1")).unwrap().is_none(), "{}", peer.name);
    let kind = |result: Result<Artifact, skycap_image::SourceError>| result.err().map(|error| error.kind);
    assert_eq!(kind(place.get(&tag("1"))), Some(Kind::NotFound), "{}", peer.name);
    assert_eq!(place.tags().unwrap_err().kind, Kind::NotFound, "{}", peer.name);
}

pub fn nobody_gets_in_without_the_password(peer: &Peer) {
    let registry = peer.registry();
    let path = fresh("locked");
    Room::put(&registry.place(&path), &Artifact::Image(image("locked")), &[tag("1")]).unwrap();
    let wrong = |password: &str| Credentials::Basic { username: "robot".to_owned(), password: Secret::new(password) };
    for credentials in [Credentials::Anonymous, wrong("hunter2-wrong"), wrong("")] {
        let (client, _) = client();
        let place = registry.place_as(&client, &path, credentials);
        for error in [place.tags().unwrap_err(), place.get(&tag("1")).err().unwrap()] {
            assert_eq!(error.kind, Kind::Denied, "{}: {error}", peer.name);
            let (shown, debugged) = (error.to_string(), format!("{error:?}"));
            assert!(!shown.contains("hunter2") && !debugged.contains("hunter2"), "{}", peer.name);
        }
        let error = Room::put(&place, &Artifact::Image(image("locked")), &[tag("2")]).unwrap_err();
        assert_eq!(error.kind, Kind::Denied, "{}: {error}", peer.name);
    }
    assert_eq!(registry.place(&path).tags().unwrap(), ["1"]);
}

/// R83.
pub fn an_unknown_authority_is_refused(peer: &Peer) {
    let mut registry = peer.registry().clone();
    registry.ca = None;
    let error = registry.place(&fresh("trust")).tags().unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &error.to_string();
        cause = error.source();
    }
    assert!(text.contains("certificate"), "{}: {text}", peer.name);
}

/// R25, R26: the token ends between two requests, and in the middle of a push of many blobs.
pub fn tokens_that_expire_on_the_way_are_renewed(peer: &Peer) {
    let registry = peer.registry();
    let tokens = registry.tokens.as_ref().unwrap();
    let (client, _) = client();
    let place = registry.place_as(&client, &fresh("expiring"), registry.credentials.clone());
    let image = Artifact::Image(image("expiring"));
    Room::put(&place, &image, &[tag("1")]).unwrap();
    let before = tokens.granted();
    let got = place.get(&tag("1")).unwrap();
    std::thread::sleep(crate::tokens::LIFE + Duration::from_secs(1));
    assert_eq!(parts(&got).unwrap(), parts(&image).unwrap(), "blobs are fetched with a new token");
    let between = tokens.granted();
    assert!(between > before, "the token was still good");
    let end = std::time::Instant::now() + crate::tokens::LIFE * 2;
    let mut number = 0;
    while std::time::Instant::now() < end {
        let image = Artifact::Image(large(number, 1 << 20));
        Room::put(&place, &image, &[tag(&format!("n{number}"))]).unwrap();
        number += 1;
    }
    assert!(tokens.granted() > between, "no token ended while {number} images were pushed");
    assert_eq!(place.tags().unwrap().len(), usize::try_from(number).unwrap() + 1);
}
