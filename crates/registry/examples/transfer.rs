//! Measures the client alone, without unpacking: wall clock, processor time and peak memory of fetching, sending or finding.
//!
//! ```text
//! cargo run --release -p skycap-registry --example transfer -- get 127.0.0.1:5099/debian-ish:1 [blobs at once]
//! cargo run --release -p skycap-registry --example transfer -- put LAYOUT 127.0.0.1:5099/copy:1
//! cargo run --release -p skycap-registry --example transfer -- find 127.0.0.1:5000/many      (every tag)
//! ```
//!
//! With `--ca FILE` a private authority is trusted.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool for those who work on the client, not a part of it"
)]

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use skycap_image::layout::Layout;
use skycap_image::{Artifact, BlobSource};
use skycap_image::{Descriptor, ImageSink, ImageSource, Name, Reference, Silent};
use skycap_registry::{Access, Client, Place, Settings};

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut settings = Settings::default();
    if let Some(at) = arguments.iter().position(|argument| argument == "--ca") {
        settings.ca_certs.push(std::fs::read_to_string(arguments.remove(at + 1)).unwrap());
        arguments.remove(at);
    }
    let client = Client::new(settings, Arc::new(Silent)).unwrap();
    let started = Instant::now();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let what = match words[..] {
        ["get", name] => get(&client, name, 4),
        ["get", name, at_once] => get(&client, name, at_once.parse().unwrap()),
        ["put", layout, name] => put(&client, Path::new(layout), name),
        ["find", name] => find(&client, name),
        _ => panic!("get NAME [AT ONCE] | put LAYOUT NAME | find NAME"),
    };
    let wall = started.elapsed().as_secs_f64();
    let (user, system) = processor();
    println!("{what}: {wall:.3} s, user {user:.2} s, system {system:.2} s, peak {} MiB", peak());
}

fn place(client: &Client, name: &str) -> (Place, Name) {
    let reference: Reference = name.parse().unwrap();
    let access = Access { push: true, ..Access::default() };
    (client.place(reference.repository.clone(), access).unwrap(), reference.name())
}

fn get(client: &Client, name: &str, at_once: usize) -> String {
    let (place, name) = place(client, name);
    let Artifact::Image(image) = place.get(&name).unwrap() else { panic!("an index") };
    let blobs: Vec<Descriptor> = image.manifest().layers.clone();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut reader = place.open(blob).unwrap();
                    let mut buffer = vec![0; 256 * 1024];
                    while reader.read(&mut buffer).unwrap() > 0 {}
                    reader.finish().unwrap();
                }
            });
        }
    });
    let bytes: u64 = blobs.iter().map(|blob| blob.size).sum();
    format!("got {} blobs, {} MiB", blobs.len(), bytes >> 20)
}

fn put(client: &Client, layout: &Path, name: &str) -> String {
    let (place, name) = place(client, name);
    let artifact = Layout::open(layout).unwrap().only().unwrap();
    let pushed = place.put(&artifact, &[name]).unwrap();
    format!("put {}", pushed.digest)
}

fn find(client: &Client, name: &str) -> String {
    let (place, _) = place(client, name);
    let names: Vec<Name> = place.tags().unwrap().into_iter().map(Name::Tag).collect();
    let found = place.find_all(&names).into_iter().filter(|found| found.as_ref().unwrap().is_some()).count();
    format!("found {found} of {}", names.len())
}

/// User and system time of this process, in seconds.
fn processor() -> (f64, f64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let seconds = |at: usize| fields[at].parse::<f64>().unwrap() / 100.0;
    (seconds(11), seconds(12))
}

/// The most memory this process ever had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
