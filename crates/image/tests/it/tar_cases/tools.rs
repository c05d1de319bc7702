//! Other readers on the archives that ours accepts: whoever accepts them, too, must see the same.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Output};

use skycap_image::tar::Kind;

use super::language::{Case, Expected, cases};
use super::{Entry, read};

/// What a tree holds: names, and for files their content, for links their targets.
type Tree = BTreeMap<Vec<u8>, (Kind, Vec<u8>)>;

/// Unpacks with a tool into a directory; `None` if it refused.
fn unpacked(tool: &[&str], archive: &Path, into: &Path) -> Result<Option<Tree>, String> {
    let (program, arguments) = tool.split_first().unwrap();
    let outcome = Command::new(program).args(arguments).arg(archive).current_dir(into).env("LC_ALL", "C").output();
    let outcome: Output = outcome.map_err(|error| format!("no {program}: {error}"))?;
    if !outcome.status.success() {
        return Ok(None);
    }
    let mut tree = Tree::new();
    walk(into, into, &mut tree);
    Ok(Some(tree))
}

fn walk(root: &Path, directory: &Path, tree: &mut Tree) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let content = match metadata {
            ref m if m.is_dir() => (Kind::Directory, Vec::new()),
            ref m if m.is_symlink() => {
                (Kind::Symlink, std::fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec())
            }
            _ => (Kind::File, std::fs::read(&path).unwrap()),
        };
        let is_directory = content.0 == Kind::Directory;
        tree.insert(name, content);
        if is_directory {
            walk(root, &path, tree);
        }
    }
}

/// The tree that our entries amount to; later ones win.
fn ours(entries: &[Entry]) -> Tree {
    let mut tree = Tree::new();
    for entry in entries {
        let name = entry.path.strip_suffix(b"/").unwrap_or(&entry.path).to_vec();
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            tree.entry(name[..at].to_vec()).or_insert((Kind::Directory, Vec::new()));
        }
        let content = match entry.kind {
            Kind::File => (Kind::File, entry.content.clone().unwrap_or_default()),
            Kind::Hardlink => tree[&entry.link].clone(),
            Kind::Symlink => (Kind::Symlink, entry.link.clone()),
            kind => (kind, Vec::new()),
        };
        tree.insert(name, content);
    }
    tree
}

fn shown(tree: &Tree) -> String {
    let entry = |(name, (kind, content)): (&Vec<u8>, &(Kind, Vec<u8>))| {
        format!("{kind:?} {} ({} bytes)", name.escape_ascii(), content.len())
    };
    tree.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn agrees(test: &str, name: &str, tool: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    let mut surprises = Vec::new();
    for (number, Case { name: case, archive, expected, differ }) in cases().into_iter().enumerate() {
        let Expected::Entries(_) = expected else { continue };
        let file = dir.path().join(format!("{number}.tar"));
        let into = dir.path().join(number.to_string());
        std::fs::write(&file, &archive).unwrap();
        std::fs::create_dir(&into).unwrap();
        match unpacked(tool, &file, &into) {
            Err(why) => {
                skycap_testkit::skipped!("{test}: {why}");
                return;
            }
            Ok(None) => {}
            Ok(Some(tree)) => {
                compared += 1;
                let ours = ours(&read(&archive).unwrap());
                let is_known = differ.iter().any(|tool| tool == name);
                if (tree == ours) == is_known {
                    surprises.push(format!("{case}: {name} sees {}, we see {}", shown(&tree), shown(&ours)));
                }
            }
        }
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert!(compared > 30, "{name} read only {compared}");
}

#[test]
fn gnu_tar_sees_what_we_see() {
    agrees("gnu_tar_sees_what_we_see", "gnu", &["tar", "-x", "--no-same-owner", "-f"]);
}

#[test]
fn bsdtar_sees_what_we_see() {
    agrees("bsdtar_sees_what_we_see", "bsdtar", &["bsdtar", "-x", "--no-same-owner", "-f"]);
}

#[test]
fn python_sees_what_we_see() {
    let program = "import sys, tarfile; tarfile.open(sys.argv[1], 'r:').extractall('.')";
    agrees("python_sees_what_we_see", "python", &["python3", "-W", "ignore", "-c", program]);
}

/// A file of 2 MiB with `count` stretches of data, the last one at its end if `to_end`.
fn file_with_holes(path: &Path, count: u64, to_end: bool) -> Vec<u8> {
    use std::io::{Seek, SeekFrom, Write};
    let size = 2 << 20;
    let mut file = std::fs::File::create(path).unwrap();
    for number in 0..count {
        let last = number + 1 == count && to_end;
        file.seek(SeekFrom::Start(if last { size - 100 } else { (2 * number + 1) * 16 * 1024 })).unwrap();
        file.write_all(&[b'a' + u8::try_from(number % 20).unwrap(); 100]).unwrap();
    }
    file.set_len(size).unwrap();
    std::fs::read(path).unwrap()
}

/// M19: every notation that GNU tar writes, with and without further blocks of the map.
#[test]
fn sparse_files_of_gnu_tar_are_read_in_every_notation() {
    let dir = tempfile::tempdir().unwrap();
    let notations = [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for (count, to_end) in [(0, false), (1, true), (3, false), (4, true), (50, false)] {
        let content = file_with_holes(&dir.path().join("file"), count, to_end);
        for notation in notations {
            let outcome = Command::new("tar").arg("-cS").args(notation).arg("file").current_dir(&dir).output().unwrap();
            assert!(outcome.status.success());
            let mut reader = skycap_image::tar::Reader::new(&outcome.stdout[..]);
            let header = reader.next().unwrap().unwrap();
            assert_eq!((&header.path[..], header.size), (&b"file"[..], content.len() as u64), "{notation:?} {count}");
            let mut read = Vec::new();
            std::io::Read::read_to_end(&mut reader, &mut read).unwrap();
            assert!(read == content, "{notation:?} {count}");
            // Where the file system keeps no holes, tar finds none.
            assert!(outcome.stdout.len() < content.len() || reader.take_segments().is_none());
            reader.finish().unwrap();
        }
    }
}
