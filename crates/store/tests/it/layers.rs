//! Listings and lower directories.

use std::fs;
use std::sync::Arc;

use skycap_image::{Kind, Memory, Silent};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_store::Store;
use skycap_testkit::listing::image;

use crate::store;

const LISTING: &str = r#"
    layer
      dir etc 0755
      file etc/motd "hello\n"
      file big size=100000
    layer zstd
      file etc/issue "on top"
"#;

#[test]
fn a_listing_is_made_once_and_outlives_its_blob() {
    let (dir, store) = store();
    let layers = image(LISTING).layers();
    let index = store.layer_index(&layers[0]).unwrap();
    assert_eq!(index.records().len(), 3);
    assert!(Arc::ptr_eq(&index, &store.layer_index(&layers[0]).unwrap()));
    fs::remove_dir_all(dir.path().join("blobs")).unwrap();
    let nowhere = skycap_image::Layer { blobs: Arc::new(Memory::default()), ..layers[0].clone() };
    assert_eq!(*Store::open(dir.path()).unwrap().layer_index(&nowhere).unwrap(), *index);
    // A damaged listing is made again.
    for record in crate::files(&dir.path().join("records-1")) {
        fs::write(record, "?").unwrap();
    }
    let other = Store::open(dir.path()).unwrap();
    assert_eq!(other.layer_index(&nowhere).unwrap_err().kind, Kind::NotFound);
    assert_eq!(*other.layer_index(&layers[0]).unwrap(), *index);
}

fn lower(store: &Store, number: usize) -> std::path::PathBuf {
    let layers = image(LISTING).layers();
    store.lower(&layers[number], &layers[..number], Owners::Squash, OverlayXattrs::User, &Silent).unwrap()
}

#[test]
fn a_lower_directory_is_made_once_by_many() {
    let (dir, store) = store();
    let made = lower(&store, 0);
    assert_eq!(fs::read(made.join("etc/motd")).unwrap(), b"hello\n");
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let store = Store::open(dir.path()).unwrap();
                assert_eq!(inode(&lower(&store, 0)), inode(&made));
                assert_eq!(fs::read(lower(&store, 1).join("etc/issue")).unwrap(), b"on top");
            });
        }
    });
    assert_eq!(fs::read_dir(dir.path().join("lowers-2")).unwrap().count(), 2);
}

#[test]
fn a_lower_directory_that_lost_its_files_is_made_again() {
    let (_dir, store) = store();
    let made = lower(&store, 0);
    fs::remove_dir_all(&made).unwrap();
    assert_eq!(lower(&store, 0), made);
    assert_eq!(fs::read(made.join("etc/motd")).unwrap(), b"hello\n");
}

#[test]
fn a_layer_that_lies_about_its_diff_id_is_not_kept() {
    let (dir, store) = store();
    let layers = image(LISTING).layers();
    let liar = skycap_image::Layer { diff_id: layers[1].diff_id, ..layers[0].clone() };
    assert_eq!(store.layer_index(&liar).unwrap_err().kind, Kind::Corrupt);
    assert!(store.lower(&liar, &[], Owners::Squash, OverlayXattrs::User, &Silent).is_err());
    assert_eq!(fs::read_dir(dir.path().join("lowers-2")).unwrap().count(), 0);
}
