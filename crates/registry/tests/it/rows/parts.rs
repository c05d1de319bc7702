//! Large blobs over slow connections: in parts, several at once, in order, and as right as in one piece.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use skycap_image::{Descriptor, Kind, MediaType};
use skycap_registry::{Client, Settings};
use skycap_testkit::registry::{Reply, Request, Scripted};

use crate::support::{Kept, noise, place, read, settings};

const SIZE: usize = 24 << 20;
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| noise(1, SIZE));

/// Each connection brings one piece in 31 ms.
fn slow(piece: usize, fault: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request| {
        if request.path == "/v2/" {
            return Reply::status(200);
        }
        let range = request.header("range").and_then(|range| {
            let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
            let end = if end.is_empty() { SIZE - 1 } else { end.parse().ok()? };
            Some((start.parse::<usize>().ok()?, end))
        });
        let reply = match range {
            Some((start, end)) => Reply::status(206)
                .header("content-range", format!("bytes {start}-{end}/{SIZE}"))
                .body(&BYTES[start..=end]),
            None => Reply::status(200).body(&BYTES[..]),
        };
        fault(request, reply.trickle(piece, Duration::from_millis(31)))
    })
    .unwrap()
}

fn fetched(scripted: &Scripted, ranges: usize) -> (Result<Vec<u8>, skycap_image::SourceError>, Duration, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    let client = Client::new(Settings { ranges, ..settings() }, kept.clone()).unwrap();
    let layer = Descriptor::of(MediaType::OciLayerGzip, &BYTES);
    let started = Instant::now();
    let bytes = read(&place(&client, scripted.address(), "aa"), &layer);
    (bytes, started.elapsed(), kept)
}

#[test]
fn a_slow_connection_is_joined_by_others() {
    let scripted = slow(128 * 1024, |_, reply| reply);
    let (bytes, alone, _) = fetched(&scripted, 0);
    assert!(bytes.unwrap() == *BYTES);
    assert_eq!(scripted.requests().iter().filter(|request| request.method == "GET").count(), 2);
    let (bytes, together, kept) = fetched(&scripted, 8);
    assert!(bytes.unwrap() == *BYTES);
    println!("24 MiB at 4 MiB a second and connection: {alone:?} alone, {together:?} in parts");
    assert!(together * 3 < alone * 2, "{together:?} against {alone:?}");
    assert!(kept.lines().iter().any(|line| line.contains("several at once")));
}

#[test]
fn parts_that_fail_are_given_up_and_the_rest_comes_in_one_piece() {
    let is_part = |request: &Request| request.header("range").is_some_and(|range| !range.ends_with('-'));
    type Fault = fn(Reply) -> Reply;
    let faults: [(&str, Fault); 6] = [
        ("403 of an address that has ended", |_| Reply::status(403)),
        ("no ranges after all", |reply| reply.header("content-range", "bytes 0-1/2")),
        ("cut", |reply| reply.cut(1000)),
        ("404", |_| Reply::status(404)),
        ("503", |_| Reply::status(503)),
        ("too long", |reply| reply.header("content-length", "9").without_length()),
    ];
    for (what, fault) in faults {
        let scripted = slow(256 * 1024, move |request, reply| if is_part(request) { fault(reply) } else { reply });
        let (bytes, _, kept) = fetched(&scripted, 8);
        let bytes = bytes.unwrap_or_else(|error| panic!("{what}: {error}: {:?}", kept.lines()));
        assert!(bytes == *BYTES, "{what}");
        assert!(scripted.requests().iter().any(is_part), "{what}");
    }
}

#[test]
fn wrong_bytes_in_a_part_are_wrong_bytes_of_the_blob() {
    let is_part = |request: &Request| request.header("range").is_some_and(|range| !range.ends_with('-'));
    let scripted = slow(256 * 1024, move |request, reply| if is_part(request) { reply.flip(5) } else { reply });
    let (bytes, _, _) = fetched(&scripted, 8);
    assert_eq!(bytes.unwrap_err().kind, Kind::Corrupt);
}

#[test]
fn a_fast_connection_stays_alone() {
    let scripted =
        Scripted::start(
            move |request| {
                if request.path == "/v2/" { Reply::status(200) } else { Reply::status(200).body(&BYTES[..]) }
            },
        )
        .unwrap();
    fetched(&scripted, 8).0.unwrap();
    assert_eq!(scripted.requests().iter().filter(|request| request.path != "/v2/").count(), 1);
}
