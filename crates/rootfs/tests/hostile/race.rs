//! M04 (containerd CVE-2025-47290), M11: somebody swaps directories and links in the target's parent and in the tree under
//! way while layers unpack. The kernel says no, not luck: every name is opened once, beneath a descriptor, without following.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use skycap_image::{Layer, Silent};
use skycap_rootfs::{Limits, unpack};
use skycap_testkit::rawtar;

use crate::case::{Format, layer};
use crate::identity::{Identity, is_full, run_again};
use crate::judge::options;
use crate::room::Room;

/// How often something is swapped, and how many layers are unpacked at least meanwhile.
const SWAPS: (u64, u64) = (3_000, 100_000);
const LAYERS: (u64, u64) = (60, 1_000);

/// What is swapped against a link to the victim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Level {
    /// `d` in the tree under way.
    Inside,
    /// The temporary directories beside the target.
    Beside,
}

fn layers() -> Vec<Layer> {
    let text = "dir d 0755\nrepeat 20 file d/f{n} \"x\"\ndir d/e 0777\nlink d/l -> x\nhard d/h => d/f0\nfifo d/p
        ##
        file d/.wh.f1\nrepeat 20 file d/e/g{n} 0777 \"y\"\nfile d/f2 0777 \"z\"
        ##
        file d/.wh..wh..opq\ndir d 0777\nfile d/hello 0777 \"x\"
        ##
        file .wh.d\ndir d/dir 0700\nfile d/dir/deep \"x\"";
    rawtar::layers(text).iter().map(|tar| layer(tar, Format::Plain)).collect()
}

/// Swaps until told to stop; counts what worked.
fn swap(parent: &Path, level: Level, stop: &AtomicBool, count: &AtomicU64) {
    let link = parent.join("swap-link");
    let _ = symlink("victim", &link);
    while !stop.load(Ordering::Relaxed) {
        let names = fs::read_dir(parent).into_iter().flatten().flatten();
        for entry in names.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".skycap-")) {
            let (from, link): (PathBuf, PathBuf) = match level {
                Level::Beside => (entry.path(), link.clone()),
                Level::Inside => {
                    let link = entry.path().join("swap-link");
                    let _ = symlink("../victim", &link);
                    (entry.path().join("d"), link)
                }
            };
            for _ in 0..50 {
                if renameat_with(CWD, &from, CWD, &link, RenameFlags::EXCHANGE).is_err() {
                    break;
                }
                count.fetch_add(1, Ordering::Relaxed);
                // And back, so that unpacking goes on.
                let _ = renameat_with(CWD, &from, CWD, &link, RenameFlags::EXCHANGE);
            }
        }
    }
}

fn race(level: Level) {
    let wanted = |(some, all): (u64, u64)| if is_full() { all } else { some };
    let room = Room::new();
    let parent = room.path().join("p");
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let swapper = {
        let (parent, stop, count) = (parent.clone(), Arc::clone(&stop), Arc::clone(&count));
        std::thread::spawn(move || swap(&parent, level, &stop, &count))
    };
    let layers = layers();
    let (mut unpacked, mut good) = (0, 0);
    let start = std::time::Instant::now();
    while unpacked < wanted(LAYERS) || count.load(Ordering::Relaxed) < wanted(SWAPS) {
        let target = parent.join(format!("rootfs-{unpacked}"));
        let result = unpack(&layers, &target, &options(Limits::default()), &Silent);
        if result.is_ok() {
            good += 1;
            assert!(
                !fs::symlink_metadata(&target).unwrap().is_symlink() || level == Level::Beside,
                "{}",
                target.display()
            );
        }
        unpacked += layers.len() as u64;
        if fs::symlink_metadata(&target).is_ok_and(|stat| stat.is_dir()) {
            let _ = fs::remove_dir_all(&target);
        } else {
            let _ = fs::remove_file(&target);
        }
        assert!(start.elapsed().as_secs() < 300, "only {count:?} swaps");
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
    // What the swapping itself leaves in the parent, and what could not be taken away behind its back.
    let own = fs::read_dir(&parent).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_own = |name: &String| {
        let is_target = name.starts_with("rootfs-") && name != "rootfs-evil";
        is_target || name.starts_with(".skycap-") || name.starts_with("swap-")
    };
    let own: Vec<String> = own.filter(is_own).collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    room.changes(&own).unwrap_or_else(|what| panic!("{level:?}: {what}"));
    let count = count.load(Ordering::Relaxed);
    eprintln!("hostile: as {}: {count} swaps {level:?}, {unpacked} layers, {good} trees", Identity::current().name());
}

#[test]
fn directories_swapped_for_links_in_the_tree_lead_nowhere() {
    race(Level::Inside);
}

#[test]
fn directories_swapped_for_links_beside_the_target_lead_nowhere() {
    race(Level::Beside);
}

#[test]
fn directories_swapped_for_links_lead_nowhere_for_an_ordinary_user() {
    run_again("race::directories_swapped_for_links_in_the_tree_lead_nowhere", Identity::User);
    run_again("race::directories_swapped_for_links_beside_the_target_lead_nowhere", Identity::User);
}
