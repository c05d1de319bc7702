//! L01: lists of tags that do not end soon.

use std::sync::atomic::Ordering;

use crate::entries::{end, file};
use crate::image::Image;
use crate::measure::{Room, alone, size, skycap};
use crate::server::Server;
use crate::stream::{Piece, Stream};

#[test]
fn hundreds_of_thousands_of_tags_are_listed_page_by_page() {
    let _alone = alone();
    for (tags, page) in size(vec![(10_000, 1000), (10_000, 50), (100_000, 1000), (202_169, 1000)], vec![(10_000, 1000)])
    {
        let image = Image::new(vec![Stream::new(vec![Piece::Bytes(file(b"a", b"a")), end()])]);
        let server = Server::with(image, (tags, page), None);
        let room = Room::new();
        let repository = format!("{}/big/image", server.address);
        let ran = skycap(&room, &["tags", "--insecure", &repository]).within(&format!("{tags} tags, {page} on a page"));
        let listed = std::fs::read_to_string(&ran.stdout).unwrap();
        assert_eq!(listed.lines().count() as u64, tags);
        let requests = server.counts.requests.load(Ordering::Relaxed);
        assert!(requests <= tags / page + 4, "{requests} requests");
    }
}
