//! L08: many at once with one store.

use skycap_image::Digest;

use crate::entries::{content, end};
use crate::image::Image;
use crate::measure::{Room, alone, bound, full, size, start};
use crate::server::Server;
use crate::stream::Stream;

#[test]
fn thirty_two_fetches_of_one_image_at_once_fetch_each_layer_once() {
    let _alone = alone();
    let layer = |number: u64| {
        let mut pieces = content(format!("file-{number}").as_bytes(), number, size(40 << 20, 1 << 20)).to_vec();
        pieces.push(end());
        Stream::new(pieces)
    };
    let layers: Vec<Stream> = (0..5).map(layer).collect();
    let digests: Vec<Digest> = layers.iter().map(Stream::digest).collect();
    let server = Server::start(Image::new(layers));
    let room = Room::new();
    let store = room.path("store").display().to_string();
    let began = std::time::Instant::now();
    let running: Vec<_> = (0..32)
        .map(|number| {
            let root = room.path(&format!("root-{number}")).display().to_string();
            let arguments = ["pull", "--insecure", "--store", &store, &server.image(), "--rootfs", &root];
            start(&room, &format!("pull-{number}"), &arguments)
        })
        .collect();
    let mut peak = 0;
    for (number, running) in running.into_iter().enumerate() {
        let ran = running.end();
        assert!(ran.success, "{number}: {}", ran.stderr);
        peak = peak.max(ran.peak);
        for file in 0..5 {
            assert!(room.path(&format!("root-{number}/file-{file}")).is_file());
        }
    }
    let (time, sampled) = (began.elapsed().as_secs_f64(), if full() { "scale" } else { "sampled" });
    // Configs are small and are read before a store is asked for.
    let most = server.most_fetches(&digests);
    eprintln!(
        "{sampled}: 32 fetches at once: {time:.2} s, peak {} MiB each, a layer was fetched {most} times at most",
        peak >> 20
    );
    assert!(peak <= bound());
    assert_eq!(most, 1);
}
