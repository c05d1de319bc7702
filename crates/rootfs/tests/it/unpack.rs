//! Bytes are checked, limits hold, and a destination appears whole or not at all.

use std::fs;
use std::io::{self, Read, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use skycap_image::{
    BlobReader, BlobSource, Descriptor, Digest, Event, Kind, Layer, MediaType, Memory, Progress, Silent, SourceError,
};
use skycap_rootfs::{Limits, Owners, Unpack, UnpackError};

use crate::world::{Detail, Room, Warnings, chain, is_root, layer, layers, options, stored, tar, tree, unpack};

/// A layer whose blob is `packed` and whose bare tar is `bare`.
fn packed(packed: &[u8], bare: &[u8]) -> Layer {
    let memory = Memory::default();
    let descriptor = memory.add(MediaType::OciLayerGzip, packed);
    Layer { descriptor, diff_id: Digest::sha256(bare), blobs: Arc::new(memory) }
}

fn through(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    use std::process::Stdio;
    let child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let Ok(mut child) = child else {
        skycap_testkit::skipped!("part of a test: no {program}");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    Some(output.stdout)
}

#[test]
fn layers_are_decompressed_by_content() {
    let bare = tar("dir a\nfile a/b \"hello\"");
    for program in ["gzip", "zstd"] {
        let Some(bytes) = through(program, &bare) else { continue };
        let room = Room::new();
        unpack(&[packed(&bytes, &bare)], &room.rootfs()).unwrap();
        assert_eq!(tree(&room.rootfs(), Detail::Shape), "dir .\ndir a\nfile a/b \"hello\"\n", "{program}");
        // Two members or frames are one stream.
        let (first, second) = bare.split_at(700);
        let bytes = [through(program, first).unwrap(), through(program, second).unwrap()].concat();
        let room = Room::new();
        unpack(&[packed(&bytes, &bare)], &room.rootfs()).unwrap();
    }
}

/// A place that gives other bytes than asked for.
struct Liar(Vec<u8>);

impl BlobSource for Liar {
    fn open_unverified(&self, _: &Descriptor) -> Result<BlobReader, SourceError> {
        Ok(Box::new(io::Cursor::new(self.0.clone())))
    }
}

#[test]
fn a_blob_with_one_flipped_bit_anywhere_is_refused_and_leaves_nothing() {
    let bare = tar("dir a\nfile a/b \"hello\"");
    let mut variants = vec![bare.clone()];
    variants.extend(through("gzip", &bare));
    for good in variants {
        let honest = packed(&good, &bare);
        for index in (0..good.len()).step_by(if good.len() > 1000 { 61 } else { 1 }) {
            let mut bytes = good.clone();
            bytes[index] ^= 0x10;
            let room = Room::new();
            let error =
                unpack(&[Layer { blobs: Arc::new(Liar(bytes)), ..honest.clone() }], &room.rootfs()).unwrap_err();
            assert!(chain(&error).contains("hashes to"), "byte {index}: {}", chain(&error));
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(!room.rootfs().exists());
            room.assert_untouched("flipped");
        }
    }
}

#[test]
fn short_and_long_blobs_are_refused() {
    let bare = tar("file a \"hello\"");
    let honest = stored(&bare);
    let cut = bare[..bare.len() - 512].to_vec();
    let long = [bare.clone(), vec![0; 512]].concat();
    for (bytes, text) in [(cut, "ends after"), (long, "longer than"), (Vec::new(), "ends after 0")] {
        let room = Room::new();
        let error = unpack(&[Layer { blobs: Arc::new(Liar(bytes)), ..honest.clone() }], &room.rootfs()).unwrap_err();
        assert!(chain(&error).contains(text), "{}", chain(&error));
        assert!(!room.rootfs().exists());
    }
}

/// R42
#[test]
fn another_diff_id_is_refused_even_if_only_bytes_behind_the_end_differ() {
    let bare = tar("file a \"hello\"");
    // More than is read ahead.
    let longer = [bare.clone(), vec![0; 4 << 20]].concat();
    let room = Room::new();
    let error = unpack(&[packed(&longer, &bare)], &room.rootfs()).unwrap_err();
    assert!(chain(&error).contains("config says"), "{}", chain(&error));
    assert!(!room.rootfs().exists());
    unpack(&[packed(&longer, &longer)], &room.rootfs()).unwrap();
}

#[test]
fn a_bad_archive_in_a_good_blob_is_refused() {
    for (bytes, text) in [(b"not a tar at all".repeat(64), "tar"), (vec![0x1f, 0x8b, 8, 0, 1, 2, 3], "read to its end")]
    {
        let room = Room::new();
        let error = unpack(&[stored(&bytes)], &room.rootfs()).unwrap_err();
        assert!(chain(&error).contains(text), "{}", chain(&error));
        assert!(!room.rootfs().exists());
    }
}

#[test]
fn limits_are_named() {
    let small = Limits { entries: 2, unpacked_bytes: 4096, path_bytes: 10, ..Limits::default() };
    for (text, name) in [
        ("file a\nfile b\nfile c", Some("entries")),
        ("file a\nfile b", None),
        (&format!("file a \"{}\"", "x".repeat(4096)), Some("unpacked_bytes")),
        ("file a/b/c/d/e/f", Some("path_bytes")),
        ("link a -> 12345678901", Some("path_bytes")),
        ("link a -> 1234567890", None),
    ] {
        let room = Room::new();
        let options = Unpack { limits: small, ..options() };
        let result = skycap_rootfs::unpack(&[layer(text)], &room.rootfs(), &options, &Silent);
        match (result, name) {
            (Ok(()), None) => {}
            (Err(error), Some(name)) => {
                assert!(chain(&error).contains(&format!("(limit {name})")), "{}", chain(&error));
                assert!(!room.rootfs().exists());
            }
            (result, _) => panic!("{text}: {result:?}"),
        }
    }
}

#[test]
fn a_bomb_is_refused_by_its_ratio() {
    let mut bare = tar("");
    bare.clear();
    let size = 96 << 20;
    bare.extend_from_slice(&skycap_bomb_header(size));
    bare.resize(bare.len() + size + 1024, 0);
    let Some(bytes) = through("zstd", &bare) else { return };
    let room = Room::new();
    let error = unpack(&[packed(&bytes, &bare)], &room.rootfs()).unwrap_err();
    assert!(chain(&error).contains("ratio"), "{}", chain(&error));
    assert!(!room.rootfs().exists());
}

fn skycap_bomb_header(size: usize) -> Vec<u8> {
    use skycap_image::tar::{Header, Writer};
    let mut out = Vec::new();
    Writer::new(&mut out).entry(&Header::file("zeros", size as u64)).unwrap();
    out
}

#[test]
fn a_very_deep_path_works() {
    let deep = (0..2000).map(|_| "d").collect::<Vec<_>>().join("/");
    let room = Room::new();
    unpack(&layers(&format!("file {deep}/f \"x\"\n##\nfile {deep}/g \"y\"\n##\nfile .wh.d")), &room.rootfs()).unwrap();
    assert_eq!(tree(&room.rootfs(), Detail::Shape), "dir .\n");
    let room = Room::new();
    unpack(&layers(&format!("file {deep}/f \"x\"\n##\nfile d \"y\"")), &room.rootfs()).unwrap();
    assert_eq!(tree(&room.rootfs(), Detail::Shape), "dir .\nfile d \"y\"\n");
    let deeper = (0..50_000).map(|_| "d").collect::<Vec<_>>().join("/");
    let error = unpack(&layers(&format!("file {deeper}")), &room.rootfs().join("x")).unwrap_err();
    assert!(chain(&error).contains("path_bytes"), "{}", chain(&error));
}

/// A place that is slow, and slower for earlier layers.
struct Slow(Memory, u64);

impl BlobSource for Slow {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        Ok(Box::new(Trickle(self.0.open_unverified(blob)?, Duration::from_millis(self.1))))
    }
}

struct Trickle(BlobReader, Duration);

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(self.1);
        let most = buffer.len().min(100_000);
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn layers_that_arrive_in_any_order_are_applied_in_theirs() {
    for concurrency in [1, 2, 8] {
        let memory = Memory::default();
        let layers: Vec<Layer> = (0..12)
            .map(|number| {
                // Small and large ones: kept in memory, and in a file.
                let filler = "x".repeat(if number % 3 == 0 { 700_000 } else { 10 });
                let bare = tar(&format!("file same \"{number}\"\nfile own{number:02} \"{filler}\""));
                let descriptor = memory.add(MediaType::OciLayer, bare.clone());
                let blobs = Arc::new(Slow(memory.clone(), 12 - number));
                Layer { descriptor, diff_id: Digest::sha256(&bare), blobs }
            })
            .collect();
        let room = Room::new();
        let options = Unpack { concurrency, ..options() };
        skycap_rootfs::unpack(&layers, &room.rootfs(), &options, &Silent).unwrap();
        assert_eq!(fs::read_to_string(room.rootfs().join("same")).unwrap(), "11");
        assert_eq!(fs::read_dir(room.rootfs()).unwrap().count(), 13);
        assert_eq!(fs::metadata(room.rootfs().join("own09")).unwrap().len(), 700_000);
        room.assert_untouched("order");
    }
}

/// A place that breaks half-way.
struct Broken(Memory);

impl BlobSource for Broken {
    fn open_unverified(&self, blob: &Descriptor) -> Result<BlobReader, SourceError> {
        struct Breaks;
        impl Read for Breaks {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(SourceError::new(Kind::Transient, "the connection was lost").into())
            }
        }
        Ok(Box::new(self.0.open_unverified(blob)?.take(300_000).chain(Breaks)))
    }
}

#[test]
fn a_broken_connection_is_an_error_with_its_cause_and_stops_the_others() {
    let memory = Memory::default();
    let bare = tar(&format!("file a \"{}\"", "x".repeat(900_000)));
    let descriptor = memory.add(MediaType::OciLayer, bare.clone());
    let broken = Layer { descriptor, diff_id: Digest::sha256(&bare), blobs: Arc::new(Broken(memory)) };
    let room = Room::new();
    // So many that fetching must wait for applying, which never comes.
    let mut layers = vec![layer("file ok"), broken];
    layers.extend((0..30).map(|number| layer(&format!("file later{number}"))));
    let error = unpack(&layers, &room.rootfs()).unwrap_err();
    assert!(chain(&error).contains("the connection was lost"), "{}", chain(&error));
    assert_eq!(error.kind(), Kind::Transient);
    assert!(!room.rootfs().exists());
    room.assert_untouched("broken");
}

#[test]
fn the_destination_may_be_an_empty_directory_and_nothing_else() {
    let room = Room::new();
    fs::create_dir(room.rootfs()).unwrap();
    unpack(&[layer("file a \"x\"")], &room.rootfs()).unwrap();
    assert!(room.rootfs().join("a").exists());
    let error = unpack(&[layer("file b")], &room.rootfs()).unwrap_err();
    assert!(chain(&error).contains("not empty"), "{}", chain(&error));
    assert!(unpack(&[layer("file b")], &room.path().join("p/canary")).is_err());
    assert!(unpack(&[layer("file b")], &room.path().join("none/below")).is_err());
    room.assert_untouched("destination");
}

#[test]
fn a_synced_unpack_works_too() {
    let room = Room::new();
    let options = Unpack { sync: true, ..options() };
    skycap_rootfs::unpack(&[layer("dir d 0555\nfile d/a")], &room.rootfs(), &options, &Silent).unwrap();
    assert!(room.rootfs().join("d/a").exists());
}

#[test]
fn what_cannot_be_done_is_said_once() {
    let warnings = Warnings::default();
    let room = Room::new();
    let text =
        "file a security.selinux=x\nfile b security.selinux=x\ndir c trusted.overlay.opaque=y\nchar d 1 3\nchar e 1 3";
    skycap_rootfs::unpack(&[layer(text)], &room.rootfs(), &options(), &warnings).unwrap();
    let all = warnings.all().join("\n");
    assert_eq!(all.matches("security.selinux").count(), 1, "{all}");
    assert_eq!(all.matches("trusted.overlay.opaque").count(), 1, "{all}");
    assert_eq!(all.matches("devices").count(), usize::from(!is_root()), "{all}");
}

#[test]
fn owners_that_cannot_be_given_are_an_error_that_names_them() {
    if is_root() {
        // The other run of the suite sees it.
        return;
    }
    let room = Room::new();
    let options = Unpack { owners: Owners::Keep, ..options() };
    let error = skycap_rootfs::unpack(&[layer("file a 0644 12345:0")], &room.rootfs(), &options, &Silent).unwrap_err();
    let text = chain(&error);
    assert!(text.contains("0:0") || text.contains("12345:0"), "{text}");
}

/// Set for the process that is going to be killed: where it unpacks to.
const VICTIM: &str = "SKYCAP_ROOTFS_KILL_ME";

#[test]
#[allow(clippy::disallowed_methods, reason = "a test may look at its own environment")]
fn a_killed_unpack_leaves_no_destination_and_the_next_one_cleans_up() {
    let many: String =
        (0..300).fold("dir d 0500\n".to_owned(), |text, number| text + &format!("file d/f{number} \"{number}\"\n"));
    let layers = [layer(&many), layer("file e"), layer("file .wh.d\nfile f")];
    if let Some(destination) = std::env::var_os(VICTIM) {
        unpack(&layers, Path::new(&destination)).unwrap();
        return;
    }
    let mut killed = 0;
    for pause in [0, 1, 2, 4, 8, 12, 16, 20, 24, 28, 32, 40] {
        let room = Room::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "unpack::a_killed_unpack_leaves_no_destination_and_the_next_one_cleans_up"])
            .env(VICTIM, room.rootfs())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().unwrap();
        child.wait().unwrap();
        let whole = "dir .\nfile e \"\"\nfile f \"\"\n";
        if room.rootfs().exists() {
            assert_eq!(tree(&room.rootfs(), Detail::Shape), whole, "after {pause} ms");
        } else {
            killed += 1;
            unpack(&layers, &room.rootfs()).unwrap();
            assert_eq!(tree(&room.rootfs(), Detail::Shape), whole);
        }
        // A run that finished may have left its emptied side directory to the next one.
        unpack(&layers, &room.path().join("p/rootfs/again")).unwrap();
        unpack(&[layer("file x")], &room.path().join("p/victim/dir/next")).unwrap();
        fs::remove_dir_all(room.path().join("p/victim/dir/next")).unwrap();
        if killed > 0 && !fs::read_dir(room.path().join("p")).unwrap().any(|entry| is_left_over(&entry.unwrap())) {
            room.assert_untouched("killed");
        }
    }
    assert!(killed > 0, "never fast enough to kill it");
}

fn is_left_over(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(".skycap-unpacking-")
}

#[test]
fn left_overs_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let room = Room::new();
    let p = room.path().join("p");
    let (dead, living) = (p.join(".skycap-unpacking-dead"), p.join(".skycap-unpacking-living"));
    for path in [&dead, &living] {
        fs::create_dir_all(path.join("deep/er")).unwrap();
        fs::write(path.join("deep/er/file"), "x").unwrap();
        fs::set_permissions(path.join("deep"), std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    }
    let lock = fs::File::open(&living).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    unpack(&[layer("file a")], &room.rootfs()).unwrap();
    assert!(!dead.exists());
    assert!(living.join("deep/er/file").exists());
}

/// Remembers everything that is said.
#[derive(Default)]
struct Said(std::sync::Mutex<Vec<String>>);

impl Progress for Said {
    fn event(&self, event: Event<'_>) {
        if let Event::Warning(text) | Event::Debug(text) | Event::Note(text) = event {
            self.0.lock().unwrap().push(text.to_owned());
        }
    }
}

impl Said {
    fn whole(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }
}

/// A file that is written with such an attribute is warned about.
#[test]
fn a_file_that_a_higher_layer_replaces_or_hides_is_never_written() {
    let lower = "file a security.selinux=x \"old\"\nfile gone/x security.selinux=x \"12\"\ndir o\nfile o/x security.selinux=x\n\
                 file d/e/f security.selinux=x \"1\"";
    let upper =
        "file a \"new\"\nfile .wh.gone\ndir o\nfile o/.wh..wh..opq\nfile o/y \"y\"\nfile d/e \"no directory any more\"";
    let (room, said) = (Room::new(), Said::default());
    skycap_rootfs::unpack(&[layer(lower), layer(upper)], &room.rootfs(), &options(), &said).unwrap();
    let whole = "dir .\nfile a \"new\"\ndir d\nfile d/e \"no directory any more\"\ndir o\nfile o/y \"y\"\n";
    assert_eq!(tree(&room.rootfs(), Detail::Shape), whole);
    assert_eq!(said.whole(), "4 files (6 bytes) were not written: higher layers replace or hide them");
    room.assert_untouched("shadowed");
}

#[test]
fn a_history_that_order_decides_is_applied_in_order() {
    for (text, expected) in [
        (
            "link bin -> usr/bin\n##\nfile bin/sh \"x\"",
            "link bin -> usr/bin\ndir usr\ndir usr/bin\nfile usr/bin/sh \"x\"\n",
        ),
        ("file a \"x\"\n##\nhard b => a", "file a \"x\"\nhard b => a\n"),
        ("file a \"1\"\nhard b => a\n##\nfile a \"2\"", "file a \"2\"\nfile b \"1\"\n"),
    ] {
        let (room, said) = (Room::new(), Said::default());
        skycap_rootfs::unpack(&layers(text), &room.rootfs(), &options(), &said).unwrap();
        assert_eq!(tree(&room.rootfs(), Detail::Shape), format!("dir .\n{expected}"), "{text}");
        assert!(said.whole().contains("the order of the layers matters"), "{}", said.whole());
        room.assert_untouched("order");
    }
}

/// A place whose bytes never come.
struct Stuck;

impl BlobSource for Stuck {
    fn open_unverified(&self, _: &Descriptor) -> Result<BlobReader, SourceError> {
        struct Waits;
        impl Read for Waits {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_secs(20));
                Ok(0)
            }
        }
        Ok(Box::new(Waits))
    }
}

/// K09.
#[test]
fn an_unpack_that_is_stopped_ends_within_two_seconds_and_leaves_nothing() {
    let many = (0..2000).fold(String::new(), |text, number| text + &format!("file f{number} \"{number}\"\n"));
    let stuck = Layer { blobs: Arc::new(Stuck), ..layer("file never") };
    for layers in [vec![stuck.clone()], vec![layer(&many), stuck.clone()], vec![stuck, layer(&many)]] {
        let room = Room::new();
        let begun = std::time::Instant::now();
        let stop = || begun.elapsed() > Duration::from_millis(200);
        let error = skycap_rootfs::unpack_until(&layers, &room.rootfs(), &options(), &Silent, &stop).unwrap_err();
        assert!(matches!(error, UnpackError::Stopped), "{}", chain(&error));
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert!(!room.rootfs().exists());
        room.assert_untouched("stopped");
    }
}

#[test]
fn an_unpack_that_is_stopped_while_it_writes_leaves_nothing() {
    let filler = "x".repeat(3 << 20);
    let texts: Vec<String> = (0..8).map(|number| format!("file large{number} \"{filler}\"")).collect();
    let layers: Vec<Layer> = texts.iter().map(|text| layer(text)).collect();
    for count in [1, 2, 3] {
        let room = Room::new();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= count;
        match skycap_rootfs::unpack_until(&layers, &room.rootfs(), &options(), &Silent, &stop) {
            Err(UnpackError::Stopped) => assert!(!room.rootfs().exists()),
            // It was faster than the question.
            Ok(()) => assert_eq!(fs::read_dir(room.rootfs()).unwrap().count(), 8),
            Err(error) => panic!("{}", chain(&error)),
        }
        room.assert_untouched("stopped");
    }
}

/// Set for the process that has few descriptors: where it unpacks to.
const POOR: &str = "SKYCAP_ROOTFS_FEW_DESCRIPTORS";

/// K08.
#[test]
#[allow(clippy::disallowed_methods, reason = "a test may look at its own environment")]
fn few_descriptors_are_enough() {
    if let Some(destination) = std::env::var_os(POOR) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let files =
            (0..500).fold("dir d\n".to_owned(), |text, number| text + &format!("file d/f{number} \"{number}\"\n"));
        let layers = [layer(&files), layer("file e"), layer("file f"), layer("file d/f7")];
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: Some(32), maximum }).unwrap();
        unpack(&layers, Path::new(&destination)).unwrap();
        return;
    }
    let room = Room::new();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "unpack::few_descriptors_are_enough", "--nocapture"])
        .env(POOR, room.rootfs())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(room.rootfs().join("d")).unwrap().count(), 500);
    room.assert_untouched("descriptors");
}

#[test]
fn holes_of_sparse_files_stay_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let room = Room::new();
    let from = room.path().join("from");
    fs::create_dir(&from).unwrap();
    let (small, large) = (from.join("small"), from.join("large"));
    for (path, length) in [(&small, 100), (&large, 300_000)] {
        let file = fs::File::create(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![b'x'; length], 3 << 20).unwrap();
        file.set_len(8 << 20).unwrap();
    }
    for format in ["gnu", "posix"] {
        let archive = Command::new("tar").args(["--sparse", "--format", format, "-cC"]).arg(&from).arg(".").output();
        let Ok(archive) = archive else {
            skycap_testkit::skipped!("holes_of_sparse_files_stay_holes: no tar");
            return;
        };
        assert!(archive.stdout.len() < 1 << 20, "tar has found no holes");
        let destination = room.rootfs().join(format);
        fs::create_dir_all(room.rootfs()).unwrap();
        unpack(&[stored(&archive.stdout)], &destination).unwrap();
        for name in ["small", "large"] {
            let path = destination.join(name);
            assert!(fs::read(&path).unwrap() == fs::read(from.join(name)).unwrap(), "{format}, {name}");
            assert!(fs::metadata(&path).unwrap().blocks() < 1000, "{format}, {name} has no holes");
        }
    }
}

/// L06: longer than the kernel takes in one call.
#[test]
fn a_path_of_four_thousand_components_works() {
    let room = Room::new();
    let deep = vec!["dd"; 4000].join("/");
    unpack(&[layer(&format!("dir dd 0500\nfile {deep}/f \"x\""))], &room.rootfs()).unwrap();
    let mut at = rustix::fs::open(room.rootfs(), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..4000 {
        at = rustix::fs::openat(&at, "dd", rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    assert_eq!(rustix::fs::statat(&at, "f", rustix::fs::AtFlags::empty()).unwrap().st_size, 1);
    let too_deep = vec!["d"; 5000].join("/");
    let error = unpack(&[layer(&format!("file {too_deep}"))], &room.path().join("p/deeper")).unwrap_err();
    assert!(chain(&error).contains("path_components"), "{}", chain(&error));
    // The standard library would keep every level open.
    let _ = fs::set_permissions(room.rootfs().join("dd"), std::os::unix::fs::PermissionsExt::from_mode(0o700));
    assert!(Command::new("rm").arg("-rf").arg(room.rootfs()).status().unwrap().success());
}
