//! L03: an image larger than memory, and larger than any buffer.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use skycap_image::Digest;

use crate::entries::{content, end, named};
use crate::image::Image;
use crate::measure::{Room, alone, copy, pull, size};
use crate::server::Server;
use crate::stream::{Piece, Stream};

fn large(layers: u64, each: u64) -> Image {
    let layer = |number: u64| {
        let mut pieces = content(format!("large-{number}").as_bytes(), number, each).to_vec();
        pieces.push(end());
        Stream::new(pieces)
    };
    Image::new((0..layers).map(layer).collect())
}

/// Where there is no room for the bytes, they cannot be kept.
fn has_room(room: &Room, test: &str, bytes: u64) -> bool {
    let free = room.free();
    if free < bytes + bytes / 10 {
        skycap_testkit::skipped!("{test}: needs {} MiB of disk, and {} are free", bytes >> 20, free >> 20);
        return false;
    }
    true
}

#[test]
fn an_image_of_any_size_goes_everywhere_in_bounded_memory() {
    let _alone = alone();
    let each: u64 = size(5 << 30, 24 << 20);
    let image = large(4, each);
    let total = image.size;
    let name = format!("{} MiB", total >> 20);
    let server = Server::start(image);
    let room = Room::new();
    let elsewhere = format!("{}/big/copy:latest", server.address);
    let received = || server.counts.received.load(Ordering::Relaxed);
    copy(&room, &server.image(), &elsewhere).within(&format!("registry to registry, {name}"));
    assert!((total..total + (1 << 20)).contains(&received()), "{} bytes were sent for {total}", received());
    if !has_room(&room, "an_image_of_any_size_goes_everywhere_in_bounded_memory", total) {
        return;
    }
    pull(&room, &server.image()).within(&format!("rootfs of {name}"));
    for number in 0..4 {
        assert_eq!(std::fs::metadata(room.path(&format!("root/large-{number}"))).unwrap().len(), each);
    }
    room.remove("root");
    let layout = format!("oci:{}", room.path("layout").display());
    copy(&room, &server.image(), &layout).within(&format!("layout of {name}"));
    let before = received();
    copy(&room, &layout, &elsewhere).within(&format!("push of {name}"));
    assert!((total..total + (1 << 20)).contains(&(received() - before)));
    room.remove("layout");
    let archive = format!("oci-archive:{}", room.path("image.tar").display());
    copy(&room, &server.image(), &archive).within(&format!("archive of {name}"));
    room.remove("image.tar");
}

/// A push of a layout whose blobs are holes: as long as it says, and no room taken.
#[test]
fn a_layout_of_any_size_is_pushed_in_bounded_memory() {
    let _alone = alone();
    let each: u64 = size(5 << 30, 24 << 20);
    let zeros = |number: u64| {
        let head = named(format!("zeros-{number}").as_bytes(), b'0', each, b"");
        let repeat = Piece::Repeat { count: each >> 20, each: 1 << 20, make: Arc::new(|_| vec![0; 1 << 20]) };
        Stream::new(vec![Piece::Bytes(head), repeat, end()])
    };
    let image = Image::new((0..4).map(zeros).collect());
    let total = image.size;
    let room = Room::new();
    let blobs = room.path("layout/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for (digest, stream) in &image.blobs {
        let mut file = std::fs::File::create(blobs.join(&digest["sha256:".len()..])).unwrap();
        std::io::copy(&mut stream.from(0).take(4096), &mut file).unwrap();
        file.set_len(stream.size).unwrap();
    }
    let manifest = Digest::sha256(&image.manifest);
    std::fs::write(blobs.join(manifest.hex()), &image.manifest).unwrap();
    std::fs::write(room.path("layout/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": image.manifest.len()}]});
    std::fs::write(room.path("layout/index.json"), index.to_string()).unwrap();
    let server = Server::start(image);
    let layout = format!("oci:{}", room.path("layout").display());
    let push = copy(&room, &layout, &format!("{}/big/copy:latest", server.address));
    push.within(&format!("push of {} MiB of holes", total >> 20));
    let received = server.counts.received.load(Ordering::Relaxed);
    assert!((total..total + (1 << 20)).contains(&received), "{received} bytes were sent for {total}");
}

/// R02, R03: every connection breaks, and nothing is fetched twice but what was on its way.
#[test]
fn a_fetch_that_is_cut_twenty_times_goes_on_where_it_was() {
    let _alone = alone();
    let (each, pieces): (u64, u64) = size((2 << 30, 20), (16 << 20, 5));
    let image = large(2, each);
    let total = image.size;
    let server = Server::cutting(image, each / pieces + 1000);
    let room = Room::new();
    if !has_room(&room, "a_fetch_that_is_cut_twenty_times_goes_on_where_it_was", total) {
        return;
    }
    pull(&room, &server.image()).within(&format!("rootfs of {} MiB in pieces", total >> 20));
    let cuts = server.counts.cuts.load(Ordering::Relaxed);
    let sent = server.counts.sent.load(Ordering::Relaxed);
    assert!(cuts >= 2 * (pieces - 1), "{cuts} cuts");
    assert!(sent <= total + cuts * (1 << 20), "{sent} bytes were fetched for {total}");
}
