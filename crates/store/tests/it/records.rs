//! Records, scratch directories, locks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_store::Store;

use crate::{files, store};

#[test]
fn a_record_comes_back_under_its_kind_and_key() {
    let (dir, store) = store();
    assert_eq!(store.record("step", "key"), None);
    store.set_record("step", "key", b"one").unwrap();
    store.set_record("step", "key", b"two").unwrap();
    store.set_record("other", "key", b"").unwrap();
    assert_eq!(store.record("step", "key").unwrap(), b"two");
    assert_eq!(Store::open(dir.path()).unwrap().record("other", "key").unwrap(), b"");
    assert_eq!(store.record("step", "kez"), None);
    for kind in ["", "../x", "A", "a/b"] {
        assert!(store.set_record(kind, "key", b"").is_err(), "{kind:?}");
        assert_eq!(store.record(kind, "key"), None, "{kind:?}");
    }
}

#[test]
fn no_damage_to_a_record_is_believed() {
    let (dir, store) = store();
    store.set_record("step", "key", b"content").unwrap();
    store.set_record("step", "other", b"content").unwrap();
    let paths = files(&dir.path().join("records-1"));
    let good = fs::read(&paths[0]).unwrap();
    let key =
        if store.record("step", "key").is_some() && good.windows(5).any(|w| w == b"other") { "other" } else { "key" };
    for position in 0..good.len() {
        let mut bytes = good.clone();
        bytes[position] ^= 0x10;
        fs::write(&paths[0], bytes).unwrap();
        assert_eq!(store.record("step", key), None, "byte {position}");
        fs::write(&paths[0], &good[..position]).unwrap();
        assert_eq!(store.record("step", key), None, "cut at {position}");
    }
    fs::copy(&paths[1], &paths[0]).unwrap();
    assert_eq!(store.record("step", key), None, "the record of another key");
    fs::remove_file(&paths[0]).unwrap();
    fs::create_dir(&paths[0]).unwrap();
    assert_eq!(store.record("step", key), None, "a directory");
}

#[test]
fn a_scratch_directory_goes_with_its_handle() {
    let (dir, store) = store();
    let scratch = store.scratch().unwrap();
    let path = scratch.path().to_owned();
    fs::create_dir(path.join("closed")).unwrap();
    fs::write(path.join("closed/file"), "").unwrap();
    fs::set_permissions(path.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_ne!(path, store.scratch().unwrap().path());
    drop(scratch);
    assert!(!path.exists());
    // A scratch directory outlives the handle that it came from.
    let scratch = store.scratch().unwrap();
    drop(store);
    drop(Store::open(dir.path()).unwrap());
    assert!(scratch.path().exists());
    drop(scratch);
    assert!(files(&dir.path().join("sessions-1")).is_empty());
}

#[test]
fn a_lock_keeps_others_out_also_while_lock_files_are_swept() {
    let (dir, store) = store();
    let (inside, working) = (AtomicUsize::new(0), AtomicUsize::new(4));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(dir.path()).unwrap();
                let mut alone = true;
                for _ in 0..300 {
                    let _lock = store.lock("name").unwrap();
                    alone &= inside.fetch_add(1, Ordering::SeqCst) == 0;
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                }
                working.fetch_sub(1, Ordering::SeqCst);
                assert!(alone, "two held the lock at once");
            });
        }
        while working.load(Ordering::SeqCst) > 0 {
            store.gc(u64::MAX, std::time::Duration::MAX).unwrap();
        }
    });
    let (_a, _b) = (store.lock("a").unwrap(), store.lock("b").unwrap());
}

#[test]
fn a_cache_mount_stays() {
    let (dir, store) = store();
    let mount = store.cache_mount("../npm", |_| std::io::Result::Ok(())).unwrap();
    fs::write(mount.join("file"), "x").unwrap();
    drop(store);
    let again = Store::open(dir.path()).unwrap().cache_mount("../npm", |_| std::io::Result::Ok(())).unwrap();
    assert_eq!(fs::read(again.join("file")).unwrap(), b"x");
    assert!(again.starts_with(dir.path().join("mounts-1")));
}
