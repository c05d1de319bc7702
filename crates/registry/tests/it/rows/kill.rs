//! K17: a push that ends at any request leaves no name without its parts, and the next push sends no blob twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_image::{Artifact, BlobSource, ImageSink, ImageSource, Index, Memory, Platform};
use skycap_registry::{Client, Retries, Settings};
use skycap_testkit::registry::{Reply, Scripted};

use crate::support::{client, image, noise, place, read, server, settings, tag};

/// Two images with a layer in common, under two names.
fn artifact() -> Artifact {
    let memory = Memory::default();
    let children = ["amd64", "arm64"].map(|architecture| {
        let image = image(architecture, &[noise(1, 1000), noise(architecture.len() as u64, 500), architecture.into()]);
        memory.put(&Artifact::Image(image), &[]).unwrap().with_platform(Platform::new("linux", architecture))
    });
    Artifact::Index(Index::assemble(children.to_vec(), false, Arc::new(memory)).unwrap())
}

fn is_full() -> bool {
    skycap_testkit::wants_everything()
}

/// Everything below the name can be read.
fn is_whole(place: &skycap_registry::Place, name: &str) -> bool {
    if place.find(&tag(name)).unwrap().is_none() {
        return false;
    }
    let found = place.get(&tag(name)).expect("what a name stands for is there");
    for architecture in ["amd64", "arm64"] {
        let image = found.for_platform(&Platform::new("linux", architecture)).expect("so are its children");
        for layer in image.layers() {
            read(place, &layer.descriptor).expect("and their layers");
        }
    }
    true
}

#[test]
fn a_push_killed_at_any_request_leaves_nothing_half_done() {
    let artifact = artifact();
    for concurrency in [1, 4] {
        let mut last = 0;
        // All of them take a minute; a sample is a different one for each concurrency.
        let step = if is_full() { 1 } else { 7 };
        for deadly in (concurrency..).step_by(step) {
            let (_dir, server) = server();
            let count = AtomicUsize::new(0);
            // From that request on, there is no client any more: it is neither heard nor answered.
            let scripted = Scripted::in_front_of(server.address(), move |_| {
                if count.fetch_add(1, Ordering::SeqCst) < deadly { Reply::forward() } else { Reply::hang_up() }
            })
            .unwrap();
            let settings = Settings { retries: Retries::NEVER, concurrency, ..settings() };
            let dying = Client::new(settings, Arc::new(skycap_image::Silent)).unwrap();
            let pushed = place(&dying, scripted.address(), "aa").put(&artifact, &[tag("1"), tag("2")]);
            let direct = place(&client(), server.address(), "aa");
            for name in ["1", "2"] {
                is_whole(&direct, name);
            }
            let stored: HashSet<String> = scripted
                .requests()
                .iter()
                .take(deadly)
                .filter(|request| request.method == "PUT" && request.path.contains("/uploads/"))
                .map(|request| request.query.rsplit_once("digest=").unwrap().1.to_owned())
                .collect();
            let again = Scripted::in_front_of(server.address(), |_| Reply::forward()).unwrap();
            place(&client(), again.address(), "aa").put(&artifact, &[tag("1"), tag("2")]).unwrap();
            assert!(is_whole(&direct, "1") && is_whole(&direct, "2"));
            for request in again.requests() {
                if let Some((_, digest)) = request.query.rsplit_once("digest=") {
                    assert!(!stored.contains(digest), "{digest} was sent again after request {deadly}");
                }
            }
            println!("killed at request {deadly} with {concurrency} at once: {}", pushed.is_err());
            if pushed.is_ok() {
                last = deadly;
                break;
            }
        }
        assert!(last > 20, "{last} requests");
    }
    let _: &dyn BlobSource = &Memory::default();
}
