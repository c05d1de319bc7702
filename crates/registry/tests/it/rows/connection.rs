//! Connections that break, bodies that end, servers that are slow (R01 to R14).

use std::time::Duration;

use skycap_image::Kind;
use skycap_registry::Settings;
use skycap_testkit::registry::{Reply, Request};

use super::world::{ACTS, Act, LARGE, World, same};
use crate::support::{client, noise, place, server, settings};

/// The first byte that a request asks for.
fn range_start(request: &Request) -> usize {
    let range = request.header("range").unwrap_or("bytes=0-");
    range.trim_start_matches("bytes=").split('-').next().unwrap().parse().unwrap()
}

/// A check that HEAD does not answer ends with one GET.
fn is_tried_out(act: Act, text: &str) -> bool {
    text.contains(if act == Act::Check { "tried 5 times" } else { "tried 4 times" })
}

fn hasty(stall: u64) -> Settings {
    Settings { stall: Duration::from_millis(stall), ..settings() }
}

#[test]
fn r01_a_reset_before_the_headers_is_tried_again() {
    let world = World::new();
    for act in ACTS {
        for reply in [Reply::reset(), Reply::hang_up()] {
            same(world.run(act, move |request| (request.seen == 0).then(|| reply.clone())), act);
        }
    }
}

#[test]
fn r02_r05_a_body_that_is_cut_or_reset_is_resumed_and_little_is_fetched_twice() {
    let world = World::new();
    let mib = 1024 * 1024;
    for reset in [false, true] {
        for cut in [0, 1, 511, 512, mib - 1, mib, mib + 1, LARGE - 1] {
            let large = world.large();
            let ran = world.run(Act::Pull, move |request| {
                let reply = Reply::forward().cut(cut);
                (request.path.ends_with(&large) && request.seen == 0)
                    .then(|| if reset { reply.and_reset() } else { reply })
            });
            let ran = same(ran, (cut, reset));
            let asked = ran.asked("GET", &world.large());
            assert_eq!(asked.len(), 2);
            let start = range_start(&asked[1]);
            assert!(start <= cut && cut - start <= mib, "{start} of {cut}");
        }
        for act in ACTS {
            for cut in [0, 1, 20] {
                let ran = world.run(act, move |request| {
                    let reply = Reply::forward().cut(cut);
                    (request.seen == 0).then(|| if reset { reply.and_reset() } else { reply })
                });
                same(ran, (act, cut, reset));
            }
        }
    }
}

#[test]
fn r03_progress_renews_the_tries() {
    let world = World::new();
    let large = world.large();
    let ran =
        world.run(Act::Pull, move |request| request.path.ends_with(&large).then(|| Reply::forward().cut(200_000)));
    assert!(same(ran, "progress").asked("GET", &world.large()).len() >= LARGE / 200_000);
}

#[test]
fn r04_without_progress_it_ends_and_says_where_and_how_often() {
    let world = World::new();
    for act in ACTS {
        let ran = world.run(act, |request| (request.path != "/v2/").then(Reply::reset));
        let text = ran.text();
        assert!(text.contains(&ran.scripted.url()) && is_tried_out(act, &text), "{act:?}: {text}");
        assert_eq!(ran.error().kind, Kind::Transient, "{text}");
    }
    let large = world.large();
    let ran = world.run(Act::Pull, move |request| {
        request.path.ends_with(&large).then(|| Reply::forward().cut(if request.seen == 0 { 1000 } else { 0 }))
    });
    assert!(ran.text().contains(&format!("after 1000 of {LARGE} bytes")), "{}", ran.text());
    assert_eq!(ran.asked("GET", &world.large()).len(), 4);
}

#[test]
fn r06_a_chunked_body_without_its_last_chunk_is_resumed() {
    let world = World::new();
    for act in ACTS {
        for (chunk, cut) in [(1000, 10), (1, 3), (50_000, 120_000)] {
            let ran =
                world.run(act, move |request| (request.seen == 0).then(|| Reply::forward().chunked(chunk).cut(cut)));
            same(ran, (act, chunk, cut));
        }
        same(world.run(act, |_| Some(Reply::forward().chunked(777))), act);
    }
}

#[test]
fn r07_a_registry_that_ignores_range_sends_again_what_is_skipped() {
    let world = World::new();
    let large = world.large();
    let ran = world.run(Act::Pull, move |request| {
        request.path.ends_with(&large).then(|| match request.seen {
            0 => Reply::forward().cut(100_000),
            _ => Reply::status(200).body(noise(2, LARGE)),
        })
    });
    assert_eq!(same(ran, "200").asked("GET", &world.large()).len(), 2);
}

#[test]
fn r08_a_wrong_range_is_not_believed() {
    let world = World::new();
    for wrong in ["bytes 0-2199999/2200000", "bytes 1000-2199999/2200001", "bytes 999-5/2200000", "nonsense"] {
        let large = world.large();
        let ran = world.run(Act::Pull, move |request| {
            request.path.ends_with(&large).then(|| match (request.seen, request.header("range")) {
                (0, _) => Reply::forward().cut(1000),
                (_, Some(_)) => Reply::forward().header("content-range", wrong),
                (_, None) => Reply::forward(),
            })
        });
        let asked = same(ran, wrong).asked("GET", &world.large());
        assert_eq!((asked.len(), asked[2].header("range")), (3, None), "the third try asks for everything");
        let large = world.large();
        let ran = world.run(Act::Pull, move |request| {
            let is_range = request.header("range").is_some();
            request.path.ends_with(&large).then(|| {
                let reply = Reply::forward().cut(1000);
                if is_range { reply.header("content-range", wrong) } else { reply }
            })
        });
        assert!(ran.text().contains("tried 4 times"), "{}", ran.text());
    }
}

#[test]
fn r09_other_bytes_after_a_cut_are_asked_for_once_more_from_the_first() {
    let world = World::new();
    let run = |path: String, always: bool| {
        world.run(Act::Pull, move |request| {
            request.path.ends_with(&path).then(|| match request.seen {
                0 => Reply::forward().cut(1000),
                1 => Reply::forward().flip(10),
                _ if always => Reply::forward().flip(10),
                _ => Reply::forward(),
            })
        })
    };
    let asked = same(run(world.small(), false), "once").asked("GET", &world.small());
    assert_eq!((asked.len(), asked[2].header("range")), (3, None));
    for ran in [run(world.small(), true), run(world.large(), false)] {
        assert_eq!(ran.error().kind, Kind::Corrupt);
        assert!(ran.text().contains("is corrupt: its content hashes to"), "{}", ran.text());
    }
}

#[test]
fn r10_nothing_left_to_fetch_is_the_end() {
    let world = World::new();
    let large = world.large();
    let ran = world.run(Act::Pull, move |request| {
        request.path.ends_with(&large).then(|| match request.seen {
            // Everything, but not the chunk that says so.
            0 => {
                let mut answer =
                    format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{LARGE:x}\r\n").into_bytes();
                answer.extend(noise(2, LARGE));
                answer.extend(b"\r\n");
                Reply::verbatim(answer)
            }
            _ => Reply::status(416),
        })
    });
    let asked = same(ran, "416").asked("GET", &world.large());
    assert_eq!(asked[1].header("range"), Some(&*format!("bytes={LARGE}-")));
    let large = world.large();
    let ran = world.run(Act::Pull, move |request| {
        request.path.ends_with(&large).then(|| match request.seen {
            0 => Reply::forward().cut(1000),
            _ => Reply::status(416),
        })
    });
    assert!(ran.text().contains("416"), "{}", ran.text());
}

/// Nobody takes the connections of this listener, and its queue is full.
#[test]
fn r11_nobody_who_answers_is_a_timeout() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    rustix_listen(&listener);
    let address = listener.local_addr().unwrap();
    let _waiting: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || std::net::TcpStream::connect_timeout(&address, Duration::from_secs(5))))
        .collect();
    std::thread::sleep(Duration::from_millis(100));
    let mut settings = hasty(300);
    settings.hosts.insert("r.example".to_owned(), format!("http://{address}"));
    let client = skycap_registry::Client::new(settings, std::sync::Arc::new(skycap_image::Silent)).unwrap();
    let place = client.place("r.example/aa".parse().unwrap(), skycap_registry::Access::default()).unwrap();
    let started = std::time::Instant::now();
    let error = place.tags().unwrap_err();
    assert!(error.to_string().contains("tried 4 times"), "{error}");
    assert_eq!(error.kind, Kind::Transient);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// As short a queue as there can be.
fn rustix_listen(listener: &std::net::TcpListener) {
    rustix::net::listen(listener, 0).unwrap();
}

#[test]
fn r12_headers_that_never_come_are_a_timeout() {
    let world = World::new();
    for act in ACTS {
        let once = world.run_with(act, hasty(400), |request| {
            (request.seen == 0 && request.path != "/v2/").then(|| Reply::forward().wait(Duration::from_secs(3)))
        });
        same(once, act);
        let ever = world.run_with(act, hasty(200), |request| {
            (request.path != "/v2/").then(|| Reply::forward().wait(Duration::from_secs(20)))
        });
        let text = ever.text();
        assert!(text.contains("no answer for 0.2 s") && is_tried_out(act, &text), "{act:?}: {text}");
        assert!(ever.took < Duration::from_secs(8));
    }
}

#[test]
fn r13_a_body_slower_than_a_kibibyte_a_second_counts_as_cut() {
    let world = World::new();
    let large = world.large();
    let drip = || Reply::forward().trickle(1, Duration::from_millis(20));
    let once = world.run_with(Act::Pull, hasty(300), move |request| {
        (request.path.ends_with(&large) && request.seen == 0).then(drip)
    });
    let asked = same(once, "once").asked("GET", &world.large());
    assert!(asked.len() == 2 && range_start(&asked[1]) > 0, "{}", asked.len());
    let large = world.large();
    let ever = world.run_with(Act::Pull, hasty(300), move |request| request.path.ends_with(&large).then(drip));
    assert!(ever.text().contains("the body makes no progress"), "{}", ever.text());
    assert!(ever.text().contains("tried 4 times"), "{}", ever.text());
}

#[test]
fn r14_a_short_pause_is_no_fault() {
    let world = World::new();
    for act in ACTS {
        let ran = same(world.run(act, |_| Some(Reply::forward().pause(1, Duration::from_millis(200)))), act);
        let again: Vec<String> = ran.requests().iter().filter(|r| r.seen > 0).map(Request::line).collect();
        assert!(again.iter().all(|line| line.starts_with("POST ")), "{act:?}: {again:?}");
    }
}

/// A registry that went away may come back; what never answered is more likely a slip in its name or port.
#[test]
fn r04_a_refused_connection_is_given_up_sooner_where_nobody_has_answered() {
    let (_dir, server) = server();
    let place = self::place(&client(), server.address(), "app");
    assert_eq!(place.tags().unwrap_err().kind, Kind::NotFound);
    let address = server.address();
    server.stop();
    let text = place.tags().unwrap_err().to_string();
    assert!(text.contains("refused") && text.ends_with("(tried 4 times)"), "{text}");
    let error = self::place(&client(), address, "app").tags().unwrap_err();
    assert_eq!(error.kind, Kind::Transient);
    let text = error.to_string();
    assert!(text.contains("(tried 3 times): nothing listens there; check that it runs"), "{text}");
}
