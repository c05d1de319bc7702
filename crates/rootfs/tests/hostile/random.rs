//! Random histories of layers against the [model](crate::model): the same tree, or both refuse; nothing outside changes.
//!
//! `SKYCAP_HOSTILE_SEED=n` runs one seed. A history that fails is made as short as it can be before it is shown.

use std::fmt::Write as _;

use skycap_image::Layer;
use skycap_rootfs::{Device, Limits};
use skycap_testkit::rawtar;

use crate::case::{Format, layer};
use crate::identity::{Identity, is_again, is_full, run_again, variable};
use crate::judge::{LIMIT, agree, as_rendered, chain, limited, same, unpacked};
use crate::model::{Entry, Model, Op};
use crate::room::Room;

const SEEDS: u64 = 500;
const ALL_SEEDS: u64 = 10_000;

const NAMES: [&[u8]; 12] = [b"a", b"b", b"c", b"d", b"usr", b"bin", b"lib", b"...", b".wh", b"x y", b"\xff", b"victim"];

const LINKS: [&[u8]; 20] = [
    b"../victim",
    b"/etc",
    b"..",
    b"/",
    b".",
    b"a",
    b"b",
    b"c/d",
    b"/a",
    b"d/..",
    b"../../p/victim",
    b"/proc/self/cwd",
    b"../rootfs-evil",
    b"usr/bin",
    b"/usr",
    b"../canary",
    b"nowhere/deep",
    b"a/../b",
    b"../a",
    b"lib/",
];

const HARD: [&[u8]; 5] = [b"/etc/passwd", b"secret", b"a", b"usr/bin/a", b"b"];

/// A small generator of numbers; the same seed gives the same history everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d)
    }

    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 16) % count as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A history: layers of entries.
type History = Vec<Vec<Entry>>;

fn history(seed: u64) -> History {
    let mut dice = Dice::new(seed);
    // Few names make much happen to the same ones.
    let names = 2 + dice.below(NAMES.len() - 1);
    let count = 1 + dice.below(5);
    let layer = |dice: &mut Dice| (0..=dice.below(30)).map(|_| entry(dice, names)).collect();
    let mut history: History = (0..count).map(|_| layer(&mut dice)).collect();
    // Most histories are to be accepted; a few keep what makes them refused.
    while let Err(((layer, entry), _)) = Model::of(&history) {
        if dice.below(100) == 0 {
            break;
        }
        history[layer].remove(entry);
    }
    history
}

fn path(dice: &mut Dice, names: usize) -> Vec<Vec<u8>> {
    let depth = dice.pick(&[1, 1, 1, 2, 2, 3, 4]);
    (0..depth).map(|_| NAMES[dice.below(names)].to_vec()).collect()
}

fn entry(dice: &mut Dice, names: usize) -> Entry {
    let mut path = path(dice, names);
    let op = match dice.below(40) {
        0..=9 => Op::Directory,
        10..=17 => Op::File(format!("content {}", dice.below(1000)).into_bytes()),
        18..=24 => Op::Symlink(dice.pick(&LINKS).to_vec()),
        25..=28 if dice.below(6) == 0 => Op::Hardlink(dice.pick(&HARD).to_vec()),
        25..=28 => Op::Hardlink(self::path(dice, names).join(&b'/')),
        29 => Op::Fifo,
        30 => Op::Device(Device { block: false, major: dice.pick(&[0, 1]), minor: dice.pick(&[0, 3]) }),
        31..=35 => Op::Whiteout,
        _ => Op::Opaque,
    };
    if matches!(op, Op::Directory | Op::Opaque) && dice.below(20) == 0 {
        path.clear();
    }
    let mode = dice.pick(&[0o755, 0o755, 0o700, 0o555, 0o000, 0o4711, 0o1777]);
    let owner = dice.pick(&[(0, 0), (0, 0), (1, 2), (1000, 1000)]);
    Entry { path, op, mode, owner, seconds: i64::try_from(dice.below(100_000)).unwrap() }
}

/// The history in the language of cases.
fn text(history: &History) -> String {
    let mut text = String::new();
    for (number, entries) in history.iter().enumerate() {
        if number > 0 {
            text.push_str("##\n");
        }
        for entry in entries {
            let path = word(&entry.path.join(&b'/'));
            let path = if path.is_empty() { "." } else { &path };
            let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
            let rest = format!("{:04o} {}:{} @{}", entry.mode, entry.owner.0, entry.owner.1, entry.seconds);
            match &entry.op {
                Op::Directory => writeln!(text, "dir {path} {rest}"),
                Op::File(content) => writeln!(text, "file {path} {rest} \"{}\"", content.escape_ascii()),
                Op::Symlink(target) => writeln!(text, "link {path} -> {} {rest}", word(target)),
                Op::Hardlink(target) => writeln!(text, "hard {path} => {}", word(target)),
                Op::Fifo => writeln!(text, "fifo {path} {rest}"),
                Op::Device(Device { major, minor, .. }) => writeln!(text, "char {path} {major} {minor} {rest}"),
                Op::Whiteout => writeln!(text, "file {directory}/.wh.{name}"),
                Op::Opaque => writeln!(text, "file {path}/.wh..wh..opq"),
            }
            .unwrap();
        }
    }
    text
}

fn word(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, &byte| {
        match byte {
            b'a'..=b'z' | b'.' | b'/' | b'-' => text.push(char::from(byte)),
            _ => write!(text, "%{byte:02x}").unwrap(),
        }
        text
    })
}

/// Whether the history was accepted, or how model and product differ.
fn judge(history: &History) -> Result<bool, String> {
    let layers: Vec<Layer> = rawtar::layers(&text(history)).iter().map(|tar| layer(tar, Format::Plain)).collect();
    let room = Room::new();
    let (found, _) = unpacked(&layers, &room, Limits::default())?;
    match (Model::of(history), &found) {
        (Ok(mut expected), Ok(found)) => {
            as_rendered(&mut expected);
            same("the disk", found, "the model", &expected)?;
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => return Err(format!("refused, but the model takes it: {}", chain(error))),
        (Err((_, refused)), Ok(_)) => return Err(format!("taken, but the model refuses it: {}", refused.0)),
    }
    agree(&layers, &room, &found, Limits::default(), None)?;
    Ok(found.is_ok())
}

/// The shortest history that still fails, with how.
fn shortest(mut history: History, mut what: String) -> (History, String) {
    let mut again = true;
    while again {
        again = false;
        for layer in 0..history.len() {
            let mut entry = 0;
            while entry < history[layer].len() {
                let mut shorter = history.clone();
                shorter[layer].remove(entry);
                let tried = shorter.clone();
                match limited(LIMIT, move || judge(&tried)) {
                    Err(still) => {
                        (history, what, again) = (shorter, still, true);
                    }
                    Ok(_) => entry += 1,
                }
            }
        }
    }
    (history, what)
}

#[test]
fn histories_end_as_the_model_says() {
    let wanted: Option<u64> = variable("SKYCAP_HOSTILE_SEED").and_then(|seed| seed.to_str()?.parse().ok());
    let seeds = match wanted {
        Some(seed) => seed..seed + 1,
        None if is_full() => 0..ALL_SEEDS,
        None => 0..if is_again() { SEEDS / 4 } else { SEEDS },
    };
    let (mut accepted, mut failures, count) = (0, Vec::new(), seeds.end - seeds.start);
    for seed in seeds {
        let history = history(seed);
        let tried = history.clone();
        match limited(LIMIT, move || judge(&tried)) {
            Ok(was_accepted) => accepted += u64::from(was_accepted),
            Err(what) if failures.len() < 20 => {
                let (history, what) = shortest(history, what);
                failures.push(format!("seed {seed}:\n{}{what}", text(&history)));
            }
            Err(what) => failures.push(format!("seed {seed}: {}", what.lines().next().unwrap_or_default())),
        }
    }
    eprintln!(
        "hostile: as {}: {count} histories: {accepted} accepted inside the root, {} wrong{}",
        Identity::current().name(),
        failures.len(),
        if is_full() { "" } else { " (sampled)" },
    );
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n\n"));
    assert!(wanted.is_some() || accepted * 2 > count, "only {accepted} of {count} histories are accepted");
}

#[test]
fn histories_end_as_the_model_says_for_an_ordinary_user() {
    run_again("random::histories_end_as_the_model_says", Identity::User);
}

#[test]
fn histories_end_as_the_model_says_in_a_user_namespace() {
    run_again("random::histories_end_as_the_model_says", Identity::Namespace);
}
