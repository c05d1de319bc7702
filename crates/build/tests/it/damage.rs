//! Law 10: whatever is done to the files of a cache, a build succeeds and its result is the same.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use skycap_build::Request;
use skycap_build::cache::{CacheMode, CacheSource, CacheTarget};
use skycap_image::{Compression, Digest, Name};

use crate::world::{World, chain, outcomes, with_shell};

pub const TESTS: &[crate::Test] = &[("no_damage_to_a_cache_changes_a_result", no_damage_to_a_cache_changes_a_result)];

/// How many damages a full run does, and one by default.
const COUNTS: (usize, usize) = (2000, 60);
/// So often the store is made anew, because files that nobody asks for any more gather in it.
const RENEWED: usize = 100;
/// Longer than a build takes on the slowest machine.
const HANG: Duration = Duration::from_mins(2);

/// Two stages that are copied from, a cache mount that begins with a stage's files, and what stands upon all of it.
const DOCKERFILE: &str = "\
FROM shell AS maker
COPY source /source
RUN mkdir /out && cat /source > /out/a && ln /out/a /out/b && echo made >> /out/a
FROM shell AS seed
COPY source /seed/one
COPY source /seed/two
FROM shell
RUN echo base > /base
COPY --from=maker /out/ /out/
RUN --mount=type=cache,from=seed,source=/seed,target=/c cat /c/one /c/two > /two && echo visit >> /c/visits
WORKDIR /work
RUN cat /out/b /two > /last
";
const MAKERS_RUN: usize = 3;
const LAST_RUN: usize = 12;

/// What is built after a damage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    /// The same again.
    Again,
    /// The same, packed otherwise.
    Packed,
    /// A stage that is copied from runs again and comes out as before: second keys decide.
    Maker,
    /// The last step runs again: unpacked layers are needed.
    Last,
    /// With an empty store, from a cache in a directory that was damaged.
    Imported,
}

/// In this order, so that what each keeps is there to be damaged before the next of its kind. The last begins with an empty store.
const WAYS: [Way; 6] = [Way::Packed, Way::Again, Way::Maker, Way::Packed, Way::Last, Way::Imported];

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides.max(1)
    }
}

/// The files below a directory by kind: the directory that they are in, and for unpacked layers whether it is a file or
/// what is believed of it. What cache mounts hold is the user's, so only what stands beside it counts.
fn kinds(directory: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(parent) = left.pop() {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else { continue };
            if metadata.is_dir() {
                left.push(path);
                continue;
            }
            // What an earlier damage left, if nobody had to look there since: reading a pipe would be waiting for it.
            if !metadata.is_file() {
                continue;
            }
            let relative = path.strip_prefix(directory).unwrap();
            let words: Vec<_> = relative.components().map(|word| word.as_os_str().to_string_lossy()).collect();
            let kind = match (&*words[0], words.len()) {
                ("lowers-2", 3) => "seals of unpacked layers".to_owned(),
                ("lowers-2", _) => "files of unpacked layers".to_owned(),
                ("mounts-1", 3) => "names of cache mounts".to_owned(),
                ("mounts-1", _) => continue,
                (_, 1) => "documents".to_owned(),
                _ => words[..words.len() - 1].join("/"),
            };
            found.entry(kind).or_default().push(path);
        }
    }
    for files in found.values_mut() {
        files.sort();
    }
    found
}

/// Damages one file of the files of a kind; says how.
fn damage(path: &Path, others: &[PathBuf], dice: &mut Dice) -> &'static str {
    let bytes = fs::read(path).unwrap_or_default();
    let write = |bytes: &[u8]| {
        // A file that is not ours to write to is replaced.
        if fs::write(path, bytes).is_err() {
            let _ = fs::remove_file(path);
            fs::write(path, bytes).unwrap();
        }
    };
    let replaced = || fs::remove_file(path).unwrap();
    let mut changed = bytes.clone();
    match dice.roll(10) {
        0 | 1 if !bytes.is_empty() => {
            for _ in 0..=dice.roll(3) {
                let at = dice.roll(bytes.len());
                changed[at] ^= 1 << dice.roll(8);
            }
            write(&changed);
            "flipped bits of"
        }
        2 => {
            changed.truncate(dice.roll(bytes.len()));
            write(&changed);
            "cut"
        }
        3 if !bytes.is_empty() => {
            let from = dice.roll(bytes.len());
            let length = 1 + dice.roll(bytes.len() - from);
            changed[from..from + length].fill(0);
            write(&changed);
            "zeroed a part of"
        }
        4 => {
            changed.extend((0..=dice.roll(5000)).map(|_| u8::try_from(dice.roll(256)).unwrap()));
            write(&changed);
            "lengthened"
        }
        5 | 6 if others.len() > 1 => {
            let other = others.iter().filter(|other| *other != path).nth(dice.roll(others.len() - 1)).unwrap();
            let aside = path.with_file_name("aside");
            fs::rename(path, &aside).unwrap();
            fs::rename(other, path).unwrap();
            fs::rename(&aside, other).unwrap();
            "swapped with another"
        }
        7 => {
            replaced();
            fs::create_dir_all(path.join("x/y")).unwrap();
            "made a directory of"
        }
        8 => {
            replaced();
            if dice.roll(2) == 0 {
                std::os::unix::fs::symlink("/etc/hostname", path).unwrap();
            } else {
                let path = CString::new(path.as_os_str().as_bytes()).unwrap();
                let (mode, kind) = (rustix::fs::Mode::RWXU, rustix::fs::FileType::Fifo);
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
            }
            "made a link or a pipe of"
        }
        _ => {
            replaced();
            "deleted"
        }
    }
}

/// Damages one file below a directory. Every kind of file gets as much.
fn damage_one(directory: &Path, dice: &mut Dice, tally: &mut BTreeMap<String, usize>) -> String {
    let kinds = kinds(directory);
    let Some((kind, files)) = kinds.iter().nth(dice.roll(kinds.len())) else { return "nothing is there".to_owned() };
    let path = &files[dice.roll(files.len())];
    let how = damage(path, files, dice);
    *tally.entry(kind.clone()).or_default() += 1;
    *tally.entry(format!("({how} files)")).or_default() += 1;
    format!("{how} {}", path.display())
}

/// What every thread of this process and of others with our program waits for.
fn threads() -> String {
    let mut text = String::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let ours = fs::read_link("/proc/self/exe").ok();
        if ours.is_none() || fs::read_link(process.path().join("exe")).ok() != ours {
            continue;
        }
        for thread in fs::read_dir(process.path().join("task")).into_iter().flatten().flatten() {
            let read = |name: &str| fs::read_to_string(thread.path().join(name)).unwrap_or_default();
            let _ = writeln!(
                text,
                "{}: {} {} {}",
                thread.path().display(),
                read("wchan"),
                read("syscall").trim(),
                read("stack")
            );
        }
        for file in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(file.path()).unwrap_or_default();
            let _ = writeln!(text, "{} -> {}", file.file_name().display(), target.display());
        }
    }
    text
}

struct Damaged {
    world: World,
    cache: PathBuf,
    expected: BTreeMap<bool, Digest>,
}

impl Damaged {
    fn request(&self, way: Way) -> Request {
        let mut request = self.world.request(DOCKERFILE);
        request.source_date_epoch = Some(1_500_000_000);
        let latest = || Name::Tag("latest".to_owned());
        match way {
            Way::Again => {}
            Way::Packed => request.compression = Compression::Zstd,
            Way::Maker => request.fresh_lines.push(MAKERS_RUN..=MAKERS_RUN),
            Way::Last => request.fresh_lines.push(LAST_RUN..=LAST_RUN),
            Way::Imported => {
                request.cache_from.push(CacheSource::directory(&self.cache, latest()));
                request.cache_to.push(CacheTarget::directory(&self.cache, latest(), CacheMode::Max, false));
            }
        }
        request
    }

    /// Builds, and fails if it does not come out as ever.
    fn build(&self, way: Way, what: &str) {
        let built = match self.world.build(&self.request(way)) {
            Ok(mut built) => built.remove(0),
            Err(error) => panic!("{what}: {}", chain(&error)),
        };
        assert_eq!(built.image.descriptor().digest, self.expected[&(way == Way::Packed)], "{what}");
        for layer in built.image.layers() {
            layer.open().unwrap().finish().unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        let ran = outcomes(&built);
        assert!(way != Way::Last || ran.last().is_some_and(|step| step == "run done"), "{what}: {ran:?}");
    }

    fn renew(&self) {
        let _ = fs::remove_dir_all(self.world.store_directory());
        for way in WAYS {
            self.build(way, "undamaged");
        }
    }
}

/// 2,000 damages with `SKYCAP_TEST_FULL`, in turn to the store and to a cache in a directory. Every kind of file that
/// there is gets its share, and every build after a damage reads other kinds.
/// K13, K14, K22, M49
fn no_damage_to_a_cache_changes_a_result() {
    let test = "no_damage_to_a_cache_changes_a_result";
    let mut world = World::new();
    if with_shell(&mut world, test).is_none() {
        return;
    }
    world.file("source", "source\n");
    let count = if skycap_testkit::wants_everything() { COUNTS.0 } else { COUNTS.1 };
    let cache = world.path().join("exchange");
    let mut damaged = Damaged { world, cache, expected: BTreeMap::new() };
    for way in [Way::Again, Way::Packed] {
        let image = damaged.world.built_as(&damaged.request(way)).image;
        damaged.expected.insert(way == Way::Packed, image.descriptor().digest);
    }
    damaged.renew();
    let (mut dice, mut tally) = (Dice(7), BTreeMap::new());
    let (tell, told) = mpsc::channel::<String>();
    let watch = std::thread::spawn(move || {
        let mut last = String::new();
        loop {
            match told.recv_timeout(HANG) {
                Ok(what) => last = what,
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    println!("it hangs: {last}\n{}", threads());
                    std::process::abort();
                }
            }
        }
    });
    for number in 0..count {
        if number % RENEWED == RENEWED - 1 {
            damaged.renew();
        }
        let way = WAYS[number % WAYS.len()];
        let how = if way == Way::Imported {
            let _ = fs::remove_dir_all(damaged.world.store_directory());
            damage_one(&damaged.cache, &mut dice, &mut tally)
        } else {
            damage_one(&damaged.world.store_directory(), &mut dice, &mut tally)
        };
        let what = format!("{number}: {way:?}: {how}");
        tell.send(what.clone()).unwrap();
        damaged.build(way, &what);
    }
    drop(tell);
    watch.join().unwrap();
    println!("{test}: {count} of {} damages: {tally:?}", COUNTS.0);
    let wanted =
        ["build-step-v1", "build-packing-v1", "build-times-v1", "layer-index", "seals", "files of", "names of"];
    for kind in wanted {
        assert!(count < COUNTS.0 || tally.keys().any(|found| found.contains(kind)), "no {kind} was damaged");
    }
}
