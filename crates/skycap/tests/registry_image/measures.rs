//! How fast a check is, how much it asks and how much memory it takes. Debug builds and busy machines are given room; the figures
//! are printed, and `bench/` has those of release builds.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::case::Installed;

/// A registry with many versions that keeps connections open, as real ones do.
struct Many {
    address: SocketAddr,
    heads: Arc<AtomicUsize>,
}

impl Many {
    fn start(tags: usize, wait: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let list: Vec<String> = (0..tags).map(|number| format!("1.{number}.0")).collect();
        let list = Arc::new(serde_json::json!({"name": "app", "tags": list}).to_string());
        let counting = Arc::clone(&heads);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (list, heads) = (Arc::clone(&list), Arc::clone(&counting));
                // A client that goes away ends its thread.
                std::thread::spawn(move || serve(&stream, &list, &heads, wait));
            }
        });
        Self { address, heads }
    }
}

fn serve(stream: &TcpStream, list: &str, heads: &AtomicUsize, wait: Duration) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut line) = (String::new(), String::new());
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let answer = if first.starts_with("HEAD") {
            heads.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(wait);
            let digest = skycap_image::Digest::sha256(first.as_bytes());
            format!(
                "content-type: application/vnd.oci.image.manifest.v1+json\r\ndocker-content-digest: {digest}\r\ncontent-length: 500\r\n\r\n"
            )
        } else {
            let body = if first.contains("tags/list") { list } else { "{}" };
            format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let mut out = stream;
        out.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes())?;
    }
}

/// Runs a check: how long it took, its peak memory in KiB as far as it was seen, and how many versions it found.
fn check(installed: &Installed, source: &serde_json::Value) -> (Duration, usize, usize) {
    let started = Instant::now();
    let mut child = Command::new(installed.program("check"));
    let mut child =
        child.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let request = serde_json::json!({"source": source}).to_string();
    child.stdin.take().unwrap().write_all(request.as_bytes()).unwrap();
    let (status, pid) = (format!("/proc/{}/status", child.id()), child.id());
    let watching = std::thread::spawn(move || {
        let mut most = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let peak = text
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
            let Some(peak) = peak else { break };
            most = most.max(peak);
            std::thread::sleep(Duration::from_millis(2));
        }
        most
    });
    let output = child.wait_with_output().unwrap();
    let took = started.elapsed();
    assert!(output.status.success(), "{pid}: {output:?}");
    let versions: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    (took, watching.join().unwrap(), versions.len())
}

#[test]
fn a_check_of_one_tag_starts_and_ends_at_once() {
    let (installed, server) = (Installed::new(), Many::start(1, Duration::ZERO));
    let source = serde_json::json!({"repository": format!("{}/app", server.address), "tag": "1.0.0"});
    let mut times: Vec<Duration> = (0..11).map(|_| check(&installed, &source).0).collect();
    times.sort();
    eprintln!("figure: a check of one tag takes {:?} (median of 11)", times[5]);
    assert!(times[5] < Duration::from_millis(250), "{times:?}");
}

#[test]
fn a_thousand_tags_are_asked_for_many_at_once_and_once_each() {
    let (installed, server) = (Installed::new(), Many::start(1000, Duration::from_millis(20)));
    let (took, _, versions) = check(&installed, &serde_json::json!({"repository": format!("{}/app", server.address)}));
    let ratio = 20.0 / took.as_secs_f64();
    eprintln!("figure: 1,000 tags at 20 ms an answer take {took:?}, {ratio:.1} times faster than one after another");
    assert_eq!((versions, server.heads.load(Ordering::Relaxed)), (1000, 1000));
    assert!(ratio > 8.0, "{took:?}");
}

#[test]
fn ten_thousand_tags_take_little_memory() {
    let (installed, server) = (Installed::new(), Many::start(10_000, Duration::ZERO));
    let (took, memory, versions) =
        check(&installed, &serde_json::json!({"repository": format!("{}/app", server.address)}));
    eprintln!("figure: 10,000 tags take {took:?} and {memory} KiB at most");
    assert_eq!(versions, 10_000);
    assert!(memory < 64 * 1024, "{memory} KiB");
}
