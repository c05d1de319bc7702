//! Who we are where (R88, R91, R92, R94, R96).

use std::sync::Arc;

use skycap_image::{Artifact, BlobSource, Descriptor, ImageSink, Kind, MediaType, Name, Secret};
use skycap_registry::{Access, Client, Credentials, Keychain};
use skycap_testkit::registry::{Reply, Request, Scripted};

use super::world::{Act, LARGE, World, same};
use crate::support::{Kept, image, no_secret, noise, place, place_as, read, settings, tag, user};

/// One way to log in, as a registry's own clients do it.
struct Login {
    what: &'static str,
    /// Docker's configuration.
    config: &'static str,
    /// What the server of tokens must be sent: method, and a part of header, query or body. Nothing where Basic is enough.
    token: Option<(&'static str, &'static str)>,
    /// What the registry must then be shown.
    shown: &'static str,
}

/// `auth` values are base64 of `AWS:hunter2-ecr`, `_json_key:{"private_key":"hunter2-gcr"}`,
/// `00000000-0000-0000-0000-000000000000:` and `me:hunter2-hub`.
const LOGINS: [Login; 6] = [
    Login {
        what: "Amazon: AWS and a token of twelve hours, Basic",
        config: r#"{"auths":{"r.example":{"auth":"QVdTOmh1bnRlcjItZWNy"}}}"#,
        token: None,
        shown: "Basic QVdTOmh1bnRlcjItZWNy",
    },
    Login {
        what: "Google: the key's document as password",
        config: r#"{"auths":{"r.example":{"auth":"X2pzb25fa2V5OnsicHJpdmF0ZV9rZXkiOiJodW50ZXIyLWdjciJ9"}}}"#,
        token: Some(("GET", "Basic X2pzb25fa2V5OnsicHJpdmF0ZV9rZXkiOiJodW50ZXIyLWdjciJ9")),
        shown: "Bearer granted",
    },
    Login {
        what: "Azure: a refresh token",
        config: r#"{"auths":{"r.example":{"auth":"MDAwMDAwMDAtMDAwMC0wMDAwLTAwMDAtMDAwMDAwMDAwMDAwOg==","identitytoken":"hunter2-acr"}}}"#,
        token: Some(("POST", "refresh_token=hunter2-acr")),
        shown: "Bearer granted",
    },
    Login {
        what: "Docker Hub: a personal access token",
        config: r#"{"auths":{"r.example":{"auth":"bWU6aHVudGVyMi1odWI="}}}"#,
        token: Some(("GET", "Basic bWU6aHVudGVyMi1odWI=")),
        shown: "Bearer granted",
    },
    Login {
        what: "GitHub: nobody, with a token for nobody",
        config: "{}",
        token: Some(("GET", "scope=repository%3Aaa%3Apull")),
        shown: "Bearer granted",
    },
    Login {
        what: "a token for the registry itself",
        config: r#"{"auths":{"r.example":{"registrytoken":"hunter2-registry"}}}"#,
        token: None,
        shown: "Bearer hunter2-registry",
    },
];

#[test]
fn r92_logins_of_the_great_registries() {
    let world = World::new();
    for login in LOGINS {
        let Login { what, config, token, shown } = login;
        let challenge = if token.is_some() { "Bearer" } else { "Basic" };
        let is_told = move |request: &Request| {
            let (_, sign) = token.unwrap();
            let body = String::from_utf8_lossy(&request.body).into_owned();
            request.header("authorization") == Some(sign) || request.query.contains(sign) || body.contains(sign)
        };
        let fault = move |request: &Request| {
            if request.path == "/token" {
                assert_eq!(request.method, token.unwrap().0, "{what}");
                let right = is_told(request)
                    && (what.starts_with("GitHub") == request.header("authorization").is_none()
                        || request.method == "POST");
                return Some(if right {
                    Reply::status(200).body(r#"{"access_token":"granted","expires_in":300}"#)
                } else {
                    Reply::status(401)
                });
            }
            if request.path != "/v2/" && request.header("authorization") == Some(shown) {
                return None;
            }
            let host = request.header("host").unwrap_or_default();
            let value = if challenge == "Basic" {
                "Basic realm=\"x\"".to_owned()
            } else {
                format!("Bearer realm=\"http://{host}/token\",service=\"r.example\"")
            };
            Some(Reply::status(401).header("www-authenticate", value))
        };
        let credentials = Keychain::from_docker_config(config.as_bytes()).unwrap().credentials("r.example").unwrap();
        for act in [Act::Check, Act::Pull] {
            let ran = same(world.run_as(act, settings(), credentials.clone(), fault), what);
            no_secret(None, &ran.kept, &[]);
        }
        // Refused, nothing of it is shown.
        let ran = world.run_as(Act::Pull, settings(), credentials, |request| {
            let host = request.header("host").unwrap_or_default();
            (request.path != "/token")
                .then(|| Reply::status(401).header("www-authenticate", format!("Bearer realm=\"http://{host}/token\"")))
                .or_else(|| Some(Reply::status(401).body(r#"{"details":"no"}"#)))
        });
        assert_eq!(ran.error().kind, Kind::Denied, "{what}");
        no_secret(ran.result.as_ref().err(), &ran.kept, &[]);
    }
}

#[test]
fn r91_a_password_is_for_one_host() {
    let config = br#"{"auths":{"gcr.io":{"auth":"bWU6aHVudGVyMi1nY3I="},"r.io:5000":{"auth":"bWU6aHVudGVyMi1nY3I="},
        "https://index.docker.io/v1/":{"auth":"bWU6aHVudGVyMi1nY3I="}}}"#;
    let keychain = Keychain::from_docker_config(config).unwrap();
    for (host, known) in [
        ("gcr.io", true),
        ("gcr.io.evil.com", false),
        ("evil-gcr.io", false),
        ("gcr.io:443", false),
        ("r.io:5000", true),
        ("r.io", false),
        ("r.io:5001", false),
        ("docker.io", true),
        ("index.docker.io", true),
        ("registry-1.docker.io", true),
        ("docker.io.evil.com", false),
    ] {
        assert_eq!(keychain.credentials(host).unwrap() != Credentials::Anonymous, known, "{host}");
    }
}

#[test]
fn r88_names_that_are_no_digests_or_tags_never_become_a_path() {
    let scripted = Scripted::start(|request| Reply::status(if request.path == "/v2/" { 200 } else { 404 })).unwrap();
    let place = place(&crate::support::client(), scripted.address(), "aa");
    for text in ["sha256:..", "sha256:../../x", "sha256:", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha256:\n"]
    {
        assert!(text.parse::<skycap_image::Digest>().is_err(), "{text:?}");
    }
    let hex = "a".repeat(64);
    for text in [
        format!("sha256:{}", hex.to_uppercase()),
        format!("sha256:{}", &hex[1..]),
        format!("sha256:{hex}a"),
        format!("sha256:{hex}\n"),
    ] {
        assert!(text.parse::<skycap_image::Digest>().is_err(), "{text:?}");
    }
    for name in ["..", "../../_catalog", "a/b", "a?b", "%2e%2e", "a\r\nx: y"] {
        let _ = place.raw(&Name::Tag(name.to_owned()));
    }
    for line in scripted.lines().into_iter().skip(1) {
        assert!(line.starts_with("GET /v2/aa/manifests/") && line.matches('/').count() == 4, "{line}");
    }
}

#[test]
fn r94_two_pulls_of_one_blob_at_once_are_two_whole_blobs() {
    let world = World::new();
    let place = place(&crate::support::client(), world.server.address(), "aa");
    let layer = &world.image.layers()[1].descriptor;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(read(&place, layer).unwrap() == noise(2, LARGE)));
        }
    });
}

/// A cache that two jobs share asks, as the job that wants the blob, whether it may have it.
#[test]
fn r96_whether_a_blob_may_be_had_is_asked_as_oneself() {
    let private = Descriptor::of(MediaType::OciLayer, &noise(1, 1000));
    let path = format!("/blobs/{}", private.digest);
    for (head, get, expected) in [
        (200, 200, Ok(true)),
        (404, 404, Ok(false)),
        (401, 401, Err(Kind::Denied)),
        (403, 403, Err(Kind::Denied)),
        (405, 206, Ok(true)),
        (501, 404, Ok(false)),
        (403, 206, Ok(true)),
        (500, 500, Err(Kind::Transient)),
    ] {
        let path = path.clone();
        let scripted = Scripted::start(move |request| {
            let challenge = "Basic realm=\"x\"";
            match request.method.as_str() {
                _ if request.path == "/v2/" => Reply::status(401).header("www-authenticate", challenge),
                _ if request.header("authorization").is_none() => {
                    Reply::status(401).header("www-authenticate", challenge)
                }
                "HEAD" if request.path.ends_with(&path) => Reply::status(head),
                "GET" if request.path.ends_with(&path) => {
                    assert_eq!(request.header("range"), Some("bytes=0-0"));
                    Reply::status(get).header("content-range", "bytes 0-0/1000").body("x")
                }
                _ => Reply::status(404),
            }
        })
        .unwrap();
        let kept = Arc::new(Kept::default());
        let client = Client::new(settings(), kept.clone()).unwrap();
        let access = Access { credentials: user("job-b", "hunter2-password"), ..Access::default() };
        let place = client.place(crate::support::repository(scripted.address(), "team/b"), access).unwrap();
        let answer = place.has_blob(&private);
        no_secret(answer.as_ref().err(), &kept, &[]);
        assert_eq!(answer.map_err(|error| error.kind), expected, "{head} {get}");
        assert!(scripted.requests().iter().all(|request| !request.path.contains("/team/a/")));
    }
}

#[test]
fn r96_a_real_registry_does_not_have_what_only_another_repository_holds() {
    let (_dir, server) = crate::support::server();
    let client = crate::support::client();
    let artifact = image("amd64", &[noise(1, 1000)]);
    place(&client, server.address(), "team/a").put(&Artifact::Image(artifact.clone()), &[tag("1")]).unwrap();
    let layer = &artifact.layers()[0].descriptor;
    assert!(place(&client, server.address(), "team/a").has_blob(layer).unwrap());
    let other = place(&client, server.address(), "team/b");
    assert!(!other.has_blob(layer).unwrap() && !other.holds(layer).unwrap());
    assert!(place(&client, server.address(), "team/a").holds(artifact.descriptor()).unwrap());
    assert!(!other.holds(artifact.descriptor()).unwrap());
    let asker = |path: &str, name: &str, password: &str| {
        place_as(&client, server.address(), path, user(name, password)).asker().unwrap()
    };
    let one = asker("team/a", "me", "hunter2-one");
    assert_eq!(one, asker("team/a", "me", "hunter2-one"));
    for other in [
        asker("team/a", "me", "hunter2-two"),
        asker("team/b", "me", "hunter2-one"),
        asker("team/a", "you", "hunter2-one"),
    ] {
        assert_ne!(one, other);
    }
    assert!(!one.contains("hunter2"), "{one}");
    assert_eq!(other.open(layer).err().unwrap().kind, Kind::NotFound);
    let _ = Secret::new("");
}
