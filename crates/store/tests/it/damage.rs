//! Whatever is done to a store's files, its answers stay right: what is damaged is made or fetched again.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use skycap_image::{Layer, Silent};
use skycap_rootfs::{OverlayXattrs, Owners};
use skycap_store::Store;
use skycap_testkit::listing::image;

use crate::{full, random};

const LISTING: &str = r#"
    layer
      dir etc 0755
      file etc/motd "hello\n"
      file big size=3000
    layer
      file etc/issue "on top"
      symlink link etc/issue
"#;
/// Longer than anything here takes on the slowest machine.
const HANG: Duration = Duration::from_mins(1);

/// Uses everything that a store can do, and fails if an answer is wrong.
fn use_all(dir: &Path) {
    let store = Store::open(dir).unwrap();
    let layers = image(LISTING).layers();
    for (number, layer) in layers.iter().enumerate() {
        let expected = skycap_rootfs::LayerIndex::of(layer, &skycap_rootfs::Limits::default()).unwrap();
        assert_eq!(*store.layer_index(layer).unwrap(), expected);
        let kept = Layer { blobs: store.through(Arc::clone(&layer.blobs)), ..layer.clone() };
        assert!(kept.open().unwrap().finish().is_ok());
        let lower = store.lower(layer, &layers[..number], Owners::Squash, OverlayXattrs::User, &Silent).unwrap();
        let read = |name: &str| fs::read(lower.join(name)).unwrap();
        match number {
            0 => assert_eq!((read("etc/motd"), read("big").len()), (b"hello\n".to_vec(), 3000)),
            _ => assert_eq!((read("etc/issue"), read("link")), (b"on top".to_vec(), b"on top".to_vec())),
        }
    }
    for key in ["one", "two"] {
        let content = key.as_bytes().repeat(20);
        let record = store.record("step", key);
        assert!(record.is_none() || record == Some(content.clone()));
        store.set_record("step", key, &content).unwrap();
        assert_eq!(store.record("step", key), Some(content));
    }
}

/// The same, or a failed test if it does not end.
#[track_caller]
fn use_all_in_time(dir: &Path, what: &str) {
    let (tell, told) = mpsc::channel();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        use_all(&dir);
        let _ = tell.send(());
    });
    match told.recv_timeout(HANG) {
        Ok(()) => {}
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs: {what}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("a wrong answer: {what}"),
    }
}

/// Every file that a store believes in.
fn believed(dir: &Path) -> Vec<PathBuf> {
    let of = |name: &str| {
        let mut files = crate::files(&dir.join(name));
        files.retain(|path| fs::symlink_metadata(path).unwrap().is_file());
        files
    };
    ["blobs", "seals-1", "records-1", "lowers-2"].into_iter().flat_map(of).collect()
}

fn write(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn replace(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

/// K13, K14: for every file of a store, everything that can happen to a file.
#[test]
fn no_damage_leads_to_a_wrong_answer_or_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    use_all(dir.path());
    let mut cases = 0;
    let mut state = 7;
    let count = believed(dir.path()).len();
    assert!(count >= 13, "{count}");
    for number in 0..count {
        let mut damage = |what: &str, damage: &mut dyn FnMut(&Path)| {
            // What was damaged before is whole again.
            let Some(path) = believed(dir.path()).into_iter().nth(number) else { return };
            if fs::metadata(&path).unwrap().len() > 0 {
                damage(&path);
                use_all_in_time(dir.path(), &format!("{what}: {}", path.display()));
                cases += 1;
            }
        };
        damage("first byte", &mut |path| write(path, |bytes| bytes[0] ^= 1));
        damage("last byte", &mut |path| write(path, |bytes| *bytes.last_mut().unwrap() ^= 0x80));
        for _ in 0..if full() { 1000 } else { 8 } {
            let at = random(&mut state);
            damage("random bit", &mut |path| {
                write(path, |bytes| {
                    let length = bytes.len();
                    bytes[at % length] ^= 1 << (at / length % 8);
                });
            });
        }
        for part in 0..if full() { 50 } else { 4 } {
            damage("cut", &mut |path| write(path, |bytes| bytes.truncate(bytes.len() * part / 50)));
        }
        damage("zeros", &mut |path| write(path, |bytes| bytes.fill(0)));
        damage("garbage", &mut |path| write(path, |bytes| bytes.iter_mut().for_each(|byte| *byte = !*byte)));
        damage("longer", &mut |path| write(path, |bytes| bytes.push(0)));
        damage("gone", &mut |path| replace(path, |_| {}));
        damage("closed", &mut |path| fs::set_permissions(path, Permissions::from_mode(0o0)).unwrap());
        damage("directory", &mut |path| replace(path, |path| fs::create_dir_all(path.join("x/y")).unwrap()));
        damage("link", &mut |path| replace(path, |path| std::os::unix::fs::symlink("/etc/hostname", path).unwrap()));
        damage("loop", &mut |path| replace(path, |path| std::os::unix::fs::symlink(path, path).unwrap()));
        damage("pipe", &mut |path| {
            replace(path, |path| {
                let path = CString::new(path.as_os_str().as_bytes()).unwrap();
                let mode = rustix::fs::Mode::RWXU;
                rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
            });
        });
        damage("swapped", &mut |path| {
            let sibling =
                believed(dir.path()).into_iter().find(|other| other != path && other.parent() == path.parent());
            if let Some(sibling) = sibling {
                let aside = dir.path().join("aside");
                fs::rename(path, &aside).unwrap();
                fs::rename(&sibling, path).unwrap();
                fs::rename(&aside, &sibling).unwrap();
            }
        });
    }
    eprintln!("{cases} damages to {count} files");
    assert!(cases > 250, "{cases}");
}

/// K13: blobs of the same size keep their size when they are swapped, and their times.
#[test]
fn swapped_blobs_of_one_size_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = [[1_u8; 500], [2; 500]].map(|bytes| {
        let blob = skycap_image::Descriptor::of(skycap_image::MediaType::OciLayer, &bytes);
        Store::open(dir.path()).unwrap().ingest(&blob, &bytes[..]).unwrap();
        blob
    });
    let [a, b] = [&blobs[0], &blobs[1]].map(|blob| dir.path().join("blobs/sha256").join(blob.digest.hex()));
    fs::rename(&a, dir.path().join("aside")).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(dir.path().join("aside"), &b).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(!store.verify(&blobs[0]) && !store.verify(&blobs[1]));
    assert!(!a.exists() && !b.exists());
}

/// K14: whole directories
#[test]
fn directories_that_are_gone_or_something_else_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["blobs", "blobs/sha256", "seals-1", "records-1", "records-1/step", "lowers-2", "locks-1", "sessions-1"]
    {
        use_all(dir.path());
        fs::remove_dir_all(dir.path().join(name)).unwrap();
        use_all_in_time(dir.path(), &format!("without {name}"));
    }
    use_all(dir.path());
    fs::remove_dir_all(dir.path().join("records-1/step")).unwrap();
    fs::write(dir.path().join("records-1/step"), "a file").unwrap();
    use_all_in_time(dir.path(), "a kind of records is a file");
}

/// Nothing that may be somebody's file is removed, so it is named.
#[test]
fn a_file_where_a_directory_belongs_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blobs");
    fs::write(&file, "somebody's").unwrap();
    let error = Store::open(directory.path()).err().unwrap();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"somebody's");
}

/// K13, K16: what stands where locks are, and where cache mounts have their names.
#[test]
fn no_lock_and_no_name_is_anything_but_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let damages: [fn(&Path); 3] = [
        |path| fs::create_dir_all(path.join("x/y")).unwrap(),
        |path| std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap(),
        |path| {
            let path = CString::new(path.as_os_str().as_bytes()).unwrap();
            let mode = rustix::fs::Mode::RWXU;
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let (tell, told) = mpsc::channel();
        let dir = dir.path().to_owned();
        std::thread::spawn(move || {
            let use_locks = || {
                let store = Store::open(&dir).unwrap();
                drop(store.lock("name").unwrap());
                store.cache_mount("kept", |_| std::io::Result::Ok(())).unwrap();
                store.inventory().unwrap();
            };
            use_locks();
            let mounts = fs::read_dir(dir.join("mounts-1")).unwrap().map(|mount| mount.unwrap().path().join("id"));
            let locks = fs::read_dir(dir.join("locks-1")).unwrap().map(|lock| lock.unwrap().path());
            let all: Vec<PathBuf> = locks.chain(mounts).collect();
            assert!(all.len() >= 3, "{all:?}");
            for path in &all {
                replace(path, damage);
                use_locks();
            }
            all.iter().filter(|path| path.is_file()).for_each(|path| replace(path, damage));
            Store::open(&dir).unwrap().gc(0, Duration::ZERO).unwrap();
            let _ = tell.send(());
        });
        told.recv_timeout(HANG).unwrap_or_else(|error| panic!("{number}: {error}"));
    }
}

/// K23
#[test]
fn the_formats_of_other_releases_are_neither_used_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    use_all(dir.path());
    let files =
        ["lowers-1/sha256-00-keep-user-00/root/etc/motd", "lowers-3/x/root/y", "seals-9/sha256-00", "records-2/step/x"];
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "of another release").unwrap();
    }
    use_all(dir.path());
    let store = Store::open(dir.path()).unwrap();
    store.gc(0, Duration::ZERO).unwrap();
    assert!(store.audit(&mut |_| {}).unwrap().damaged.is_empty());
    use_all(dir.path());
    for file in files {
        assert_eq!(fs::read(dir.path().join(file)).unwrap(), b"of another release", "{file}");
    }
}
