//! Broken networks and broken servers: the same bytes come out, or an error does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skycap_image::{Artifact, BlobSource, Descriptor, Image, ImageSink, ImageSource, Kind, Name};
use skycap_registry::server::Server;
use skycap_registry::{Client, Settings};
use skycap_testkit::registry::{Reply, Request, Scripted};
use tempfile::TempDir;

use crate::support::{Kept, client, image, noise, place, read, server, settings, tag};

const SIZE: usize = 700_000;

/// A registry that holds one image under the tag 1, and the script in front of it.
fn behind(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (TempDir, Server, Scripted, Image) {
    let (dir, server) = server();
    let image = image("amd64", &[noise(1, SIZE)]);
    place(&client(), server.address(), "aa").put(&Artifact::Image(image.clone()), &[tag("1")]).unwrap();
    let scripted = Scripted::in_front_of(server.address(), script).unwrap();
    (dir, server, scripted, image)
}

fn is_layer(request: &Request, layer: &str) -> bool {
    request.method == "GET" && request.path.ends_with(layer)
}

/// Reads the layer through a script that gets each request for it.
fn layer_through(
    script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Result<Vec<u8>, String>, Vec<Request>) {
    let digest = skycap_image::Digest::sha256(&noise(1, SIZE)).to_string();
    let wanted = digest.clone();
    let (_dir, _server, scripted, image) =
        behind(move |request| if is_layer(request, &wanted) { script(request) } else { Reply::forward() });
    let place = place(&client(), scripted.address(), "aa");
    let bytes = read(&place, &image.layers()[0].descriptor).map_err(|error| error.to_string());
    let requests = scripted.requests().into_iter().filter(|request| is_layer(request, &digest)).collect();
    (bytes, requests)
}

#[test]
fn r02_a_cut_body_is_resumed_where_it_broke() {
    for cut in [0, 1, 511, 512, SIZE / 2, SIZE - 1] {
        let (bytes, requests) =
            layer_through(move |request| if request.seen == 0 { Reply::forward().cut(cut) } else { Reply::forward() });
        assert_eq!(bytes.unwrap(), noise(1, SIZE), "cut after {cut}");
        assert_eq!(requests.len(), 2);
        let range = (cut > 0).then(|| format!("bytes={cut}-"));
        assert_eq!(requests[1].header("range").map(str::to_owned), range);
    }
}

#[test]
fn r03_progress_renews_the_tries() {
    let (bytes, requests) = layer_through(|_| Reply::forward().cut(100_000));
    assert_eq!(bytes.unwrap(), noise(1, SIZE));
    assert!(requests.len() >= 7, "{}", requests.len());
}

#[test]
fn r04_without_progress_it_ends() {
    let (bytes, requests) = layer_through(|request| Reply::forward().cut(if request.seen == 0 { 1000 } else { 0 }));
    let error = bytes.unwrap_err();
    assert!(error.contains("after 1000 of 700000 bytes") && error.contains("tried 4 times"), "{error}");
    assert_eq!(requests.len(), 4);
}

#[test]
fn r06_an_end_that_comes_early_is_a_cut_even_where_no_length_was_stated() {
    let (bytes, requests) = layer_through(|request| match request.seen {
        0 => Reply::forward().without_length().cut(1000),
        _ => Reply::forward(),
    });
    assert_eq!(bytes.unwrap(), noise(1, SIZE));
    assert_eq!(requests[1].header("range"), Some("bytes=1000-"));
}

#[test]
fn r07_a_registry_that_ignores_range_sends_again_what_is_skipped() {
    let (bytes, requests) = layer_through(|request| match request.seen {
        0 => Reply::forward().cut(1000),
        _ => Reply::status(200).body(noise(1, SIZE)),
    });
    assert_eq!(bytes.unwrap(), noise(1, SIZE));
    assert_eq!(requests.len(), 2);
}

#[test]
fn r08_a_wrong_range_is_not_believed() {
    let (bytes, requests) = layer_through(|request| match request.seen {
        0 => Reply::forward().cut(1000),
        1 => Reply::forward().header("content-range", "bytes 0-699999/700000"),
        _ => Reply::forward(),
    });
    assert_eq!(bytes.unwrap(), noise(1, SIZE));
    assert_eq!(requests[2].header("range"), None, "the third try asks for everything");
}

#[test]
fn r09_other_bytes_after_a_cut_are_found_out() {
    let (bytes, _) = layer_through(|request| match request.seen {
        0 => Reply::forward().cut(1000),
        _ => Reply::forward().flip(10),
    });
    assert!(bytes.unwrap_err().contains("is corrupt"));
}

#[test]
fn r12_headers_that_never_come_are_a_timeout() {
    let settings = Settings { stall: Duration::from_millis(200), ..settings() };
    let scripted = Scripted::start(|request| match request.seen {
        0 if request.path == "/v2/" => Reply::status(200),
        _ => Reply::status(200).wait(Duration::from_secs(20)),
    })
    .unwrap();
    let hasty = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let started = Instant::now();
    let error = place(&hasty, scripted.address(), "aa").tags().unwrap_err();
    assert!(error.to_string().contains("no answer for 0.2 s (tried 4 times)"), "{error}");
    assert_eq!(error.kind, Kind::Transient);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn r13_a_body_that_stalls_is_resumed() {
    let digest = skycap_image::Digest::sha256(&noise(1, SIZE)).to_string();
    let (_dir, _server, scripted, image) = behind(move |request| {
        if is_layer(request, &digest) && request.seen == 0 {
            Reply::forward().pause(1000, Duration::from_secs(20))
        } else {
            Reply::forward()
        }
    });
    let settings = Settings { stall: Duration::from_millis(300), ..settings() };
    let hasty = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let place = place(&hasty, scripted.address(), "aa");
    assert_eq!(read(&place, &image.layers()[0].descriptor).unwrap(), noise(1, SIZE));
}

#[test]
fn r14_a_short_pause_is_no_fault() {
    let (bytes, requests) = layer_through(|_| Reply::forward().pause(1000, Duration::from_millis(300)));
    assert_eq!(bytes.unwrap(), noise(1, SIZE));
    assert_eq!(requests.len(), 1);
}

#[test]
fn r15_a_registry_may_ask_us_to_wait() {
    let (_dir, _server, scripted, _) = behind(|request| match (request.method.as_str(), request.seen) {
        ("HEAD", 0) => Reply::status(429).header("retry-after", "1"),
        _ => Reply::forward(),
    });
    let kept = Arc::new(Kept::default());
    let patient = Client::new(settings(), kept.clone()).unwrap();
    let started = Instant::now();
    assert!(place(&patient, scripted.address(), "aa").find(&tag("1")).unwrap().is_some());
    assert!(started.elapsed() >= Duration::from_secs(1));
    let note = kept.lines().into_iter().find(|line| line.starts_with("note")).unwrap();
    assert!(note.contains("429 Too Many Requests") && note.ends_with("trying again in 1.0 s"), "{note}");
}

#[test]
fn r18_a_limit_that_stays_says_whether_we_were_known() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(429).body(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#),
    })
    .unwrap();
    let error = place(&client(), scripted.address(), "aa").tags().unwrap_err();
    assert_eq!(error.kind, Kind::RateLimited);
    let text = error.to_string();
    assert!(text.contains("TOOMANYREQUESTS: slow down (without credentials;"), "{text}");
    assert!(text.ends_with("(tried 4 times)"), "{text}");
}

#[test]
fn a_caller_may_want_to_hear_of_the_limit_at_once() {
    let scripted = Scripted::start(|request| match (request.path.as_str(), request.seen) {
        ("/v2/", _) => Reply::status(200),
        (_, 0) => Reply::status(503),
        _ => Reply::status(429).header("retry-after", "7"),
    })
    .unwrap();
    let retries = skycap_registry::Retries { rate_limited: false, ..settings().retries };
    let client = Client::new(Settings { retries, ..settings() }, Arc::new(skycap_image::Silent)).unwrap();
    let error = place(&client, scripted.address(), "aa").tags().unwrap_err();
    assert_eq!((error.kind, scripted.requests().len()), (Kind::RateLimited, 3));
    assert!(error.to_string().contains("; retry after 7 s"), "{error}");
}

#[test]
fn r19_passing_server_errors_pass() {
    for status in [408, 425, 500, 502, 503, 504, 522] {
        let (bytes, requests) =
            layer_through(move |request| if request.seen == 0 { Reply::status(status) } else { Reply::forward() });
        assert_eq!(bytes.unwrap(), noise(1, SIZE), "{status}");
        assert_eq!(requests.len(), 2);
    }
}

#[test]
fn r01_a_connection_that_closes_without_an_answer_is_tried_again() {
    let (bytes, requests) = layer_through(|request| if request.seen < 2 { Reply::hang_up() } else { Reply::forward() });
    assert_eq!((bytes.unwrap().len(), requests.len()), (SIZE, 3));
}

#[test]
fn r22_lasting_errors_are_not_tried_again() {
    for (status, kind) in
        [(400, Kind::Other), (403, Kind::Denied), (404, Kind::NotFound), (410, Kind::Other), (451, Kind::Other)]
    {
        let scripted = Scripted::start(move |request| match request.path.as_str() {
            "/v2/" => Reply::status(200),
            _ => Reply::status(status),
        })
        .unwrap();
        let Err(error) = place(&client(), scripted.address(), "aa").get(&tag("1")) else { panic!("{status}") };
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(scripted.lines(), ["GET /v2/", "GET /v2/aa/manifests/1"]);
    }
}

#[test]
fn one_try_means_one_try() {
    let scripted = Scripted::start(|_| Reply::status(503)).unwrap();
    // Not a name that may be plain: there is no second way in.
    let hosts = [("r.example".to_owned(), scripted.url())].into();
    let settings = Settings { hosts, retries: skycap_registry::Retries::NEVER, ..settings() };
    let once = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let place = once.place("r.example/aa".parse().unwrap(), skycap_registry::Access::default()).unwrap();
    assert!(place.tags().is_err());
    assert_eq!(scripted.lines(), ["GET /v2/"]);
}

#[test]
fn r23_a_login_page_is_no_manifest() {
    let scripted =
        Scripted::start(|_| Reply::status(200).header("content-type", "text/html").body("<html>pay</html>")).unwrap();
    let place = place(&client(), scripted.address(), "aa");
    let Err(error) = place.get(&tag("1")) else { panic!("no image") };
    assert!(error.to_string().contains("\"text/html\", not a manifest"), "{error}");
    assert!(place.tags().unwrap_err().to_string().contains("text/html, is not a list of tags"));
}

#[test]
fn r40_a_length_that_is_not_the_blobs_is_an_error() {
    for length in ["699999", "700001", "-1", "abc"] {
        let (bytes, _) = layer_through(move |_| Reply::forward().header("content-length", length));
        assert!(bytes.is_err(), "{length}");
    }
}

#[test]
fn r41_wrong_bytes_of_the_right_length_are_an_error() {
    let (bytes, _) = layer_through(|_| Reply::forward().flip(SIZE - 1));
    let error = bytes.unwrap_err();
    assert!(error.contains("is corrupt: its content hashes to"), "{error}");
}

#[test]
fn r45_a_manifest_must_be_the_one_that_was_asked_for() {
    let (_dir, server, scripted, image) =
        behind(
            |request| {
                if request.path.contains("/manifests/") { Reply::forward().flip(30) } else { Reply::forward() }
            },
        );
    let place = place(&client(), scripted.address(), "aa");
    let digest = image.descriptor().digest;
    let Err(error) = place.get(&Name::Digest(digest)) else { panic!("a wrong manifest") };
    assert_eq!(error.kind, Kind::Corrupt);
    assert!(error.to_string().contains(&format!("does not match requested digest: \"{digest}\"")), "{error}");
    let manifest = image.descriptor().clone();
    assert!(place.manifest(&manifest).is_err());
    let sound = self::place(&client(), server.address(), "aa");
    assert!(sound.manifest(&manifest).is_ok());
    let longer = Descriptor { size: manifest.size + 1, ..manifest };
    assert_eq!(sound.manifest(&longer).unwrap_err().kind, Kind::Corrupt);
}

#[test]
fn r46_a_tags_digest_must_be_that_of_its_bytes() {
    let wrong = skycap_image::Digest::sha256(b"something else").to_string();
    let (_dir, _server, scripted, image) = behind(move |request| {
        if request.method == "GET" && request.path.contains("/manifests/") {
            Reply::forward().header("docker-content-digest", wrong.clone())
        } else {
            Reply::forward()
        }
    });
    let place = place(&client(), scripted.address(), "aa");
    assert_eq!(place.raw(&tag("1")).unwrap_err().kind, Kind::Corrupt);
    assert_eq!(place.raw_ignoring_header(&tag("1")).unwrap().descriptor.digest, image.descriptor().digest);
}

#[test]
fn r48_compression_that_nobody_asked_for_does_not_pass() {
    let (bytes, requests) = layer_through(|_| Reply::forward().header("content-encoding", "gzip").flip(0));
    assert!(bytes.is_err());
    assert_eq!(requests[0].header("accept-encoding"), Some("identity"));
}

#[test]
fn r50_a_manifest_without_end_is_refused() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(200).body(vec![b' '; 9 * 1024 * 1024]),
    })
    .unwrap();
    let Err(error) = place(&client(), scripted.address(), "aa").get(&tag("1")) else { panic!("no image") };
    assert!(error.to_string().contains("longer than 8388608 bytes"), "{error}");
}

#[test]
fn r54_a_document_that_is_two_things_is_refused() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(200)
            .header("content-type", "application/vnd.oci.image.index.v1+json")
            .body(r#"{"manifests":[],"layers":[],"config":{}}"#),
    })
    .unwrap();
    let Err(error) = place(&client(), scripted.address(), "aa").get(&tag("1")) else { panic!("no image") };
    assert!(error.to_string().contains("both a manifest and an index"), "{error}");
}

#[test]
fn r64_where_head_does_not_tell_get_does() {
    for status in [400, 403, 405, 501, 200] {
        let (_dir, _server, scripted, image) = behind(move |request| match request.method.as_str() {
            "HEAD" => Reply::status(status).header("content-type", "text/html"),
            _ => Reply::forward(),
        });
        let found = place(&client(), scripted.address(), "aa").find(&tag("1")).unwrap().unwrap();
        assert_eq!(found.digest, image.descriptor().digest, "{status}");
    }
}

#[test]
fn a_head_that_says_there_is_nothing_is_believed() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(404),
    })
    .unwrap();
    assert!(place(&client(), scripted.address(), "aa").find(&tag("1")).unwrap().is_none());
    assert_eq!(scripted.lines(), ["GET /v2/", "HEAD /v2/aa/manifests/1"]);
}

#[test]
fn a_pull_asks_exactly_once_for_each_thing() {
    let (_dir, _server, scripted, image) = behind(|_| Reply::forward());
    let place = place(&client(), scripted.address(), "aa");
    let digest = image.descriptor().digest;
    place.get(&Name::Digest(digest)).unwrap();
    let config = image.manifest().config.digest;
    let expected =
        ["GET /v2/".to_owned(), format!("GET /v2/aa/manifests/{digest}"), format!("GET /v2/aa/blobs/{config}")];
    assert_eq!(scripted.lines(), expected);
    place.forget();
    place.find(&tag("1")).unwrap();
    assert_eq!(scripted.lines()[3..], ["GET /v2/", "HEAD /v2/aa/manifests/1"]);
}

#[test]
fn data_in_a_descriptor_is_used_and_checked() {
    let scripted = Scripted::start(|_| Reply::status(500)).unwrap();
    let place = place(&client(), scripted.address(), "aa");
    let blob = Descriptor::of(skycap_image::MediaType::OciConfig, b"{}");
    let with = |data: &str| Descriptor { data: Some(data.to_owned()), ..blob.clone() };
    assert_eq!(read(&place, &with("e30=")).unwrap(), b"{}");
    assert!(read(&place, &with("e31=")).is_err() && read(&place, &with("!")).is_err());
    assert!(scripted.requests().is_empty());
}
