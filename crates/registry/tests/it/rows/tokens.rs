//! Tokens: servers of tokens that stumble, challenges as they are written, tokens that end (R24 to R29, R87).

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use skycap_registry::Settings;
use skycap_testkit::registry::{Reply, Request};

use super::world::{ACTS, Act, World, same};
use crate::support::{no_secret, settings, user};

const PASSWORD: &str = "hunter2-the-password";
const TOKEN: &str = "hunter2-token";

/// A registry that wants tokens: one to three requests with each, all of them if `uses` is 0.
fn guarded(
    uses: usize,
    challenge: impl Fn(&str) -> Vec<String> + Send + Sync + 'static,
    grant: impl Fn(&Request, &str) -> Reply + Send + Sync + 'static,
) -> impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static {
    let (issued, used) = (Mutex::new(0_usize), AtomicUsize::new(0));
    move |request| {
        if request.path == "/token" {
            let mut issued = issued.lock().unwrap();
            *issued += 1;
            used.store(0, Ordering::SeqCst);
            return Some(grant(request, &format!("{TOKEN}-{issued}")));
        }
        let current = format!("Bearer {TOKEN}-{}", *issued.lock().unwrap());
        let known = request.header("authorization") == Some(current.as_str());
        if request.path != "/v2/" && known && (uses == 0 || used.fetch_add(1, Ordering::SeqCst) < uses) {
            return None;
        }
        let host = request.header("host").unwrap_or_default();
        let mut answer = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n".to_owned();
        for value in challenge(&format!("http://{host}/token")) {
            answer += &format!("www-authenticate: {value}\r\n");
        }
        Some(Reply::verbatim(format!("{answer}\r\n")))
    }
}

fn bearer(realm: &str) -> Vec<String> {
    vec![format!("Bearer realm=\"{realm}\",service=\"s\"")]
}

fn plain(_: &Request, token: &str) -> Reply {
    Reply::status(200).body(format!("{{\"token\":\"{token}\"}}"))
}

/// One request after the other: tokens that are good for a few requests are none for two threads.
fn single() -> Settings {
    Settings { concurrency: 1, stall: Duration::from_millis(1500), ..settings() }
}

#[test]
fn r24_a_token_server_may_stumble() {
    let world = World::new();
    for act in ACTS {
        for fault in [
            Reply::status(500),
            Reply::status(429).header("retry-after", "0"),
            Reply::status(200).wait(Duration::from_secs(4)),
            Reply::reset(),
        ] {
            let fault = guarded(
                0,
                bearer,
                move |request, token| if request.seen == 0 { fault.clone() } else { plain(request, token) },
            );
            let ran = same(world.run_as(act, single(), user("me", PASSWORD), fault), act);
            no_secret(None, &ran.kept, &[]);
        }
    }
}

/// After the ping, `find_all` and pushes ask many things at once, each with the token of its time.
#[test]
fn r25_r26_a_token_that_ends_in_the_middle_is_renewed_once_for_each_401() {
    let world = World::new();
    for act in ACTS {
        // A push asks for three things at once; a token that is good for fewer is none.
        for uses in if act == Act::Push { 3..4 } else { 1..4 } {
            let settings =
                Settings { retries: skycap_registry::Retries { attempts: 8, ..settings().retries }, ..single() };
            let fault = guarded(uses, bearer, plain);
            let ran = same(world.run_as(act, settings, user("me", PASSWORD), fault), (act, uses));
            no_secret(None, &ran.kept, &[]);
        }
        let never = guarded(0, bearer, |_, _| Reply::status(200).body("{\"token\":\"another\"}"));
        let ran = world.run_as(act, single(), user("me", PASSWORD), never);
        assert_eq!(ran.error().kind, skycap_image::Kind::Denied, "{}", ran.text());
        assert!(ran.text().contains("401") && ran.text().contains("as user me"), "{}", ran.text());
        no_secret(ran.result.as_ref().err(), &ran.kept, &[]);
    }
}

#[test]
fn r26_an_upload_goes_on_after_its_token_ended() {
    let world = World::new();
    let expired = Mutex::new(0);
    let guard = guarded(0, bearer, plain);
    let fault = move |request: &Request| {
        let mut expired = expired.lock().unwrap();
        if request.method == "PUT" && request.path.contains("/blobs/") && *expired < 1 {
            *expired += 1;
            let host = request.header("host").unwrap_or_default();
            return Some(
                Reply::status(401).header("www-authenticate", bearer(&format!("http://{host}/token")).remove(0)),
            );
        }
        guard(request)
    };
    let ran = same(world.run_as(Act::Push, single(), user("me", PASSWORD), fault), "push");
    assert!(ran.asked("GET", "/token").len() >= 2);
}

#[test]
fn r27_challenges_as_registries_write_them() {
    let world = World::new();
    type Challenge = fn(&str) -> Vec<String>;
    let challenges: [Challenge; 6] = [
        |realm| vec![format!("bearer realm=\"{realm}\",service=\"s\"")],
        |realm| vec![format!("BEARER  realm = {realm} , service=s")],
        |realm| vec!["Negotiate".to_owned(), format!("Bearer realm=\"{realm}\",scope=\"repository:aa:pull,push\"")],
        |realm| vec![format!("Digest nonce=\"a, Bearer b\", Bearer realm=\"{realm}\", x-unknown=1")],
        |realm| vec![format!("Bearer realm=\"{realm}\",service=\"a, b\",error=\"invalid_token\"")],
        |_| vec!["Bearer realm=\"/token\"".to_owned()],
    ];
    for (at, challenge) in challenges.into_iter().enumerate() {
        for act in ACTS {
            same(world.run_as(act, single(), user("me", PASSWORD), guarded(0, challenge, plain)), (at, act));
        }
    }
    for challenge in ["", "Bearer service=\"s\"", "Negotiate", "Bearer realm=\"http://\""] {
        let ran = world.run(Act::Pull, move |_| Some(Reply::status(401).header("www-authenticate", challenge)));
        let text = ran.text();
        assert!(text.contains("challenge") || text.contains("realm"), "{challenge}: {text}");
    }
}

/// The clock of whoever gives tokens may be a day before or behind ours: only the life that it states counts.
#[test]
fn r28_r87_a_token_lives_as_long_as_it_is_said_to_whatever_the_time() {
    let world = World::new();
    for issued in ["1999-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "not a date"] {
        for expires in ["0", "-1", "1000000000000000000000", "\"300\"", "\"soon\"", "null"] {
            let fault = guarded(0, bearer, move |_, token| {
                Reply::status(200).body(format!(
                    "{{\"token\":\"{token}\",\"access_token\":\"\",\"expires_in\":{expires},\"issued_at\":\"{issued}\"}}"
                ))
            });
            let ran = same(world.run_as(Act::Check, single(), user("me", PASSWORD), fault), (issued, expires));
            assert_eq!(ran.asked("GET", "/token").len(), 1, "{issued} {expires}");
        }
    }
}

#[test]
fn r29_a_token_document_without_end_is_refused() {
    let world = World::new();
    for act in ACTS {
        let fault = guarded(0, bearer, |_, _| Reply::status(200).body(vec![b' '; 2_000_000]).without_length());
        let ran = world.run_as(act, single(), user("me", PASSWORD), fault);
        assert!(ran.text().contains("longer than 1048576 bytes"), "{}", ran.text());
    }
}
