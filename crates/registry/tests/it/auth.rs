//! Passwords and tokens: asked for in the way that the registry names, renewed when they expire, shown to nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_image::{Artifact, ImageSink, ImageSource, Kind, Resolver, Secret, SourceError};
use skycap_registry::server::{Options, Server};
use skycap_registry::{Access, Client, Credentials, Keychain, Registries};
use skycap_testkit::registry::{Reply, Request, Scripted};
use tempfile::TempDir;

use crate::support::{client, image, noise, place, place_as, read, server, server_with, settings, tag, user};

const PASSWORD: &str = "hunter2-the-password";

/// A registry behind a token server that is part of it. Each token is good for `uses` requests.
struct Tokens {
    _dir: TempDir,
    _server: Server,
    scripted: Scripted,
}

/// What a token server may say beside the token.
type Grant = fn(&Request, &str) -> Reply;

fn granting(uses: usize, grant: Grant) -> Tokens {
    let (dir, server) = server();
    let (issued, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let scripted = Scripted::in_front_of(server.address(), move |request| {
        let host = request.header("host").unwrap_or_default();
        if request.path == "/token" {
            let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
            used.store(0, Ordering::SeqCst);
            return grant(request, &format!("hunter2-token-{number}"));
        }
        let current = format!("Bearer hunter2-token-{}", issued.load(Ordering::SeqCst));
        let known = request.header("authorization") == Some(current.as_str());
        if request.path != "/v2/" && known && used.fetch_add(1, Ordering::SeqCst) < uses {
            return Reply::forward();
        }
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"the-registry\"");
        Reply::status(401).header("www-authenticate", challenge).body("{}")
    })
    .unwrap();
    Tokens { _dir: dir, _server: server, scripted }
}

fn plain(_: &Request, token: &str) -> Reply {
    Reply::status(200).body(format!("{{\"token\":\"{token}\"}}"))
}

fn push_and_pull(credentials: Credentials, tokens: &Tokens) -> Result<(), SourceError> {
    // One request after the other: tokens that are good for three requests are none for two threads.
    let settings = skycap_registry::Settings { concurrency: 1, ..settings() };
    let client = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let place = place_as(&client, tokens.scripted.address(), "aa", credentials);
    let image = image("amd64", &[noise(1, 300_000), noise(2, 300_000)]);
    place.put(&Artifact::Image(image.clone()), &[tag("1")])?;
    place.get(&tag("1"))?;
    for layer in image.layers() {
        read(&place, &layer.descriptor)?;
    }
    Ok(())
}

fn token_requests(tokens: &Tokens) -> Vec<Request> {
    tokens.scripted.requests().into_iter().filter(|request| request.path == "/token").collect()
}

#[test]
fn one_token_serves_a_whole_session() {
    let tokens = granting(1000, plain);
    push_and_pull(user("me", PASSWORD), &tokens).unwrap();
    let asked = token_requests(&tokens);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].query, "scope=repository%3Aaa%3Apush%2Cpull&service=the-registry");
    assert!(asked[0].header("authorization").unwrap().starts_with("Basic "));
    let pings = tokens.scripted.lines().iter().filter(|line| *line == "GET /v2/").count();
    assert_eq!(pings, 1);
}

#[test]
fn r25_r26_a_token_that_expires_is_renewed_once() {
    let tokens = granting(3, plain);
    push_and_pull(user("me", PASSWORD), &tokens).unwrap();
    assert!(token_requests(&tokens).len() > 2);
}

#[test]
fn a_token_that_is_never_good_is_an_error_after_two() {
    let tokens = granting(0, plain);
    let error = place(&client(), tokens.scripted.address(), "aa").tags().unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(error.to_string().contains("401 Unauthorized") && error.to_string().contains("no credentials were given"));
    assert_eq!(token_requests(&tokens).len(), 2);
}

#[test]
fn r28_token_documents_are_read_as_they_come() {
    let grants: [Grant; 4] = [
        |_, token| Reply::status(200).body(format!("{{\"access_token\":\"{token}\",\"expires_in\":\"300\"}}")),
        |_, token| {
            Reply::status(200).body(format!("{{\"token\":\"{token}\",\"access_token\":\"{token}\",\"expires_in\":-1}}"))
        },
        |_, token| Reply::status(200).body(format!("{{\"token\":\"{token}\",\"access_token\":\"\",\"expires_in\":0}}")),
        |_, token| Reply::status(200).body(format!("{{\"token\":\"{token}\",\"issued_at\":\"2999-01-01T00:00:00Z\"}}")),
    ];
    for grant in grants {
        push_and_pull(Credentials::Anonymous, &granting(1000, grant)).unwrap();
    }
    let refused: [(Grant, &str); 3] = [
        (|_, _| Reply::status(200).body("{}"), "holds no token"),
        (|_, _| Reply::status(200).body("nonsense"), "not a token document"),
        (|_, _| Reply::status(200).body(vec![b' '; 2_000_000]), "longer than 1048576 bytes"),
    ];
    for (grant, text) in refused {
        let error = push_and_pull(Credentials::Anonymous, &granting(1000, grant)).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn r24_a_token_server_may_stumble() {
    let tokens = granting(1000, |request, token| match request.seen {
        0 => Reply::status(500),
        1 => Reply::status(429).header("retry-after", "0"),
        _ => plain(request, token),
    });
    push_and_pull(user("me", PASSWORD), &tokens).unwrap();
}

#[test]
fn a_refused_password_says_whose() {
    let tokens = granting(1, |_, _| Reply::status(401).body(r#"{"details":"incorrect username or password"}"#));
    let error = push_and_pull(user("me", PASSWORD), &tokens).unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind, Kind::Denied);
    assert!(text.contains("incorrect username or password") && text.ends_with("(as user me)"), "{text}");
    assert!(!text.contains(PASSWORD));
}

#[test]
fn an_identity_token_is_exchanged() {
    let tokens = granting(1000, plain);
    push_and_pull(Credentials::IdentityToken(Secret::new("hunter2-identity+token")), &tokens).unwrap();
    let asked = token_requests(&tokens);
    assert_eq!((asked.len(), asked[0].method.as_str(), asked[0].header("authorization")), (1, "POST", None));
    let form = String::from_utf8(asked[0].body.clone()).unwrap();
    assert!(
        form.contains("grant_type=refresh_token") && form.contains("refresh_token=hunter2-identity%2Btoken"),
        "{form}"
    );
    assert!(form.contains("service=the-registry") && form.contains("scope=repository%3Aaa%3Apush%2Cpull"), "{form}");
}

#[test]
fn a_refresh_token_replaces_the_password_where_the_server_knows_it() {
    let tokens = granting(3, |request, token| match request.method.as_str() {
        "GET" => Reply::status(200).body(format!("{{\"token\":\"{token}\",\"refresh_token\":\"again\"}}")),
        _ => Reply::status(200).body(format!("{{\"access_token\":\"{token}\"}}")),
    });
    push_and_pull(user("me", PASSWORD), &tokens).unwrap();
    let methods: Vec<String> = token_requests(&tokens).into_iter().map(|request| request.method).collect();
    assert!(methods[0] == "GET" && methods.len() > 2 && methods[1..].iter().all(|method| method == "POST"));
    let tokens = granting(3, |request, token| match request.method.as_str() {
        "GET" => Reply::status(200).body(format!("{{\"token\":\"{token}\",\"refresh_token\":\"again\"}}")),
        _ => Reply::status(404),
    });
    push_and_pull(user("me", PASSWORD), &tokens).unwrap();
}

#[test]
fn basic_is_sent_where_basic_is_asked_for() {
    let options = Options { basic_auth: Some(("me".into(), Secret::new(PASSWORD))), tls: None };
    let (_dir, server) = server_with(options);
    let push = |credentials| {
        let place = place_as(&client(), server.address(), "aa", credentials);
        place.put(&Artifact::Image(image("amd64", &[noise(1, 10)])), &[tag("1")])
    };
    push(user("me", PASSWORD)).unwrap();
    let error = push(Credentials::Anonymous).unwrap_err();
    assert_eq!(error.kind, Kind::Denied);
    assert!(
        error.to_string().ends_with("UNAUTHORIZED: authentication required (no credentials were given)"),
        "{error}"
    );
    let error = push(user("me", "hunter2-wrong")).unwrap_err();
    assert!(error.to_string().ends_with("authentication required (as user me)"), "{error}");
}

#[test]
fn r27_a_401_without_a_challenge_is_a_clear_error() {
    let scripted = Scripted::start(|_| Reply::status(401)).unwrap();
    let error = place(&client(), scripted.address(), "aa").tags().unwrap_err().to_string();
    assert!(error.contains("401 without a challenge that names Basic or Bearer"), "{error}");
}

#[test]
fn r37_the_password_goes_to_the_realm_and_no_further() {
    let thief = Arc::new(Scripted::start(|_| Reply::status(200).body(r#"{"token":"stolen"}"#)).unwrap());
    let elsewhere = format!("{}/token", thief.url());
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/token" => Reply::status(307).header("location", elsewhere.clone()),
        _ => {
            let realm = format!("http://{}/token", request.header("host").unwrap_or_default());
            Reply::status(401).header("www-authenticate", format!("Bearer realm=\"{realm}\""))
        }
    })
    .unwrap();
    let _ = place_as(&client(), scripted.address(), "aa", user("me", PASSWORD)).tags();
    let seen = thief.requests();
    assert!(!seen.is_empty() && seen.iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn an_identity_token_is_not_carried_on_to_another_host() {
    for status in [307, 308] {
        let thief = Arc::new(Scripted::start(|_| Reply::status(200).body(r#"{"token":"stolen"}"#)).unwrap());
        let elsewhere = format!("{}/token", thief.url());
        let scripted = Scripted::start(move |request| match request.path.as_str() {
            "/token" => Reply::status(status).header("location", elsewhere.clone()),
            _ => {
                let realm = format!("http://{}/token", request.header("host").unwrap_or_default());
                Reply::status(401).header("www-authenticate", format!("Bearer realm=\"{realm}\""))
            }
        })
        .unwrap();
        let identity = Credentials::IdentityToken(Secret::new("hunter2-identity"));
        let error = place_as(&client(), scripted.address(), "aa", identity).tags().unwrap_err();
        assert_eq!(error.kind, Kind::Denied);
        assert!(error.to_string().contains("credentials"), "{error}");
        assert!(thief.requests().is_empty(), "{:?}", thief.requests());
    }
}

#[test]
fn an_identity_token_follows_its_own_server() {
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/token" => Reply::status(307).header("location", "/other"),
        "/other" => Reply::status(200).body(r#"{"access_token":"good"}"#),
        _ if request.header("authorization") == Some("Bearer good") => Reply::status(200).body(r#"{"tags":["1"]}"#),
        _ => Reply::status(401).header("www-authenticate", "Bearer realm=\"/token\""),
    })
    .unwrap();
    let identity = Credentials::IdentityToken(Secret::new("hunter2-identity"));
    assert_eq!(place_as(&client(), scripted.address(), "aa", identity).tags().unwrap(), ["1"]);
}

/// A registry in HTTPS that wants a password, and a plain one that sends everybody to `host` there.
fn moved_to_https(host: &str) -> Option<(Tokens, String, u16)> {
    let (_files, ca, certificate, key) = crate::support::certificates()?;
    let tls = skycap_registry::server::Tls { certificate, key: Secret::new(key) };
    let options = Options { basic_auth: Some(("me".into(), Secret::new(PASSWORD))), tls: Some(tls) };
    let (dir, server) = server_with(options);
    let port = server.address().port();
    let base = format!("https://{host}:{port}");
    let scripted =
        Scripted::start(move |request| Reply::status(301).header("location", format!("{base}{}", request.path)));
    Some((Tokens { _dir: dir, _server: server, scripted: scripted.unwrap() }, ca, port))
}

#[test]
fn a_registry_that_moves_to_https_is_never_again_asked_in_plain_http() {
    let Some((moved, ca, _)) = moved_to_https("127.0.0.1") else {
        skycap_testkit::skipped!("a_registry_that_moves_to_https_is_never_again_asked_in_plain_http: no openssl");
        return;
    };
    let access = Access { credentials: user("me", PASSWORD), push: true, ca_certs: vec![ca], ..Access::default() };
    let place = client().place(crate::support::repository(moved.scripted.address(), "aa"), access).unwrap();
    place.put(&Artifact::Image(image("amd64", &[noise(1, 1000)])), &[tag("1")]).unwrap();
    assert_eq!(place.tags().unwrap(), ["1"]);
    let plain = moved.scripted.requests();
    assert!(plain.iter().all(|request| request.header("authorization").is_none()), "{plain:?}");
    assert!(plain.iter().all(|request| request.path == "/v2/" || request.path.is_empty()), "{plain:?}");
}

#[test]
fn a_plain_registry_that_moves_to_another_host_is_refused() {
    let Some((moved, ca, port)) = moved_to_https("localhost") else {
        skycap_testkit::skipped!("a_plain_registry_that_moves_to_another_host_is_refused: no openssl");
        return;
    };
    let access = Access { credentials: user("me", PASSWORD), ca_certs: vec![ca], ..Access::default() };
    let place = client().place(crate::support::repository(moved.scripted.address(), "aa"), access).unwrap();
    let error = place.tags().unwrap_err().to_string();
    assert!(error.contains(&format!("leads to https://localhost:{port}/v2/: refused")), "{error}");
    assert!(moved.scripted.requests().iter().all(|request| request.header("authorization").is_none()));
}

#[test]
fn any_reference_is_resolved_with_its_own_credentials() {
    let options = Options { basic_auth: Some(("me".into(), Secret::new(PASSWORD))), tls: None };
    let (_dir, server) = server_with(options);
    let mut settings = settings();
    settings.hosts.insert("docker.io".to_owned(), format!("http://{}", server.address()));
    let client = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let credentials = user("me", PASSWORD);
    let access = Access { credentials: credentials.clone(), push: true, ..Access::default() };
    let ruby = client.place("ruby".parse().unwrap(), access).unwrap();
    ruby.put(&Artifact::Image(image("amd64", &[])), &[tag("3")]).unwrap();
    let keychain = Keychain::default().with("docker.io", credentials);
    let registries = Registries::new(client, keychain);
    assert!(registries.find(&"ruby:3".parse().unwrap()).unwrap().is_some());
    assert!(registries.find(&"ruby:4".parse().unwrap()).unwrap().is_none());
    assert!(registries.get(&"docker.io/library/ruby:3".parse().unwrap()).is_ok());
}
