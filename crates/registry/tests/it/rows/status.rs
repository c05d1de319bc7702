//! Answers that are no success (R15 to R23).

use std::time::Duration;

use skycap_image::Kind;
use skycap_registry::{Credentials, Retries, Settings};
use skycap_testkit::registry::{Reply, Request};

use super::world::{ACTS, Act, World, same};
use crate::support::{no_secret, settings, user};

/// The request of each act that a registry limits.
fn is_main(act: Act, request: &Request) -> bool {
    match act {
        Act::Check => request.method == "HEAD",
        Act::Pull => request.method == "GET" && request.path.contains("/blobs/"),
        Act::Push => request.method == "PUT" && request.path.contains("/manifests/"),
    }
}

#[test]
fn r15_a_registry_may_ask_us_to_wait_and_we_say_how_long() {
    let world = World::new();
    for act in ACTS {
        let ran = world.run(act, move |request| {
            (is_main(act, request) && request.seen == 0).then(|| Reply::status(429).header("retry-after", "2"))
        });
        let ran = same(ran, act);
        assert!(ran.took >= Duration::from_secs(2), "{act:?}: {:?}", ran.took);
        let note = ran.kept.lines().into_iter().find(|line| line.starts_with("note")).unwrap();
        assert!(
            note.contains("429 Too Many Requests") && note.ends_with("; retry after 2 s; trying again in 2.0 s"),
            "{note}"
        );
    }
}

#[test]
fn r16_whatever_stands_in_retry_after_the_wait_is_sensible() {
    let world = World::new();
    let retries = Retries { limit: Duration::from_millis(300), ..settings().retries };
    for value in [
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Fri, 31 Dec 2999 23:59:59 GMT",
        "0",
        "-1",
        "abc",
        "1000000000",
        "",
        "9999999999999999999999",
    ] {
        for act in ACTS {
            let ran = world.run_with(act, Settings { retries, ..settings() }, move |request| {
                (is_main(act, request) && request.seen == 0).then(|| Reply::status(429).header("retry-after", value))
            });
            assert!(same(ran, (act, value)).took < Duration::from_secs(10));
        }
    }
}

#[test]
fn r17_a_limit_without_a_time_is_waited_for_all_the_same() {
    let world = World::new();
    for act in ACTS {
        let ran = world.run(act, |request| {
            (request.seen == 0).then(|| {
                Reply::status(429).header("ratelimit-limit", "100;w=21600").header("ratelimit-remaining", "0;w=21600")
            })
        });
        same(ran, act);
    }
}

#[test]
fn r18_a_limit_that_stays_says_whether_we_were_known() {
    let world = World::new();
    for act in ACTS {
        for (credentials, text) in
            [(Credentials::Anonymous, "without credentials"), (user("me", "hunter2-password"), "as user me")]
        {
            let ran = world.run_as(act, settings(), credentials, move |request| {
                is_main(act, request).then(|| Reply::status(429).header("retry-after", "0")).or_else(|| {
                    (act == Act::Check && request.method == "GET" && request.path != "/v2/").then(|| Reply::status(429))
                })
            });
            assert_eq!(ran.error().kind, Kind::RateLimited);
            assert!(ran.text().contains(text) && ran.text().contains("429"), "{act:?}: {}", ran.text());
            no_secret(ran.result.as_ref().err(), &ran.kept, &[]);
        }
    }
}

#[test]
fn r19_r21_what_passes_is_tried_again() {
    let world = World::new();
    for status in [500, 502, 503, 504, 522, 408, 425] {
        for act in ACTS {
            same(world.run(act, move |request| (request.seen == 0).then(|| Reply::status(status))), (status, act));
        }
    }
}

#[test]
fn r20_a_server_that_stays_broken_is_an_error_that_shows_little_of_it() {
    let world = World::new();
    for act in ACTS {
        let ran = world.run(act, |request| {
            (request.path != "/v2/")
                .then(|| Reply::status(500).body(format!("\u{1b}[31m\u{7}{}", "broken ".repeat(2000))))
        });
        let text = ran.text();
        assert!(text.contains("500 Internal Server Error") && text.contains(" times)"), "{act:?}: {text}");
        assert!(text.len() < 1024 + 300 && !text.contains(['\u{1b}', '\u{7}']), "{} bytes: {text}", text.len());
    }
}

#[test]
fn r22_lasting_errors_are_not_tried_again() {
    let world = World::new();
    for (status, kind) in
        [(400, Kind::Other), (403, Kind::Denied), (404, Kind::NotFound), (410, Kind::Other), (451, Kind::Other)]
    {
        for act in [Act::Pull, Act::Push] {
            let ran = world.run(act, move |request| {
                let is_it = if act == Act::Pull { request.path.contains("/manifests/") } else { is_main(act, request) };
                is_it.then(|| Reply::status(status))
            });
            assert_eq!(ran.error().kind, kind, "{}", ran.text());
            let method = if act == Act::Pull { "GET" } else { "PUT" };
            let asked = ran.requests().into_iter().filter(|r| r.method == method && r.path.contains("/manifests/"));
            assert_eq!(asked.count(), 1, "{status} {act:?}");
        }
        let ran =
            world.run(Act::Check, move |request| request.path.ends_with("/tags/list").then(|| Reply::status(status)));
        assert_eq!(ran.error().kind, kind, "{}", ran.text());
        // A registry that dislikes the page size is asked without one.
        assert_eq!(ran.asked("GET", "/tags/list").len(), if status == 400 { 2 } else { 1 });
    }
}

#[test]
fn r23_a_login_page_is_nothing_that_a_registry_says() {
    let world = World::new();
    for act in ACTS {
        for (at_ping, method) in [(true, ""), (false, "HEAD"), (false, "GET"), (false, "PUT"), (false, "POST")] {
            let ran = world.run(act, move |request| {
                let is_it = request.path == "/v2/" || !at_ping;
                (is_it && (at_ping || request.method == method) && (at_ping || request.path != "/v2/")).then(|| {
                    Reply::status(200).header("content-type", "text/html; charset=utf-8").body("<html>pay here</html>")
                })
            });
            // A HEAD that tells nothing is followed by a GET, and a page instead of a ping by what it should have been.
            let is_harmless = at_ping
                || method == "HEAD"
                || !ran.requests().iter().any(|request| request.method == method && request.path != "/v2/");
            match (&ran.result, is_harmless) {
                (Ok(()), true) => {}
                (result, _) => {
                    let text = result.as_ref().unwrap_err().to_string();
                    assert!(text.contains("text/html"), "{act:?} {method}: {text}");
                }
            }
        }
    }
}
