//! Hostile layers and their benign twins, as data: `testdata/cases/*.txt`.
//!
//! A file holds cases like this:
//!
//! ```text
//! == a name of the case
//! file a/../b "x"
//! -- error: climbs
//! ```
//!
//! or with `-- tree` and the lines of the tree that must come out, without the root. `-- tree all` prints everything,
//! owners only for root. A case named `(root)` or `(user)` runs for one of them only.

use std::path::Path;

use skycap_rootfs::{LayerIndex, Limits, TreePath, View};

use crate::world::{Detail, Room, chain, is_root, layers, tree, unpack};

struct Case {
    name: String,
    layers: String,
    expected: Expected,
}

enum Expected {
    Error(String),
    Tree(Detail, String),
}

fn cases(text: &str) -> Vec<Case> {
    let text = text.split("\n== ").skip(1);
    text.map(|case| {
        let (name, rest) = case.split_once('\n').unwrap();
        let (layers, expected) = rest.split_once("\n-- ").unwrap_or_else(|| panic!("{name}: no expectation"));
        let (first, lines) = expected.split_once('\n').unwrap_or((expected, ""));
        let lines: Vec<&str> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let expected = match first.trim().split_once(": ") {
            Some(("error", text)) => Expected::Error(text.to_owned()),
            _ if first.trim() == "tree all" => Expected::Tree(Detail::All, lines.join("\n")),
            _ => Expected::Tree(Detail::Shape, lines.join("\n")),
        };
        Case { name: name.to_owned(), layers: layers.to_owned(), expected }
    })
    .collect()
}

fn run(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    for case in cases(&format!("\n{text}")) {
        let name = format!("{}: {}", file.display(), case.name);
        // Owners and what they imply can only be seen by root.
        if case.name.contains("(root)") && !is_root() || case.name.contains("(user)") && is_root() {
            continue;
        }
        let room = Room::new();
        let layers = layers(&case.layers);
        let result = unpack(&layers, &room.rootfs());
        match (&case.expected, result) {
            (Expected::Error(expected), Err(error)) => {
                let text = chain(&error);
                assert!(text.contains(expected.as_str()), "{name}: {text}");
                assert!(!room.rootfs().exists(), "{name}: the destination exists after an error");
            }
            (Expected::Error(_), Ok(())) => panic!("{name}: accepted as\n{}", tree(&room.rootfs(), Detail::Shape)),
            (Expected::Tree(..), Err(error)) => panic!("{name}: {}", chain(&error)),
            (Expected::Tree(detail, expected), Ok(())) => {
                let found = tree(&room.rootfs(), *detail);
                let (_, found) = found.split_once('\n').unwrap();
                let expected = if is_root() { expected.clone() } else { without_owners(expected) };
                assert_eq!(found.trim_end(), expected, "{name}");
                if is_root() || !case.name.contains("unreadable") {
                    compare_with_view(&name, &layers, &room.rootfs());
                }
            }
        }
        room.assert_untouched(&name);
    }
}

/// An ordinary user's files have only one owner.
fn without_owners(tree: &str) -> String {
    let is_owner =
        |word: &&str| word.split_once(':').is_some_and(|(uid, gid)| uid.parse::<u32>().and(gid.parse::<u32>()).is_ok());
    let line = |line: &str| line.split(' ').filter(|word| !is_owner(word)).collect::<Vec<_>>().join(" ");
    tree.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The view must say what the disk says.
fn compare_with_view(name: &str, layers: &[skycap_image::Layer], rootfs: &Path) {
    let indexes: Vec<_> =
        layers.iter().map(|layer| LayerIndex::of(layer, &Limits::default()).unwrap().into()).collect();
    let view = View::new(&indexes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(crate::view::render(&view, layers), crate::view::placeholders(&tree(rootfs, Detail::Shape)), "{name}");
    assert!(view.lookup(&TreePath::root()).unwrap().is_directory());
}

#[test]
fn hostile_layers_are_refused_or_stay_inside_and_benign_ones_come_out_right() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        run(&file);
    }
}

/// Every layer of links under every layer of whiteouts: whatever comes of it, memory and disk agree and nothing outside
/// changes.
#[test]
fn links_below_whiteouts_stay_inside() {
    let read = |file: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases").join(file);
        cases(&format!("\n{}", std::fs::read_to_string(path).unwrap()))
    };
    let lowers: Vec<Case> = read("b-symlinks.txt").into_iter().chain(read("c-hardlinks.txt")).collect();
    let uppers = read("d-whiteouts.txt");
    let room = Room::new();
    for lower in &lowers {
        for upper in &uppers {
            let name = format!("{} under {}", lower.name, upper.name);
            let top = upper.layers.rsplit("##").next().unwrap();
            let layers = layers(&format!("{}\n##\n{top}", lower.layers));
            let on_disk = unpack(&layers, &room.rootfs());
            let indexes: Result<Vec<_>, _> =
                layers.iter().map(|layer| LayerIndex::of(layer, &Limits::default()).map(Into::into)).collect();
            let in_memory = indexes.ok().and_then(|indexes| View::new(&indexes).ok());
            assert_eq!(on_disk.is_ok(), in_memory.is_some(), "{name}");
            if let Some(view) = in_memory {
                let disk = tree(&room.rootfs(), Detail::Shape);
                assert_eq!(crate::view::render(&view, &layers), disk, "{name}");
                std::fs::remove_dir_all(room.rootfs()).unwrap();
            }
            assert!(!room.rootfs().exists(), "{name}");
        }
        room.assert_untouched(&lower.name);
    }
}
