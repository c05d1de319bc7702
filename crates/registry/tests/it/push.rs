//! Pushing to registries that do not make it easy.

use skycap_image::{Artifact, ImageSink, Kind};
use skycap_testkit::registry::{Reply, Request, Scripted};

use crate::support::{client, image, index, noise, place, server, tag};

/// Pushes an image through a script; the answer and what was asked.
fn pushed(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Result<(), String>, Vec<Request>) {
    let (_dir, server) = server();
    let scripted = Scripted::in_front_of(server.address(), script).unwrap();
    let place = place(&client(), scripted.address(), "aa");
    let image = Artifact::Image(image("amd64", &[noise(1, 300_000)]));
    let answer = place.put(&image, &[tag("1")]).map(drop).map_err(|error| error.to_string());
    (answer, scripted.requests())
}

#[test]
fn children_come_before_parents_and_tags_last() {
    let (_dir, server) = server();
    let scripted = Scripted::in_front_of(server.address(), |_| Reply::forward()).unwrap();
    place(&client(), scripted.address(), "aa").put(&index(), &[tag("1"), tag("2")]).unwrap();
    let lines = scripted.lines();
    let puts: Vec<&str> =
        lines.iter().map(String::as_str).filter(|line| line.starts_with("PUT /v2/aa/manifests/")).collect();
    assert_eq!(puts.len(), 4);
    assert!(puts[..2].iter().all(|line| line.contains("sha256:")));
    assert_eq!(puts[2..], ["PUT /v2/aa/manifests/1", "PUT /v2/aa/manifests/2"]);
    let last_blob = lines.iter().rposition(|line| line.contains("/blobs/")).unwrap();
    let first_manifest = lines.iter().position(|line| line.starts_with("PUT /v2/aa/manifests/")).unwrap();
    assert!(last_blob < first_manifest, "{lines:?}");
}

#[test]
fn an_upload_says_how_long_it_is() {
    let (answer, requests) = pushed(|_| Reply::forward());
    answer.unwrap();
    let put = requests.iter().find(|request| request.method == "PUT" && request.body.len() == 300_000).unwrap();
    assert_eq!((put.header("content-length"), put.header("transfer-encoding")), (Some("300000"), None));
}

#[test]
fn r75_an_upload_that_fails_starts_again() {
    for reply in [Reply::status(500), Reply::status(404), Reply::hang_up(), Reply::status(429)] {
        let failed = std::sync::atomic::AtomicBool::new(false);
        let (answer, _) = pushed(move |request| {
            let is_blob = request.method == "PUT" && request.path.contains("/blobs/");
            if is_blob && !failed.swap(true, std::sync::atomic::Ordering::SeqCst) {
                reply.clone()
            } else {
                Reply::forward()
            }
        });
        answer.unwrap();
    }
}

#[test]
fn r75_a_blob_that_arrived_although_the_answer_was_an_error_is_not_sent_again() {
    let failed = std::sync::atomic::AtomicBool::new(false);
    let (answer, requests) = pushed(move |request| {
        let is_layer = request.method == "PUT" && request.body.len() == 300_000;
        if is_layer && !failed.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Reply::forward_as(500);
        }
        Reply::forward()
    });
    answer.unwrap();
    assert_eq!(requests.iter().filter(|request| request.body.len() == 300_000).count(), 1);
}

#[test]
fn r72_a_refused_mount_never_fails_the_push() {
    for status in [202, 401, 403, 404, 405, 500] {
        let (_dir, server) = server();
        let scripted = Scripted::in_front_of(server.address(), move |request| {
            if !request.query.starts_with("mount=") {
                return Reply::forward();
            }
            if status == 202 { Reply::forward_query("") } else { Reply::status(status) }
        })
        .unwrap();
        let client = client();
        let artifact = Artifact::Image(image("amd64", &[noise(1, 1000)]));
        place(&client, scripted.address(), "from").put(&artifact, &[tag("1")]).unwrap();
        place(&client, scripted.address(), "to").put(&artifact, &[tag("1")]).unwrap();
        assert!(scripted.requests().iter().any(|request| request.query.starts_with("mount=")), "{status}");
    }
}

#[test]
fn r77_a_registry_that_stores_something_else_is_an_error() {
    let other = skycap_image::Digest::sha256(b"other").to_string();
    let (answer, _) = pushed(move |request| {
        if request.line() == "PUT /v2/aa/manifests/1" {
            Reply::forward().header("docker-content-digest", other.clone())
        } else {
            Reply::forward()
        }
    });
    assert!(answer.unwrap_err().contains("the registry stored"));
}

#[test]
fn r39_an_upload_without_a_place_is_a_clear_error() {
    for location in [None, Some("")] {
        let (answer, _) = pushed(move |request| match (request.method.as_str(), location) {
            ("POST", None) => Reply::status(202),
            ("POST", Some(location)) => Reply::status(202).header("location", location),
            _ => Reply::forward(),
        });
        assert!(answer.unwrap_err().contains("does not say where the upload goes"));
    }
}

#[test]
fn a_push_that_is_denied_says_so_at_once() {
    let (answer, requests) = pushed(|request| match request.method.as_str() {
        "POST" => Reply::status(403).body(r#"{"errors":[{"code":"DENIED","message":"not yours"}]}"#),
        _ => Reply::forward(),
    });
    let error = answer.unwrap_err();
    assert!(error.contains("DENIED: not yours (no credentials were given)"), "{error}");
    assert!(requests.iter().filter(|request| request.method == "POST").count() <= 2);
}

#[test]
fn a_blob_that_cannot_be_read_is_not_pushed() {
    let (_dir, server) = server();
    let target = place(&client(), server.address(), "aa");
    let memory = skycap_image::Memory::default();
    let layer = skycap_image::Descriptor::of(skycap_image::MediaType::OciLayer, b"not there");
    let config = skycap_image::ImageConfig {
        rootfs: skycap_image::RootFs { diff_ids: vec![layer.digest], ..Default::default() },
        ..Default::default()
    };
    let image = skycap_image::Image::assemble(&config, vec![layer], false, std::sync::Arc::new(memory)).unwrap();
    let error = target.put(&Artifact::Image(image), &[tag("1")]).unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    assert!(target.tags().is_err(), "the repository has no name yet");
}

#[test]
fn r79_an_early_refusal_is_read() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let refusing = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let mut head = [0; 256];
                let _ = stream.read(&mut head);
                let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    let scripted = Scripted::start(move |request| match request.method.as_str() {
        "GET" => Reply::status(200),
        "HEAD" => Reply::status(404),
        _ => Reply::status(202).header("location", format!("http://{refusing}/upload")),
    })
    .unwrap();
    let image = Artifact::Image(image("amd64", &[noise(1, 20_000_000)]));
    let error = place(&client(), scripted.address(), "aa").put(&image, &[tag("1")]).unwrap_err().to_string();
    // Where the refusal was not read in time, the rest is offered by PATCH, and that refusal is read.
    assert!(error.contains("/upload") && error.contains("413 Payload Too Large"), "{error}");
}
