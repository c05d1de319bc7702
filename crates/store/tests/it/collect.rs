//! Garbage collection.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use skycap_image::{Descriptor, MediaType, Silent};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_store::Store;
use skycap_testkit::listing::image;

use crate::{files, store};

fn fill(dir: &Path, count: u8) -> Vec<Descriptor> {
    let store = Store::open(dir).unwrap();
    let add = |number| {
        let bytes = [number; 1000];
        let blob = Descriptor::of(MediaType::OciLayer, &bytes);
        store.ingest(&blob, &bytes[..]).unwrap();
        // Each was used a day after the one before; the newest a day ago.
        age(dir, &blob, u64::from(count - number));
        blob
    };
    (0..count).map(add).collect()
}

fn age(dir: &Path, blob: &Descriptor, days: u64) {
    let used = SystemTime::now() - Duration::from_hours(24 * days);
    let seal = dir.join(format!("seals-1/sha256-{}", blob.digest.hex()));
    fs::File::open(seal).unwrap().set_times(fs::FileTimes::new().set_modified(used)).unwrap();
}

fn left(dir: &Path, blobs: &[Descriptor]) -> Vec<bool> {
    blobs.iter().map(|blob| dir.join("blobs/sha256").join(blob.digest.hex()).exists()).collect()
}

#[test]
fn the_oldest_go_until_the_rest_fits() {
    let (dir, store) = store();
    let blobs = fill(dir.path(), 4);
    let collected = store.gc(2500, Duration::MAX).unwrap();
    assert_eq!((collected.removed.len(), collected.freed, collected.kept), (2, 2000, 2000));
    assert_eq!(left(dir.path(), &blobs), [false, false, true, true]);
}

#[test]
fn what_is_too_old_goes_whatever_the_size() {
    let (dir, store) = store();
    let blobs = fill(dir.path(), 4);
    store.gc(u64::MAX, Duration::from_hours(60)).unwrap();
    assert_eq!(left(dir.path(), &blobs), [false, false, true, true]);
}

/// For a directory that is copied from build to build: unpacked layers go, whatever their age, and nothing else does.
#[test]
fn what_is_moved_about_holds_no_unpacked_layers() {
    let (dir, store) = store();
    let blobs = fill(dir.path(), 3);
    let image = image("layer\n  file a 0644 0:0 \"a\"\n");
    let layers = image.layers();
    let lower = store.lower(&layers[0], &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    fs::write(store.cache_mount("x", |_| std::io::Result::Ok(())).unwrap().join("file"), "kept").unwrap();
    store.set_record("step", "key", b"value").unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let collected = store.gc_for_moving(u64::MAX, Duration::from_hours(60)).unwrap();
    assert!(!lower.exists());
    assert_eq!(left(dir.path(), &blobs), [false, true, true], "the oldest is too old");
    assert_eq!(collected.removed.len(), 2);
    assert_eq!(store.record("step", "key").unwrap(), b"value");
    let user = Store::open(dir.path()).unwrap();
    let lower = user.lower(&layers[0], &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    store.gc_for_moving(0, Duration::ZERO).unwrap();
    assert!(lower.exists(), "somebody uses it");
    assert!(!skycap_store::has_foreign_layout(dir.path()));
    fs::write(dir.path().join("index.json"), "{}").unwrap();
    assert!(skycap_store::has_foreign_layout(dir.path()));
}

#[test]
fn what_a_living_handle_uses_stays() {
    let (dir, store) = store();
    let blobs = fill(dir.path(), 3);
    let user = Store::open(dir.path()).unwrap();
    assert!(user.verify(&blobs[0]));
    age(dir.path(), &blobs[0], 1000);
    assert_eq!(store.gc(0, Duration::ZERO).unwrap().kept, 1000);
    assert_eq!(left(dir.path(), &blobs), [true, false, false]);
    drop(user);
    store.gc(0, Duration::ZERO).unwrap();
    assert_eq!(left(dir.path(), &blobs), [false, false, false]);
}

#[test]
fn everything_can_go_and_come_back() {
    let (dir, store) = store();
    let layers = image("layer\ndir closed 0000\nfile closed/f size=5000\n").layers();
    {
        let user = Store::open(dir.path()).unwrap();
        user.lower(&layers[0], &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
        fs::write(user.cache_mount("x", |_| std::io::Result::Ok(())).unwrap().join("file"), [0; 300]).unwrap();
        user.set_record("step", "key", b"content").unwrap();
    }
    let collected = store.gc(0, Duration::ZERO).unwrap();
    assert_eq!((collected.removed.len(), collected.kept), (5, 0));
    assert!(collected.freed > 5000);
    for name in ["blobs", "records-1", "lowers-2", "mounts-1"] {
        assert!(files(&dir.path().join(name)).is_empty(), "{name}");
    }
    store.lower(&layers[0], &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    assert_eq!(store.gc(0, Duration::ZERO).unwrap().removed.len(), 1, "only the record of the listing is not leased");
}

#[test]
fn other_formats_are_left_alone() {
    let (dir, store) = store();
    fs::create_dir_all(dir.path().join("records-2/step")).unwrap();
    fs::write(dir.path().join("records-2/step/x"), "from the future").unwrap();
    store.gc(0, Duration::ZERO).unwrap();
    assert!(dir.path().join("records-2/step/x").exists());
}

#[test]
fn collecting_while_others_work_fails_nobody() {
    let (dir, store) = store();
    std::thread::scope(|scope| {
        for worker in 0..3_u8 {
            let dir = dir.path();
            scope.spawn(move || {
                for round in 0..30_u8 {
                    let store = Store::open(dir).unwrap();
                    let bytes = [worker, round].repeat(500);
                    let blob = Descriptor::of(MediaType::OciLayer, &bytes);
                    store.ingest(&blob, &bytes[..]).unwrap();
                    assert!(store.verify(&blob), "lost while in use");
                    store.set_record("step", "key", &bytes).unwrap();
                }
            });
        }
        for _ in 0..60 {
            store.gc(0, Duration::ZERO).unwrap();
        }
    });
}

/// A store that prunes itself looks once an hour, whatever the clock did meanwhile.
#[test]
fn pruning_is_done_once_an_hour() {
    let (dir, store) = store();
    let blobs = fill(dir.path(), 4);
    let hour = Duration::from_hours(1);
    assert_eq!(store.prune(2500, Duration::MAX).unwrap().unwrap().removed.len(), 2);
    assert_eq!(left(dir.path(), &blobs), [false, false, true, true]);
    assert_eq!(store.prune(0, Duration::MAX).unwrap(), None);
    let stamp = || fs::File::options().write(true).open(dir.path().join("pruned-1")).unwrap();
    stamp().set_modified(SystemTime::now() - hour / 2).unwrap();
    assert_eq!(store.prune(0, Duration::MAX).unwrap(), None);
    for time in [SystemTime::now() - hour, SystemTime::now() + 24 * hour] {
        stamp().set_modified(time).unwrap();
        assert!(store.prune(1000, Duration::MAX).unwrap().is_some());
    }
    assert_eq!(left(dir.path(), &blobs), [false, false, false, true]);
    fs::remove_file(dir.path().join("pruned-1")).unwrap();
    fs::create_dir(dir.path().join("pruned-1")).unwrap();
    assert!(store.prune(0, Duration::MAX).unwrap().is_some());
    assert_eq!(left(dir.path(), &blobs), [false; 4]);
    assert!(store.usual_limit() >= 10 << 30);
}

/// What is looked at again and again is not written to each time.
#[test]
fn use_is_noted_once_an_hour() {
    let (dir, store) = store();
    let blobs = fill(dir.path(), 1);
    store.set_record("step", "key", b"content").unwrap();
    let record = files(&dir.path().join("records-1"))[0].clone();
    let seal = dir.path().join(format!("seals-1/sha256-{}", blobs[0].digest.hex()));
    let used = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    for (ago, is_noted) in [(Duration::from_mins(50), false), (Duration::from_mins(70), true)] {
        let time = SystemTime::now() - ago;
        for path in [&record, &seal] {
            fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }
        let user = Store::open(dir.path()).unwrap();
        assert!(user.record("step", "key").is_some() && user.verify(&blobs[0]));
        for path in [&record, &seal] {
            assert_eq!(used(path) != time, is_noted, "{}", path.display());
        }
    }
}
