//! Uploads that are interrupted, refused, resumed (R38, R39, R72 to R79), and pushes of what is there already.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use skycap_image::{
    Artifact, BlobReader, BlobSource, Descriptor, Digest, Image, ImageConfig, ImageSink, ImageSource, Kind, MediaType,
    RootFs, SourceError,
};
use skycap_testkit::registry::{Reply, Request, Scripted};

use super::world::{Act, World, same};
use crate::support::{Kept, client, image, noise, place, settings, tag};

/// What a registry that takes uploads in pieces knows.
#[derive(Default)]
struct Depot {
    uploads: HashMap<String, Vec<u8>>,
    blobs: HashSet<String>,
    /// Bytes that came in.
    received: usize,
    cancelled: usize,
}

/// Served in memory; of the first `cuts` large bodies only a part gets through before the connection breaks. What `fault`
/// answers goes before.
fn depot(
    cuts: usize,
    fault: impl Fn(&Request, &mut Depot) -> Option<Reply> + Send + Sync + 'static,
) -> (Arc<Mutex<Depot>>, Scripted) {
    let depot = Arc::new(Mutex::new(Depot::default()));
    let (shared, left) = (Arc::clone(&depot), AtomicUsize::new(cuts));
    let appetite = move |request: &Request| {
        let length: usize = request.header("content-length").unwrap_or("0").parse().unwrap();
        let is_cut = length > 1_000_000
            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        is_cut.then_some(length / 2)
    };
    let scripted = Scripted::reading(None, appetite, move |request| {
        let mut depot = shared.lock().unwrap();
        fault(request, &mut depot).unwrap_or_else(|| answer(request, &mut depot))
    })
    .unwrap();
    (depot, scripted)
}

fn answer(request: &Request, depot: &mut Depot) -> Reply {
    let length: usize = request.header("content-length").unwrap_or("0").parse().unwrap();
    let (_, name) = request.path.rsplit_once('/').unwrap();
    let state = |name: &str, bytes: &[u8]| {
        Reply::status(202)
            .header("location", format!("/v2/aa/blobs/uploads/{name}?_state={}", bytes.len()))
            .header("range", format!("0-{}", bytes.len().saturating_sub(1)))
    };
    match request.method.as_str() {
        "GET" if request.path == "/v2/" => Reply::status(200),
        "HEAD" => Reply::status(if depot.blobs.contains(name) { 200 } else { 404 }),
        "POST" => {
            let name = format!("u{}", request.seen);
            depot.uploads.insert(name.clone(), Vec::new());
            state(&name, &[])
        }
        "PUT" if request.path.contains("/manifests/") => Reply::status(201),
        "DELETE" => {
            depot.cancelled += 1;
            Reply::status(if depot.uploads.remove(name).is_some() { 204 } else { 404 })
        }
        _ => {
            let Some(bytes) = depot.uploads.get_mut(name) else {
                return Reply::status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#);
            };
            if request.method == "GET" {
                return state(name, bytes);
            }
            let start =
                request.header("content-range").map_or(0, |range| range.split('-').next().unwrap().parse().unwrap());
            if start != bytes.len() {
                return Reply::status(416).header("range", format!("0-{}", bytes.len().saturating_sub(1)));
            }
            bytes.extend(&request.body);
            depot.received += request.body.len();
            if request.body.len() < length {
                return Reply::hang_up();
            }
            if request.method == "PATCH" {
                return state(name, bytes);
            }
            let (_, digest) = request.query.rsplit_once("digest=").unwrap();
            if Digest::sha256(bytes).to_string() != digest {
                return Reply::status(400).body(r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
            }
            depot.blobs.insert(digest.to_owned());
            depot.uploads.remove(name);
            Reply::status(201)
        }
    }
}

const SIZE: usize = 5_000_000;

fn push(scripted: &Scripted, size: usize) -> (Result<Descriptor, SourceError>, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let client = skycap_registry::Client::new(settings(), kept.clone()).unwrap();
    let image = image("amd64", &[noise(1, size)]);
    (place(&client, scripted.address(), "aa").put(&Artifact::Image(image), &[tag("1")]), kept)
}

fn count(scripted: &Scripted, method: &str, part: &str) -> usize {
    let fits = |request: &&Request| request.method == method && request.path.contains(part);
    scripted.requests().iter().filter(fits).count()
}

#[test]
fn r74_r75_an_upload_that_breaks_goes_on_where_it_stopped() {
    for cuts in [1, 2, 3] {
        let (depot, scripted) = depot(cuts, |_, _| None);
        push(&scripted, SIZE).0.unwrap();
        let depot = depot.lock().unwrap();
        assert_eq!((depot.blobs.len(), count(&scripted, "POST", "/uploads/")), (2, 2), "{cuts}");
        assert!(depot.received < SIZE + 1000, "{} bytes for {SIZE}", depot.received);
        let ranges: Vec<String> =
            scripted.requests().iter().filter_map(|r| r.header("content-range").map(str::to_owned)).collect();
        assert_eq!(ranges[0], format!("{}-{}", SIZE / 2, SIZE - 1));
    }
}

#[test]
fn r74_a_range_that_is_not_the_registrys_is_corrected() {
    // The registry has lost the half of what came, and says so with 416; or it does not say anything.
    for tells in [true, false] {
        let lost = Mutex::new(false);
        let (depot, scripted) = depot(1, move |request, depot| {
            let is_rest = request.method == "PUT" && request.header("content-range").is_some();
            let mut lost = lost.lock().unwrap();
            if !is_rest || std::mem::replace(&mut *lost, true) {
                return None;
            }
            let (_, name) = request.path.rsplit_once('/').unwrap();
            depot.uploads.get_mut(name).unwrap().truncate(1_000_000);
            Some(if tells { Reply::status(416).header("range", "0-999999") } else { Reply::status(416) })
        });
        push(&scripted, SIZE).0.unwrap();
        assert_eq!(depot.lock().unwrap().blobs.len(), 2);
        assert_eq!(count(&scripted, "POST", "/uploads/"), if tells { 2 } else { 3 });
    }
}

#[test]
fn r73_what_a_registry_has_already_is_not_sent_and_chunks_are_as_long_as_it_wants() {
    let (depot_, scripted) = depot(0, |request, depot| {
        if request.method != "POST" {
            return None;
        }
        let reply = answer(request, depot);
        let name = format!("u{}", request.seen);
        // The config is shorter than that: such a registry is told to start again.
        depot.uploads.insert(name, noise(1, 1000));
        Some(reply.header("range", "0-999"))
    });
    let _ = push(&scripted, SIZE);
    let ranged = scripted.requests().iter().filter(|r| r.header("content-range") == Some("1000-4999999")).count();
    assert!(ranged >= 1, "{:?}", scripted.lines());
    drop(depot_);
    let large = 40 << 20;
    for (least, lengths) in [
        ("", vec![16 << 20, 16 << 20, 8 << 20]),
        ("1000", vec![16 << 20, 16 << 20, 8 << 20]),
        ("20971520", vec![20 << 20, 20 << 20]),
    ] {
        let (depot, scripted) = depot(0, move |request, depot| {
            let is_too_much = request.body.len() > 24 << 20;
            if is_too_much {
                return Some(Reply::status(413));
            }
            let reply = answer(request, depot);
            Some(if request.method == "POST" && !least.is_empty() {
                reply.header("oci-chunk-min-length", least)
            } else {
                reply
            })
        });
        push(&scripted, large).0.unwrap();
        let chunks: Vec<usize> =
            scripted.requests().iter().filter(|r| r.header("content-range").is_some()).map(|r| r.body.len()).collect();
        assert_eq!(chunks, lengths, "{least}");
        let depot = depot.lock().unwrap();
        assert_eq!((depot.blobs.len(), depot.cancelled), (2, 1));
    }
    let (_depot, scripted) = depot(0, move |request, depot| {
        if request.body.len() > 24 << 20 {
            return Some(Reply::status(413));
        }
        let reply = answer(request, depot);
        Some(if request.method == "POST" { reply.header("oci-chunk-min-length", "2147483648") } else { reply })
    });
    let error = push(&scripted, large).0.unwrap_err().to_string();
    assert!(error.contains("wants chunks of 2147483648 bytes, more than 1073741824"), "{error}");
}

#[test]
fn r75_an_upload_that_is_forgotten_starts_again_once_and_one_that_arrived_does_not() {
    let failed = Mutex::new(false);
    let (depot_, scripted) = depot(0, move |request, depot| {
        let is_it = request.method == "PUT" && request.body.len() == SIZE;
        if !is_it || std::mem::replace(&mut *failed.lock().unwrap(), true) {
            return None;
        }
        depot.uploads.clear();
        Some(Reply::status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"unknown"}]}"#))
    });
    push(&scripted, SIZE).0.unwrap();
    assert_eq!((depot_.lock().unwrap().blobs.len(), count(&scripted, "POST", "/uploads/")), (2, 3));
    let (depot_, scripted) = depot(0, |request, depot| {
        (request.method == "PUT" && request.body.len() == SIZE).then(|| {
            answer(request, depot);
            Reply::status(500)
        })
    });
    push(&scripted, SIZE).0.unwrap();
    assert_eq!(
        depot_.lock().unwrap().received,
        SIZE + scripted
            .requests()
            .iter()
            .filter(|r| r.method == "PUT" && r.body.len() < 1000 && r.path.contains("/uploads/"))
            .map(|r| r.body.len())
            .sum::<usize>()
    );
    let (depot_, scripted) = depot(0, |request, _| {
        (request.method == "PUT" && request.body.len() == SIZE)
            .then(|| Reply::status(404).body(r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"unknown"}]}"#))
    });
    let error = push(&scripted, SIZE).0.unwrap_err().to_string();
    assert!(error.contains("BLOB_UPLOAD_UNKNOWN") && error.contains("tried 4 times"), "{error}");
    assert!(depot_.lock().unwrap().uploads.is_empty(), "what was begun is cancelled");
}

#[test]
fn r76_blobs_that_a_registry_misses_are_sent_again_once() {
    let layer = Digest::sha256(&noise(1, SIZE));
    for named in [true, false] {
        for always in [false, true] {
            let detail = if named { format!(r#","detail":{{"digest":"{layer}"}}"#) } else { String::new() };
            let body = format!(r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown"{detail}}}]}}"#);
            let (depot, scripted) = depot(0, move |request, depot| {
                let is_it = request.method == "PUT" && request.path.contains("/manifests/");
                (is_it && (always || request.seen == 0)).then(|| {
                    depot.blobs.remove(&layer.to_string());
                    Reply::status(400).body(body.clone())
                })
            });
            let (pushed, kept) = push(&scripted, SIZE);
            assert_eq!(count(&scripted, "PUT", "/manifests/"), 2);
            assert!(kept.lines().iter().any(|line| line.ends_with("sending again what is missing")));
            if always {
                let error = pushed.unwrap_err().to_string();
                assert!(
                    error.contains("MANIFEST_BLOB_UNKNOWN") && (!named || error.contains(&layer.to_string())),
                    "{error}"
                );
            } else {
                pushed.unwrap();
                assert_eq!(depot.lock().unwrap().blobs.len(), 2);
            }
        }
    }
}

#[test]
fn r72_a_mount_is_linked_or_the_upload_goes_on() {
    for (status, has_place) in
        [(201, true), (202, true), (202, false), (401, false), (403, false), (404, false), (405, false), (500, false)]
    {
        let (depot, scripted) = depot(0, move |request, depot| {
            let is_mount = request.query.starts_with("mount=");
            is_mount.then(|| match (status, has_place) {
                (201, _) => {
                    let digest = request.query.split(['=', '&']).nth(1).unwrap();
                    depot.blobs.insert(digest.to_owned());
                    Reply::status(201)
                }
                (202, true) => answer(request, depot),
                _ => Reply::status(status),
            })
        });
        let client = client();
        let artifact = Artifact::Image(image("amd64", &[noise(1, 2000)]));
        place(&client, scripted.address(), "from").put(&artifact, &[tag("1")]).unwrap();
        depot.lock().unwrap().blobs.clear();
        place(&client, scripted.address(), "aa").put(&artifact, &[tag("1")]).unwrap();
        assert_eq!(depot.lock().unwrap().blobs.len(), 2, "{status}");
        let received = depot.lock().unwrap().received;
        let once: usize =
            scripted.requests().iter().filter(|r| r.path.contains("/uploads/")).map(|r| r.body.len()).sum();
        assert_eq!(received, once, "{status}");
        assert_eq!(scripted.requests().iter().filter(|r| r.query.contains("from=from")).count(), 2);
    }
}

/// The token for a mount names the other repository as well.
#[test]
fn r72_a_mount_asks_for_the_right_to_pull_from_the_other_repository() {
    let (depot, scripted) = depot(0, |request, _| {
        let host = request.header("host").unwrap_or_default();
        match request.path.as_str() {
            "/token" => Some(Reply::status(200).body(r#"{"token":"t"}"#)),
            _ if request.header("authorization").is_none() => {
                Some(Reply::status(401).header("www-authenticate", format!("Bearer realm=\"http://{host}/token\"")))
            }
            _ => None,
        }
    });
    let client = client();
    let artifact = Artifact::Image(image("amd64", &[noise(1, 2000)]));
    place(&client, scripted.address(), "from").put(&artifact, &[tag("1")]).unwrap();
    depot.lock().unwrap().blobs.clear();
    place(&client, scripted.address(), "aa").put(&artifact, &[tag("1")]).unwrap();
    let scopes: Vec<String> = scripted.requests().into_iter().filter(|r| r.path == "/token").map(|r| r.query).collect();
    assert!(
        scopes.contains(&"scope=repository%3Aaa%3Apush%2Cpull&scope=repository%3Afrom%3Apull".to_owned()),
        "{scopes:?}"
    );
}

#[test]
fn r77_r78_the_digest_that_is_reported_is_ours() {
    let world = World::new();
    // Another pusher is faster with the last word.
    let (server, other) = (world.server.address(), image("riscv64", &[]));
    let ran = world.run(Act::Pull, |_| None);
    same(ran, "before");
    let pushed = Arc::new(Mutex::new(None));
    let (seen, artifact) = (Arc::clone(&pushed), Artifact::Image(image("amd64", &[noise(7, 100)])));
    let scripted = Scripted::in_front_of(server, move |request| {
        if request.line() == "PUT /v2/aa/manifests/race" {
            let place = place(&client(), server, "aa");
            place.put(&Artifact::Image(other.clone()), &[tag("race")]).unwrap();
            *seen.lock().unwrap() = Some(other.descriptor().digest);
        }
        Reply::forward()
    })
    .unwrap();
    let ours = place(&client(), scripted.address(), "aa").put(&artifact, &[tag("race")]).unwrap();
    assert_eq!(ours.digest, artifact.descriptor().digest);
    assert!(pushed.lock().unwrap().is_some());
    let last = place(&client(), server, "aa").find(&tag("race")).unwrap().unwrap();
    assert_eq!(last.digest, ours.digest, "the last writer wins");
}

#[test]
fn r79_an_early_refusal_is_read_although_we_were_still_sending() {
    for (status, text) in [(413, "413 Payload Too Large"), (401, "401"), (403, "403 Forbidden")] {
        let appetite = |request: &Request| request.path.contains("/uploads/u").then_some(100);
        let script = move |request: &Request| match request.method.as_str() {
            "GET" => Reply::status(200),
            "POST" => Reply::status(202).header("location", "/v2/aa/blobs/uploads/u1"),
            "PUT" => Reply::status(status),
            _ => Reply::status(404),
        };
        let scripted = Scripted::reading(None, appetite, script).unwrap();
        let (pushed, _) = push(&scripted, 12_000_000);
        let error = pushed.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
        assert!(count(&scripted, "DELETE", "/uploads/u1") >= 1, "the upload is cancelled");
    }
}

#[test]
fn r39_locations_as_registries_write_them() {
    let spellings: [fn(&str, &str) -> String; 7] = [
        |host, name| format!("http://{host}/v2/aa/blobs/uploads/{name}?_state=a%2Fb"),
        |_, name| format!("/v2/aa/blobs/uploads/{name}?_state=0"),
        |_, name| format!("../uploads/{name}"),
        |_, name| format!("{name}?x=1&y=%2F%3D"),
        |host, name| format!("//{host}/v2/aa/blobs/uploads/{name}"),
        |_, name| format!("/v2/aa/blobs/uploads/{name}?digest=sha256:00"),
        |_, name| format!("/v2/aa/blobs/uploads/%2F/../{name}"),
    ];
    for (at, spelling) in spellings.into_iter().enumerate() {
        let (depot, scripted) = depot(0, move |request, depot| {
            (request.method == "POST").then(|| {
                let host = request.header("host").unwrap_or_default();
                let _ = answer(request, depot);
                Reply::status(202).header("location", spelling(host, &format!("u{}", request.seen)))
            })
        });
        let (pushed, _) = push(&scripted, 2000);
        pushed.unwrap_or_else(|error| panic!("{at}: {error}: {:?}", scripted.lines()));
        assert_eq!(depot.lock().unwrap().blobs.len(), 2, "{at}");
        if at == 3 {
            let queries: Vec<String> =
                scripted.requests().into_iter().filter(|r| r.method == "PUT").map(|r| r.query).collect();
            assert!(queries[0].starts_with("x=1&y=%2F%3D&digest=sha256:"), "{queries:?}");
        }
    }
    for location in [None, Some("")] {
        let (_depot, scripted) = depot(0, move |request, _| {
            (request.method == "POST").then(|| match location {
                Some(location) => Reply::status(202).header("location", location),
                None => Reply::status(202),
            })
        });
        let error = push(&scripted, 2000).0.unwrap_err().to_string();
        assert!(error.contains("does not say where the upload goes"), "{error}");
    }
}

/// Its blobs are nobody's to open.
struct Closed;

impl BlobSource for Closed {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        Err(SourceError::new(Kind::Other, format!("blob {} was opened", blob.digest)))
    }
}

#[test]
fn what_is_there_is_asked_for_once_and_never_opened() {
    let (depot, scripted) = depot(0, |_, _| None);
    let layers: Vec<Descriptor> =
        (0..20).map(|seed| Descriptor::of(MediaType::OciLayerGzip, &noise(seed, 500))).collect();
    let diff_ids = layers.iter().map(|layer| layer.digest).collect();
    let config = ImageConfig { rootfs: RootFs { diff_ids, ..RootFs::default() }, ..ImageConfig::default() };
    let image = Image::assemble(&config, layers.clone(), false, Arc::new(Closed)).unwrap();
    let digests = layers.iter().map(|layer| layer.digest).chain([image.manifest().config.digest]);
    depot.lock().unwrap().blobs.extend(digests.map(|digest| digest.to_string()));
    let kept = Arc::new(Kept::default());
    let client = skycap_registry::Client::new(settings(), kept.clone()).unwrap();
    place(&client, scripted.address(), "aa").put(&Artifact::Image(image), &[tag("1")]).unwrap();
    assert_eq!((count(&scripted, "HEAD", "/blobs/"), count(&scripted, "POST", "")), (21, 0));
    assert_eq!(count(&scripted, "PUT", "/blobs/"), 0);
    assert_eq!(kept.lines().iter().filter(|line| *line == "finished exists").count(), 21);
}

/// R41 on the way through us: the place that a blob comes from gives wrong bytes once.
#[test]
fn r41_a_blob_that_arrives_wrong_at_us_is_read_again_before_it_is_given_up() {
    struct Wrong(AtomicUsize, usize);
    impl BlobSource for Wrong {
        fn open_unverified(&self, _: &Descriptor) -> Result<BlobReader, SourceError> {
            let mut bytes = noise(1, SIZE);
            if self.0.fetch_add(1, Ordering::SeqCst) < self.1 {
                bytes[SIZE / 2] ^= 1;
            }
            Ok(Box::new(std::io::Cursor::new(bytes)))
        }
    }
    for (wrong, is_well) in [(1, true), (2, false)] {
        let (depot, scripted) = depot(0, |_, _| None);
        let layer = Descriptor::of(MediaType::OciLayerGzip, &noise(1, SIZE));
        let config =
            ImageConfig { rootfs: RootFs { diff_ids: vec![layer.digest], ..RootFs::default() }, ..Default::default() };
        let blobs = Arc::new(Wrong(AtomicUsize::new(0), wrong));
        let image = Image::assemble(&config, vec![layer], false, blobs).unwrap();
        let pushed = place(&client(), scripted.address(), "aa").put(&Artifact::Image(image), &[tag("1")]);
        assert_eq!(pushed.is_ok(), is_well);
        if let Err(error) = pushed {
            assert_eq!(error.kind, Kind::Corrupt, "{error}");
            assert_eq!(count(&scripted, "PUT", "/manifests/"), 0);
        }
        assert!(depot.lock().unwrap().uploads.is_empty(), "what was begun is cancelled");
    }
}

#[test]
fn manifests_go_many_at_once_children_first_and_tags_last() {
    use skycap_image::{Index, Memory, Platform};
    let (_depot, scripted) = depot(0, |request, _| {
        let is_manifest = request.method == "PUT" && request.path.contains("/manifests/");
        is_manifest.then(|| Reply::status(201).wait(std::time::Duration::from_millis(100)))
    });
    let memory = Memory::default();
    let children: Vec<Descriptor> = (0..24)
        .map(|at| {
            let image = image(&format!("arch{at}"), &[]);
            memory.put(&Artifact::Image(image), &[]).unwrap().with_platform(Platform::new("linux", "amd64"))
        })
        .collect();
    let index = Artifact::Index(Index::assemble(children, false, Arc::new(memory)).unwrap());
    let names: Vec<_> = (0..24).map(|at| tag(&format!("t{at}"))).collect();
    let started = std::time::Instant::now();
    place(&client(), scripted.address(), "aa").put(&index, &names).unwrap();
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_millis(48 * 100 / 3), "one after another would take 4.8 s: {took:?}");
    let puts: Vec<String> =
        scripted.lines().into_iter().filter(|line| line.starts_with("PUT /v2/aa/manifests/")).collect();
    assert_eq!(puts.len(), 48);
    assert!(puts[..24].iter().all(|line| line.contains("sha256:")) && puts[24].ends_with("/t0"));
}

/// A registry that stops reading holds the connection, but not us.
#[test]
fn r12_an_upload_that_nobody_reads_is_a_timeout() {
    let appetite = |request: &Request| (request.method == "PUT").then_some(1000);
    let scripted = Scripted::reading(None, appetite, |request| match request.method.as_str() {
        "GET" => Reply::status(200),
        "POST" => Reply::status(202).header("location", format!("/v2/aa/blobs/uploads/u{}", request.seen)),
        "PUT" => Reply::status(201).wait(std::time::Duration::from_secs(20)),
        "DELETE" => Reply::status(204),
        _ => Reply::status(404),
    })
    .unwrap();
    let mut settings = settings();
    settings.stall = std::time::Duration::from_millis(300);
    settings.retries.attempts = 2;
    let client = skycap_registry::Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
    let started = std::time::Instant::now();
    let image = image("amd64", &[noise(1, 30_000_000)]);
    let error = place(&client, scripted.address(), "aa").put(&Artifact::Image(image), &[tag("1")]).unwrap_err();
    assert!(error.to_string().contains("makes no progress"), "{error}");
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
}
