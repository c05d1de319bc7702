//! The laws of `ARCHITECTURE.md` that a machine can check.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

type Rooms = BTreeMap<String, BTreeSet<String>>;

/// The "may use" column of the table of rooms.
fn allowed() -> Rooms {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let table = text.split("<!-- rooms").nth(1).expect("the table of rooms is marked");
    let rows = table.lines().skip(3).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let uses = cells[3].split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        (cells[1].trim_matches('`').to_owned(), uses.collect())
    })
    .collect()
}

/// What the crates really depend on, development dependencies left out.
fn actual() -> Rooms {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let short = |name: &str| name.strip_prefix("skycap-").unwrap_or(name).to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let uses = package["dependencies"].as_array().unwrap().iter().filter(|d| d["kind"] != "dev");
            let names = uses.filter_map(|d| d["name"].as_str()).filter(|name| name.starts_with("skycap-")).map(short);
            (short(package["name"].as_str().unwrap()), names.collect())
        })
        .collect()
}

#[test]
fn crates_use_only_what_the_table_of_rooms_allows() {
    let allowed = allowed();
    for (room, uses) in actual() {
        let may = allowed.get(&room).unwrap_or_else(|| panic!("{room} is not in the table of rooms"));
        let forbidden: Vec<_> = uses.difference(may).collect();
        assert!(forbidden.is_empty(), "{room} uses {forbidden:?}, which ARCHITECTURE.md does not allow");
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Files below `crates/*/src`, or another folder of every crate, that contain `needle`, tests modules included, as `crate/file`.
fn files_with(needle: &str, folder: &str) -> Vec<String> {
    let crates = root().join("crates");
    let mut found = Vec::new();
    for entry in fs::read_dir(&crates).unwrap().map(Result::unwrap) {
        let folder = entry.path().join(folder);
        if folder.is_dir() {
            sources(&folder, &mut found);
        }
    }
    let holds = |path: &PathBuf| fs::read_to_string(path).unwrap().contains(needle);
    found
        .iter()
        .filter(|path| holds(path))
        .map(|path| path.strip_prefix(&crates).unwrap().display().to_string())
        .collect()
}

fn only_in(needle: &str, rooms: &[&str]) {
    strays_in("src", needle, rooms);
}

fn strays_in(folder: &str, needle: &str, rooms: &[&str]) {
    let strays: Vec<_> = files_with(needle, folder)
        .into_iter()
        .filter(|file| !rooms.iter().any(|room| file == room || file.starts_with(&format!("{room}/"))))
        .collect();
    assert!(strays.is_empty(), "{needle} outside {rooms:?}: {strays:?}");
}

#[test]
fn only_the_sandbox_has_unsafe_code() {
    only_in("allow(unsafe_code", &["sandbox"]);
}

#[test]
fn only_the_binary_and_chores_lift_the_ban_on_environment_and_exit() {
    // The sandbox's child is a program of its own: it reads its arguments, and nothing else does.
    only_in("clippy::disallowed_methods", &["skycap", "xtask", "testkit", "sandbox/src/child.rs"]);
}

#[test]
fn only_the_binary_and_chores_print() {
    only_in("clippy::print_stdout", &["skycap", "xtask"]);
}

#[test]
fn only_the_registry_opens_sockets() {
    only_in("TcpStream", &["registry", "testkit", "sandbox"]);
    only_in("reqwest", &["registry"]);
}

#[test]
fn skips_are_said_in_one_write() {
    // CI reads these lines, and other threads print meanwhile. (A run of the product says what it skipped, too.)
    only_in("\"skipped: ", &["testkit", "pipeline/src/run/build.rs"]);
    strays_in("tests", "\"skipped: ", &["xtask"]);
}
