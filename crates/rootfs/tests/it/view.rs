//! The view and the disk agree.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use skycap_image::Layer;
use skycap_rootfs::{Kind, LayerIndex, Limits, ResolveError, TreePath, View};

use crate::world::{Detail, Room, layers, tree, unpack};

pub(crate) fn view_of(layers: &[Layer]) -> View {
    let indexes: Vec<Arc<LayerIndex>> =
        layers.iter().map(|layer| Arc::new(LayerIndex::of(layer, &Limits::default()).unwrap())).collect();
    View::new(&indexes).unwrap()
}

/// A view in the words of [`tree`], devices as an ordinary user gets them.
pub(crate) fn render(view: &View, layers: &[Layer]) -> String {
    let mut text = String::new();
    let mut first_names = std::collections::BTreeMap::new();
    for (path, entry) in view.walk(&TreePath::root()) {
        let shown = if path.is_root() { ".".to_owned() } else { path.to_string() };
        if !entry.is_directory() {
            let first = first_names.entry(view.inode_of(&path)).or_insert_with(|| shown.clone());
            if *first != shown {
                writeln!(text, "hard {shown} => {first}").unwrap();
                continue;
            }
        }
        match &entry.kind {
            Kind::Directory => writeln!(text, "dir {shown}"),
            Kind::File { .. } => {
                let content = view.read(&path, layers, 1 << 20).unwrap();
                writeln!(text, "file {shown} \"{}\"", content.escape_ascii())
            }
            Kind::Symlink(target) => writeln!(text, "link {shown} -> {}", target.escape_ascii()),
            Kind::Device(_) => writeln!(text, "file {shown} \"\""),
            Kind::Fifo => writeln!(text, "fifo {shown}"),
        }
        .unwrap();
    }
    text
}

#[test]
fn a_path_resolves_as_it_would_after_chroot() {
    let view = view_of(&layers(
        "dir usr/bin\nfile usr/bin/sh\nlink bin -> usr/bin\nlink abs -> /usr\nlink up -> ../../usr/bin\nlink loop -> loop
         link dangling -> nowhere/x\nfile plain",
    ));
    let path = |path: &str| TreePath::parse(path.as_bytes()).unwrap();
    for (from, follow, expected) in [
        ("/bin/sh", true, Ok("usr/bin/sh")),
        ("bin", true, Ok("usr/bin")),
        ("bin", false, Ok("bin")),
        ("abs/bin/../bin/sh", true, Ok("usr/bin/sh")),
        ("up/sh", true, Ok("usr/bin/sh")),
        ("bin/..", true, Ok("usr")),
        ("../../etc", true, Ok("etc")),
        ("new/dir/file", true, Ok("new/dir/file")),
        ("new/../bin/new", true, Ok("usr/bin/new")),
        ("dangling", true, Ok("nowhere/x")),
        ("dangling/y", false, Ok("nowhere/x/y")),
        ("plain", true, Ok("plain")),
        ("/", true, Ok("")),
        ("loop", false, Ok("loop")),
        ("loop", true, Err("loop")),
        ("plain/x", true, Err("dir")),
    ] {
        let found = view.resolve(Path::new(from), follow);
        let found = found.map_err(|error| match error {
            ResolveError::Loop(_) => "loop",
            ResolveError::NotADirectory(_) => "dir",
            ResolveError::Nul(_) => "nul",
        });
        assert_eq!(found, expected.map(path), "{from}");
    }
}

#[test]
fn a_view_knows_children_layers_and_content() {
    let layers = layers(
        "dir etc\nfile etc/passwd \"root\"\nfile etc/motd\n##\nfile etc/passwd \"root2\"\nhard etc/copy => etc/passwd",
    );
    let view = view_of(&layers);
    let etc = TreePath::parse(b"etc").unwrap();
    let names: Vec<_> = view.children(&etc).map(|(name, _)| name.to_vec()).collect();
    assert_eq!(names, [&b"copy"[..], b"motd", b"passwd"]);
    let layer = |name: &str| view.layer_of(&TreePath::parse(name.as_bytes()).unwrap());
    assert_eq!(
        (layer("etc/passwd"), layer("etc/motd"), layer("etc/copy"), layer("none")),
        (Some(1), Some(0), Some(1), None)
    );
    let passwd = TreePath::parse(b"etc/passwd").unwrap();
    assert_eq!(view.read(&passwd, &layers, 5).unwrap(), b"root2");
    assert!(view.read(&passwd, &layers, 4).unwrap_err().to_string().contains("more than 4"));
    assert!(view.read(&etc, &layers, 4).unwrap_err().to_string().contains("no regular file"));
    let unreachable: Vec<Layer> = Vec::new();
    assert_eq!(view.read(&passwd, &unreachable, 5).unwrap(), b"root2", "it is kept in the listing");
    assert!(view.read(&TreePath::parse(b"etc/motd").unwrap(), &unreachable, 5).is_err());
    let (copy, mut seen) = (TreePath::parse(b"etc/copy").unwrap(), Vec::new());
    view.contents(&[passwd, copy], &layers, &mut |paths, _, data| {
        seen.push((paths.len(), std::io::read_to_string(data)?));
        Ok(())
    })
    .unwrap();
    assert_eq!(seen, [(2, "root2".to_owned())]);
}

/// A small generator, so that a failure can be repeated by its seed (Steele, Lea and Flood's splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound).unwrap()
    }

    fn of<'c>(&mut self, choices: &[&'c str]) -> &'c str {
        choices[self.below(choices.len() as u64)]
    }
}

fn random_layer(random: &mut Random) -> String {
    const NAMES: [&str; 12] = ["a", "b", "a/b", "a/c", "a/b/c", "d", "d/e", "d/e/f", "l", "l/x", "l/x/y", "b/z"];
    const TARGETS: [&str; 9] = ["a", "/d", "../victim", "/../..", "b", "l", "d/e", "/nowhere/deep", "../../p/canary"];
    let mut text = String::new();
    for number in 0..=random.below(12) {
        let name = random.of(&NAMES);
        let (parent, last) = name.rsplit_once('/').map_or(("", name), |(parent, last)| (parent, last));
        match random.below(9) {
            0 | 1 => writeln!(text, "file {name} \"{number}\""),
            2 | 3 => writeln!(text, "dir {name}"),
            4 => writeln!(text, "link {name} -> {}", random.of(&TARGETS)),
            5 => writeln!(text, "hard {name} => {}", random.of(&NAMES)),
            6 => writeln!(text, "file {parent}/.wh.{last}"),
            7 => writeln!(text, "file {name}/.wh..wh..opq"),
            _ => writeln!(text, "fifo {name}"),
        }
        .unwrap();
    }
    text
}

#[test]
fn random_histories_make_the_same_tree_in_memory_and_on_disk() {
    const SEEDS: u64 = 500;
    let mut good = 0;
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let text: Vec<String> = (0..=random.below(4)).map(|_| random_layer(&mut random)).collect();
        let text = text.join("##\n");
        let layers = layers(&text);
        let room = Room::new();
        let on_disk = unpack(&layers, &room.rootfs());
        let indexes: Vec<_> =
            layers.iter().map(|layer| Arc::new(LayerIndex::of(layer, &Limits::default()).unwrap())).collect();
        match (on_disk, View::new(&indexes)) {
            (Ok(()), Ok(view)) => {
                good += 1;
                assert_eq!(render(&view, &layers), tree(&room.rootfs(), Detail::Shape), "seed {seed}:\n{text}");
            }
            (Err(_), Err(_)) => {}
            (disk, memory) => panic!("seed {seed}: disk {disk:?}, memory {:?}\n{text}", memory.err()),
        }
        room.assert_untouched(&format!("seed {seed}"));
    }
    assert!(good > SEEDS / 10, "only {good} of {SEEDS} histories were sound");
}
