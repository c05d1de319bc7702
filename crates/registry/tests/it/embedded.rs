//! The embedded registry by itself: the protocol's corners, hostile requests, other processes, sudden death.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use skycap_image::{Artifact, Digest, ImageSink, ImageSource};
use skycap_registry::server::{Options, Server};

use crate::support::{Raw, ask, client, image, index, noise, place, read, server, tag};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn post(address: SocketAddr, target: &str, body: &[u8]) -> Raw {
    ask(address, "POST", target, &[], body)
}

#[test]
fn a_blob_goes_up_in_pieces() {
    let (_dir, server) = server();
    let bytes = noise(1, 1000);
    let digest = Digest::sha256(&bytes);
    let begun = post(server.address(), "/v2/aa/blobs/uploads/", b"");
    assert_eq!((begun.status, begun.header("range")), (202, "0-0"));
    let place = begun.header("location").to_owned();
    let patch = |range: &str, body: &[u8]| ask(server.address(), "PATCH", &place, &[("content-range", range)], body);
    let first = patch("0-399", &bytes[..400]);
    assert_eq!((first.status, first.header("range")), (202, "0-399"));
    let gap = patch("500-999", &bytes[500..]);
    assert_eq!((gap.status, gap.header("range"), gap.code().as_str()), (416, "0-399", "BLOB_UPLOAD_INVALID"));
    assert_eq!(patch("400-899", &bytes[400..900]).status, 202);
    let asked = ask(server.address(), "GET", &place, &[], b"");
    assert_eq!((asked.status, asked.header("range")), (204, "0-899"));
    let done = ask(server.address(), "PUT", &format!("{place}?digest={digest}"), &[], &bytes[900..]);
    assert_eq!((done.status, done.header("docker-content-digest")), (201, digest.to_string().as_str()));
    let read = ask(server.address(), "GET", done.header("location"), &[], b"");
    assert_eq!((read.status, read.body), (200, bytes));
    assert_eq!(ask(server.address(), "GET", &place, &[], b"").code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn a_blob_goes_up_at_once_or_not_at_all() {
    let (_dir, server) = server();
    let digest = Digest::sha256(b"hello");
    let target = format!("/v2/aa/blobs/uploads/?digest={digest}");
    let refused = post(server.address(), &target, b"jello");
    assert_eq!((refused.status, refused.code().as_str()), (400, "DIGEST_INVALID"));
    assert_eq!(ask(server.address(), "HEAD", &format!("/v2/aa/blobs/{digest}"), &[], b"").status, 404);
    assert_eq!(post(server.address(), &target, b"hello").status, 201);
    let long = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043";
    assert_eq!(post(server.address(), &format!("/v2/aa/blobs/uploads/?digest={long}"), b"hello").status, 201);
    assert_eq!(ask(server.address(), "GET", &format!("/v2/aa/blobs/{long}"), &[], b"").body, b"hello");
    assert_eq!(post(server.address(), "/v2/aa/blobs/uploads/?digest=sha256:../x", b"").code(), "DIGEST_INVALID");
}

#[test]
fn an_upload_belongs_to_its_repository_and_can_be_given_up() {
    let (dir, server) = server();
    let place = post(server.address(), "/v2/aa/blobs/uploads/", b"").header("location").to_owned();
    let stolen = place.replace("/v2/aa/", "/v2/b/");
    assert_eq!(ask(server.address(), "PATCH", &stolen, &[], b"x").code(), "BLOB_UPLOAD_UNKNOWN");
    assert_eq!(ask(server.address(), "DELETE", &stolen, &[], b"").code(), "BLOB_UPLOAD_UNKNOWN");
    let staged = || std::fs::read_dir(dir.path().join("registry-v2/_uploads")).unwrap().count();
    assert_eq!(staged(), 1);
    assert_eq!(ask(server.address(), "DELETE", &place, &[], b"").status, 204);
    assert_eq!(staged(), 0);
}

#[test]
fn an_upload_that_waits_holds_no_file_open() {
    let (dir, server) = server();
    let uploads = dir.path().join("registry-v2/_uploads");
    let places: Vec<String> =
        (0..20).map(|_| post(server.address(), "/v2/aa/blobs/uploads/", b"").header("location").to_owned()).collect();
    assert_eq!(ask(server.address(), "PATCH", &places[0], &[], b"hello ").status, 202);
    let open = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.starts_with(&uploads))
        .count();
    assert_eq!(open, 0);
    let digest = Digest::sha256(b"hello world");
    assert_eq!(ask(server.address(), "PUT", &format!("{}?digest={digest}", places[0]), &[], b"world").status, 201);
    assert_eq!(ask(server.address(), "GET", &format!("/v2/aa/blobs/{digest}"), &[], b"").body, b"hello world");
}

#[test]
fn parts_of_a_blob_can_be_read() {
    let (_dir, server) = server();
    let digest = Digest::sha256(b"0123456789");
    post(server.address(), &format!("/v2/aa/blobs/uploads/?digest={digest}"), b"0123456789");
    let target = format!("/v2/aa/blobs/{digest}");
    let part = ask(server.address(), "GET", &target, &[("range", "bytes=3-5")], b"");
    assert_eq!((part.status, part.header("content-range"), part.body.as_slice()), (206, "bytes 3-5/10", &b"345"[..]));
    let beyond = ask(server.address(), "GET", &target, &[("range", "bytes=10-")], b"");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */10"));
    let head = ask(server.address(), "HEAD", &target, &[], b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    assert_eq!(ask(server.address(), "DELETE", &target, &[], b"").status, 202);
    assert_eq!(ask(server.address(), "GET", &target, &[], b"").code(), "BLOB_UNKNOWN");
}

#[test]
fn a_digest_alone_does_not_open_another_repository() {
    let (_dir, server) = server();
    let digest = Digest::sha256(b"secret");
    post(server.address(), &format!("/v2/private/blobs/uploads/?digest={digest}"), b"secret");
    assert_eq!(ask(server.address(), "GET", &format!("/v2/public/blobs/{digest}"), &[], b"").status, 404);
    let mounted = post(server.address(), &format!("/v2/public/blobs/uploads/?mount={digest}&from=private"), b"");
    assert_eq!((mounted.status, mounted.header("location")), (201, format!("/v2/public/blobs/{digest}").as_str()));
    assert_eq!(ask(server.address(), "GET", &format!("/v2/public/blobs/{digest}"), &[], b"").body, b"secret");
    let absent = post(server.address(), &format!("/v2/public/blobs/uploads/?mount={digest}&from=other"), b"");
    assert_eq!(absent.status, 202, "what cannot be mounted is uploaded");
}

#[test]
fn manifests_are_checked() {
    let (_dir, server) = server();
    let put = |target: &str, media_type: &str, body: &str| {
        ask(server.address(), "PUT", target, &[("content-type", media_type)], body.as_bytes())
    };
    let digest = Digest::sha256(b"absent");
    let missing =
        format!(r#"{{"schemaVersion":2,"config":{{"mediaType":"x","digest":"{digest}","size":6}},"layers":[]}}"#);
    for (target, media_type, body, code) in [
        ("/v2/aa/manifests/1", OCI, "", "MANIFEST_INVALID"),
        ("/v2/aa/manifests/1", OCI, "{}", "MANIFEST_INVALID"),
        ("/v2/aa/manifests/1", OCI, &missing, "MANIFEST_BLOB_UNKNOWN"),
        ("/v2/aa/manifests/1", "text/plain", &missing, "MANIFEST_INVALID"),
        ("/v2/aa/manifests/1", OCI, r#"{"manifests":[],"layers":[]}"#, "MANIFEST_INVALID"),
        ("/v2/aa/manifests/1", OCI, r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#, "MANIFEST_INVALID"),
        (
            &format!("/v2/aa/manifests/{digest}"),
            "application/vnd.oci.image.index.v1+json",
            r#"{"schemaVersion":2,"manifests":[]}"#,
            "DIGEST_INVALID",
        ),
        ("/v2/aa/manifests/-bad", OCI, &missing, "TAG_INVALID"),
        ("/v2/A/manifests/1", OCI, &missing, "NAME_INVALID"),
    ] {
        let answer = put(target, media_type, body);
        assert_eq!((answer.status, answer.code().as_str()), (400, code), "{target} {body}");
    }
    let long = format!("{{\"x\":\"{}\"}}", " ".repeat(9 * 1024 * 1024));
    assert_eq!(put("/v2/aa/manifests/1", OCI, &long).status, 413);
    assert_eq!(ask(server.address(), "POST", "/v2/aa/manifests/1", &[], b"").code(), "UNSUPPORTED");
    assert_eq!(ask(server.address(), "GET", "/v2/aa/manifests/1", &[], b"").status, 404);
}

#[test]
fn hostile_paths_reach_no_file() {
    let (dir, server) = server();
    std::fs::write(dir.path().join("secret"), "secret").unwrap();
    for target in [
        "/v2/../../secret",
        "/v2/aa/%2e%2e/%2e%2e/secret",
        "/v2/aa/blobs/../../../secret",
        "/secret",
        "/v2/_uploads/tags/list",
    ] {
        let answer = ask(server.address(), "GET", target, &[], b"");
        assert!(answer.status >= 400 && !answer.body.windows(6).any(|part| part == b"secret"), "{target}");
    }
}

#[test]
fn what_refers_to_a_manifest_is_listed() {
    let (_dir, server) = server();
    let pushed =
        place(&client(), server.address(), "aa").put(&Artifact::Image(image("amd64", &[])), &[tag("1")]).unwrap();
    post(server.address(), &format!("/v2/aa/blobs/uploads/?digest={}", Digest::sha256(b"{}")), b"{}");
    let signature = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "x/signature",
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
        "layers": [], "annotations": {"by": "me"},
        "subject": {"mediaType": pushed.media_type, "digest": pushed.digest, "size": pushed.size},
    })
    .to_string();
    let digest = Digest::sha256(signature.as_bytes());
    let headers = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
    let put = ask(server.address(), "PUT", &format!("/v2/aa/manifests/{digest}"), &headers, signature.as_bytes());
    assert_eq!((put.status, put.header("oci-subject")), (201, pushed.digest.to_string().as_str()));
    let listed = |query: &str| {
        let target = format!("/v2/aa/referrers/{}{query}", pushed.digest);
        ask(server.address(), "GET", &target, &[], b"").json()["manifests"].clone()
    };
    let expected = serde_json::json!([{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": signature.len(),
        "artifactType": "x/signature", "annotations": {"by": "me"},
    }]);
    assert_eq!(listed(""), expected);
    assert_eq!(listed("?artifactType=x/signature"), expected);
    assert_eq!(listed("?artifactType=x/other"), serde_json::json!([]));
}

#[test]
fn a_repository_on_disk_is_one_file_for_each_blob_manifest_and_tag() {
    let (dir, server) = server();
    let place = place(&client(), server.address(), "team/app");
    let pushed = place.put(&index(), &[tag("1"), tag("2")]).unwrap();
    let inside = dir.path().join("registry-v2/team/app/_repository");
    for file in std::fs::read_dir(inside.join("blobs/sha256")).unwrap() {
        let file = file.unwrap();
        let digest = Digest::sha256(&std::fs::read(file.path()).unwrap());
        assert_eq!(file.file_name().to_str().unwrap(), digest.hex());
    }
    let manifests = std::fs::read_dir(inside.join("manifests/sha256")).unwrap();
    let mut digests: Vec<String> = Vec::new();
    for file in manifests.map(Result::unwrap) {
        let content = std::fs::read_to_string(file.path()).unwrap();
        let (line, bytes) = content.split_once('\n').unwrap();
        let described: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(described["digest"], Digest::sha256(bytes.as_bytes()).to_string());
        digests.push(file.file_name().into_string().unwrap());
    }
    assert_eq!(digests.len(), 3);
    for tag in ["1", "2"] {
        let line: serde_json::Value =
            serde_json::from_slice(&std::fs::read(inside.join("tags").join(tag)).unwrap()).unwrap();
        assert_eq!(line["digest"], pushed.digest.to_string());
    }
    assert_eq!(std::fs::read_dir(dir.path().join("registry-v2/_uploads")).unwrap().count(), 0);
}

#[test]
fn what_an_older_version_wrote_is_refused_and_not_taken_for_an_empty_registry() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("registry-v1")).unwrap();
    let start = || Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default());
    let error = start().err().unwrap().to_string();
    assert!(error.contains("registry-v1 was written by an older version"), "{error}");
    std::fs::rename(dir.path().join("registry-v1"), dir.path().join("away")).unwrap();
    start().unwrap();
}

#[test]
fn many_push_at_once() {
    let (dir, server) = server();
    // A second server on the same directory, as another process would be.
    let second = Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default()).unwrap();
    std::thread::scope(|scope| {
        for at in 0..8_u64 {
            let address = if at % 2 == 0 { server.address() } else { second.address() };
            scope.spawn(move || {
                let place = place(&client(), address, "shared");
                for number in 0..5 {
                    let image = image("amd64", &[noise(7, 5000), noise(at * 10 + number, 100)]);
                    place.put(&Artifact::Image(image), &[tag(&format!("{at}-{number}")), tag("latest")]).unwrap();
                }
            });
        }
    });
    let place = place(&client(), second.address(), "shared");
    assert_eq!(place.tags().unwrap().len(), 41);
    for name in place.tags().unwrap() {
        let Artifact::Image(image) = place.get(&tag(&name)).unwrap() else { panic!("an image") };
        for layer in image.layers() {
            read(&place, &layer.descriptor).unwrap();
        }
    }
}

#[test]
fn a_stopped_server_leaves_everything_for_the_next() {
    let (dir, server) = server();
    place(&client(), server.address(), "aa")
        .put(&Artifact::Image(image("amd64", &[noise(1, 100)])), &[tag("1")])
        .unwrap();
    let address = server.address();
    server.stop();
    assert!(std::net::TcpStream::connect(address).is_err());
    let next = Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default()).unwrap();
    assert!(place(&client(), next.address(), "aa").find(&tag("1")).unwrap().is_some());
}

#[test]
fn what_a_dead_process_left_behind_is_cleared_away_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let staging = dir.path().join("registry-v2/_uploads");
    std::fs::create_dir_all(&staging).unwrap();
    for (name, age) in [("upload-old", 100_000), ("upload-new", 10)] {
        let file = std::fs::File::create(staging.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(age)).unwrap();
    }
    let _server = Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default()).unwrap();
    assert!(!staging.join("upload-old").exists() && staging.join("upload-new").exists());
}

/// Not a test: the process that the next one kills. It serves the directory that it reads from its input.
#[test]
#[ignore = "serves for another test"]
fn serve_until_killed() {
    let mut directory = String::new();
    std::io::stdin().lock().read_line(&mut directory).unwrap();
    let server = Server::start(([127, 0, 0, 1], 0).into(), Path::new(directory.trim()), Options::default()).unwrap();
    println!("\nserving {}", server.address());
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).unwrap();
}

#[test]
fn sudden_death_in_the_middle_of_pushes_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..4_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "embedded::serve_until_killed", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        writeln!(input, "{}", dir.path().display()).unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("serving ")?.parse().ok()).unwrap();
        let pushing = std::thread::spawn(move || {
            let place = place(&client(), address, "aa");
            let mut done = Vec::new();
            for number in 0..1000 {
                let name = format!("{round}-{number}");
                let image = image("amd64", &[noise(round * 1000 + number, 200_000)]);
                if place.put(&Artifact::Image(image), &[tag(&name)]).is_err() {
                    break;
                }
                done.push(name);
            }
            done
        });
        // On a busy machine the first push takes its time.
        let tags = dir.path().join("registry-v2/aa/_repository/tags");
        let pushed = || std::fs::read_dir(&tags).map_or(0, Iterator::count);
        let before = pushed();
        while pushed() < before + 2 && !pushing.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(100 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(pushing.join().unwrap());
    }
    let server = Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default()).unwrap();
    let place = place(&client(), server.address(), "aa");
    for name in &acknowledged {
        assert!(place.find(&tag(name)).unwrap().is_some(), "{name}");
    }
    for name in place.tags().unwrap_or_default() {
        let Artifact::Image(image) = place.get(&tag(&name)).unwrap() else { panic!("an image") };
        read(&place, &image.layers()[0].descriptor).unwrap();
    }
    assert!(!acknowledged.is_empty());
}
