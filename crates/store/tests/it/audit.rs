//! Listing and checking all of a store.

use std::fs;
use std::time::Duration;

use skycap_image::{Descriptor, MediaType, Silent};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_store::{Sort, Store};
use skycap_testkit::listing::image;

use crate::store;

const LISTING: &str = "layer\n dir etc 0755\n file etc/motd \"hello\"\n file big size=5000\n hardlink same big\n";

fn filled() -> (tempfile::TempDir, Store) {
    let (dir, store) = store();
    let user = Store::open(dir.path()).unwrap();
    user.lower(&image(LISTING).layers()[0], &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    user.set_record("step", "the key", b"content").unwrap();
    fs::write(user.cache_mount("npm", |_| std::io::Result::Ok(())).unwrap().join("file"), [0; 300]).unwrap();
    (dir, store)
}

fn faults(store: &Store) -> Vec<(Sort, String)> {
    let damaged = store.audit(&mut |_| {}).unwrap().damaged;
    damaged.into_iter().inspect(|d| assert!(d.removed, "{d:?}")).map(|d| (d.item.sort, d.fault)).collect()
}

#[test]
fn a_store_lists_what_it_has_and_who_uses_it() {
    let (_dir, store) = filled();
    let layer = &image(LISTING).layers()[0];
    let diff_id = layer.diff_id.to_string();
    let items = store.inventory().unwrap();
    let labels: Vec<_> = items.iter().map(|item| (item.sort, item.label.clone())).collect();
    let process = format!("process {}", std::process::id());
    let expected = [
        (Sort::Blob, layer.descriptor.digest.to_string()),
        (Sort::LayerIndex, diff_id.clone()),
        (Sort::Lower, diff_id),
        (Sort::Record, "step the key".to_owned()),
        (Sort::CacheMount, "npm".to_owned()),
        (Sort::Scratch, process),
    ];
    assert_eq!(labels, expected);
    assert_eq!(items[0].size, layer.descriptor.size);
    assert!(items[2].size >= 5000 && items[4].size >= 300);
    assert!(items.iter().all(|item| item.used.elapsed().unwrap_or_default() < Duration::from_hours(1)));
    assert!(items[0].holders.is_empty());
    assert_eq!(items[5].holders, [std::process::id()]);
    assert!(store.verify(&layer.descriptor));
    assert_eq!(store.inventory().unwrap()[0].holders, [std::process::id()]);
}

#[test]
fn a_dry_run_says_what_a_collection_does_and_removes_nothing() {
    let (_dir, store) = filled();
    let layer = &image(LISTING).layers()[0];
    let user = Store::open(store.dir()).unwrap();
    assert!(user.verify(&layer.descriptor));
    let before = store.inventory().unwrap();
    let dry = store.gc_dry_run(0, Duration::MAX).unwrap();
    assert_eq!(store.inventory().unwrap(), before);
    assert_eq!((dry.removed.len(), dry.kept, dry.in_use), (4, layer.descriptor.size, layer.descriptor.size));
    let collected = store.gc(0, Duration::MAX).unwrap();
    assert_eq!((collected.removed.len(), collected.freed, collected.kept), (4, dry.freed, dry.kept));
    assert_eq!(store.inventory().unwrap().iter().filter(|item| item.sort != Sort::Scratch).count(), 1);
}

/// K13
#[test]
fn an_audit_finds_and_removes_what_is_damaged() {
    let (dir, store) = filled();
    assert_eq!(faults(&store), []);
    let only = |name: &str| crate::files(&dir.path().join(name)).remove(0);
    fs::write(only("blobs"), "?").unwrap();
    fs::write(only("records-1/step"), "?").unwrap();
    let lower = store.inventory().unwrap().into_iter().find(|item| item.sort == Sort::Lower).unwrap().path(&store);
    fs::write(lower.join("root/etc/motd"), "hellO").unwrap();
    let found: Vec<_> = faults(&store).into_iter().map(|(sort, _)| sort).collect();
    assert_eq!(found, [Sort::Blob, Sort::Lower, Sort::Record]);
    assert_eq!(faults(&store), [], "it is gone now");
    assert!(!lower.exists());
}

/// K05, K13: the seal that says that nobody touched the files does not say that they are right.
#[test]
fn an_audit_compares_the_files_of_lower_directories_with_their_layers() {
    let (_dir, store) = filled();
    let lower = store.inventory().unwrap().into_iter().find(|item| item.sort == Sort::Lower).unwrap();
    let seal = lower.path(&store).join("seal");
    let not_durable = fs::read(&seal).unwrap();
    assert_eq!(faults(&store), []);
    assert_ne!(fs::read(&seal).unwrap(), not_durable, "it is durable from now on");
    assert!(String::from_utf8_lossy(&fs::read(&seal).unwrap()).contains("durable"));
    // Without its layer nobody can say; that is no damage.
    fs::remove_dir_all(store.dir().join("blobs/sha256")).unwrap();
    let again = Store::open(store.dir()).unwrap().audit(&mut |_| {}).unwrap();
    assert_eq!((again.damaged.len(), again.unchecked.len()), (0, 1), "{again:?}");
}

#[test]
fn a_lower_directory_in_use_loses_only_its_seal() {
    let (_dir, store) = filled();
    let layer = &image(LISTING).layers()[0];
    let user = Store::open(store.dir()).unwrap();
    let root = user.lower(layer, &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    fs::write(root.join("big"), "?").unwrap();
    let damaged = store.audit(&mut |_| {}).unwrap().damaged;
    assert_eq!(damaged.iter().map(|d| (d.item.sort, d.removed)).collect::<Vec<_>>(), [(Sort::Lower, false)]);
    assert!(root.exists());
    drop(user);
    let other = Store::open(store.dir()).unwrap();
    let root = other.lower(layer, &[], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
    assert_eq!(fs::metadata(root.join("big")).unwrap().len(), 5000);
}

#[test]
fn an_audit_makes_later_uses_cheap_and_leaves_strangers_alone() {
    let (dir, store) = store();
    let bytes = [7; 1000];
    let blob = Descriptor::of(MediaType::OciLayer, &bytes);
    fs::write(dir.path().join("blobs/sha256").join(blob.digest.hex()), bytes).unwrap();
    fs::write(dir.path().join("blobs/sha256/README"), "not ours").unwrap();
    assert_eq!(faults(&store), []);
    assert_eq!(crate::files(&dir.path().join("seals-1")).len(), 1);
    store.gc(0, Duration::ZERO).unwrap();
    assert!(dir.path().join("blobs/sha256/README").exists());
}
