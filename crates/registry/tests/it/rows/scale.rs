//! Many requests, long lists.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use skycap_image::{Digest, ImageSource, Name};
use skycap_testkit::registry::{Reply, Scripted};

use crate::support::{client, place, tag};

#[test]
fn a_thousand_heads_at_20_ms_an_answer_are_20_times_faster_than_one_after_another() {
    let digest = Digest::sha256(b"manifest").to_string();
    let scripted = Scripted::start(move |request| {
        let reply = Reply::status(200).keep();
        if request.path == "/v2/" {
            return reply;
        }
        reply
            .header("content-type", "application/vnd.oci.image.manifest.v1+json")
            .header("content-length", "8")
            .header("docker-content-digest", digest.clone())
            .wait(Duration::from_millis(20))
    })
    .unwrap();
    let place = place(&client(), scripted.address(), "aa");
    let names: Vec<Name> = (0..1000).map(|at| tag(&at.to_string())).collect();
    place.ping().unwrap();
    let started = Instant::now();
    assert!(place.find_all(&names).into_iter().all(|found| found.unwrap().is_some()));
    let took = started.elapsed();
    let heads = scripted.requests().iter().filter(|request| request.method == "HEAD").count();
    assert_eq!(heads, 1000, "no request more than needed");
    assert!(scripted.connections() <= 40, "{} connections", scripted.connections());
    println!("1000 HEADs at 20 ms: {took:?} over {} connections", scripted.connections());
    // The same machine, as busy as it is now, one after another.
    let started = Instant::now();
    for name in &names[..50] {
        assert!(place.find(name).unwrap().is_some());
    }
    let ratio = (started.elapsed() * 20).as_secs_f64() / took.as_secs_f64();
    println!("{ratio:.1} times faster than one after another");
    // Twenty times on a machine that has nothing else to do.
    assert!(ratio > 8.0, "{ratio}");
}

/// The most memory that this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn ten_thousand_tags_are_listed_page_by_page() {
    let scripted = Scripted::start(|request| {
        let at: usize = request.query.split("last=").nth(1).map_or(0, |last| last.parse().unwrap());
        let tags: String = (at..at + 1000).fold(String::new(), |mut text, number| {
            let _ = write!(text, "\"{number:0100}\",");
            text
        });
        let reply = Reply::status(200).body(format!(r#"{{"tags":[{}]}}"#, tags.trim_end_matches(',')));
        if at < 9000 { reply.header("link", format!("<?n=1000&last={}>; rel=next", at + 1000)) } else { reply }
    })
    .unwrap();
    let tags = place(&client(), scripted.address(), "aa").tags().unwrap();
    assert_eq!((tags.len(), scripted.requests().len()), (10_000, 11));
    println!("10,000 tags; this process, with all of its other tests, had {} MiB", peak());
}
