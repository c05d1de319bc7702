//! Where package managers keep their databases, and which layer brought which package.

use std::collections::{BTreeMap, BTreeSet};

use skycap_rootfs::TreePath;

use super::package::{Manager, Package};
use super::spdx::Found;
use super::tree::Tree;
use super::{apk, copyright, dpkg, rpm};
use crate::error::Fault;

/// Reads a database's bytes.
type Parse = fn(&[u8]) -> Result<Vec<Package>, Fault>;

/// Files that are whole databases.
const FILES: [(Manager, &str, Parse); 12] = [
    (Manager::Dpkg, "/var/lib/dpkg/status", |bytes| Ok(dpkg::parse(bytes))),
    (Manager::Apk, "/lib/apk/db/installed", |bytes| Ok(apk::parse(bytes))),
    (Manager::Apk, "/usr/lib/apk/db/installed", |bytes| Ok(apk::parse(bytes))),
    (Manager::Rpm, "/var/lib/rpm/rpmdb.sqlite", rpm::sqlite),
    (Manager::Rpm, "/var/lib/rpm/Packages.db", rpm::ndb),
    (Manager::Rpm, "/var/lib/rpm/Packages", rpm::berkeley),
    (Manager::Rpm, "/usr/lib/sysimage/rpm/rpmdb.sqlite", rpm::sqlite),
    (Manager::Rpm, "/usr/lib/sysimage/rpm/Packages.db", rpm::ndb),
    (Manager::Rpm, "/usr/lib/sysimage/rpm/Packages", rpm::berkeley),
    (Manager::Rpm, "/usr/share/rpm/rpmdb.sqlite", rpm::sqlite),
    (Manager::Rpm, "/usr/share/rpm/Packages.db", rpm::ndb),
    (Manager::Rpm, "/usr/share/rpm/Packages", rpm::berkeley),
];

/// The longest copyright file that is read.
const LONGEST_COPYRIGHT: u64 = 1 << 20;
/// A directory with a file for each package.
const DIRECTORY: &str = "/var/lib/dpkg/status.d";

/// Every package that a database of the tree tells of, sorted.
pub(super) fn packages(tree: &Tree) -> Result<Vec<Found>, Fault> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for (manager, path, parse) in FILES {
        if let Some(path) = tree.file(path)?.filter(|path| seen.insert(path.clone())) {
            check_log(tree, &path)?;
            read(tree, manager, &path, parse, &mut found)?;
        }
    }
    for path in tree.files(DIRECTORY)? {
        // Beside each package is the list of its files.
        if !path.as_bytes().ends_with(b".md5sums") && seen.insert(path.clone()) {
            read(tree, Manager::Dpkg, &path, |bytes| Ok(dpkg::parse(bytes)), &mut found)?;
        }
    }
    add_licenses(tree, &mut found)?;
    let key = |found: &Found| (found.manager, found.package.name.clone(), found.package.version.clone());
    found.sort_by_cached_key(key);
    Ok(found)
}

/// dpkg keeps licenses beside its database.
fn add_licenses(tree: &Tree, found: &mut [Found]) -> Result<(), Fault> {
    let mut packages: BTreeMap<TreePath, Vec<usize>> = BTreeMap::new();
    for (number, found) in found.iter().enumerate().filter(|(_, found)| found.manager == Manager::Dpkg) {
        if let Some(path) = tree.file(&copyright::path(&found.package.name))? {
            packages.entry(path).or_default().push(number);
        }
    }
    let paths: Vec<TreePath> = packages.keys().cloned().collect();
    tree.visit(&paths, LONGEST_COPYRIGHT, &mut |path, content| {
        let license = copyright::licenses(&content);
        for number in packages.get(path).into_iter().flatten() {
            found[*number].package.license.clone_from(&license);
        }
    })
}

/// `SQLite` may keep what was written last beside the database.
fn check_log(tree: &Tree, database: &TreePath) -> Result<(), Fault> {
    let log = format!("/{database}-wal");
    match tree.file(&log)? {
        Some(log) if !tree.read(&log)?.is_empty() => Err(Fault::new(format!(
            "the package database /{database} was left in the middle of a change: {log} is not empty"
        ))
        .with_hint("end the RUN that installs packages only when rpm has ended, or run rpm --rebuilddb in it")),
        _ => Ok(()),
    }
}

fn read(tree: &Tree, manager: Manager, path: &TreePath, parse: Parse, found: &mut Vec<Found>) -> Result<(), Fault> {
    let packages = parse_at(path, &tree.read(path)?, parse)?;
    let mut layers = vec![tree.layer_of(path); packages.len()];
    // A package came with the lowest layer from which on the database always had it.
    let mut open: Vec<usize> = (0..packages.len()).collect();
    for layer in tree.earlier(path) {
        // What a higher layer hides need not be sound.
        let Some(Ok(before)) = tree.read_in(layer, path)?.map(|bytes| parse(&bytes)) else { break };
        let before: BTreeSet<_> = before.iter().map(identity).collect();
        open.retain(|number| before.contains(&identity(&packages[*number])));
        for number in &open {
            layers[*number] = Some(layer);
        }
        if open.is_empty() {
            break;
        }
    }
    found.extend(packages.into_iter().zip(layers).map(|(package, layer)| Found {
        package,
        manager,
        database: format!("/{path}"),
        layer: layer.and_then(|layer| tree.digest(layer)),
    }));
    Ok(())
}

fn identity(package: &Package) -> (String, String, String) {
    (package.name.clone(), format!("{}:{}", package.epoch, package.version), package.architecture.clone())
}

fn parse_at(path: &TreePath, bytes: &[u8], parse: Parse) -> Result<Vec<Package>, Fault> {
    parse(bytes).map_err(|fault| match fault {
        Fault::Failed { what, hint, source } => {
            Fault::Failed { what: format!("the package database /{path} cannot be read: {what}"), hint, source }
        }
        other => other,
    })
}
