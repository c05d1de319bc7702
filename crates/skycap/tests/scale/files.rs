//! L05: many files, many directories, many links, and what a file system cannot hold.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::entries::{end, file, header};
use crate::image::Image;
use crate::measure::{Room, alone, count, pull, size};
use crate::server::Server;
use crate::stream::{Piece, Stream};

fn layer(pieces: Vec<Piece>) -> Image {
    let mut pieces = pieces;
    pieces.push(end());
    Image::new(vec![Stream::new(pieces)])
}

fn repeat(count: u64, make: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Piece {
    let each = make(0).len() as u64;
    Piece::Repeat { count, each, make: Arc::new(make) }
}

#[test]
fn a_million_files_in_one_directory() {
    let _alone = alone();
    let files: u64 = size(1_000_000, 10_000);
    let image = layer(vec![repeat(files, |number| file(format!("f{number:07}").as_bytes(), b"x"))]);
    let server = Server::start(image);
    let room = Room::new();
    pull(&room, &server.image()).within(&format!("{files} files in one directory"));
    assert_eq!(count(&room.path("root")), files);
}

#[test]
fn a_million_files_in_ten_thousand_directories() {
    let _alone = alone();
    let directories: u64 = size(10_000, 50);
    let directory = repeat(directories, |number| header(format!("d{number:05}/").as_bytes(), b'5', 0, b""));
    let file = repeat(directories * 100, |number| {
        header(format!("d{:05}/f{:02}", number / 100, number % 100).as_bytes(), b'0', 0, b"")
    });
    let server = Server::start(layer(vec![directory, file]));
    let room = Room::new();
    pull(&room, &server.image()).within(&format!("{} files in {directories} directories", directories * 100));
    assert_eq!(count(&room.path("root")), directories * 101);
}

/// ext4 takes 65,000 names of one file: more are an error that says so, and leave nothing behind.
#[test]
fn more_names_of_one_file_than_the_file_system_takes() {
    let _alone = alone();
    let links: u64 = size(100_000, 5_000);
    let link = repeat(links, |number| header(format!("l{number:06}").as_bytes(), b'1', 0, b"first"));
    let server = Server::start(layer(vec![Piece::Bytes(file(b"first", b"x")), link]));
    let room = Room::new();
    let ran = pull(&room, &server.image());
    eprintln!(
        "scale: {links} hard links: {:.2} s, peak {} MiB, {}",
        ran.time.as_secs_f64(),
        ran.peak >> 20,
        ran.stderr.trim()
    );
    assert!(ran.peak <= crate::measure::bound());
    if ran.success {
        let inode = |name: &str| std::fs::metadata(room.path("root").join(name)).unwrap();
        assert_eq!(count(&room.path("root")), links + 1);
        assert_eq!(inode("first").ino(), inode("l000001").ino());
        return;
    }
    assert!(ran.stderr.contains("links") || ran.stderr.contains("l06"), "{}", ran.stderr);
    assert!(!room.path("root").exists(), "half a tree was left");
}
