//! A build whose store was damaged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::building::Grounds;
use crate::fixture::Fixture;
use crate::full;
use crate::operation::{Build, Operation};
use crate::world::{registry, run};

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 6] = [
    ("a flipped bit", |path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(path, bytes).unwrap();
    }),
    ("cut short", |path| {
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("zeros", |path| fs::write(path, vec![0; fs::read(path).unwrap().len()]).unwrap()),
    ("gone", |path| fs::remove_file(path).unwrap()),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
    }),
    ("a link to nowhere", |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("/nowhere", path).unwrap();
    }),
];

/// K13, K14, K22: for every file that a build keeps, everything that can happen to it: the image stays the same.
#[test]
fn a_damaged_store_costs_time_and_never_changes_the_image() {
    let fixture = Fixture::new();
    let build = Build::new(&fixture);
    let site = build.site();
    build.run(&site).ok();
    let store = site.world.path("store");
    let kept = |name: &str| files(&store.join(name));
    let count = ["blobs", "records-1", "seals-1"].map(kept).concat().len();
    assert!(count > 8, "{count}");
    let mut cases = 0;
    for number in (0..count).step_by(if full() { 1 } else { 5 }) {
        for (name, damage) in DAMAGES {
            let all = ["blobs", "records-1", "seals-1"].map(kept).concat();
            let Some(path) = all.get(number) else { continue };
            damage(path);
            let what = format!("{name}: {}", path.display());
            let _ = fs::remove_dir_all(site.world.path("layout"));
            let ran = build.run(&site);
            assert_eq!(ran.code, Some(0), "{what}: {}", ran.stderr);
            build.check_done(&site, &ran, &what);
            cases += 1;
        }
    }
    eprintln!("{cases} damages");
    // All at once, and then nothing at all.
    for path in ["blobs", "records-1", "seals-1"].map(kept).concat() {
        // It may be the link to nowhere of the last damage, if nobody had to look there since.
        fs::remove_file(&path).unwrap();
        fs::write(path, "?").unwrap();
    }
    build.check_done(&site, &build.run(&site).ok(), "everything damaged");
    fs::remove_dir_all(&store).unwrap();
    build.check_done(&site, &build.run(&site).ok(), "everything gone");
}

/// K22, M49: a cache in a registry whose disk forgets. What is damaged is not taken, it is said, and the build is the same.
#[test]
fn a_damaged_cache_in_a_registry_is_a_miss() {
    let Some(grounds) = Grounds::new("a_damaged_cache_in_a_registry_is_a_miss") else { return };
    let disk = grounds.world.dir("caches");
    let server = registry(&disk);
    let cache = format!("type=registry,ref={}/caches:latest", server.address());
    let secret = format!("id=password,src={}", grounds.world.path("password").display());
    let build = |more: &[&str]| {
        let _ = fs::remove_dir_all(grounds.world.path("store"));
        let mut command = grounds.world.skycap(["build", "--store", "store", "--secret", &secret, "-o", "oci:layout"]);
        command.env("SOURCE_DATE_EPOCH", "1600000000").args(more).arg("context");
        run(command)
    };
    let good = build(&["--cache-to", &format!("{cache},mode=max")]).ok().stdout;
    let imported = build(&["--cache-from", &cache]).ok();
    assert_eq!(imported.stdout, good);
    assert!(imported.stderr.to_lowercase().contains("cached"), "{}", imported.stderr);
    let kept = files(&disk);
    let mut cases = 0;
    for number in 0..kept.len() * DAMAGES.len() {
        let (name, damage) = DAMAGES[number % DAMAGES.len()];
        let path = &kept[number / DAMAGES.len()];
        if !full() && number % 23 != 0 || fs::metadata(path).unwrap().len() == 0 {
            continue;
        }
        let whole = fs::read(path).unwrap();
        damage(path);
        let ran = build(&["--cache-from", &cache]);
        let what = format!("{name}: {}: {}", path.display(), ran.stderr);
        assert_eq!(ran.code, Some(0), "{what}");
        assert_eq!(ran.stdout, good, "{what}");
        let _ = fs::remove_dir(path);
        let _ = fs::remove_file(path);
        fs::write(path, whole).unwrap();
        cases += 1;
    }
    eprintln!("{cases} damages to {} files of a registry", kept.len());
    assert!(cases > 1, "{cases}");
}
