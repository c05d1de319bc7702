//! Documents of any shape, as far as the client reads them; what they mean is for the image crate (R50 to R61).

use skycap_image::{Artifact, Descriptor, Digest, ImageSink, ImageSource, Kind, MediaType, Name};
use skycap_registry::{Client, Settings};
use skycap_testkit::registry::{Reply, Scripted};

use super::world::{ACTS, Act, World, same};
use crate::support::{Kept, client, image, no_secret, noise, place, place_as, read, server, settings, tag, user};

fn serving(content_type: Option<&'static str>, body: Vec<u8>) -> Scripted {
    Scripted::start(move |request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        path if path.contains("/manifests/") => {
            let reply = Reply::status(200).body(body.clone());
            match content_type {
                Some(stated) => reply.header("content-type", stated),
                None => reply,
            }
        }
        _ => Reply::status(404),
    })
    .unwrap()
}

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[test]
fn r50_a_long_manifest_is_read_and_one_without_end_is_not() {
    let padded = |length: usize| {
        let mut body = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]"#).into_bytes();
        body.resize(length - 1, b' ');
        body.push(b'}');
        body
    };
    for (length, is_well) in
        [(4 << 20, true), (5 << 20, true), (8 << 20, true), ((8 << 20) + 1, false), (40 << 20, false)]
    {
        let scripted = serving(Some(INDEX), padded(length));
        let got = place(&client(), scripted.address(), "aa").get(&tag("1"));
        assert_eq!(got.is_ok(), is_well, "{length}");
        if let Err(error) = got {
            assert!(error.to_string().contains("longer than 8388608 bytes"), "{error}");
        }
    }
}

#[test]
fn r51_r52_documents_that_are_none_are_clear_errors() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let config = Descriptor::of(MediaType::OciConfig, b"not JSON");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[]}}"#,
        config.media_type, config.digest, config.size
    );
    for (body, text) in [
        ("{".to_owned(), "does not parse"),
        (deep.clone(), "does not parse"),
        (format!(r#"{{"config":{deep}}}"#), "does not parse"),
        ("\u{feff}{}".to_owned(), "does not parse"),
        (r#"{"schemaVersion":2,"config":NaN}"#.to_owned(), "does not parse"),
        (r#"{"config":{},"config":{}}"#.to_owned(), "does not parse"),
        (r#"{"schemaVersion":2,"config":{"digest":"sha256:..","size":1},"layers":[]}"#.to_owned(), "does not parse"),
        (
            r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x","size":1},"layers":[]}"#.to_owned(),
            "does not parse",
        ),
        (manifest, "404"),
    ] {
        let scripted = serving(Some(OCI), body.clone().into_bytes());
        let Err(error) = place(&client(), scripted.address(), "aa").get(&tag("1")) else { panic!("{body:.80}") };
        assert!(error.to_string().contains(text), "{body:.80}: {error}");
        // R88: no path was made of what is no digest.
        assert!(scripted.requests().iter().all(|request| !request.path.contains("..")));
    }
    let scripted = serving(Some(OCI), b"\xff\xfe{}".to_vec());
    assert!(place(&client(), scripted.address(), "aa").get(&tag("1")).is_err());
}

#[test]
fn r51_a_config_without_end_is_read_no_further_than_its_descriptor_says() {
    let world = World::new();
    let config = format!("/blobs/{}", world.image.manifest().config.digest);
    let ran = world.run(Act::Pull, move |request| {
        request.path.ends_with(&config).then(|| Reply::status(200).body(vec![b' '; 30 << 20]).chunked(1 << 20))
    });
    assert_eq!(ran.error().kind, Kind::Corrupt, "{}", ran.text());
}

#[test]
fn r53_the_body_of_an_error_is_read_no_further_than_it_is_worth() {
    let world = World::new();
    for act in ACTS {
        let ran = world.run(act, |request| {
            (request.path != "/v2/").then(|| Reply::status(400).body(vec![b'x'; 10 << 20]).chunked(1 << 16))
        });
        assert!(ran.text().len() < 1500, "{}", ran.text().len());
    }
}

#[test]
fn r54_r55_header_and_document_agree_on_what_it_is_or_it_is_refused() {
    let of = |stated: Option<&'static str>, own: &str| {
        let own = if own.is_empty() { String::new() } else { format!(r#""mediaType":"{own}","#) };
        let body = format!(r#"{{"schemaVersion":2,{own}"manifests":[]}}"#);
        let scripted = serving(stated, body.into_bytes());
        place(&client(), scripted.address(), "aa")
            .get(&tag("1"))
            .map(|got| got.descriptor().media_type.as_str().to_owned())
    };
    for (stated, own) in [
        (Some(INDEX), ""),
        (Some(INDEX), INDEX),
        (Some("application/vnd.oci.image.index.v1+json; charset=utf-8"), INDEX),
        (Some("application/json"), INDEX),
        (None, INDEX),
    ] {
        assert_eq!(of(stated, own).unwrap(), INDEX, "{stated:?} {own}");
    }
    assert_eq!(of(Some(OCI), INDEX).unwrap_err().kind, Kind::Corrupt);
    assert_eq!(of(Some(OCI), "").err().map(|error| error.kind), Some(Kind::Corrupt));
    assert!(of(Some("text/html"), INDEX).unwrap_err().to_string().contains("text/html"));
    let both = serving(Some(INDEX), br#"{"manifests":[],"layers":[],"config":{}}"#.to_vec());
    let Err(error) = place(&client(), both.address(), "aa").get(&tag("1")) else { panic!("both") };
    assert!(error.to_string().contains("both a manifest and an index"), "{error}");
}

#[test]
fn r56_an_index_that_contains_itself_by_any_way_ends() {
    // A digest cannot be its own content's: what can be built is an index whose children are not what they are called.
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{INDEX}","digest":"{}","size":9}}]}}"#,
        Digest::sha256(b"x")
    );
    let scripted = serving(Some(INDEX), body.into_bytes());
    let Artifact::Index(index) = place(&client(), scripted.address(), "aa").get(&tag("1")).unwrap() else { panic!() };
    assert_eq!(index.child(&index.manifests()[0]).err().unwrap().kind, Kind::Corrupt);
}

#[test]
fn r59_images_without_layers_and_with_the_same_layer_twice() {
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let empty = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for layers in
        [vec![], vec![noise(1, 1000), noise(1, 1000)], vec![empty.clone(), noise(2, 10), empty], vec![Vec::new()]]
    {
        let image = image("amd64", &layers);
        place.put(&Artifact::Image(image.clone()), &[tag("1")]).unwrap();
        let Artifact::Image(pulled) = place.get(&tag("1")).unwrap() else { panic!("an image") };
        for (layer, bytes) in pulled.layers().iter().zip(&layers) {
            assert_eq!(&read(&place, &layer.descriptor).unwrap(), bytes);
        }
        assert_eq!(pulled.layers().len(), layers.len());
    }
}

#[test]
fn r60_a_foreign_layer_is_fetched_from_elsewhere_only_if_that_is_allowed_and_by_nobody() {
    let elsewhere = Scripted::start(|request| match request.path.as_str() {
        "/layer" => Reply::status(200).body(noise(9, 5000)),
        "/moved" => Reply::status(302).header("location", "/layer"),
        _ => Reply::status(404),
    })
    .unwrap();
    let registry = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
        "/own" if request.header("authorization").is_none() => Reply::status(200).body(noise(9, 5000)),
        _ => Reply::status(404),
    })
    .unwrap();
    let kept = std::sync::Arc::new(Kept::default());
    let open = |allowed: bool, urls: &[String]| {
        let client = Client::new(Settings { foreign_layers: allowed, ..settings() }, kept.clone()).unwrap();
        let place = place_as(&client, registry.address(), "aa", user("me", "hunter2-password"));
        let layer = Descriptor { urls: urls.to_vec(), ..Descriptor::of(MediaType::OciLayer, &noise(9, 5000)) };
        read(&place, &layer)
    };
    let layer = [format!("{}/layer", elsewhere.url())];
    let error = open(false, &layer).unwrap_err();
    assert!(error.kind == Kind::NotFound && error.to_string().contains("the layer lies elsewhere"), "{error}");
    assert!(elsewhere.requests().is_empty());
    for urls in [
        layer.to_vec(),
        vec![format!("{}/moved", elsewhere.url())],
        vec!["ftp://x/y".to_owned(), format!("{}/absent", elsewhere.url()), format!("{}/layer", elsewhere.url())],
        vec![format!("{}/own", registry.url())],
    ] {
        assert_eq!(open(true, &urls).unwrap(), noise(9, 5000), "{urls:?}");
    }
    for url in ["file:///etc/passwd", "nonsense", "http://user:hunter2-password@127.0.0.1/x"] {
        let error = open(true, &[url.to_owned()]).unwrap_err();
        no_secret(Some(&error), &kept, &[]);
    }
    no_secret(None, &kept, &[&elsewhere]);
    let lines = registry.lines();
    assert!(
        lines.iter().filter(|line| line.contains("/blobs/")).count() >= 5,
        "the registry is asked first: {lines:?}"
    );
}

#[test]
fn r61_an_image_of_the_first_schema_is_a_clear_error() {
    for stated in [
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ] {
        let body = br#"{"schemaVersion":1,"name":"a","tag":"1","architecture":"amd64","fsLayers":[],"history":[],"signatures":[]}"#;
        let scripted = serving(Some(stated), body.to_vec());
        let Err(error) = place(&client(), scripted.address(), "aa").get(&tag("1")) else { panic!("schema 1") };
        assert!(error.to_string().contains("schema 1"), "{error}");
    }
}

/// R58: what is said about an image is listed, whether the registry keeps the list or not.
#[test]
fn r58_referrers_are_listed_by_the_registry_or_by_a_tag() {
    use skycap_image::{ImageConfig, Memory, RawManifest};
    let (_dir, server) = server();
    let subject = image("amd64", &[noise(1, 10)]);
    for has_list in [true, false] {
        let scripted = Scripted::in_front_of(server.address(), move |request| {
            match (request.path.contains("/referrers/"), has_list) {
                (_, true) => Reply::forward(),
                (true, false) => Reply::status(404),
                (false, false) => Reply::forward().without("oci-subject"),
            }
        })
        .unwrap();
        let repository = if has_list { "listed" } else { "tagged" };
        let place = place(&client(), scripted.address(), repository);
        let subject = place.put(&Artifact::Image(subject.clone()), &[tag("1")]).unwrap();
        assert!(place.referrers(&subject.digest).unwrap().is_empty());
        let mut pushed = Vec::new();
        for kind in ["a/signature", "a/list"] {
            let memory = std::sync::Arc::new(Memory::default());
            let plain = skycap_image::Image::assemble(&ImageConfig::default(), vec![], false, memory.clone()).unwrap();
            let mut manifest = plain.manifest().clone();
            manifest.subject = Some(Descriptor::new(subject.media_type.clone(), subject.digest, subject.size));
            manifest.artifact_type = Some(kind.to_owned());
            let raw = RawManifest::new(MediaType::OciManifest, serde_json::to_vec(&manifest).unwrap());
            let referrer =
                skycap_image::Image::from_parts(raw, manifest, plain.config_bytes().to_vec(), memory).unwrap();
            pushed.push((kind, place.put(&Artifact::Image(referrer), &[]).unwrap().digest));
        }
        let mut found: Vec<(String, Digest)> = place
            .referrers(&subject.digest)
            .unwrap()
            .into_iter()
            .map(|found| (found.artifact_type.unwrap_or_default(), found.digest))
            .collect();
        found.sort();
        let mut expected: Vec<(String, Digest)> =
            pushed.iter().map(|(kind, digest)| ((*kind).to_owned(), *digest)).collect();
        expected.sort();
        assert_eq!(found, expected, "{has_list}");
    }
}

#[test]
fn r58_a_list_of_referrers_comes_in_pages_and_ends() {
    let subject = Digest::sha256(b"subject");
    let page = |seed: &str| {
        let digest = Digest::sha256(seed.as_bytes());
        format!(r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI}","digest":"{digest}","size":1}}]}}"#)
    };
    let (first, second) = (page("1"), page("2"));
    let scripted = Scripted::start(move |request| match request.query.as_str() {
        _ if request.path == "/v2/" => Reply::status(200),
        "" => Reply::status(200).header("link", "<?page=2>; rel=\"next\"").body(first.clone()),
        "page=2" => Reply::status(200).body(second.clone()),
        _ => Reply::status(404),
    })
    .unwrap();
    assert_eq!(place(&client(), scripted.address(), "aa").referrers(&subject).unwrap().len(), 2);
    let same_again = page("1");
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(200)
            .header("link", format!("<?page={}>; rel=\"next\"", request.seen))
            .body(same_again.clone()),
    })
    .unwrap();
    let error = place(&client(), scripted.address(), "aa").referrers(&subject).unwrap_err();
    assert!(error.to_string().contains("does not end"), "{error}");
}

#[test]
fn r65_a_tag_that_moves_between_a_check_and_a_pull_is_pulled_by_what_was_found() {
    let world = World::new();
    let (found, server) = (world.image.descriptor().digest, world.server.address());
    let other = Artifact::Image(image("s390x", &[noise(5, 10)]));
    let place = place(&client(), server, "aa");
    assert_eq!(place.find(&tag("1")).unwrap().unwrap().digest, found);
    place.put(&other, &[tag("1")]).unwrap();
    assert_eq!(place.get(&Name::Digest(found)).unwrap().descriptor().digest, found);
    place.put(&Artifact::Image(world.image.clone()), &[tag("1")]).unwrap();
    same(world.run(Act::Check, |_| None), "moved back");
}
