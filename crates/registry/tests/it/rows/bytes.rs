//! Lengths, digests and encodings that are not what they should be (R40, R41, R45 to R49).

use std::io::Write as _;

use skycap_image::{BlobSource, Descriptor, Digest, Kind, MediaType};
use skycap_testkit::registry::{Reply, Request};

use super::world::{ACTS, Act, LARGE, SMALL, World, same};
use crate::support::{client, noise, place, read};

#[test]
fn r40_a_length_that_is_not_the_blobs_is_never_a_success_with_wrong_bytes() {
    let world = World::new();
    for length in ["2199999", "2200001", "-1", "abc", "0", "18446744073709551616"] {
        for act in ACTS {
            let large = world.large();
            let ran = world.run(act, move |request| {
                let is_it = match act {
                    Act::Pull => request.path.ends_with(&large),
                    Act::Check => request.method == "HEAD",
                    Act::Push => request.method == "PUT",
                };
                is_it.then(|| Reply::forward().header("content-length", length))
            });
            // A check can ask by GET; a push does not look at the length of an answer, if it is one.
            assert!(ran.result.is_err() || act != Act::Pull, "{length}");
        }
    }
    // Twice the same, twice another, and none at all.
    for (lengths, is_well) in [("300000 300000", true), ("300000 299999", false), ("", true)] {
        let small = world.small();
        let ran = world.run(Act::Pull, move |request| {
            request.path.ends_with(&small).then(|| {
                let lengths: String =
                    lengths.split_whitespace().map(|length| format!("content-length: {length}\r\n")).collect();
                let mut answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{lengths}\r\n").into_bytes();
                answer.extend(noise(1, SMALL));
                Reply::verbatim(answer)
            })
        });
        assert_eq!(ran.result.is_ok(), is_well, "{lengths}: {:?}", ran.result);
    }
}

#[test]
fn r41_wrong_bytes_are_asked_for_once_more_and_then_are_an_error() {
    let world = World::new();
    let small = world.small();
    let once = world.run(Act::Pull, move |request| {
        (request.path.ends_with(&small) && request.seen == 0).then(|| Reply::forward().flip(7))
    });
    assert_eq!(same(once, "once").asked("GET", &world.small()).len(), 2);
    for path in [world.small(), world.large()] {
        let ending = path.clone();
        let ever =
            world.run(Act::Pull, move |request| request.path.ends_with(&ending).then(|| Reply::forward().flip(7)));
        assert_eq!(ever.error().kind, Kind::Corrupt);
        assert!(ever.text().contains("is corrupt: its content hashes to"), "{}", ever.text());
    }
    // A large one whose reader noticed is opened again by its reader.
    let large = world.large();
    let (flipped, server) = (std::sync::atomic::AtomicBool::new(false), world.server.address());
    let scripted = skycap_testkit::registry::Scripted::in_front_of(server, move |request| {
        let first = request.path.ends_with(&large) && !flipped.swap(true, std::sync::atomic::Ordering::SeqCst);
        if first { Reply::forward().flip(7) } else { Reply::forward() }
    })
    .unwrap();
    let place = place(&client(), scripted.address(), "aa");
    let layer = &world.image.layers()[1].descriptor;
    assert_eq!(read(&place, layer).unwrap_err().kind, Kind::Corrupt);
    assert!(read(&place, layer).unwrap() == noise(2, LARGE));
}

#[test]
fn r45_r46_r47_a_manifest_must_be_what_it_is_called() {
    let world = World::new();
    let digest = world.image.descriptor().digest;
    let other = Digest::sha256(b"other").to_string();
    let sha512 = {
        let mut hasher = skycap_image::Hasher::new(skycap_image::Algorithm::Sha512);
        hasher.update(&world.image.raw().bytes);
        hasher.finish().to_string()
    };
    // What the header says, whether a check works, and whether a pull does.
    for (header, check, pull) in [
        (Some(digest.to_string()), true, true),
        (None, true, true),
        (Some(sha512.clone()), true, true),
        (Some(other.clone()), true, false),
        (Some(digest.to_string().to_uppercase()), true, false),
        (Some(format!("sha256:{}", digest.hex().to_uppercase())), true, false),
        (Some("sha256:..".to_owned()), true, false),
        (Some("sha256:../../x".to_owned()), true, false),
        (Some(String::new()), true, false),
    ] {
        for (act, is_well) in [(Act::Check, check), (Act::Pull, pull)] {
            // A check reports what the header says; that it stands for other bytes only a pull can see.
            if act == Act::Check && [Some(&sha512), Some(&other)].contains(&header.as_ref()) {
                continue;
            }
            let (server, shown) = (world.server.address(), header.clone());
            let ran = world.run(act, move |request| {
                if !request.path.contains("/manifests/") {
                    return None;
                }
                let raw = crate::support::ask(server, &request.method, &request.path, &[], b"");
                let reply = Reply::status(200)
                    .header("content-type", raw.header("content-type"))
                    .header("content-length", raw.header("content-length"))
                    .body(raw.body.clone());
                Some(match &shown {
                    Some(value) => reply.header("docker-content-digest", value.clone()),
                    None => reply,
                })
            });
            assert_eq!(ran.result.is_ok(), is_well, "{header:?} {act:?} {:?}", ran.result);
            if act == Act::Pull && !is_well {
                assert_eq!(ran.error().kind, Kind::Corrupt, "{}", ran.text());
            }
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = std::process::Command::new("gzip")
        .args(["-1", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap().unwrap();
    output
}

/// Fetches the body that would have been sent, and sends it packed.
fn packed(server: std::net::SocketAddr, request: &Request, encoding: &str, how: &str) -> Reply {
    let raw = crate::support::ask(server, &request.method, &request.path, &[], b"");
    let body = if how == "packed" { gzip(&raw.body) } else { raw.body.clone() };
    let mut reply = Reply::status(raw.status).header("content-encoding", encoding).body(body);
    for name in ["content-type", "docker-content-digest"] {
        if !raw.header(name).is_empty() {
            reply = reply.header(name, raw.header(name));
        }
    }
    reply
}

#[test]
fn r48_what_is_packed_unasked_counts_only_if_it_is_right() {
    let world = World::new();
    for (encoding, how, is_well) in [
        ("gzip", "packed", true),
        ("GZIP", "packed", true),
        // Storage that calls a layer what it is: the bytes as sent are the blob.
        ("gzip", "as it is", true),
        ("identity", "as it is", true),
        ("br", "as it is", true),
        ("br", "packed", false),
        ("gzip, gzip", "packed", false),
    ] {
        for act in [Act::Check, Act::Pull] {
            let server = world.server.address();
            let ran = world.run(act, move |request| {
                let is_it = request.method == "GET" && request.path != "/v2/";
                is_it.then(|| packed(server, request, encoding, how))
            });
            assert!(
                ran.requests()
                    .iter()
                    .all(|request| request.header("accept-encoding") == Some("identity") || request.path == "/v2/")
            );
            if is_well {
                same(ran, (encoding, how, act));
            } else {
                assert!(ran.result.is_err(), "{encoding} {how} {act:?}");
            }
        }
    }
    // Only the large layer, which is unpacked while it is read, also after a cut.
    for cut in [usize::MAX, 100_000] {
        let (server, large) = (world.server.address(), world.large());
        let ran = world.run(Act::Pull, move |request| {
            request.path.ends_with(&large).then(|| {
                let reply = packed(server, request, "gzip", "packed");
                if request.seen == 0 && cut < LARGE { reply.cut(cut) } else { reply }
            })
        });
        same(ran, cut);
    }
    let (server, large) = (world.server.address(), world.large());
    let ran = world.run(Act::Pull, move |request| {
        request.path.ends_with(&large).then(|| packed(server, request, "gzip", "packed").flip(40))
    });
    assert!(ran.result.is_err());
}

#[test]
fn r49_a_size_that_is_not_the_blobs_is_an_error_and_no_reason_to_make_room() {
    let world = World::new();
    let place = place(&client(), world.server.address(), "aa");
    let layer = world.image.layers()[1].descriptor.clone();
    for size in [0, 1, LARGE as u64 - 1, LARGE as u64 + 1, 1 << 40, 1 << 62, u64::MAX] {
        let wrong = Descriptor { size, ..layer.clone() };
        assert_eq!(read(&place, &wrong).unwrap_err().kind, Kind::Corrupt, "{size}");
    }
    let absent = Descriptor::of(MediaType::OciLayer, b"absent");
    assert_eq!(place.open(&absent).err().unwrap().kind, Kind::NotFound);
}
