//! What a task's cache looks like from outside: how many files, and which of them a build touches.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::building::{Grounds, Task};
use crate::operation::Operation as _;
use crate::world::World;

/// A file as it is: inode, times of writing and of any change, and content.
type Looks = (u64, i64, i64, i64, i64, Vec<u8>);

fn looks(directory: &Path) -> BTreeMap<PathBuf, Looks> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(parent) = left.pop() {
        for entry in std::fs::read_dir(parent).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                left.push(entry.path());
                continue;
            }
            let content = std::fs::read(entry.path()).unwrap();
            let (m, c) = ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
            found.insert(entry.path(), (metadata.ino(), m.0, m.1, c.0, c.1, content));
        }
    }
    found
}

fn names(found: &BTreeMap<PathBuf, Looks>, world: &World) -> Vec<String> {
    let below = |path: &PathBuf| path.strip_prefix(world.path("work/cache")).unwrap().display().to_string();
    found.keys().map(below).collect()
}

/// A cache holds few files, none for what is unpacked; a build that changes nothing touches none of them, and one that changes the
/// last step adds to them and touches no other.
#[test]
fn a_cache_has_few_files_and_none_is_written_again() {
    let Some(grounds) = Grounds::new("a_cache_has_few_files_and_none_is_written_again") else { return };
    let task = Task::new(&grounds, false);
    let site = task.site();
    let cache = site.world.path("work/cache");
    task.run(&site).ok();
    let first = looks(&cache);
    // Three files a layer of the images and the stages (blob, seal, listing), two a step, the mount, the gate.
    let own = names(&first, &site.world).into_iter().filter(|name| !name.starts_with("mounts-1/")).count();
    assert!(own < 60, "{:#?}", names(&first, &site.world));
    task.run(&site).ok();
    let second = looks(&cache);
    assert_eq!(names(&first, &site.world), names(&second, &site.world));
    let touched: Vec<_> = first.iter().filter(|(path, looks)| second[*path] != **looks).map(|(path, _)| path).collect();
    assert!(touched.is_empty(), "a build that changed nothing wrote: {touched:#?}");
    // A late change: everything before it stays as it is.
    grounds.world.file("context/big", "changed");
    task.run(&site).ok();
    let third = looks(&cache);
    let is_kept = |path: &&PathBuf| !path.to_string_lossy().contains("build-parts");
    let lost: Vec<_> =
        second.iter().filter(|(path, looks)| third.get(*path) != Some(looks)).map(|(path, _)| path).collect();
    let lost: Vec<_> = lost.into_iter().filter(is_kept).collect();
    assert!(lost.is_empty(), "a late change wrote what was there: {lost:#?}");
    let added = third.len() - second.len();
    assert!((1..12).contains(&added), "{added} files for one step");
}
