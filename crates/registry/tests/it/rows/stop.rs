//! R93: whatever a client is doing, it ends within two seconds of being told, and leaves no upload behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use skycap_image::{Artifact, Image, ImageSink, ImageSource, SourceError};
use skycap_registry::{Client, Place, Retries, Settings, Stop};
use skycap_testkit::registry::{Reply, Request, Scripted};

use crate::support::{client, image, noise, place, read, server, settings, tag};

/// Patience without end: nothing but the switch ends this.
fn patient() -> Settings {
    let retries =
        Retries { first: Duration::from_mins(1), attempts: 9, limit: Duration::from_mins(10), rate_limited: true };
    Settings { retries, stall: Duration::from_mins(1), ..settings() }
}

/// Stops the work a moment after a request that fits has arrived.
fn stopped(
    scripted: &Scripted,
    is_it: impl Fn(&Request) -> bool,
    work: impl FnOnce(&Place) -> Result<(), SourceError> + Send,
) -> SourceError {
    let stop = Stop::default();
    let client = Client::new(patient(), Arc::new(skycap_image::Silent)).unwrap().with_stop(stop.clone());
    let place = place(&client, scripted.address(), "aa");
    std::thread::scope(|scope| {
        let working = scope.spawn(|| work(&place));
        let began = Instant::now();
        while !scripted.requests().iter().any(&is_it) && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(200));
        assert!(!working.is_finished(), "there was nothing to stop: {:?}", scripted.lines());
        let told = Instant::now();
        stop.stop();
        let error = working.join().unwrap().unwrap_err();
        assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
        assert!(stop.is_stopped() && error.to_string().ends_with(": stopped"), "{error}");
        error
    })
}

fn pull(place: &Place) -> Result<(), SourceError> {
    let Artifact::Image(pulled) = place.get(&tag("1"))? else { panic!("an image") };
    for layer in pulled.layers() {
        read(place, &layer.descriptor)?;
    }
    Ok(())
}

fn sent() -> Image {
    image("amd64", &[noise(1, 1000), noise(2, 3_000_000)])
}

#[test]
fn a_check_or_a_pull_ends_in_any_phase() {
    let (_dir, server) = server();
    place(&client(), server.address(), "aa").put(&Artifact::Image(sent()), &[tag("1")]).unwrap();
    let hour = Duration::from_secs(30);
    type Phase = (&'static str, fn(&Request) -> bool, Reply);
    let phases: [Phase; 6] = [
        ("ping", |request| request.path == "/v2/", Reply::status(200).wait(hour)),
        ("manifest", |request| request.path.contains("/manifests/"), Reply::forward().wait(hour)),
        ("blob", |request| request.path.contains("/blobs/"), Reply::forward().wait(hour)),
        ("body", |request| request.path.contains("/blobs/"), Reply::forward().pause(10, hour)),
        ("a pause between tries", |request| request.path.contains("/blobs/"), Reply::status(503)),
        (
            "a wait that was asked for",
            |request| request.path.contains("/manifests/"),
            Reply::status(429).header("retry-after", "500"),
        ),
    ];
    for (what, is_it, reply) in phases {
        let scripted =
            Scripted::in_front_of(
                server.address(),
                move |request| if is_it(request) { reply.clone() } else { Reply::forward() },
            )
            .unwrap();
        let error = stopped(&scripted, is_it, pull);
        assert!(error.to_string().contains("/aa"), "{what}: {error}");
    }
    let scripted = Scripted::in_front_of(server.address(), move |request| {
        if request.method == "HEAD" { Reply::forward().wait(hour) } else { Reply::forward() }
    })
    .unwrap();
    stopped(&scripted, |request| request.method == "HEAD", |place| place.find(&tag("1")).map(drop));
    stopped(
        &scripted,
        |request| request.path.ends_with("/1"),
        |place| {
            let names: Vec<_> = (0..100).map(|at| tag(&at.to_string())).collect();
            let mut answers = place.find_all(&names);
            assert!(answers.iter().all(Result::is_err));
            answers.remove(99).map(drop)
        },
    );
}

#[test]
fn a_push_ends_in_any_phase_and_its_uploads_are_cancelled() {
    let hour = Duration::from_secs(30);
    type Phase = (&'static str, fn(&Request) -> bool, Reply);
    let phases: [Phase; 5] = [
        ("HEAD", |request| request.method == "HEAD", Reply::forward().wait(hour)),
        ("POST", |request| request.method == "POST", Reply::forward().wait(hour)),
        (
            "the answer to an upload",
            |request| request.method == "PUT" && request.path.contains("/blobs/"),
            Reply::status(201).wait(hour),
        ),
        (
            "a pause between tries",
            |request| request.method == "PUT" && request.path.contains("/blobs/"),
            Reply::status(503),
        ),
        (
            "a manifest",
            |request| request.path.contains("/manifests/") && request.method == "PUT",
            Reply::forward().wait(hour),
        ),
    ];
    for (what, is_it, reply) in phases {
        let (_dir, server) = server();
        let scripted =
            Scripted::in_front_of(
                server.address(),
                move |request| if is_it(request) { reply.clone() } else { Reply::forward() },
            )
            .unwrap();
        let artifact = Artifact::Image(sent());
        stopped(&scripted, is_it, |place| place.put(&artifact, &[tag("1")]).map(drop));
        let lines = scripted.lines();
        let begun = lines.iter().filter(|line| line.starts_with("PUT ") && line.contains("/uploads/")).count();
        let cancelled = lines.iter().filter(|line| line.starts_with("DELETE ")).count();
        if what.contains("upload") || what.contains("pause") {
            assert!(begun > 0 && cancelled == begun, "{what}: {lines:?}");
        }
        assert!(
            place(&client(), server.address(), "aa").find(&tag("1")).unwrap().is_none(),
            "no tag without its image"
        );
    }
    // In the middle of the bytes: the registry reads a little and then nothing.
    let appetite = |request: &Request| (request.method == "PUT").then_some(1000);
    let script = move |request: &Request| match request.method.as_str() {
        "GET" => Reply::status(200),
        "POST" => Reply::status(202).header("location", format!("/v2/aa/blobs/uploads/u{}", request.seen)),
        "PUT" => Reply::status(201).wait(hour),
        "DELETE" => Reply::status(204),
        _ => Reply::status(404),
    };
    let scripted = Scripted::reading(None, appetite, script).unwrap();
    let large = image("amd64", &[noise(1, 30_000_000)]);
    stopped(
        &scripted,
        |request| request.method == "PUT",
        |place| place.put(&Artifact::Image(large), &[tag("1")]).map(drop),
    );
    assert!(
        scripted.lines().iter().any(|line| line.starts_with("DELETE /v2/aa/blobs/uploads/u")),
        "{:?}",
        scripted.lines()
    );
}

#[test]
fn a_client_that_was_stopped_does_nothing_more_and_its_siblings_go_on() {
    let (_dir, server) = server();
    let stop = Stop::default();
    let client = client();
    let ended = client.with_stop(stop.clone());
    stop.stop();
    let started = Instant::now();
    let error = place(&ended, server.address(), "aa").put(&Artifact::Image(sent()), &[tag("1")]).unwrap_err();
    assert!(error.to_string().ends_with(": stopped") && started.elapsed() < Duration::from_secs(1), "{error}");
    place(&client, server.address(), "aa").put(&Artifact::Image(sent()), &[tag("1")]).unwrap();
}
