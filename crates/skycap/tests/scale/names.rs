//! L06, L07: names and paths as long and as odd as they can be.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::Arc;

use crate::entries::{end, file, header, pax};
use crate::image::Image;
use crate::measure::{Room, alone, count, pull, size};
use crate::server::Server;
use crate::stream::{Piece, Stream};

fn image(pieces: Vec<Piece>) -> Server {
    let mut pieces = pieces;
    pieces.push(end());
    Server::start(Image::new(vec![Stream::new(pieces)]))
}

#[test]
fn names_of_any_bytes_come_out_as_they_went_in() {
    let _alone = alone();
    let long = "n".repeat(255);
    let mut names: Vec<Vec<u8>> =
        ["new\nline", "right\u{202e}to-left", "\u{1F600}", " ", "-rf", "\t", "\x1b[31m", "*", "\\"]
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
    names.extend([b"\xff\xfe".to_vec(), b"\xc3(".to_vec(), long.into_bytes()]);
    let odd: Vec<u8> = names.iter().flat_map(|name| file(name, name)).collect();
    let variants: u64 = size(64_000, 1_000);
    let variant = move |number: u64| {
        // Never a slash, never a NUL.
        let digits = [number & 63, number >> 6 & 63, number >> 12].map(|part| 0xc0 + u8::try_from(part).unwrap());
        header(&[b"v".as_slice(), &digits].concat(), b'0', 0, b"")
    };
    let server = image(vec![Piece::Bytes(odd), Piece::Repeat { count: variants, each: 512, make: Arc::new(variant) }]);
    let room = Room::new();
    pull(&room, &server.image()).within(&format!("{} odd names", variants + names.len() as u64));
    for name in &names {
        assert_eq!(std::fs::read(room.path("root").join(OsStr::from_bytes(name))).unwrap(), *name);
    }
    assert_eq!(count(&room.path("root")), variants + names.len() as u64);
}

#[test]
fn trees_deeper_than_a_path_is_long() {
    let _alone = alone();
    for depth in size(vec![10, 100, 1000, 2040, 4000], vec![1000, 2040, 4000]) {
        let path = "d/".repeat(depth) + "end";
        let server = image(vec![Piece::Bytes(file(path.as_bytes(), b"deep"))]);
        let room = Room::new();
        let ran = pull(&room, &server.image());
        if !ran.success {
            // What no program could name by one path may be refused by a limit that is named, and leaves nothing.
            assert!(depth > 2040 && ran.stderr.contains("path_bytes"), "{depth}: {}", ran.stderr);
            assert!(!room.path("root").exists());
            eprintln!("scale: a path of {depth} directories is refused by the limit path_bytes");
            continue;
        }
        ran.within(&format!("a path of {depth} directories"));
        let mut find = Command::new("find");
        find.arg(room.path("root")).args(["-name", "end", "-execdir", "cat", "{}", ";"]);
        let found = find.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "deep", "{}", String::from_utf8_lossy(&found.stderr));
        assert_eq!(count(&room.path("root")), depth as u64 + 1);
    }
}

/// Each directory is an entry, as real archives have it.
#[test]
fn every_directory_of_a_deep_tree_is_an_entry() {
    let _alone = alone();
    let depth = size(2040, 300);
    let mut entries = Vec::new();
    for level in 1..=depth {
        let path = "d/".repeat(level);
        if path.len() > 100 {
            entries.extend(pax(&[("path", path.as_bytes())]));
        }
        entries.extend(header(path.as_bytes(), b'5', 0, b""));
    }
    let server = image(vec![Piece::Bytes(entries)]);
    let room = Room::new();
    pull(&room, &server.image()).within(&format!("{depth} directories in each other"));
    assert_eq!(count(&room.path("root")), depth as u64);
}

#[test]
fn extensions_as_large_as_may_be() {
    let _alone = alone();
    let entries: u64 = size(1_000, 30);
    let comment = vec![b'c'; (1 << 20) - 100];
    let make = move |number: u64| {
        let mut bytes = pax(&[("comment", &comment)]);
        bytes.extend(header(format!("f{number:04}").as_bytes(), b'0', 0, b""));
        bytes
    };
    let each = make(0).len() as u64;
    let server = image(vec![Piece::Repeat { count: entries, each, make: Arc::new(make) }]);
    let room = Room::new();
    pull(&room, &server.image()).within(&format!("{entries} extensions of 1 MiB"));
    assert_eq!(count(&room.path("root")), entries);
}
