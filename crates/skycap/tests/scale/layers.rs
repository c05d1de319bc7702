//! L02: many layers.

use crate::entries::{end, file};
use crate::image::Image;
use crate::measure::{Room, alone, copy, pull, size};
use crate::server::Server;
use crate::stream::{Piece, Stream};

/// Each layer has a file of its own, and one that all have.
fn layered(count: u64) -> Image {
    let layer = |number: u64| {
        let own = file(format!("own-{number}").as_bytes(), &number.to_string().repeat(500).into_bytes());
        let shared = file(b"shared", number.to_string().as_bytes());
        Stream::new(vec![Piece::Bytes([own, shared].concat()), end()])
    };
    Image::new((0..count).map(layer).collect())
}

#[test]
fn hundreds_of_layers_go_everywhere() {
    let _alone = alone();
    for count in size(vec![500, 1000], vec![60]) {
        let server = Server::start(layered(count));
        let room = Room::new();
        pull(&room, &server.image()).within(&format!("rootfs of {count} layers"));
        let last = std::fs::read_to_string(room.path("root/shared")).unwrap();
        assert_eq!(last, (count - 1).to_string(), "the last layer wins");
        assert_eq!(crate::measure::count(&room.path("root")), count + 1);
        let layout = format!("oci:{}", room.path("layout").display());
        copy(&room, &server.image(), &layout).within(&format!("layout of {count} layers"));
        copy(&room, &layout, &format!("{}/big/copy:latest", server.address)).within(&format!("push of {count} layers"));
        let archive = format!("oci-archive:{}", room.path("image.tar").display());
        copy(&room, &server.image(), &archive).within(&format!("archive of {count} layers"));
    }
}
