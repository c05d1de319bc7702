//! Blobs.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skycap_image::{BlobReader, BlobSource, Descriptor, Kind, Layer, MediaType, Memory, SourceError};
use skycap_store::Store;

use crate::{files, store};

const BYTES: &[u8] = b"the bytes of a blob";

fn blob() -> Descriptor {
    Descriptor::of(MediaType::OciLayer, BYTES)
}

fn read(source: &dyn BlobSource) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    source.open(&blob())?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[test]
fn a_blob_comes_back_in_this_and_in_another_handle() {
    let (dir, store) = store();
    assert!(!store.has(&blob().digest));
    assert_eq!(read(&store).unwrap_err().kind, Kind::NotFound);
    store.ingest(&blob(), BYTES).unwrap();
    assert!(store.has(&blob().digest) && store.verify(&blob()));
    assert_eq!(read(&store).unwrap(), BYTES);
    assert_eq!(read(&Store::open(dir.path()).unwrap()).unwrap(), BYTES);
    let path = dir.path().join("blobs/sha256").join(blob().digest.hex());
    assert_eq!(store.file(&blob()), Some(path));
}

#[test]
fn a_writer_finds_the_digest() {
    let (_dir, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(BYTES).unwrap();
    assert_eq!(writer.commit(MediaType::OciLayer).unwrap(), blob());
    assert_eq!(read(&store).unwrap(), BYTES);
}

#[test]
fn wrong_bytes_are_not_taken_in() {
    let (dir, store) = store();
    for wrong in [&b"the bytes of a blub"[..], b"the bytes", b"the bytes of a blob and more"] {
        assert!(store.ingest(&blob(), wrong).is_err());
        assert!(!store.has(&blob().digest));
    }
    drop(store.writer().unwrap());
    assert!(files(&dir.path().join("blobs")).is_empty());
    drop(store);
    assert!(files(&dir.path().join("sessions-1")).is_empty());
}

/// Something that happens to a file behind our back.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 8] = [
    ("a flipped bit", |path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[5] ^= 1;
        fs::write(path, bytes).unwrap();
    }),
    ("cut short", |path| fs::write(path, &BYTES[..7]).unwrap()),
    ("empty", |path| fs::write(path, "").unwrap()),
    ("zeros", |path| fs::write(path, [0; BYTES.len()]).unwrap()),
    ("longer", |path| fs::write(path, [BYTES, b"!"].concat()).unwrap()),
    ("gone", |path| fs::remove_file(path).unwrap()),
    ("a directory", |path| {
        fs::remove_file(path).unwrap();
        fs::create_dir_all(path.join("x")).unwrap();
    }),
    ("a link", |path| {
        fs::remove_file(path).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
    }),
];

#[test]
fn a_damaged_blob_is_absent_and_can_be_taken_in_again() {
    for (name, damage) in DAMAGES {
        let (dir, store) = store();
        store.ingest(&blob(), BYTES).unwrap();
        let path = dir.path().join("blobs/sha256").join(blob().digest.hex());
        damage(&path);
        for store in [&store, &Store::open(dir.path()).unwrap()] {
            assert_eq!(read(store).unwrap_err().kind, Kind::NotFound, "{name}");
            assert!(!store.verify(&blob()) && store.file(&blob()).is_none(), "{name}");
        }
        assert!(fs::symlink_metadata(&path).is_err(), "{name} was left");
        store.ingest(&blob(), BYTES).unwrap();
        assert_eq!(read(&store).unwrap(), BYTES, "{name}");
    }
}

#[test]
fn a_wrong_size_in_a_descriptor_does_not_lose_the_blob() {
    let (_dir, store) = store();
    store.ingest(&blob(), BYTES).unwrap();
    let wrong = Descriptor { size: 3, ..blob() };
    assert!(store.open(&wrong).is_err());
    assert_eq!(read(&store).unwrap(), BYTES);
}

/// Counts what it is asked for.
struct Counting(Memory, AtomicUsize);

impl BlobSource for Counting {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.open_unverified(blob)
    }
}

#[test]
fn what_is_read_through_the_store_twice_does_not_wait_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let memory = Memory::default();
    let descriptor = memory.add(MediaType::OciLayer, BYTES);
    let once = store.through(Arc::new(memory));
    let twice = store.through(Arc::clone(&once));
    let layer = Layer { descriptor: descriptor.clone(), diff_id: descriptor.digest, blobs: twice };
    let kept = store.keep_layer(&layer).unwrap();
    assert!(kept.open().unwrap().finish().is_ok());
    assert!(store.verify(&descriptor));
}

#[test]
fn what_is_read_through_the_store_is_fetched_once() {
    let (dir, store) = store();
    let memory = Memory::default();
    memory.add(MediaType::OciLayer, BYTES);
    let source = Arc::new(Counting(memory, AtomicUsize::new(0)));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let (dir, source) = (dir.path(), Arc::clone(&source));
            scope.spawn(move || {
                let through = Store::open(dir).unwrap().through(source);
                assert_eq!(read(&*through).unwrap(), BYTES);
            });
        }
    });
    assert_eq!(source.1.load(Ordering::Relaxed), 1);
    // Damage costs another fetch, not an error.
    let path = dir.path().join("blobs/sha256").join(blob().digest.hex());
    fs::write(path, "?").unwrap();
    let through = store.through(Arc::clone(&source) as Arc<dyn BlobSource>);
    assert_eq!(read(&*through).unwrap(), BYTES);
    assert_eq!(source.1.load(Ordering::Relaxed), 2);
    assert_eq!(through.manifest(&blob()).unwrap().bytes, BYTES);
}

#[test]
fn a_blob_that_is_written_again_while_it_is_read_is_there() {
    let (dir, store) = store();
    let bytes = vec![7; 1 << 20];
    let write = || {
        let mut writer = store.writer().unwrap();
        writer.write_all(&bytes).unwrap();
        writer.commit(MediaType::OciLayer).unwrap()
    };
    let blob = write();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| (0..60).for_each(|_| drop(write())));
        while !writing.is_finished() {
            // A new handle trusts nothing that it has not seen.
            assert!(Store::open(dir.path()).unwrap().verify(&blob));
        }
    });
}

/// A repository and who asks there.
struct Repository {
    blobs: Memory,
    asker: &'static str,
    questions: AtomicUsize,
}

impl Repository {
    fn with(asker: &'static str, contents: &[&[u8]]) -> Arc<Self> {
        let blobs = Memory::default();
        for content in contents {
            blobs.add(MediaType::OciLayer, *content);
        }
        Arc::new(Self { blobs, asker, questions: AtomicUsize::new(0) })
    }
}

impl BlobSource for Repository {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        self.blobs.open_unverified(blob)
    }

    fn asker(&self) -> Option<String> {
        Some(self.asker.to_owned())
    }

    fn holds(&self, blob: &Descriptor) -> Result<bool, SourceError> {
        self.questions.fetch_add(1, Ordering::Relaxed);
        Ok(self.blobs.open_unverified(blob).is_ok())
    }
}

/// R96, M36
#[test]
fn a_blob_of_a_private_repository_is_not_handed_to_whoever_knows_its_digest() {
    let (_dir, store) = store();
    let private = store.through(Repository::with("private as alice", &[BYTES]));
    assert_eq!(read(&*private).unwrap(), BYTES);

    let elsewhere = store.through(Repository::with("public as mallory", &[]));
    let error = elsewhere.open(&blob()).err().unwrap();
    assert_eq!(error.kind, Kind::NotFound, "{error}");
    assert_eq!(elsewhere.manifest(&blob()).unwrap_err().kind, Kind::NotFound);
    assert!(!elsewhere.holds(&blob()).unwrap());
    assert_eq!(elsewhere.file(&blob()), None);
    // The owner loses nothing by that.
    assert_eq!(read(&*private).unwrap(), BYTES);
}

/// R96
#[test]
fn who_may_have_a_cached_blob_is_asked_once() {
    let (dir, store) = store();
    read(&*store.through(Repository::with("one", &[BYTES]))).unwrap();
    let other = Repository::with("two", &[BYTES]);
    for _ in 0..3 {
        let through = Store::open(dir.path()).unwrap().through(Arc::clone(&other) as Arc<dyn BlobSource>);
        assert_eq!(read(&*through).unwrap(), BYTES);
    }
    assert_eq!(other.questions.load(Ordering::Relaxed), 1);
}

/// Gives wrong bytes the first few times.
struct Wrong(AtomicUsize);

impl BlobSource for Wrong {
    fn open_unverified(&self, _: &Descriptor) -> Result<BlobReader, SourceError> {
        let is_wrong = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        Ok(if is_wrong { Box::new(&b"the bytes of a blub"[..]) } else { Box::new(BYTES) })
    }
}

/// R41
#[test]
fn wrong_bytes_are_fetched_once_more() {
    let (_dir, store) = store();
    assert_eq!(read(&*store.through(Arc::new(Wrong(AtomicUsize::new(2))))).unwrap_err().kind, Kind::Corrupt);
    assert!(!store.has(&blob().digest));
    assert_eq!(read(&*store.through(Arc::new(Wrong(AtomicUsize::new(1))))).unwrap(), BYTES);
}
