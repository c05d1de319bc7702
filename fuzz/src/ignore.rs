//! An ignore file, and paths. The file comes first, the paths follow an empty line, one in each line.
//!
//! - Going down a tree says the same as asking for a path.
//! - A directory that a walk does not go into holds nothing that is taken back.
//! - `**` at the end leaves everything out, and a `!` with the path itself takes it back.
//! - A pattern that parses by itself matches what it is if it has no wildcard.

use skycap_build::glob;
use skycap_build::ignore::{Ignore, Seen};

/// See the module.
pub fn ignore(input: &[u8]) {
    let at = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (file, paths) = input.split_at(at);
    let Ok(ignore) = Ignore::parse(file) else { return };
    for path in paths.split(|byte| *byte == b'\n').filter(|path| is_path(path)).take(64) {
        walk(&ignore, path);
        let and = |line: &[u8]| Ignore::parse(&[file, b"\n", line].concat());
        assert!(and(b"**").is_ok_and(|all| all.matches(path) || path.contains(&b'\n')));
        if path.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_')) {
            let back = and(&[b"!", path].concat());
            assert!(back.is_ok_and(|back| !back.matches(path)));
            assert_eq!(glob::matches(path, path), Ok(true));
        }
    }
}

/// Relative and clean, as a walk of a tree makes it.
fn is_path(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

fn walk(ignore: &Ignore, path: &[u8]) {
    let ignored = ignore.matches(path);
    let mut seen = Seen::default();
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends.chain([path.len()]) {
        let part = &path[..end];
        let (here, next) = ignore.descend(&seen, part);
        seen = next;
        assert_eq!(here, ignore.matches(part));
        if end < path.len() && here && !ignore.may_reinclude_below(part) {
            assert!(ignored, "{:?} hides {:?}", String::from_utf8_lossy(part), String::from_utf8_lossy(path));
        }
    }
}
