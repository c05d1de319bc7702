//! Proxies and mirrors (R84, R85).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use skycap_image::{Artifact, ImageSink, ImageSource, Kind};
use skycap_registry::{Access, Client, Mirror, Proxies, Retries, Settings};
use skycap_testkit::registry::{Reply, Scripted};

use super::world::LARGE;
use crate::support::{Kept, image, no_secret, noise, read, server, settings, tag, user};

/// A proxy for CONNECT: what it was asked, and what it does after that.
fn tunnel(behaviour: &'static str, to: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let kept = Arc::clone(&kept);
            std::thread::spawn(move || {
                let mut reader = BufReader::new(&stream);
                let mut head = String::new();
                while reader.read_line(&mut head).is_ok_and(|count| count > 2) {}
                if head.is_empty() {
                    // A client may open a connection, find that another one is free meanwhile, and leave.
                    return;
                }
                kept.lock().unwrap().push(head);
                let answer = match behaviour {
                    "407" => "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
                    "502" => "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
                    "dies" => return,
                    _ => "HTTP/1.1 200 Connection established\r\n\r\n",
                };
                (&stream).write_all(answer.as_bytes()).unwrap();
                let Ok(upstream) = TcpStream::connect(to) else { return };
                let (mut from, mut into) = (upstream.try_clone().unwrap(), stream.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut into);
                    let _ = into.shutdown(std::net::Shutdown::Both);
                });
                let mut upstream = upstream;
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = reader.read(&mut buffer) {
                    if upstream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, heads)
}

#[test]
fn r84_https_goes_through_a_tunnel_and_the_proxy_never_sees_the_registrys_password() {
    let test = "r84_https_goes_through_a_tunnel_and_the_proxy_never_sees_the_registrys_password";
    let Some((_files, ca, certificate, key)) = crate::support::certificates() else {
        skycap_testkit::skipped!("{test}: no openssl");
        return;
    };
    let tls = skycap_registry::server::Tls { certificate, key: skycap_image::Secret::new(key) };
    let options = skycap_registry::server::Options {
        tls: Some(tls),
        basic_auth: Some(("me".into(), skycap_image::Secret::new("hunter2-registry"))),
        ..Default::default()
    };
    let (_dir, server) = crate::support::server_with(options);
    for (behaviour, text) in
        [("works", None), ("407", Some("proxy")), ("502", Some("tunnel")), ("dies", Some("tried 2 times"))]
    {
        let (proxy, heads) = tunnel(behaviour, server.address());
        let kept = Arc::new(Kept::default());
        let mut settings = settings();
        settings.retries.attempts = 2;
        settings.hosts.insert("r.example".to_owned(), format!("https://localhost:{}", server.address().port()));
        settings.proxies.https = Some(format!("http://proxyuser:hunter2-proxy@{proxy}"));
        settings.ca_certs.push(ca.clone());
        let client = Client::new(settings, kept.clone()).unwrap();
        let access = Access { credentials: user("me", "hunter2-registry"), push: true, ..Access::default() };
        let place = client.place("r.example/aa".parse().unwrap(), access).unwrap();
        let pushed = place.put(&Artifact::Image(image("amd64", &[noise(1, 100_000)])), &[tag("1")]);
        match text {
            None => {
                pushed.unwrap();
                assert!(place.get(&tag("1")).is_ok());
            }
            Some(text) => {
                let error = pushed.unwrap_err();
                assert!(error.to_string().to_lowercase().contains(text), "{behaviour}: {error}");
                no_secret(Some(&error), &kept, &[]);
            }
        }
        let heads = heads.lock().unwrap();
        let registry_password = base64::engine::general_purpose::STANDARD.encode("me:hunter2-registry");
        assert!(!heads.is_empty());
        for head in heads.iter() {
            assert!(head.starts_with("CONNECT localhost:"), "{head:?}");
            assert!(head.to_lowercase().contains("proxy-authorization: basic"), "{head:?}");
            assert!(!head.contains(&registry_password), "{head}");
        }
        no_secret(None, &kept, &[]);
    }
}

#[test]
fn r84_a_plain_proxy_is_asked_and_some_hosts_are_not_its_own() {
    let proxy = Scripted::start(|request| match request.path.as_str() {
        path if path.ends_with("/v2/") => Reply::status(200),
        path if path.starts_with("http://") => Reply::status(200).body(r#"{"tags":["via-proxy"]}"#),
        _ => Reply::status(500),
    })
    .unwrap();
    let direct = Scripted::start(|request| match request.path.as_str() {
        "/v2/" => Reply::status(200),
        _ => Reply::status(200).body(r#"{"tags":["direct"]}"#),
    })
    .unwrap();
    let port = direct.address().port();
    let tags = |no: &str| {
        let mut settings = Settings { retries: Retries::NEVER, ..settings() };
        settings.hosts.insert("r.example".to_owned(), format!("http://127.0.0.1:{port}"));
        let url = format!("http://proxyuser:hunter2-proxy@{}", proxy.address());
        settings.proxies = Proxies { http: Some(url), https: None, no: Some(no.to_owned()) };
        let client = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
        client.place("r.example/aa".parse().unwrap(), Access::default()).unwrap().tags().unwrap().remove(0)
    };
    let own = format!("127.0.0.1:{port}");
    for (no, expected) in [
        ("", "via-proxy"),
        ("127.0.0.1", "direct"),
        ("127.0.0.0/8", "direct"),
        ("10.0.0.0/8,127.0.0.0/30", "direct"),
        ("*", "direct"),
        ("10.0.0.0/8, example.com", "via-proxy"),
        (".0.0.1", "via-proxy"),
        (&own, "direct"),
        ("127.0.0.1:1", "via-proxy"),
    ] {
        assert_eq!(tags(no), expected, "{no:?}");
    }
    // The proxy's password is the proxy's.
    for request in direct.requests() {
        assert!(request.header("proxy-authorization").is_none());
        skycap_testkit::secrets::assert_not_shown_in("a registry's request", format!("{request:?}").as_bytes());
    }
    assert!(proxy.requests().iter().all(|request| request.header("proxy-authorization").is_some()));
}

#[test]
fn r85_a_mirror_with_wrong_bytes_is_warned_of_and_passed_over() {
    let (_dir, server) = server();
    let artifact = image("amd64", &[noise(1, 1000), noise(2, LARGE)]);
    let settings = || {
        let mut settings = settings();
        settings.hosts.insert("docker.io".to_owned(), format!("http://{}", server.address()));
        settings
    };
    for wrong in ["small", "large", "manifest", "config"] {
        let mirror = Scripted::in_front_of(server.address(), move |request| {
            let is_blob = request.path.contains("/blobs/");
            let spoils = match wrong {
                "manifest" => request.path.contains("/manifests/sha256"),
                _ => is_blob,
            };
            if spoils { Reply::forward().flip(3) } else { Reply::forward() }
        })
        .unwrap();
        let kept = Arc::new(Kept::default());
        let client = Client::new(settings(), kept.clone()).unwrap();
        let credentials = user("mirror", "hunter2-mirror");
        let mirror_access = Mirror { registry: mirror.address().to_string(), credentials };
        let access = Access { push: true, mirror: Some(mirror_access), ..Access::default() };
        let place = client.place("ruby".parse().unwrap(), access).unwrap();
        let pushed = place.put(&Artifact::Image(artifact.clone()), &[tag("1")]).unwrap();
        let layers = artifact.layers();
        match wrong {
            "large" => {
                assert_eq!(read(&place, &layers[1].descriptor).unwrap_err().kind, Kind::Corrupt);
                assert!(read(&place, &layers[1].descriptor).unwrap() == noise(2, LARGE), "the origin has it");
            }
            "manifest" => {
                let found = place.raw(&skycap_image::Name::Digest(pushed.digest)).unwrap();
                assert_eq!(found.bytes, artifact.raw().bytes);
                assert!(kept.lines().iter().any(|line| line.starts_with("warning mirror")), "{:?}", kept.lines());
            }
            _ => {
                // Compared by the client, asked for again, and then somebody else is asked.
                let Artifact::Image(pulled) = place.get(&tag("1")).unwrap() else { panic!("an image") };
                assert_eq!(read(&place, &pulled.layers()[0].descriptor).unwrap(), noise(1, 1000));
                assert!(kept.lines().iter().any(|line| line.starts_with("warning mirror")), "{:?}", kept.lines());
            }
        }
        no_secret(None, &kept, &[]);
    }
    assert!(place_without_mirror(&server).find(&tag("1")).unwrap().is_some());
}

fn place_without_mirror(server: &skycap_registry::server::Server) -> skycap_registry::Place {
    crate::support::place(&crate::support::client(), server.address(), "library/ruby")
}
