//! What is pushed is what is pulled.

use skycap_image::{Artifact, BlobSource, ImageSink, ImageSource, Kind, Memory, Name, Platform};

use crate::support::{Kept, client, image, index, noise, place, read, server, settings, tag};

#[test]
fn an_image_comes_back_byte_for_byte() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "team/app");
    let image = image("amd64", &[noise(1, 3_000_000), noise(2, 10), Vec::new()]);
    let pushed = place.put(&Artifact::Image(image.clone()), &[tag("1"), tag("latest")]).unwrap();
    assert_eq!(place.find(&tag("1")).unwrap().unwrap(), pushed);
    let Artifact::Image(pulled) = place.get(&tag("latest")).unwrap() else { panic!("an image") };
    assert_eq!(pulled.raw(), image.raw());
    assert_eq!(pulled.config_bytes(), image.config_bytes());
    for (layer, seed) in pulled.layers().iter().zip([(1, 3_000_000), (2, 10), (0, 0)]) {
        assert_eq!(read(&place, &layer.descriptor).unwrap(), noise(seed.0, seed.1));
    }
    assert_eq!(place.tags().unwrap(), ["1", "latest"]);
}

#[test]
fn an_index_comes_back_with_its_children() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "multi");
    let index = index();
    place.put(&index, &[tag("1")]).unwrap();
    let pulled = place.get(&tag("1")).unwrap();
    assert_eq!(pulled.raw(), index.raw());
    let arm = pulled.for_platform(&Platform::new("linux", "arm64")).unwrap();
    assert_eq!(read(&place, &arm.layers()[1].descriptor).unwrap(), b"arm64");
    let copy = Memory::default();
    copy.put(&pulled, &[tag("1")]).unwrap();
    assert!(copy.find(&tag("1")).unwrap().is_some(), "a registry is a peer of any other place");
}

#[test]
fn a_second_push_sends_nothing() {
    let (_dir, server) = server();
    let kept = std::sync::Arc::new(Kept::default());
    let client = skycap_registry::Client::new(settings(), kept.clone()).unwrap();
    let place = place(&client, server.address(), "aa");
    let image = Artifact::Image(image("amd64", &[noise(1, 100)]));
    place.put(&image, &[tag("1")]).unwrap();
    place.put(&image, &[tag("1")]).unwrap();
    let outcomes: Vec<String> = kept.lines().into_iter().filter(|line| line.starts_with("finished")).collect();
    assert_eq!(outcomes, ["finished done", "finished done", "finished exists", "finished exists"]);
}

#[test]
fn blobs_that_another_repository_has_are_mounted() {
    let (_dir, server) = server();
    let kept = std::sync::Arc::new(Kept::default());
    let client = skycap_registry::Client::new(settings(), kept.clone()).unwrap();
    let source = place(&client, server.address(), "from");
    source.put(&Artifact::Image(image("amd64", &[noise(1, 100)])), &[tag("1")]).unwrap();
    let target = place(&client, server.address(), "to");
    target.put(&source.get(&tag("1")).unwrap(), &[tag("1")]).unwrap();
    let mounted = kept.lines().iter().filter(|line| *line == "finished mounted").count();
    assert_eq!(mounted, 2, "{:?}", kept.lines());
    let Artifact::Image(copy) = target.get(&tag("1")).unwrap() else { panic!("an image") };
    assert_eq!(read(&target, &copy.layers()[0].descriptor).unwrap(), noise(1, 100));
}

#[test]
fn absence_is_told_apart_from_failure() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    assert!(place.find(&tag("1")).unwrap().is_none());
    let error = place.tags().unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    place.put(&Artifact::Image(image("amd64", &[])), &[tag("1")]).unwrap();
    assert!(place.find(&tag("2")).unwrap().is_none());
    let Err(error) = place.get(&tag("2")) else { panic!("there is no 2") };
    let expected = format!("GET http://{}/v2/aa/manifests/2: MANIFEST_UNKNOWN: manifest unknown", server.address());
    assert_eq!((error.kind, error.to_string()), (Kind::NotFound, expected));
    let blob = skycap_image::Descriptor::of(skycap_image::MediaType::OciLayer, b"absent");
    let Err(error) = place.open(&blob) else { panic!("there is no such blob") };
    assert!(error.to_string().ends_with("BLOB_UNKNOWN: blob unknown to registry"), "{error}");
}

#[test]
fn many_names_are_found_at_once_and_in_order() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let image = Artifact::Image(image("amd64", &[]));
    let names: Vec<Name> = (0..100).map(|number| tag(&number.to_string())).collect();
    place.put(&image, &names.iter().step_by(2).cloned().collect::<Vec<_>>()).unwrap();
    for (at, found) in place.find_all(&names).into_iter().enumerate() {
        assert_eq!(found.unwrap().is_some(), at % 2 == 0, "{at}");
    }
}

#[test]
fn deleting_a_tag_spares_the_manifest_and_deleting_the_manifest_takes_all_tags() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let pushed = place.put(&Artifact::Image(image("amd64", &[])), &[tag("1"), tag("2"), tag("3")]).unwrap();
    place.delete(&tag("1")).unwrap();
    assert_eq!(place.tags().unwrap(), ["2", "3"]);
    place.delete(&Name::Digest(pushed.digest)).unwrap();
    assert!(place.tags().unwrap().is_empty());
    assert!(place.find(&Name::Digest(pushed.digest)).unwrap().is_none());
    assert_eq!(place.delete(&tag("1")).unwrap_err().kind, Kind::NotFound);
}

#[test]
fn an_artifact_without_names_is_found_by_digest() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let pushed = place.put(&index(), &[]).unwrap();
    assert_eq!(place.find(&Name::Digest(pushed.digest)).unwrap().unwrap().digest, pushed.digest);
    let other = Name::Digest(skycap_image::Digest::sha256(b"other"));
    assert!(place.put(&index(), &[other]).unwrap_err().to_string().contains("its digest is another"));
}

#[test]
fn a_place_opened_for_reading_does_not_write() {
    let (_dir, server) = server();
    let repository = crate::support::repository(server.address(), "aa");
    let place = client().place(repository, skycap_registry::Access::default()).unwrap();
    let error = place.put(&Artifact::Image(image("amd64", &[])), &[tag("1")]).unwrap_err();
    assert!(error.to_string().ends_with("was opened for reading only"), "{error}");
}

#[test]
fn https_with_an_authority_of_its_own_needs_that_authority() {
    let Some((_files, ca, certificate, key)) = crate::support::certificates() else {
        skycap_testkit::skipped!("https_with_an_authority_of_its_own_needs_that_authority: no openssl");
        return;
    };
    let tls = skycap_registry::server::Tls { certificate, key: skycap_image::Secret::new(key) };
    let options = skycap_registry::server::Options { tls: Some(tls), ..Default::default() };
    let (_dir, server) = crate::support::server_with(options);
    // Not a name that may be plain, so that there is no second way in.
    let repository = crate::support::repository(server.address(), "aa");
    let client = client();
    let blind = client.place(repository.clone(), skycap_registry::Access::default()).unwrap();
    let error = blind.ping().unwrap_err().to_string();
    assert!(error.contains("certificate is not valid") && error.contains("ca_certs"), "{error}");
    let access = skycap_registry::Access { ca_certs: vec![ca], push: true, ..Default::default() };
    let seeing = client.place(repository, access).unwrap();
    seeing.put(&Artifact::Image(image("amd64", &[noise(1, 500_000)])), &[tag("1")]).unwrap();
    assert_eq!(seeing.tags().unwrap(), ["1"]);
}

#[test]
fn a_registry_nearby_may_speak_either_protocol_and_a_bad_certificate_does_not_wait() {
    let Some((_files, _, certificate, key)) = crate::support::certificates() else {
        skycap_testkit::skipped!(
            "a_registry_nearby_may_speak_either_protocol_and_a_bad_certificate_does_not_wait: no openssl"
        );
        return;
    };
    let tls = skycap_registry::server::Tls { certificate, key: skycap_image::Secret::new(key) };
    let options = skycap_registry::server::Options { tls: Some(tls), ..Default::default() };
    let (_dir, server) = crate::support::server_with(options);
    let patient =
        skycap_registry::Client::new(skycap_registry::Settings::default(), std::sync::Arc::new(skycap_image::Silent));
    let started = std::time::Instant::now();
    let error = place(&patient.unwrap(), server.address(), "aa").ping().unwrap_err().to_string();
    assert!(error.starts_with("GET https://") && error.contains("certificate is not valid"), "{error}");
    assert!(!error.contains("http://"), "a server that speaks TLS has no plain way in: {error}");
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "no use in trying again");
}
