//! Where a registry sends us, we go without credentials, or not at all.

use std::sync::Arc;

use skycap_image::{Artifact, BlobSource, ImageSink, ImageSource, Secret};
use skycap_registry::{Access, Client, Mirror, Settings};
use skycap_testkit::registry::{Reply, Scripted};

use crate::support::{Kept, client, image, no_secret, noise, place, place_as, read, server, settings, tag, user};

#[test]
fn r30_r31_a_blob_on_another_host_is_fetched_without_credentials() {
    for status in [301, 302, 303, 307, 308] {
        let storage = Scripted::start(|_| Reply::status(200).body(noise(1, 1000))).unwrap();
        let there = format!("{}/bucket?signature=hunter2-secret", storage.url());
        let scripted = Scripted::start(move |request| {
            if request.header("authorization").is_none() && request.path != "/v2/" {
                return Reply::status(500);
            }
            match request.path.as_str() {
                "/v2/" => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
                _ => Reply::status(status).header("location", there.clone()),
            }
        })
        .unwrap();
        let place = place_as(&client(), scripted.address(), "aa", user("me", "hunter2"));
        let layer = image("amd64", &[noise(1, 1000)]).layers()[0].descriptor.clone();
        assert_eq!(read(&place, &layer).unwrap(), noise(1, 1000), "{status}");
        let seen = storage.requests();
        assert_eq!(seen.len(), 1);
        assert!(seen[0].headers.iter().all(|(name, _)| name != "authorization" && name != "cookie"), "{seen:?}");
    }
}

#[test]
fn r32_back_at_the_registry_the_credentials_are_shown_again() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
        "/final" => Reply::status(200).body(r#"{"tags":["1"]}"#),
        _ => Reply::status(307).header("location", "/final"),
    })
    .unwrap();
    let place = place_as(&client(), scripted.address(), "aa", user("me", "hunter2"));
    assert_eq!(place.tags().unwrap(), ["1"]);
    assert!(scripted.requests().last().unwrap().header("authorization").is_some());
}

#[test]
fn r33_a_loop_ends() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        path => Reply::status(302).header("location", format!("{path}x")),
    })
    .unwrap();
    let error = place(&client(), scripted.address(), "aa").tags().unwrap_err().to_string();
    assert!(error.ends_with("more than 10 redirects"), "{error}");
    assert_eq!(scripted.requests().len(), 12);
}

#[test]
fn r35_other_schemes_and_users_in_urls_are_refused() {
    for target in ["file:///etc/passwd", "data:text/plain,x", "ftp://r/x", "http://user:hunter2@127.0.0.1/x"] {
        let scripted = Scripted::start(move |request| match request.path.as_str() {
            "/v2/" => Reply::status(200),
            _ => Reply::status(302).header("location", target),
        })
        .unwrap();
        let error = place(&client(), scripted.address(), "aa").tags().unwrap_err().to_string();
        assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
    }
}

/// The registry has a public address, and the proxy speaks for it: nothing leaves this machine.
#[test]
fn r36_r37_a_public_registry_leads_to_nobody_on_our_side() {
    const HOME: &str = "http://203.0.113.7:5000";
    let neighbour = Scripted::start(|_| Reply::status(200).body(r#"{"tags":["1"],"token":"stolen"}"#)).unwrap();
    let port = neighbour.address().port();
    let hosts = [
        "169.254.169.254",
        "127.0.0.1",
        "[::1]",
        "[fd00::1]",
        "10.1.2.3",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        // A name of such an address.
        "localhost",
    ];
    for host in hosts {
        for way in ["list", "blob", "realm", "upload"] {
            let there = format!("http://{host}:{port}/x");
            let proxy = Scripted::start(move |request| {
                let path = request.path.strip_prefix(HOME).unwrap_or_default();
                match (request.method.as_str(), path) {
                    ("GET", "/v2/") if way == "realm" => {
                        Reply::status(401).header("www-authenticate", format!("Bearer realm=\"{there}\""))
                    }
                    ("GET", "/v2/") => Reply::status(200),
                    ("POST", _) => Reply::status(202).header("location", there.clone()),
                    ("HEAD", _) => Reply::status(404),
                    ("GET", _) => Reply::status(307).header("location", there.clone()),
                    _ => Reply::status(502),
                }
            })
            .unwrap();
            let url = format!("http://{}", proxy.address());
            let proxies =
                skycap_registry::Proxies { http: Some(url.clone()), https: Some(url), no: Some("localhost".into()) };
            let kept = Arc::new(Kept::default());
            let client = Client::new(Settings { proxies, ..settings() }, kept.clone()).unwrap();
            let credentials = user("me", "hunter2-password");
            let access = Access { credentials, push: true, insecure_plain_http: true, ..Access::default() };
            let place = client.place("203.0.113.7:5000/aa".parse().unwrap(), access).unwrap();
            let image = image("amd64", &[noise(1, 1000)]);
            let error = match way {
                "blob" => read(&place, &image.layers()[0].descriptor).unwrap_err(),
                "upload" => place.put(&Artifact::Image(image), &[tag("1")]).unwrap_err(),
                _ => place.tags().unwrap_err(),
            };
            let text = error.to_string();
            assert!(text.contains("refused") && text.contains("private address"), "{way} {host}: {text}");
            let asked_for = |request: &skycap_testkit::registry::Request| request.path.clone();
            let asked: Vec<String> = proxy.requests().iter().map(asked_for).collect();
            assert!(asked.iter().all(|path| path.contains("203.0.113.7:5000")), "{way} {host}: {asked:?}");
            no_secret(Some(&error), &kept, &[]);
        }
    }
    assert!(neighbour.requests().is_empty(), "{:?}", neighbour.lines());
}

#[test]
fn errors_hide_the_signature_of_a_redirect() {
    let storage = Scripted::start(|_| Reply::status(403).body("expired")).unwrap();
    let there = format!("{}/bucket?signature=hunter2", storage.url());
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(302).header("location", there.clone()),
    })
    .unwrap();
    let layer = image("amd64", &[noise(1, 10)]).layers()[0].descriptor.clone();
    let Err(error) = place(&client(), scripted.address(), "aa").open(&layer) else { panic!("403") };
    assert!(error.to_string().contains("/bucket: unexpected status code 403"), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[test]
fn r38_an_upload_elsewhere_goes_there_without_credentials() {
    let storage = Arc::new(Scripted::start(|_| Reply::status(201)).unwrap());
    let there = format!("{}/upload?state=1", storage.url());
    let scripted = Scripted::start(move |request| match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/v2/") => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
        ("HEAD", _) => Reply::status(404),
        ("POST", _) => Reply::status(202).header("location", there.clone()),
        _ => Reply::status(201),
    })
    .unwrap();
    let place = place_as(&client(), scripted.address(), "aa", user("me", "hunter2"));
    place.put(&Artifact::Image(image("amd64", &[noise(1, 1000)])), &[tag("1")]).unwrap();
    let seen = storage.requests();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| request.method == "PUT" && request.header("authorization").is_none()));
    assert!(seen.iter().all(|request| request.query.starts_with("state=1&digest=sha256:")), "{seen:?}");
    assert_eq!(seen.iter().map(|request| request.body.len()).max(), Some(1000));
}

#[test]
fn a_challenge_from_where_an_upload_was_sent_is_not_answered() {
    let thief = Arc::new(Scripted::start(|_| Reply::status(200).body(r#"{"token":"stolen"}"#)).unwrap());
    for challenge in ["Basic realm=\"x\"".to_owned(), format!("Bearer realm=\"{}/token\"", thief.url())] {
        let storage =
            Scripted::start(move |_| Reply::status(401).header("www-authenticate", challenge.clone())).unwrap();
        let there = format!("{}/upload?state=1", storage.url());
        let scripted = Scripted::start(move |request| match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/v2/") => Reply::status(401).header("www-authenticate", "Basic realm=\"x\""),
            ("HEAD", _) => Reply::status(404),
            ("POST", _) => Reply::status(202).header("location", there.clone()),
            _ => Reply::status(201),
        })
        .unwrap();
        let place = place_as(&client(), scripted.address(), "aa", user("me", "hunter2"));
        let pushed = place.put(&Artifact::Image(image("amd64", &[noise(1, 1000)])), &[tag("1")]);
        assert!(pushed.unwrap_err().to_string().contains("/upload?digest="));
        assert!(storage.requests().iter().all(|request| request.header("authorization").is_none()));
        assert!(thief.requests().is_empty(), "{:?}", thief.requests());
        assert!(
            scripted
                .requests()
                .iter()
                .all(|request| { request.header("authorization").is_none_or(|shown| shown.starts_with("Basic ")) })
        );
    }
}

/// A client that finds Docker Hub at `origin`, and its mirror at the script.
fn mirrored(origin: &str, mirror: &Scripted, kept: Arc<Kept>) -> skycap_registry::Place {
    let mut settings: Settings = settings();
    settings.hosts.insert("docker.io".to_owned(), origin.to_owned());
    let client = Client::new(settings, kept).unwrap();
    let mirror = Mirror { registry: mirror.address().to_string(), credentials: user("mirror", "hunter2-mirror") };
    let access =
        Access { credentials: user("hub", "hunter2-hub"), push: true, mirror: Some(mirror), ..Access::default() };
    client.place("ruby".parse().unwrap(), access).unwrap()
}

#[test]
fn r85_a_mirror_that_fails_or_does_not_know_is_passed_over() {
    let (_dir, server) = server();
    let origin = format!("http://{}", server.address());
    for (reply, warned) in [
        (Reply::status(404), false),
        (Reply::status(401).header("www-authenticate", "Basic"), true),
        (Reply::status(503), true),
        (Reply::hang_up(), true),
    ] {
        let mirror = Scripted::start(move |request| {
            assert_ne!(request.header("authorization"), Some("Basic aHViOmh1bnRlcjItaHVi"), "the origin's password");
            if request.path == "/v2/" { Reply::status(200) } else { reply.clone() }
        })
        .unwrap();
        let kept = Arc::new(Kept::default());
        let place = mirrored(&origin, &mirror, kept.clone());
        let image = image("amd64", &[noise(1, 1000)]);
        place.put(&Artifact::Image(image.clone()), &[tag("1")]).unwrap();
        let before = mirror.requests().len();
        assert_eq!(before, 0, "nothing is pushed to a mirror");
        assert!(place.find(&tag("1")).unwrap().is_some());
        let Artifact::Image(pulled) = place.get(&tag("1")).unwrap() else { panic!("an image") };
        assert_eq!(read(&place, &pulled.layers()[0].descriptor).unwrap(), noise(1, 1000));
        assert!(!mirror.requests().is_empty());
        let warnings = kept.lines().iter().filter(|line| line.starts_with("warning mirror")).count();
        assert_eq!(warnings == 1, warned, "{:?}", kept.lines());
    }
}

#[test]
fn a_mirror_answers_for_docker_hub_only() {
    let mirror = Scripted::start(|_| Reply::status(500)).unwrap();
    let (_dir, server) = server();
    let access = Access {
        mirror: Some(Mirror { registry: mirror.address().to_string(), credentials: user("m", "hunter2-m") }),
        ..Access::default()
    };
    let place = client().place(crate::support::repository(server.address(), "aa"), access).unwrap();
    assert!(place.find(&tag("1")).unwrap().is_none());
    assert!(mirror.requests().is_empty());
    for registry in ["https://mirror", "host/path", ""] {
        let mirror = Mirror { registry: registry.to_owned(), credentials: user("m", "hunter2-m") };
        let access = Access { mirror: Some(mirror), ..Access::default() };
        assert!(client().place("ruby".parse().unwrap(), access).is_err(), "{registry}");
    }
}

#[test]
fn plain_requests_find_their_host_and_follow_redirects() {
    let scripted = Scripted::start(|request| match request.path.as_str() {
        "/moved" => Reply::status(302).header("location", "/elsewhere"),
        "/busy" if request.seen == 0 => Reply::status(503),
        "/down" => Reply::status(503).body("down"),
        _ => Reply::status(200).header("x-seen", "yes").body(request.query.clone()),
    })
    .unwrap();
    let mut settings = settings();
    settings.hosts.insert("hub.docker.com".to_owned(), scripted.url());
    let client = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let get = |path: &str| {
        let credentials =
            skycap_registry::Credentials::Basic { username: "un".into(), password: Secret::new("hunter2-pw") };
        client.get(&format!("https://hub.docker.com{path}"), &[("accept", "x/y")], &credentials).unwrap()
    };
    let answer = get("/v2/repositories/x/tags?page_size=2");
    assert_eq!(
        (answer.status, answer.header("x-seen"), answer.body.as_slice()),
        (200, Some("yes"), &b"page_size=2"[..])
    );
    assert_eq!(scripted.requests()[0].header("authorization"), Some("Basic dW46aHVudGVyMi1wdw=="));
    assert_eq!(scripted.requests()[0].header("accept"), Some("x/y"));
    let moved = get("/moved");
    assert_eq!((moved.status, moved.url.as_str()), (200, "https://hub.docker.com/elsewhere"));
    assert_eq!(scripted.requests().last().unwrap().header("authorization"), Some("Basic dW46aHVudGVyMi1wdw=="));
    assert_eq!(get("/busy").status, 200);
    let down = get("/down");
    assert_eq!((down.status, down.body.as_slice()), (503, &b"down"[..]));
    assert!(client.get("ftp://x/", &[], &skycap_registry::Credentials::Anonymous).is_err());
}

#[test]
fn plain_requests_are_redirected_without_credentials_and_by_the_same_rules() {
    let credentials = user("me", "hunter2");
    let storage = Scripted::start(|_| Reply::status(200).body("there")).unwrap();
    let there = format!("{}/x?signature=hunter2-secret", storage.url());
    let scripted = Scripted::start(move |request| match request.path.as_str() {
        "/moved" => Reply::status(307).header("location", there.clone()),
        "/file" => Reply::status(302).header("location", "file:///etc/passwd?signature=hunter2-secret"),
        "/user" => Reply::status(302).header("location", "http://me:hunter2-secret@127.0.0.1/"),
        "/loop" => Reply::status(302).header("location", "/loop"),
        "/nowhere" => Reply::status(302),
        _ => Reply::status(404),
    })
    .unwrap();
    let get = |path: &str| client().get(&format!("{}{path}?token=hunter2-secret", scripted.url()), &[], &credentials);
    let moved = get("/moved").unwrap();
    assert_eq!(
        (moved.body.as_slice(), moved.url.path(), moved.url.port()),
        (&b"there"[..], "/x", Some(storage.address().port()))
    );
    assert!(storage.requests()[0].header("authorization").is_none());
    assert_eq!(get("/nowhere").unwrap().status, 302);
    for (path, text) in [("/file", "refused"), ("/user", "refused"), ("/loop", "more than 10 redirects")] {
        let error = get(path).unwrap_err().to_string();
        assert!(error.contains(text) && !error.contains("secret"), "{error}");
    }
    for url in ["ftp://me:hunter2-secret@x/?token=hunter2-secret", "http://me:hunter2-secret@:x/?token=hunter2-secret"]
    {
        let error = client().get(url, &[], &credentials).unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn r84_a_proxy_is_asked_as_told() {
    let proxy = Scripted::start(|request| match request.path.as_str() {
        "http://r.example/v2/" => Reply::status(200),
        "http://r.example/v2/aa/tags/list" => Reply::status(200).body(r#"{"tags":["via-proxy"]}"#),
        _ => Reply::status(500),
    })
    .unwrap();
    let tags = |no: Option<&str>| {
        let mut settings = Settings { retries: skycap_registry::Retries::NEVER, ..settings() };
        settings.hosts.insert("r.example".to_owned(), "http://r.example".to_owned());
        let url = format!("http://proxyuser:proxypass@{}", proxy.address());
        settings.proxies = skycap_registry::Proxies { http: Some(url), https: None, no: no.map(str::to_owned) };
        let client = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
        client.place("r.example/aa".parse().unwrap(), Access::default()).unwrap().tags()
    };
    assert_eq!(tags(None).unwrap(), ["via-proxy"]);
    assert!(proxy.requests()[0].header("proxy-authorization").unwrap().starts_with("Basic "));
    let seen = proxy.requests().len();
    let error = tags(Some(".example")).unwrap_err().to_string();
    assert!(!error.contains("proxypass"), "{error}");
    assert_eq!(proxy.requests().len(), seen, "no_proxy goes past the proxy");
    let settings = Settings {
        proxies: skycap_registry::Proxies { http: Some("::".into()), ..Default::default() },
        ..Settings::default()
    };
    let Err(error) = Client::new(settings, Arc::new(skycap_image::Silent)) else { panic!("no URL") };
    assert!(error.to_string().contains("the proxy for http is not usable"), "{error}");
}
