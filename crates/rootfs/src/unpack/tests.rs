//! From the top down and in order, layers make the same tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use skycap_image::tar::{Header, Kind, Writer};
use skycap_image::{Digest, MediaType, Memory, Silent};

use super::*;
use crate::{LayerIndex, MergeError, TreePath, View};

/// A small generator, so that a failure can be repeated by its seed (Steele, Lea and Flood's splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn of<'c>(&mut self, choices: &[&'c str]) -> &'c str {
        choices[usize::try_from(self.below(choices.len() as u64)).unwrap()]
    }
}

/// Any name may be anything.
const WILD: [&str; 14] =
    ["a", "b", "a/b", "a/c", "a/b/c", "a/b/c/d", "d", "d/e", "d/e/f", "l", "l/x", "l/x/y", "b/z", "d/l"];
const TARGETS: [&str; 9] = ["a", "/d", "../victim", "/../..", "b", "l", "d/e", "/nowhere/deep", "a/b"];
/// Directories and files keep apart, as in most images.
const DIRECTORIES: [&str; 6] = ["a", "b", "a/b", "a/b/c", "d", "d/e"];
const FILES: [&str; 9] = ["f", "g", "a/f", "a/b/f", "a/b/c/f", "a/b/c/g", "b/f", "d/e/f", "d/e/g"];

struct Drawn {
    random: Random,
    is_wild: bool,
    /// Files of the current layer.
    files: Vec<String>,
    text: String,
}

impl Drawn {
    fn layer(&mut self) -> Layer {
        let mut tar = Writer::new(Vec::new());
        self.files.clear();
        for number in 0..=u8::try_from(self.random.below(14)).unwrap() {
            let header = self.entry(number);
            writeln!(self.text, "{:?} {} {}", header.kind, header.path.escape_ascii(), header.link.escape_ascii())
                .unwrap();
            tar.entry(&header).unwrap();
            std::io::Write::write_all(&mut tar, &vec![b'0' + number; usize::try_from(header.size).unwrap()]).unwrap();
        }
        self.text.push_str("##\n");
        let bytes = tar.finish().unwrap();
        let memory = Memory::default();
        let descriptor = memory.add(MediaType::OciLayer, bytes.clone());
        Layer { descriptor, diff_id: Digest::sha256(&bytes), blobs: Arc::new(memory) }
    }

    fn entry(&mut self, number: u8) -> Header {
        let kind = self.random.below(if self.is_wild { 10 } else { 12 });
        let (directory, file) = if self.is_wild {
            (self.random.of(&WILD), self.random.of(&WILD))
        } else {
            (self.random.of(&DIRECTORIES), self.random.of(&FILES))
        };
        let marker = |path: &str| match path.rsplit_once('/') {
            Some((parent, last)) => format!("{parent}/.wh.{last}"),
            None => format!(".wh.{path}"),
        };
        let root = self.random.below(40) == 0;
        let header = match kind {
            0 | 1 => Header::file(file, self.random.below(4)),
            2 | 3 if root => Header::directory("./"),
            2 | 3 => Header::directory(directory),
            4 => Header::symlink(file, self.random.of(&TARGETS)),
            // Mostly to something that is there.
            5 => match self.files.last() {
                Some(target) if self.random.below(8) > 0 => Header::hardlink(file, target.as_str()),
                _ if self.random.below(3) > 0 => Header::file(file, 1),
                _ => Header::hardlink(file, self.random.of(if self.is_wild { &WILD[..] } else { &FILES[..] })),
            },
            6 => Header::file(marker(if self.random.below(2) == 0 { directory } else { file }), 0),
            7 if root => Header::file(".wh..wh..opq", 0),
            7 => Header::file(format!("{directory}/.wh..wh..opq"), 0),
            8 => Header { kind: Kind::Fifo, ..Header::file(file, 0) },
            9 => Header { kind: Kind::CharacterDevice, device: (1, 3), ..Header::file(file, 0) },
            _ => Header::file(file, 100_000 * self.random.below(2) + 5),
        };
        if header.kind == Kind::File && header.path == file.as_bytes() {
            self.files.push(file.to_owned());
        }
        let xattrs = match self.random.below(6) {
            0 if matches!(header.kind, Kind::File | Kind::Directory) => [(b"user.n".to_vec(), vec![number])].into(),
            1 if matches!(header.kind, Kind::File | Kind::Directory) => [(b"user.m".to_vec(), vec![number])].into(),
            _ => BTreeMap::new(),
        };
        let owner = if rustix::process::geteuid().is_root() { self.random.below(3) } else { 0 };
        let mode = [0o755, 0o644, 0o000, 0o4755, 0o2711, 0o1777][usize::try_from(self.random.below(6)).unwrap()];
        Header { mtime: self.random.below(1_000_000).cast_signed(), mode, uid: owner, gid: 2 * owner, xattrs, ..header }
    }
}

/// All there is to know of a tree, one line a file.
fn listing(root: &Path) -> String {
    let mut text = String::new();
    let mut first_names = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let whole = root.join(&path);
        let stat = fs::symlink_metadata(&whole).unwrap();
        let shown = path.as_os_str().as_bytes().escape_ascii().to_string();
        let first = if stat.is_dir() { &shown } else { first_names.entry(stat.ino()).or_insert_with(|| shown.clone()) };
        let content =
            if stat.is_symlink() { fs::read_link(&whole).unwrap().into_os_string() } else { attributes(&whole).into() };
        let (mode, time) = (stat.mode(), (stat.mtime(), stat.mtime_nsec()));
        writeln!(text, "{shown} ={first} {mode:o} {}:{} {time:?} {} {content:?}", stat.uid(), stat.gid(), stat.rdev())
            .unwrap();
        if stat.is_dir() {
            fs::set_permissions(&whole, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let mut names: Vec<_> = fs::read_dir(&whole).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            pending.extend(names.into_iter().rev().map(|name| path.join(name)));
        } else if stat.is_file() {
            fs::set_permissions(&whole, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let bytes = fs::read(&whole).unwrap();
            writeln!(text, "  {} bytes, {:?}", bytes.len(), bytes.first()).unwrap();
        }
    }
    text
}

fn attributes(path: &Path) -> String {
    ["user.n", "user.m"].iter().fold(String::new(), |text, name| {
        let mut value = [0; 8];
        match rustix::fs::lgetxattr(path, *name, &mut value[..]) {
            Ok(length) => format!("{text}{name}={:?} ", &value[..length]),
            Err(_) => text,
        }
    })
}

/// The shape of a tree, types and names, from the view.
fn view(layers: &[Layer]) -> Result<View, MergeError> {
    let indexes: Vec<_> =
        layers.iter().map(|layer| Arc::new(LayerIndex::of(layer, &Limits::default()).unwrap())).collect();
    View::new(&indexes)
}

enum Outcome {
    Tree(String),
    NotPlain,
    Failed(String),
}

fn top_down(work: &Work<'_>, room: &Path) -> Outcome {
    let destination = room.join("down");
    let stage = Stage::create(&destination).unwrap();
    match work.top_down(&stage) {
        Ok(true) => {
            stage.commit(false).unwrap();
            Outcome::Tree(listing(&destination))
        }
        Ok(false) => Outcome::NotPlain,
        Err(error) => Outcome::Failed(format!("{error:?}")),
    }
}

fn in_order(work: &Work<'_>, room: &Path) -> Result<String, UnpackError> {
    let destination = room.join("order");
    let stage = Stage::create(&destination)?;
    work.in_order(&stage)?;
    stage.commit(false)?;
    Ok(listing(&destination))
}

/// With `SKYCAP_TEST_FULL`, many.
fn seeds() -> std::ops::Range<u64> {
    let full = skycap_testkit::wants_everything();
    let count = if full { 20_000 } else { 600 };
    eprintln!("{count} random histories");
    0..count
}

/// M09, M15 and classes B to E: whatever the history, applying it from the top down either makes the tree that applying it
/// in order makes, or says that it cannot tell; and it never accepts what order refuses.
#[test]
fn random_histories_make_the_same_tree_from_the_top_down_and_in_order() {
    let owners = if rustix::process::geteuid().is_root() { Owners::Keep } else { Owners::Squash };
    let options = Unpack { owners, concurrency: 2, limits: Limits::default(), sync: false };
    let (mut equal, mut not_plain, mut refused) = (0, 0, 0);
    let count = seeds().end;
    for seed in seeds() {
        let mut random = Random(seed);
        let is_wild = random.below(3) == 0;
        let mut drawn = Drawn { random, is_wild, files: Vec::new(), text: String::new() };
        let layers: Vec<Layer> = (0..2 + drawn.random.below(4)).map(|_| drawn.layer()).collect();
        let work = Work { overlay: None, layers: &layers, options: &options, progress: &Silent, stop: &|| false };
        let room = tempfile::tempdir().unwrap();
        let text = &drawn.text;
        match (top_down(&work, room.path()), in_order(&work, room.path())) {
            (Outcome::Tree(down), Ok(order)) => {
                assert_eq!(down, order, "seed {seed}, lowest layer first:\n{text}");
                let view = view(&layers).unwrap();
                let names = down.lines().filter(|line| !line.starts_with("  ")).count();
                assert_eq!(view.walk(&TreePath::root()).count(), names, "seed {seed}:\n{text}");
                equal += 1;
            }
            (Outcome::NotPlain, Ok(_)) => not_plain += 1,
            (Outcome::NotPlain, Err(_)) => {
                assert!(view(&layers).is_err(), "seed {seed}:\n{text}");
                refused += 1;
            }
            (Outcome::Failed(error), _) => panic!("seed {seed}: it should have been left to order: {error}\n{text}"),
            (Outcome::Tree(_), Err(error)) => panic!("seed {seed}: only in order: {error:?}\n{text}"),
        }
    }
    eprintln!("{equal} equal, {not_plain} left to order, {refused} refused by both");
    assert!(equal > count / 4 && not_plain > count / 50 && refused > count / 50, "{equal} {not_plain} {refused}");
}

/// A takeover adds layers to the tree that a RUN left: also the modes and times of directories that these do not describe
/// are what they would be if all layers were unpacked at once.
#[test]
fn random_histories_make_the_same_tree_in_two_parts() {
    if !rustix::process::geteuid().is_root() {
        skycap_testkit::skipped!("random_histories_make_the_same_tree_in_two_parts: needs root");
        return;
    }
    let options = Unpack { owners: Owners::Keep, concurrency: 2, limits: Limits::default(), sync: false };
    let mut equal = 0;
    let count = seeds().end;
    for seed in seeds().step_by(3) {
        let mut random = Random(seed);
        let is_wild = random.below(3) == 0;
        let mut drawn = Drawn { random, is_wild, files: Vec::new(), text: String::new() };
        let layers: Vec<Layer> = (0..2 + drawn.random.below(4)).map(|_| drawn.layer()).collect();
        let work = Work { overlay: None, layers: &layers, options: &options, progress: &Silent, stop: &|| false };
        let room = tempfile::tempdir().unwrap();
        let Ok(whole) = in_order(&work, room.path()) else { continue };
        let (first, rest) = layers.split_at(usize::try_from(seed).unwrap() % layers.len());
        let destination = room.path().join("parts");
        unpack(first, &destination, &options, &Silent).unwrap();
        unpack_onto(rest, &destination, &options, &Silent).unwrap();
        assert_eq!(
            listing(&destination),
            whole,
            "seed {seed}, {} at first, lowest layer first:\n{}",
            first.len(),
            drawn.text
        );
        equal += 1;
    }
    assert!(equal > count / 12, "{equal}");
}
