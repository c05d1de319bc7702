//! HTTP as servers and boxes in between speak it (R80, R81, R86).

use skycap_testkit::registry::{Reply, Request};

use super::world::{ACTS, Act, World, same};

/// The answer that would have been given, in another dress.
fn dressed(server: std::net::SocketAddr, request: &Request, dress: &str) -> Vec<u8> {
    let raw = crate::support::ask(server, &request.method, &request.path, &[], b"");
    let mut headers = format!("content-type: {}\r\n", raw.header("content-type"));
    if !raw.header("docker-content-digest").is_empty() {
        headers += &format!("docker-content-digest: {}\r\n", raw.header("docker-content-digest"));
    }
    let length = format!("content-length: {}\r\n", raw.header("content-length"));
    let body = if request.method == "HEAD" { Vec::new() } else { raw.body };
    let (before, status, more, body) = match dress {
        "1.0" => ("", "HTTP/1.0 200 OK", length, body),
        "1.0 without length" if request.method != "HEAD" => ("", "HTTP/1.0 200 OK", String::new(), body),
        "100" => ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK", length, body),
        "102" => ("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK", length, body),
        "103" => ("HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n", "HTTP/1.1 200 OK", length, body),
        "long header" => ("", "HTTP/1.1 200 OK", format!("{length}x-long: {}\r\n", "a".repeat(64 * 1024)), body),
        "many headers" => {
            let many: String = (0..1000).map(|number| format!("x-{number}: y\r\n")).collect();
            ("", "HTTP/1.1 200 OK", length + &many, body)
        }
        "folded" => ("", "HTTP/1.1 200 OK", format!("{length}x-folded: a\r\n b\r\n\tc\r\n"), body),
        "bad chunk" => {
            let mut chunked = b"zz\r\n".to_vec();
            chunked.extend(&body);
            ("", "HTTP/1.1 200 OK", "transfer-encoding: chunked\r\n".to_owned(), chunked)
        }
        "huge chunk" => {
            let mut chunked = b"ffffffffffffffffff\r\n".to_vec();
            chunked.extend(&body);
            ("", "HTTP/1.1 200 OK", "transfer-encoding: chunked\r\n".to_owned(), chunked)
        }
        "both lengths" => {
            let mut chunked = format!("{:x}\r\n", body.len()).into_bytes();
            chunked.extend(&body);
            chunked.extend(b"\r\n0\r\n\r\n");
            ("", "HTTP/1.1 200 OK", "content-length: 5\r\ntransfer-encoding: chunked\r\n".to_owned(), chunked)
        }
        "odd encoding" => ("", "HTTP/1.1 200 OK", format!("transfer-encoding: xchunked\r\n{length}"), body),
        "bare line feeds" => ("", "HTTP/1.1 200 OK", length, body),
        _ => ("", "HTTP/1.1 200 OK", length, body),
    };
    let mut answer = format!("{before}{status}\r\nconnection: close\r\n{headers}{more}\r\n");
    if dress == "bare line feeds" {
        answer = answer.replace("\r\n", "\n");
    }
    let mut answer = answer.into_bytes();
    answer.extend(body);
    answer
}

#[test]
fn r80_old_servers_and_those_that_ignore_expect() {
    let world = World::new();
    for act in [Act::Check, Act::Pull] {
        for dress in ["1.0", "1.0 without length", "100", "102", "103"] {
            let server = world.server.address();
            let ran = world.run(act, move |request| {
                let is_it = (request.method == "GET" || request.method == "HEAD") && request.path != "/v2/";
                is_it.then(|| Reply::verbatim(dressed(server, request, dress)))
            });
            same(ran, (act, dress));
        }
    }
    // We never wait for a server to say that it wants a body.
    let ran = same(world.run(Act::Push, |_| None), "push");
    assert!(ran.requests().iter().all(|request| request.header("expect").is_none()));
}

#[test]
fn r81_odd_headers_and_lengths_are_read_or_refused_and_never_believed_twice() {
    let world = World::new();
    for act in [Act::Check, Act::Pull] {
        for (dress, is_well) in [
            ("long header", Some(true)),
            ("many headers", None),
            ("folded", None),
            ("bad chunk", Some(false)),
            ("huge chunk", Some(false)),
            ("both lengths", None),
            ("odd encoding", None),
            ("bare line feeds", None),
        ] {
            let server = world.server.address();
            // A run that succeeds has the right bytes: the world compares them.
            let ran = world.run(act, move |request| {
                let is_it = request.method == "GET" && request.path != "/v2/";
                is_it.then(|| Reply::verbatim(dressed(server, request, dress)))
            });
            if let Some(is_well) = is_well {
                assert_eq!(ran.result.is_ok(), is_well, "{act:?} {dress}: {:?}", ran.result);
            }
            assert!(ran.took < std::time::Duration::from_secs(10));
        }
    }
}

#[test]
fn r86_what_a_registry_warns_of_is_said_once_and_harmlessly() {
    let world = World::new();
    for act in ACTS {
        let ran = world.run(act, |request| {
            let warning = "299 - \"this registry \\\"closes\\\" soon\", 199 - \"x\"";
            (request.path != "/v2/").then(|| Reply::forward().header("warning", warning))
        });
        let ran = same(ran, act);
        let warnings: Vec<String> = ran.kept.lines().into_iter().filter(|line| line.starts_with("warning")).collect();
        assert_eq!(warnings, ["warning r.example warns: this registry \"closes\" soon"], "{act:?}");
    }
    let ran = world.run(Act::Check, |request| {
        (request.path != "/v2/").then(|| Reply::forward().header("warning", "299 - \"\u{9b}31m red\""))
    });
    assert!(ran.kept.lines().iter().all(|line| !line.contains('\u{9b}')));
}
