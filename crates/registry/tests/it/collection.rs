//! What the embedded registry removes when it is told to, what it spares, and what outlives a restart.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::json;
use skycap_image::{Artifact, Digest, ImageSink, ImageSource, Name};
use skycap_registry::server::{Collect, Collected, Options, Server, collect};

use crate::support::{ask, client, image, index, noise, place, read, server, tag};

const NOW: Collect = Collect { older_than: Duration::ZERO, untagged: false };
const ALL: Collect = Collect { older_than: Duration::ZERO, untagged: true };

fn files(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[test]
fn what_no_manifest_names_goes_and_the_rest_stays() {
    let (dir, server) = server();
    let place = place(&client(), server.address(), "team/app");
    let image = image("amd64", &[noise(1, 1000), noise(2, 1000)]);
    place.put(&Artifact::Image(image.clone()), &[tag("1")]).unwrap();
    let digest = Digest::sha256(b"nobody's");
    ask(server.address(), "POST", &format!("/v2/team/app/blobs/uploads/?digest={digest}"), &[], b"nobody's");
    ask(server.address(), "POST", "/v2/team/app/blobs/uploads/", &[], b"");
    assert_eq!(collect(dir.path(), Collect::default()).unwrap(), Collected::default(), "everything is too young");
    let collected = collect(dir.path(), NOW).unwrap();
    assert_eq!(collected, Collected { manifests: 0, blobs: 1, uploads: 1, bytes: 8 });
    assert_eq!(collect(dir.path(), ALL).unwrap(), Collected::default());
    for layer in image.layers() {
        read(&place, &layer.descriptor).unwrap();
    }
}

#[test]
fn untagged_manifests_go_unless_something_leads_to_them() {
    let (dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let moved = place.put(&Artifact::Image(image("amd64", &[noise(1, 1000)])), &[tag("1")]).unwrap();
    place.put(&Artifact::Image(image("amd64", &[noise(2, 1000)])), &[tag("1")]).unwrap();
    let multi = place.put(&index(), &[tag("multi")]).unwrap();
    ask(server.address(), "POST", &format!("/v2/aa/blobs/uploads/?digest={}", Digest::sha256(b"{}")), &[], b"{}");
    let sign = |subject: &skycap_image::Descriptor| {
        let signature = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "x/signature",
            "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Digest::sha256(b"{}"), "size": 2},
            "layers": [], "subject": subject,
        });
        let digest = Digest::sha256(signature.to_string().as_bytes());
        let headers = [("content-type", "application/vnd.oci.image.manifest.v1+json")];
        let target = format!("/v2/aa/manifests/{digest}");
        assert_eq!(ask(server.address(), "PUT", &target, &headers, signature.to_string().as_bytes()).status, 201);
        Name::Digest(digest)
    };
    let (kept, lost) = (sign(&multi), sign(&moved));
    assert_eq!(collect(dir.path(), NOW).unwrap().manifests, 0, "only when told to");
    assert_eq!(
        collect(dir.path(), Collect { untagged: true, ..Collect::default() }).unwrap().manifests,
        0,
        "too young"
    );
    let collected = collect(dir.path(), ALL).unwrap();
    assert_eq!((collected.manifests, collected.blobs), (2, 1), "the image that lost its tag, and its signature");
    assert!(place.find(&kept).unwrap().is_some() && place.find(&lost).unwrap().is_none());
    assert!(place.find(&Name::Digest(moved.digest)).unwrap().is_none());
    let Artifact::Index(index) = place.get(&tag("multi")).unwrap() else { panic!("an index") };
    for child in index.manifests() {
        assert!(place.find(&Name::Digest(child.digest)).unwrap().is_some());
    }
}

#[test]
fn a_blob_that_was_asked_for_or_mounted_lately_is_spared() {
    let (dir, server) = server();
    let digests: Vec<Digest> = (0..3_u64)
        .map(|seed| {
            let bytes = noise(seed, 100);
            let digest = Digest::sha256(&bytes);
            ask(server.address(), "POST", &format!("/v2/aa/blobs/uploads/?digest={digest}"), &[], &bytes);
            digest
        })
        .collect();
    // The repository must be known; a manifest makes it so.
    let place = place(&client(), server.address(), "aa");
    place.put(&Artifact::Image(image("amd64", &[])), &[tag("1")]).unwrap();
    let blob = |digest: &Digest| dir.path().join("registry-v2/aa/_repository/blobs/sha256").join(digest.hex());
    for digest in &digests {
        let file = std::fs::File::open(blob(digest)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(48)).unwrap();
    }
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(ask(server.address(), "HEAD", &format!("/v2/aa/blobs/{}", digests[0]), &[], b"").status, 200);
    ask(server.address(), "POST", &format!("/v2/bb/blobs/uploads/?mount={}&from=aa", digests[1]), &[], b"");
    let collected = collect(dir.path(), Collect { older_than: Duration::from_secs(1), untagged: false }).unwrap();
    assert_eq!(collected.blobs, 1, "the third");
    assert!(blob(&digests[0]).exists() && blob(&digests[1]).exists() && !blob(&digests[2]).exists());
}

#[test]
fn a_damaged_manifest_stops_a_collection_before_anything_is_lost() {
    let (dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let pushed = place.put(&Artifact::Image(image("amd64", &[noise(1, 1000)])), &[tag("1")]).unwrap();
    let inside = dir.path().join("registry-v2/aa/_repository");
    let before = files(&inside.join("blobs"));
    let file = inside.join("manifests/sha256").join(pushed.digest.hex());
    let bytes = std::fs::read(&file).unwrap();
    for damage in [&b""[..], b"{\"half", &bytes[..bytes.len() - 3], b"not json\n{}"] {
        std::fs::write(&file, damage).unwrap();
        assert!(collect(dir.path(), ALL).unwrap_err().to_string().contains("damaged"));
        assert_eq!(files(&inside.join("blobs")), before);
        let answer = ask(server.address(), "GET", "/v2/aa/manifests/1", &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (500, "UNKNOWN"), "never wrong bytes");
    }
}

#[test]
fn collections_and_pushes_at_once_lose_nothing_that_was_acknowledged() {
    let (dir, server) = server();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                collect(dir.path(), ALL).unwrap();
            }
        });
        let pushers: Vec<_> = (0..4_u64)
            .map(|pusher| {
                let address = server.address();
                scope.spawn(move || {
                    let place = place(&client(), address, "aa");
                    for number in 0..10 {
                        let image = image("amd64", &[noise(pusher * 100 + number, 10_000)]);
                        let name = tag(&format!("{pusher}-{number}"));
                        // Everything is old enough to be removed: a push may find that its blobs went, and says so.
                        let _ = place.put(&Artifact::Image(image.clone()), std::slice::from_ref(&name)).map(|_| {
                            let Artifact::Image(image) = place.get(&name).unwrap() else { panic!("an image") };
                            read(&place, &image.layers()[0].descriptor).unwrap();
                        });
                    }
                })
            })
            .collect();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let place = place(&client(), server.address(), "aa");
    for name in place.tags().unwrap_or_default() {
        let Artifact::Image(image) = place.get(&tag(&name)).unwrap() else { panic!("an image") };
        read(&place, &image.layers()[0].descriptor).unwrap();
    }
}

#[test]
fn an_upload_goes_on_after_a_restart_and_on_another_server_of_the_same_directory() {
    let (dir, server) = server();
    let start = || Server::start(([127, 0, 0, 1], 0).into(), dir.path(), Options::default()).unwrap();
    let bytes = noise(1, 3000);
    let digest = Digest::sha256(&bytes);
    let upload = ask(server.address(), "POST", "/v2/aa/blobs/uploads/", &[], b"").header("location").to_owned();
    assert_eq!(ask(server.address(), "PATCH", &upload, &[], &bytes[..1000]).status, 202);
    server.stop();
    let (second, third) = (start(), start());
    let asked = ask(second.address(), "GET", &upload, &[], b"");
    assert_eq!((asked.status, asked.header("range")), (204, "0-999"));
    let patch = [("content-range", "1000-1999")];
    assert_eq!(ask(second.address(), "PATCH", &upload, &patch, &bytes[1000..2000]).status, 202);
    let put = [("content-range", "2000-2999")];
    assert_eq!(ask(third.address(), "PUT", &format!("{upload}?digest={digest}"), &put, &bytes[2000..]).status, 201);
    assert_eq!(ask(second.address(), "GET", &format!("/v2/aa/blobs/{digest}"), &[], b"").body, bytes);
    assert_eq!(ask(second.address(), "GET", &upload, &[], b"").code(), "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn two_requests_for_one_upload_do_not_mix() {
    use std::io::Write;
    let (_dir, server) = server();
    let upload = ask(server.address(), "POST", "/v2/aa/blobs/uploads/", &[], b"").header("location").to_owned();
    let mut slow = std::net::TcpStream::connect(server.address()).unwrap();
    write!(slow, "PATCH {upload} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhello").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let busy = ask(server.address(), "PATCH", &upload, &[], b"other");
    assert_eq!((busy.status, busy.code().as_str()), (409, "BLOB_UPLOAD_INVALID"));
    // The slow one goes away in the middle: what it brought stays, and the next one goes on behind it.
    drop(slow);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(ask(server.address(), "GET", &upload, &[], b"").header("range"), "0-4");
    let digest = Digest::sha256(b"hello world");
    let rest = [("content-range", "5-10")];
    assert_eq!(ask(server.address(), "PUT", &format!("{upload}?digest={digest}"), &rest, b" world").status, 201);
}

#[test]
fn a_tag_file_that_is_damaged_is_an_error_of_that_tag_alone() {
    let (dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    place.put(&Artifact::Image(image("amd64", &[])), &[tag("1"), tag("2")]).unwrap();
    let tags = dir.path().join("registry-v2/aa/_repository/tags");
    std::fs::write(tags.join("1"), "half a li").unwrap();
    assert_eq!(ask(server.address(), "GET", "/v2/aa/manifests/1", &[], b"").status, 500);
    assert_eq!(place.tags().unwrap(), ["1", "2"]);
    assert!(place.find(&tag("2")).unwrap().is_some());
    place.put(&Artifact::Image(image("amd64", &[])), &[tag("1")]).unwrap();
    assert!(place.find(&tag("1")).unwrap().is_some(), "a push mends it");
}

/// 10,000 with `SKYCAP_TEST_FULL`; a sample of them otherwise.
#[test]
fn a_push_costs_the_same_however_many_tags_there_are() {
    let full = skycap_testkit::wants_everything();
    let count = if full { 10_000 } else { 600 };
    let (_dir, server) = server();
    let place = place(&client(), server.address(), "aa");
    let image = Artifact::Image(image("amd64", &[noise(1, 100)]));
    place.put(&image, &[tag("first")]).unwrap();
    let time = |from: usize, to: usize| {
        let names: Vec<_> = (from..to).map(|number| tag(&format!("tag-{number:06}"))).collect();
        let start = std::time::Instant::now();
        place.put(&image, &names).unwrap();
        start.elapsed()
    };
    let part = count / 6;
    let first = time(0, part);
    time(part, count - part);
    let last = time(count - part, count);
    let rate = |time: Duration| u128::try_from(part).unwrap() * 1000 / time.as_millis().max(1);
    eprintln!("sampled: {count} tags; the first {part} at {}/s, the last {part} at {}/s", rate(first), rate(last));
    assert!(last < first * 3 + Duration::from_secs(1), "{first:?}, then {last:?}");
    let start = std::time::Instant::now();
    assert_eq!(place.tags().unwrap().len(), count + 1);
    eprintln!("sampled: {count} tags listed in {:?}", start.elapsed());
}
